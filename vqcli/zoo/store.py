"""Model folders: find, list, describe.

A model is a folder with `model.safetensors` (weights, integer statistics of its codes, and a JSON description in the
header) and `README.md` (its card). It goes by the name of its folder and by a digest: the first 8 bytes of the
SHA-256 of the file, which every .vqz file repeats. An imported model (importing.py) goes by the SHA-256 of its tensors
and arguments instead. Listing and describing models needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec

from vqcli.errors import ModelError, near_matches

FORMAT = 1
FILE = "model.safetensors"
EXACT = "exact.safetensors"  # the prior that entropy coding uses (priors.py)
DEFAULTS = {"image": "photo-2", "audio": "speech", "video": "photo-2"}  # the model of `vq encode` for each modality
LARGEST_HEADER = 2**24
SOURCE = "source"  # key of the description of an imported model: where it comes from
KNOWN = Path(__file__).parent / "known.toml"
STATISTICS = "statistics."  # prefix of the tensors that belong to the coders, not to the net


class Speaker(msgspec.Struct, forbid_unknown_fields=True):
    """A voice in the table of a model, as its description has it (codec/voices.py)."""

    name: str
    seconds: Annotated[float, msgspec.Meta(ge=0, lt=1e9)]
    pitch_hz: Annotated[float, msgspec.Meta(gt=0, lt=1e5)]
    sex: str = ""
    source: str = ""


class RecipeFields(msgspec.Struct):
    """Types of the keys of a recipe that are read from a description; there may be others."""

    description: str = ""
    data: dict[str, Any] = {}
    model: dict[str, Any] = {}
    rate: dict[str, Any] | None = None


class Fields(msgspec.Struct):
    """Types of the keys of a model's description that are read anywhere; there may be others."""

    family: str
    arguments: dict[str, Any]
    modality: str
    steps: Annotated[int, msgspec.Meta(ge=0)] = 0
    recipe: RecipeFields | None = None
    speakers: list[Speaker] | None = None
    source: dict[str, str] | None = None
    measured: dict[str, Any] | None = None


@dataclass(frozen=True)
class ModelInfo:
    """What a model says about itself, read without its weights."""

    folder: Path
    description: dict[str, Any]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def path(self) -> Path:
        return self.folder / FILE

    @property
    def modality(self) -> str:
        return self.description["modality"]

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever makes a file with the model should know."""
        if not self.description.get("preview"):
            return ()
        return (f"model {self.name} is a preview that still learns: later releases may not decode this",)

    @cached_property
    def digest(self) -> bytes:
        """First 8 bytes of the SHA-256 of the model file, or of what an imported one consists of."""
        return digest_of(self.path)


def digest_of(path: Path) -> bytes:
    """The name that files have for a model: of an imported one it is the same from whatever file it was imported."""
    data = path.read_bytes()
    return (_digest_of_content(data) or hashlib.sha256(data).digest())[:8]


def _digest_of_content(data: bytes) -> bytes | None:
    """SHA-256 of family, arguments and tensors of an imported model; None of a model that was trained with vq."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        described = json.loads(header.pop("__metadata__")["vq"])
        if SOURCE not in described:
            return None
        digest = hashlib.sha256(_line([described["family"], described["modality"], described["arguments"]]))
        for name in sorted(header):
            entry = header[name]
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            digest.update(_line([name, entry["dtype"], entry["shape"]]))
            digest.update(memoryview(data)[begin:end])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None  # a damaged file goes by its bytes
    return digest.digest()


