"""A pack: many decoded images, perhaps reduced, in one safetensors file that is read through a memory map.

    pixels    U8  [bytes]   all images one after another, rows first; zeros fill up to a multiple of 8
    offsets   I64 [N + 1]   where each image begins, and where the last one ends
    shapes    I32 [N, 3]    height, width, channels (1 grey or 3 sRGB)
    labels    I32 [N]       indices of the classes, -1 for none
    crcs      U32 [N]       CRC-32 of the bytes of each image
    held_out  U8  [N]       1 for images that are not trained on

in this order. The metadata of the header holds the JSON text `vq.pack`: format (2), images (N), classes, and the
names of the images, so that the split survives packing; and a checksum (vqcli/container/checksums.py) of all but the
pixels. Packs of format 1 have neither that nor `crcs`.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from vqcli.container import checksums
from vqcli.data import split
from vqcli.data.crops import reduced, rgb
from vqcli.data.prefetch import in_order
from vqcli.errors import BadFile, UsageError
from vqcli.files import replacing
from vqcli.media.image import MAX_PIXELS

if TYPE_CHECKING:
    from vqcli.data.source import Source

FORMATS = (1, 2)  # the last is written
LARGEST_HEADER = 100_000_000  # bytes, as in the safetensors library: some two million images
LARGEST_COUNT = 2**62  # bytes of pixels, for the longest possible header
TYPES = {"pixels": "U8", "offsets": "I64", "shapes": "I32", "labels": "I32", "crcs": "U32", "held_out": "U8"}
NUMPY: dict[str, np.dtype] = {
    "U8": np.dtype("u1"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "I64": np.dtype("<i8"),
}
HINT = "vq pack writes packs"


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: Annotated[tuple[int, ...], msgspec.Meta(max_length=2)]
    data_offsets: tuple[int, int]


class Header(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"metadata": "__metadata__"}
):
    metadata: dict[str, str]
    pixels: Tensor
    offsets: Tensor
    shapes: Tensor
    labels: Tensor
    crcs: Tensor | msgspec.UnsetType = msgspec.UNSET
    held_out: Tensor


class Facts(msgspec.Struct, frozen=True):
    format: int
    pictures: int
    classes: list[str]
    names: list[str]


@dataclass(frozen=True)
class Packed:
    """What was written; `skipped` has the damaged images and the reasons."""

    pictures: int
    classes: tuple[str, ...]
    size_bytes: int
    skipped: dict[str, str]


def write(
    source: Source,
    path: Path,
    *,
    size: int | None = None,
    force: bool = False,
    progress: Callable[[float], None] = lambda share: None,
) -> Packed:
    """Write the images of a source, their shorter side reduced to `size` if it is longer, to a pack.

    A few images are in memory at a time. `progress` is called with the share that is done, 0 to 1. Raises BadFile if
    no image can be read, UsageError if there are too many for one header, OutputError.
    """
    classes = sorted({label for label in source.labels if label is not None})
    numbers: dict[str | None, int] = {None: -1} | {name: number for number, name in enumerate(classes)}
    # The header comes first but is known last, so space is reserved for the longest possible one.
    reserved = len(_header(LARGEST_COUNT, Facts(FORMATS[-1], len(source.names), classes, list(source.names))))
    reserved += -reserved % 8
    if reserved > LARGEST_HEADER:
        raise UsageError(f"{len(source.names)} images are too many for one pack", "make several: vq train takes many")
    kept: list[int] = []
    shapes: list[tuple[int, ...]] = []
    crcs: list[int] = []
    skipped: dict[str, str] = {}
    with replacing(path, force=force) as stream:
        stream.write(bytes(8 + reserved))
        for index, pixels in enumerate(_prepared(source, size)):
            if isinstance(pixels, BadFile):
                skipped[source.names[index]] = str(pixels)
            else:
                kept.append(index)
                shapes.append(pixels.shape)
                data = np.ascontiguousarray(pixels).data
                crcs.append(zlib.crc32(data))
                stream.write(data)
            progress((index + 1) / len(source.names))
        if not kept:
            raise BadFile("no image can be read", next(iter(skipped.values()), ""))
        offsets = np.cumsum([0, *map(math.prod, shapes)])
        total = int(offsets[-1] + -offsets[-1] % 8)
        stream.write(bytes(total - int(offsets[-1])))
        tables = [
            offsets.astype("<i8"), np.array(shapes, "<i4"), np.array([numbers[source.labels[i]] for i in kept], "<i4"),
            np.array(crcs, "<u4"), np.array([source.held_out[i] for i in kept], np.uint8),
        ]  # fmt: skip
        rest = b"".join(table.tobytes() for table in tables)
        stream.write(rest)
        size_bytes = stream.tell()
        stream.seek(0)
        header = _header(total, Facts(FORMATS[-1], len(kept), classes, [source.names[i] for i in kept]))
        front = struct.pack("<Q", reserved) + header.ljust(reserved)
        stream.write(checksums.sealed(front, zlib.crc32(rest, zlib.crc32(front))))
    return Packed(len(kept), tuple(classes), size_bytes, skipped)


def _prepared(source: Source, size: int | None) -> Generator[np.ndarray | BadFile, None, None]:
    """Each image of the source as it is stored, in order, or why it cannot be."""

    def prepare(index: int) -> np.ndarray | BadFile:
        try:
            pixels = reduced(source.read(index), size)
        except BadFile as error:
            return error
        grey = (pixels[..., :1] == pixels).all()
        return pixels[..., :1] if grey else pixels

    workers = os.cpu_count() or 1
    return in_order(prepare, range(len(source.names)), workers=workers, prefetch=2 * workers)


def _header(total: int, facts: Facts) -> bytes:
    """The JSON of a pack with `total` bytes of pixels."""
    count = facts.pictures
    shapes = {
        "pixels": (total,),
        "offsets": (count + 1,),
        "shapes": (count, 3),
        "labels": (count,),
        "crcs": (count,),
        "held_out": (count,),
    }
    tensors, at = {}, 0
    for name, shape in shapes.items():
        end = at + math.prod(shape) * NUMPY[TYPES[name]].itemsize
        tensors[name] = Tensor(TYPES[name], shape, (at, end))
        at = end
    metadata = {"vq.pack": msgspec.json.encode(facts).decode(), **checksums.FIELDS}
    return msgspec.json.encode(Header(metadata=metadata, **tensors))


class Pack:
    """A source (sources.Source). Everything but pixels is checked on opening, and these when they are read."""

    decoded, stride = True, 1

    def __init__(self, path: Path) -> None:
        try:
            size_bytes = path.stat().st_size
            with path.open("rb") as stream:
                start = stream.read(8)
                length = int.from_bytes(start, "little")
                if len(start) < 8 or not 2 <= length <= min(LARGEST_HEADER, size_bytes - 8):
                    raise BadFile(f"{path} is no safetensors file, or cut off", HINT)
                front = start + stream.read(length)
                header, facts = _parsed(front[8:], path)
            at = 8 + length
            file = np.asarray(np.memmap(path, np.uint8, "r", offset=at)) if size_bytes > at else np.empty(0, np.uint8)
        except OSError as error:
            raise BadFile(f"{path} cannot be read: {error.strerror or error}") from error
        arrays = _arrays(header, file, path)
        _check(arrays, facts, path)
        _check_crc(front, header, file[arrays["pixels"].size :], path)
        self._path, self._crcs = path, arrays.get("crcs")
        self._pixels, self._offsets, self._shapes = arrays["pixels"], arrays["offsets"], arrays["shapes"]
        self.names: Sequence[str] = [split.printable(name) for name in facts.names]
        classes: list[str | None] = [*map(split.printable, facts.classes), None]  # -1 is the last
        self.labels: Sequence[str | None] = [classes[label] for label in arrays["labels"].tolist()]
        self.held_out: Sequence[bool] = arrays["held_out"].astype(bool).tolist()

    def read(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3]. Raises BadFile if its pixels are not those that were packed."""
        start, end = self._offsets[index : index + 2].tolist()
        pixels = self._pixels[start:end]
        if self._crcs is not None and zlib.crc32(pixels.data) != self._crcs[index]:
            raise BadFile(f"{self.names[index]} in {self._path} is damaged: its checksum does not fit", HINT)
        return rgb(pixels.reshape(self._shapes[index]))


