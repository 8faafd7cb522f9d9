"""What this installation of vq is and what it can do: the machine, packages, folders, models, speed.

Nothing in it names the host or the user: folders below the home folder begin with ~, others are not spelled out.
"""

from __future__ import annotations

import os
import platform
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from vqcli import __version__

# what each extra of the package is for; `dev` is for those who change vq
EXTRAS = {
    "evaluators": "words, voices and quality of speech in vq eval",
    "games": "vq record: Atari Boxing and a maze to train on",
    "heic": "photographs as .heic and .heif",
    "hub": "vq models import and pull, of the Hugging Face hub",
    "onnx": "vq models export, to ONNX",
    "parquet": "Parquet and Arrow in vq tokenize",
    "perception": "SSIMULACRA 2 in vq eval rd",
    "ray": "vq tokenize --engine ray, on a cluster",
    "report": "plots of vq eval, and vq report",
    "video": "clips as .mp4, .webm and .mkv, and H.264 beside vq",
    "web": "vq explore: a page and a JSON API on this machine",
}
PACKAGES = ("torch", "numpy", "numba", "llvmlite", "pillow", "soundfile", "soxr", "safetensors", "typer", "rich")
UNITS = ("avx2", "fma", "f16c", "avx512f", "avx512bf16", "avx512vnni", "amx-bf16", "neon", "bf16", "sve")
WIDTH, HEIGHT, SECONDS, RATE_HZ = 256, 192, 2, 16_000  # of what the speed test codes again and again
SYSTEM_FOLDERS = (Path("/tmp"), Path("/var/tmp"))  # the same everywhere, so that they say nothing of the user
ELSEWHERE = "(outside ~)"
_NAME = re.compile(r"[\w.-]+")  # of what a line of requirements asks for
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)")


@dataclass(frozen=True)
class Extra:
    """An extra of the package: what it is for, and which of its packages are not installed."""

    name: str
    purpose: str
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Folder:
    """A folder that vq keeps things in, and why it cannot write there: '' if it can."""

    purpose: str
    path: str
    trouble: str


@dataclass(frozen=True)
class Model:
    """A model on the search path: SHA-256 of it in part, as headers have it; `trouble` is why it cannot be read."""

    name: str
    path: str
    digest: str
    trouble: str


@dataclass(frozen=True)
class Speed:
    """What a part of the speed test did in a second: megapixels, or seconds of sound."""

    what: str
    value: float
    unit: str


def machine() -> dict[str, Any]:
    """Hardware and versions that something was computed with; no host name and no user name."""
    import torch

    facts: dict[str, Any] = {"system": f"{platform.system()} {platform.machine()}", "processor": _processor()}
    facts["cores"] = os.cpu_count()
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gb"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts | {"python": platform.python_version(), "torch": torch.__version__, "vq": __version__}


def threads() -> dict[str, int]:
    """How many each of the libraries that compute uses."""
    import numba
    import torch

    # numba.get_num_threads would start its threads, and change the number of those of torch
    ready: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    return {"torch_threads": torch.get_num_threads(), "numba_threads": ready}


def processor_units() -> list[str]:
    """Units of the processor that make nets faster, by the names that LLVM has for them."""
    import llvmlite.binding

    there = llvmlite.binding.get_host_cpu_features()
    return [unit for unit in UNITS if there.get(unit, False)]


def devices() -> list[str]:
    """What `--device` takes here."""
    import torch

    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [name for name, there in found.items() if there]


def packages() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    return {name: _version(name) or "missing" for name in PACKAGES}


def extras() -> list[Extra]:
    """Every extra, by what the package itself requires for it."""
    required: dict[str, list[str]] = {name: [] for name in EXTRAS}
    for line in metadata.requires("vqcli") or ():
        package, extra = _NAME.match(line), _EXTRA.search(line)
        if package and extra and extra[1] in required:
            required[extra[1]].append(package[0])
    return [
        Extra(name, purpose, tuple(package for package in required[name] if _version(package) is None))
        for name, purpose in EXTRAS.items()
    ]


