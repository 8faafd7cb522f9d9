"""Random damage to what runs read and write: python -m tests.fuzz_data --count 10000 --seed 0

Packs, tars in both dialects, .npz arrays, recorded episodes, idx files gzipped or not; checkpoints, logs, recipes in
TOML and --set. Checksums are made to fit in most cases, so that what lies behind them is reached.
"""

import gzip
import io
import json
import random
import re
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from tests.fuzzing import Case, damaged, edited, edited_tensors, join, main, split
from vqcli import recipe
from vqcli.container import checksums
from vqcli.data import packs, recordings
from vqcli.data.sources import open_source
from vqcli.errors import BadFile
from vqcli.training import checkpoint, log
from vqcli.training.ema import EMA

TOML = [path.read_bytes() for path in sorted(recipe.SHIPPED.glob("*.toml"))]
LINES = (
    *("0", "-1", "1e999", "nan", "99999999999999999999999999", '""', '"x"', "[]", "{}", "true", "1979-05-27"),
    *("[" * 5, "[" * 3000, "{a={a={a=1}}}", "'''x'''", '"\\u0000"', "3.5", "[1,2,3]"),
)
SECTIONS = ("[x]", "[model]", "[[model]]", "a=1", "[model.arguments.x.y]", "model.arguments=1", "=1", "\0", "a." * 2000)
KEYS = (
    "optimization.seed",
    "model.arguments.quantizer.K",
    "model",
    "data",
    "a.b.c",
    "rate.lambda_low",
    "codec",
    "",
    "..",
)