def _parsed(data: bytes, path: Path) -> tuple[Header, Facts]:
    try:
        header = msgspec.json.decode(data, type=Header)
        facts = msgspec.json.decode(header.metadata["vq.pack"], type=Facts)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, RecursionError) as error:
        raise BadFile(f"{path} is no pack: {error}", HINT) from None
    if facts.format not in FORMATS:
        raise BadFile(f"{path} is a pack of format {facts.format}", "a newer vq reads it")
    if (facts.format == 1) != (header.crcs is msgspec.UNSET):
        raise BadFile(f"{path} is damaged: its format is not that of its tables", HINT)
    return header, facts


def _check_crc(front: bytes, header: Header, tables: np.ndarray, path: Path) -> None:
    """Compare all but the pixels with their checksum; packs of format 1 have none."""
    try:
        unsealed = checksums.unsealed(front, header.metadata)
    except ValueError as error:
        raise BadFile(f"{path} is damaged: {error}", HINT) from None
    if (unsealed is None) != (header.crcs is msgspec.UNSET):
        raise BadFile(f"{path} is damaged: its checksum is missing", HINT)
    if unsealed is not None and zlib.crc32(tables.data, zlib.crc32(unsealed[0])) != unsealed[1]:
        raise BadFile(f"{path} is damaged: its checksum does not fit", HINT)