def folders() -> list[Folder]:
    """Where compiled code, tracked pitches and models are kept. Folders that are not there yet are not made."""
    from vqcli.data import pitch_cache
    from vqcli.entropy import jit
    from vqcli.zoo import store

    places = {
        "compiled code": jit.folder(),
        "tracked pitches": pitch_cache.folder(),
        "imported models": store.user_folder(),
        "temporary files": Path(tempfile.gettempdir()),
    }
    return [
        Folder(purpose, shown(path), _why_not_written(path))
        if path
        else Folder(purpose, "", "there is no place for it")
        for purpose, path in places.items()
    ]


def models() -> list[Model]:
    """Every model on the search path, also those that cannot be read; the first of a name hides the others."""
    from safetensors import safe_open

    from vqcli.errors import VqError
    from vqcli.zoo import store

    found: dict[str, Model] = {}
    for path in (path for base in store.search_path() for path in sorted(base.glob(f"*/{store.FILE}"))):
        name = path.parent.name
        if name in found:
            continue
        try:
            info = store.describe(path.parent)
            digest = info.digest.hex()
        except (VqError, OSError, ValueError, KeyError) as error:
            trouble = str(error).replace(str(path), "the file")
            found[name] = Model(name, shown(path.parent), "", trouble)
            continue
        trouble = ""
        for part in sorted(path.parent.glob("*.safetensors")):  # the model and its priors
            try:
                with safe_open(part, framework="numpy"):  # compares the size of the file with its header
                    pass
            except Exception as error:  # safetensors has an error of its own
                trouble = trouble or f"{part.name}: {error}".replace(str(part), "the file")
                digest = "" if part == path else digest
        found[name] = Model(name, shown(path.parent), digest, trouble)
    return sorted(found.values(), key=lambda model: model.name)


def speeds(seconds: float, progress: Callable[[float, str], None]) -> list[Speed]:
    """Code an image and a sound that are made here, each way for an equal share of `seconds`, after a warm-up."""
    import numpy as np

    import vqcli
    from vqcli.codec.audio import DecodedAudio
    from vqcli.codec.image import DecodedImage

    noise = np.random.default_rng(0)
    ramp = np.linspace(0, 200, WIDTH * HEIGHT * 3).reshape(HEIGHT, WIDTH, 3)
    image = (ramp + noise.integers(0, 40, ramp.shape)).astype(np.uint8)
    t = np.arange(SECONDS * RATE_HZ) / RATE_HZ
    sound = (0.2 * np.sin(2 * np.pi * 140 * t) * (1 + np.sin(2 * np.pi * 3 * t))).astype(np.float32)
    rows: list[Speed] = []

    def measure(what: str, amount: float, unit: str, work: Callable[[], Any]) -> None:
        progress(len(rows) / 4, what)
        work()
        begun, times = time.perf_counter(), 0
        while not times or time.perf_counter() - begun < seconds / 4:
            work()
            times += 1
        rows.append(Speed(what, amount * times / (time.perf_counter() - begun), unit))

    picture, talk = vqcli.encode(image).data, vqcli.encode(sound, rate_hz=RATE_HZ).data
    pixels, unit = WIDTH * HEIGHT / 1e6, "megapixels a second"
    measure("encode an image", pixels, unit, lambda: vqcli.encode(image))
    measure("decode an image", pixels, unit, lambda: cast(DecodedImage, vqcli.decode(picture)).pixels)
    measure("encode speech", SECONDS, "times real time", lambda: vqcli.encode(sound, rate_hz=RATE_HZ))
    measure("decode speech", SECONDS, "times real time", lambda: cast(DecodedAudio, vqcli.decode(talk)).samples)
    progress(1.0, "")
    return rows


def shown(path: Path) -> str:
    """A path as reports show it: below ~, below the package, or no more than that it is elsewhere."""
    home, package = Path.home(), Path(__file__).parent.parent
    if path.is_relative_to(home):
        return str(Path("~") / path.relative_to(home))
    if path.is_relative_to(package):
        return str(Path("…", package.name) / path.relative_to(package))
    return str(path) if path in SYSTEM_FOLDERS else ELSEWHERE


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _why_not_written(path: Path) -> str:
    """Why nothing can be written into a folder, or into the nearest one above it that exists; '' if it can."""
    there = next(each for each in (path, *path.parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as stream:
            stream.write(b"vq")
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _processor() -> str:
    """The product name of the processor, which only Linux has in a file; elsewhere its architecture."""
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