def _line(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode() + b"\n"


def search_path() -> list[Path]:
    """Folders that hold models, the first match wins: VQ_MODELS, the user's data folder, the shipped models."""
    named = [Path(part) for part in os.environ.get("VQ_MODELS", "").split(os.pathsep) if part]
    package = Path(__file__).parent.parent
    shipped = package / "shipped"
    return [*named, user_folder(), shipped if shipped.is_dir() else package.parent / "models"]


def user_folder() -> Path:
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "vq" / "models"


def list_models() -> list[ModelInfo]:
    """Every model on the search path, by name; the first of a name hides the others."""
    found: dict[str, ModelInfo] = {}
    for base in search_path():
        for path in sorted(base.glob(f"*/{FILE}")):
            if path.parent.name not in found:
                with suppress(ModelError):  # one broken download must not hide the others
                    found[path.parent.name] = describe(path.parent)
    return sorted(found.values(), key=lambda info: info.name)


def known() -> dict[str, dict[str, str]]:
    """Models of other people that can be fetched by name: the repository of each, and what it is for."""
    with KNOWN.open("rb") as stream:
        return tomllib.load(stream)


def find(name: str) -> ModelInfo:
    """The model called `name`, or the one in the folder of that path. Raises ModelError if there is none."""
    if (Path(name) / FILE).is_file():
        return describe(Path(name).resolve())
    if "/" not in name and os.sep not in name:
        for base in search_path():
            if (base / name / FILE).is_file():
                return describe(base / name)
    fetched = f"vq models pull {name} fetches it" if name in known() else ""
    raise ModelError(
        f"no model {name} in {_places()}", fetched or near_matches(name, [info.name for info in list_models()])
    )


def find_for_file(name: str, digest: bytes, joint: bool = False) -> ModelInfo:
    """The model with this digest, whatever it is called now; `joint` if the digest is that of model and entropy model.

    Raises ModelError that says what was there instead.
    """
    folders = [path.parent for base in search_path() for path in sorted(base.glob(f"*/{FILE}"))]
    if (Path(name) / FILE).is_file():
        folders.append(Path(name).resolve())  # `find` takes the model from there when it encodes
    folders.sort(key=lambda folder: folder.name != name)  # a digest costs reading the file: try the likely ones first
    for folder in folders:
        # by its bytes alone: a broken model in another folder is not the business of this file
        if digest_in(folder, joint) == digest:
            return describe(folder)
    if folders and folders[0].name == name:
        check_digest(describe(folders[0]), name, digest, joint)
    raise ModelError(
        f"the file needs model {name}{' and its prior' * joint} ({digest.hex()}), not to be found in {_places()}",
        "name the folder that holds it in VQ_MODELS, or the model itself with --model",
    )


def check_digest(info: ModelInfo, name: str, digest: bytes, joint: bool = False) -> None:
    """Raise ModelError unless `info` is the very model that a file was made with, if `joint` with its entropy model."""
    found = digest_in(info.folder, joint)
    if found != digest:
        there = f"not with those in {info.folder}" if joint else f"not with {info.folder}"
        raise ModelError(
            f"the file was made with model {name}{' and its prior' * joint} ({digest.hex()}), "
            + (f"{there} ({found.hex()})" if found else f"and there is no {EXACT} in {info.folder}"),
            "put the right version in a folder of its own and name it with --model",
        )


def digest_in(folder: Path, joint: bool) -> bytes | None:
    """Digest of the model in a folder, or of model and entropy model together; None if there is no such prior."""
    own = digest_of(folder / FILE)
    if not joint:
        return own
    return joint_digest(own, digest_of(folder / EXACT)) if (folder / EXACT).is_file() else None


def joint_digest(model: bytes, prior: bytes) -> bytes:
    """One name, 8 bytes, for all that a file needs that the entropy model coded: from the digests of both."""
    return hashlib.sha256(model + prior).digest()[:8]


def describe(folder: Path) -> ModelInfo:
    """Read the header of a model file. Raises ModelError if it is not one."""
    path = folder / FILE
    try:
        description = read_description(path)
        if description["format"] != FORMAT:
            raise ValueError(f"it has format {description['format']}, this vq reads {FORMAT}")
        msgspec.convert(description, Fields)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path} is not a model of vq: {error}") from None
    return ModelInfo(folder, description)


def read_description(path: Path) -> dict[str, Any]:
    """The JSON description in the header of a model or prior, without what is null in it: as if it were not there.

    Raises OSError, ValueError, KeyError or TypeError.
    """
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > LARGEST_HEADER:
            raise ValueError("its header is too large")
        description = json.loads(json.loads(stream.read(length))["__metadata__"]["vq"])
    if not isinstance(description, dict):
        raise TypeError("its description is no object")
    return {key: value for key, value in description.items() if value is not None}


def _places() -> str:
    return ", ".join(str(path) for path in search_path())