def png(number: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (12, 16, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def read_all(path: Path) -> None:
    source = open_source(path)
    for index in range(min(6, len(source.names))):
        with suppress(BadFile):
            source.read(index)


def put(data: bytes, path: Path) -> Path:
    path.write_bytes(data)
    return path


# ---------------------------------------------------------------- sealed files


def resealed(data: bytes, covers_all: bool) -> bytes:
    """A file whose checksum fits: that of all of it, or of all but the pixels of a pack."""
    header, body = split(data)
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or "crc32" not in metadata:
        return data
    digits = str(metadata["crc32"]).encode()
    front = data[: len(data) - len(body)].replace(b'"crc32":"' + digits, b'"crc32":"' + checksums.ZEROS)
    pixels = 0
    if not covers_all:
        with suppress(KeyError, TypeError, ValueError, IndexError):
            pixels = max(0, int(header["pixels"]["data_offsets"][1]))
    return checksums.sealed(front, zlib.crc32(body[pixels:], zlib.crc32(front))) + body


def changed(data: bytes, source: random.Random, key: str, covers_all: bool) -> bytes:
    """A safetensors file with edited JSON under a key of its metadata, edited tensors, or damaged bytes."""
    if source.random() < 0.2:
        return damaged(data, source)
    header, body = split(data)
    if source.random() < 0.4:
        metadata = dict(header["__metadata__"])
        metadata[key] = json.dumps(edited(json.loads(metadata[key]), source))
        header["__metadata__"] = metadata
    else:
        header, body = edited_tensors(header, body, source)
    return resealed(join(header, body), covers_all)


def a_pack() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a").mkdir()
        for number in range(5):
            put(png(number), Path(folder) / "a" / f"{number}.png")
        packs.write(open_source(Path(folder)), Path(folder) / "x.safetensors")
        return (Path(folder) / "x.safetensors").read_bytes()


def tiny_run() -> tuple[nn.Module, EMA, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    return net, EMA(net, 0.9), optimizer


def a_checkpoint() -> bytes:
    counters = vars(checkpoint.State(step=3, data=["images"], classes=["a"]))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.write(Path(folder), *tiny_run(), {"counters": counters, "recipe": recipe.load("tokens").to_dict()})
        return (Path(folder) / checkpoint.NAME).read_bytes()


def use_checkpoint(data: bytes, folder: Path) -> None:
    put(data, folder / checkpoint.NAME)
    recipe.from_dict(checkpoint.metadata_of(folder)[0], "x")
    checkpoint.read(folder, *tiny_run())


# ---------------------------------------------------------------- archives and arrays


def a_tar(dialect: int) -> bytes:
    stream = io.BytesIO()
    folder = "é" * 60 if dialect == tarfile.PAX_FORMAT else "b" * 120
    with tarfile.open(fileobj=stream, mode="w", format=dialect) as archive:
        for number in range(3):
            for name, data in ((f"{folder}/k{number}.png", png(number)), (f"{folder}/k{number}.cls", b"fox")):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def changed_tar(data: bytes, source: random.Random) -> bytes:
    """Fields of headers edited, and their checksums made to fit."""
    if source.random() < 0.2:
        return damaged(data, source)
    archive = bytearray(data)
    headers = [at for at in range(0, len(archive) - 511, 512) if archive[at + 257 : at + 262] == b"ustar"]
    sizes = (
        b"77777777777\0",
        b"\x80" + b"\xff" * 11,
        b"\xff" * 12,
        b"00000000000\0",
        b"-0000000001\0",
        b"0000x000000\0",
    )
    names = (b"../../etc/x.png", b"/abs/x.png", b"a/\x1b[31m.png", b"\xff\xfe.png", b".png", b"a" * 99 + b"g", b"")
    records = (b"30 size=99999999999999999999999\n", b"11 size=-1\n", b"999999 x=y\n", b"0 =\n", b"18 GNU.sparse.x=1\n")
    for _ in range(source.choice((1, 2, 3))):
        at, what = source.choice(headers), source.random()
        if what < 0.25:
            archive[at + 124 : at + 136] = source.choice(sizes)
        elif what < 0.5:
            archive[at + 156] = source.choice(b"01234567LKxgSDVNM\0\xff")
        elif what < 0.65:
            archive[at : at + 100] = source.choice(names).ljust(100, b"\0")
        elif what < 0.8:
            archive[at + 512 : at + 544] = source.choice(records).ljust(32, b"\0")
        else:
            archive[source.randrange(len(archive))] ^= 1 << source.randrange(8)
    for at in headers:
        header = archive[at : at + 512]
        archive[at + 148 : at + 156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:]))
    return bytes(archive)


def an_npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def changed_npz(data: bytes, source: random.Random) -> bytes:
    """Headers of arrays edited, in an archive that is sound."""
    if source.random() < 0.3:
        return damaged(data, source)
    kinds = (b"|O", b"<f4", b"<i8", b"|S9", b"<U99999999", b"<M8", b"|V4", b"|u9")
    counts = (b"(-4,", b"(4294967296,", b"(99999999999999,", b"(0,", b"(True,", b"(4.0,", b"(4,4,4,4,")
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            member = old.read(name)
            if source.random() < 0.6:
                end = 10 + struct.unpack("<H", member[8:10])[0]
                header, rest = member[10:end], member[end:]
                header = source.choice(
                    (
                        header.replace(b"|u1", source.choice(kinds)), header.replace(b"(4,", source.choice(counts)),
                        header.replace(b"False", source.choice((b"True", b"__import__('os')", b"1", b"None"))),
                        b"{" * len(header), b"(" * len(header), damaged(header, source),
                    )
                )  # fmt: skip
                member = member[:8] + struct.pack("<H", len(header)) + header + rest
            new.writestr(source.choice((name, name, name, "../" + name)), member)
    return stream.getvalue()


IMAGES = struct.pack(">IIII", 0x803, 4, 28, 28) + bytes(4 * 784)
LABELS = struct.pack(">II", 0x801, 4) + bytes([0, 1, 2, 3])


def changed_idx(source: random.Random) -> bytes:
    """Images, a separator and labels."""
    data = damaged(IMAGES[: source.choice((16, len(IMAGES)))], source)
    if source.random() < 0.4:
        sizes = (source.choice((0, 1, 4, 28, 2**16, 2**31, 2**32 - 1)) for _ in range(3))
        data = struct.pack(">IIII", 0x803, *sizes) + bytes(100)
    if source.random() < 0.4:
        data = gzip.compress(data)
        data = damaged(data, source) if source.random() < 0.4 else data
    return data + b"<labels>" + (damaged(LABELS, source) if source.random() < 0.5 else LABELS)


def use_idx(data: bytes, folder: Path) -> None:
    images, _, labels = data.partition(b"<labels>")
    put(images, folder / ("train-images-idx3-ubyte" + ".gz" * images.startswith(b"\x1f\x8b")))
    put(labels, folder / "train-labels-idx1-ubyte")
    read_all(folder)


def use_episode(data: bytes, folder: Path) -> None:
    put(data, folder / "0.npz")
    read_all(folder)
    recordings.read_actions(folder / "0.npz")


# ---------------------------------------------------------------- text


def changed_toml(source: random.Random) -> bytes:
    data, what = source.choice(TOML), source.random()
    if what < 0.3:
        return damaged(data, source)
    lines = data.decode().splitlines()
    at = source.randrange(len(lines))
    if what < 0.8:
        lines[at] = f"{re.split('=', lines[at])[0]}= {source.choice(LINES)}"
    else:
        lines.insert(at, source.choice(SECTIONS))
    return "\n".join(lines).encode()


def use_setting(data: bytes, folder: Path) -> None:
    recipe.override(recipe.load("tokens"), [data.decode()]).to_toml()


def use_log(data: bytes, folder: Path) -> None:
    put(data, folder / log.NAME)
    log.read(folder)


def cases() -> dict[str, Case]:
    pack, saved = a_pack(), a_checkpoint()
    tars = {
        f"tar {name}": a_tar(dialect) for name, dialect in (("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT))
    }
    draw = np.random.default_rng(0)
    pixels, letters = draw.integers(0, 255, (4, 8, 8, 3), np.uint8), np.array(list("abcd"))
    arrays = an_npz(images=pixels, labels=np.arange(4), classes=letters)
    episode = an_npz(images=pixels, actions=letters)
    events = b'{"event":"train","step":1,"seconds":2.0,"loss":0.5}\n' * 9

    def opened(name: str) -> Callable[[bytes, Path], None]:
        return lambda data, folder: read_all(put(data, folder / name))

    return {
        "pack": Case(lambda source: changed(pack, source, "vq.pack", False), opened("x.safetensors")),
        "checkpoint": Case(
            lambda source: changed(saved, source, source.choice(("counters", "recipe")), True), use_checkpoint
        ),
        **{
            name: Case(lambda source, data=data: changed_tar(data, source), opened("x.tar"))
            for name, data in tars.items()
        },
        "npz": Case(lambda source: changed_npz(arrays, source), opened("x.npz")),
        "npz episode": Case(lambda source: changed_npz(episode, source), use_episode),
        "idx": Case(changed_idx, use_idx),
        "toml": Case(changed_toml, lambda data, folder: recipe.parse(data, "x.toml") and None),
        "toml set": Case(lambda source: f"{source.choice(KEYS)}={source.choice(LINES)}".encode(), use_setting),
        "log": Case(lambda source: damaged(events, source), use_log),
    }


if __name__ == "__main__":
    main(__doc__, cases)