def _arrays(header: Header, file: np.ndarray, path: Path) -> dict[str, np.ndarray]:
    """The tensors, where type, shape and place agree and they fill the file."""
    arrays, at = {}, 0
    for name, type in TYPES.items():
        tensor: Tensor | msgspec.UnsetType = getattr(header, name)
        if tensor is msgspec.UNSET:  # crcs, in format 1
            continue
        size = math.prod(tensor.shape) * NUMPY[type].itemsize
        begin, end = tensor.data_offsets
        if tensor.dtype != type or min(tensor.shape, default=-1) < 0 or begin != at or end != at + size:
            raise BadFile(f"{path} is damaged: its {name} are not where they should be", HINT)
        if end > len(file):
            raise BadFile(f"{path} is cut off: {end - len(file)} bytes are missing at least", HINT)
        arrays[name] = file[begin:end].view(NUMPY[type]).reshape(tensor.shape)
        at = end
    if at != len(file):
        raise BadFile(f"{path} is damaged: {len(file) - at} bytes too long", HINT)
    return arrays


def _check(arrays: dict[str, np.ndarray], facts: Facts, path: Path) -> None:
    count, offsets, shapes = facts.pictures, arrays["offsets"], arrays["shapes"].astype(np.int64)
    sound = (
        all(array.ndim == (2 if name == "shapes" else 1) for name, array in arrays.items())
        and offsets.shape == (count + 1,)
        and shapes.shape == (count, 3)
        and arrays["labels"].shape == arrays["held_out"].shape == arrays.get("crcs", arrays["labels"]).shape == (count,)
        and len(facts.names) == count
        and (shapes[:, :2] > 0).all()
        and (shapes[:, 0] * shapes[:, 1] <= MAX_PIXELS).all()  # below 2^62, without overflow
        and np.isin(shapes[:, 2], (1, 3)).all()
        and offsets[0] == 0
        and (np.diff(offsets) == shapes.prod(1)).all()
        and 0 <= len(arrays["pixels"]) - offsets[-1] < 8
        and not arrays["pixels"][offsets[-1] :].any()
        and ((arrays["labels"] >= -1) & (arrays["labels"] < len(facts.classes))).all()
        and (arrays["held_out"] <= 1).all()
    )
    if not sound:
        raise BadFile(f"{path} is damaged: its tables do not agree", HINT)
