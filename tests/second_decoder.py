"""A second decoder of .vqz files, written from vqcli/container/FORMAT.md alone: no vqcli, no numpy.

`read` takes a file of any version apart and refuses what the document does not allow; `decode` gives the codes of files
whose coder is `packed`, `histogram` or `adaptive`. Slow, and meant to be read beside the document.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from dataclasses import dataclass, field
from itertools import groupby, product
from math import prod
from zlib import crc32

MAGIC = bytes.fromhex("8956515A0D0A")
MODALITIES = {1: "image", 2: "audio", 3: "video"}
NARROW = 65536  # the largest K whose codes take two bytes under the checksum


class Refused(Exception):
    """The document does not allow this file."""


def demand(condition: object, what: str) -> None:
    """Raise `Refused` unless the condition holds."""
    if not condition:
        raise Refused(what)


class Bytes:
    """Bytes that are read from the front."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        demand(self.at + count <= len(self.data), "truncated")
        self.at += count
        return self.data[self.at - count : self.at]

    def u8(self, low: int = 0, high: int = 255) -> int:
        return within(self.take(1)[0], low, high)

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def varint(self, low: int = 0, high: int = 2**42 - 1) -> int:
        """Unsigned LEB128 of at most six bytes, in its only spelling."""
        number = 0
        for place in range(6):
            byte = self.take(1)[0]
            number |= (byte & 127) << 7 * place
            if byte < 128:
                demand(byte or not place, "a needless zero group")
                return within(number, low, high)
        raise Refused("a varint of more than six bytes")

    def varints(self, count: int, low: int = 0, high: int = 2**42 - 1) -> tuple[int, ...]:
        return tuple(self.varint(low, high) for _ in range(count))


def within(number: int, low: int, high: int) -> int:
    demand(low <= number <= high, f"{number} is not from {low} to {high}")
    return number


@dataclass
class File:
    """What a .vqz file says. Payloads are in the order of the index: level by level, the residual's last."""

    version: int
    modality: str
    coder: int
    quality: int
    model: str
    digest: bytes
    prior: bytes
    size: tuple[int, ...]
    grid: tuple[int, ...]
    chunk: tuple[int, ...]
    codebook_sizes: list[int]
    books: list[int]
    side_bytes: int
    codes_crcs: tuple[int, ...]
    metadata: dict[str, str]
    residual: tuple[int, int] | None
    payloads: list[bytes] = field(default_factory=list)

    def chunks(self) -> list[tuple[range, ...]]:
        """Which positions each chunk covers, along each side of the grid."""
        shape = self.chunk or self.grid
        steps = [range(0, side, step) for side, step in zip(self.grid, shape, strict=True)]
        return [
            tuple(
                range(begin, min(begin + step, side))
                for begin, step, side in zip(begins, shape, self.grid, strict=True)
            )
            for begins in product(*steps)
        ]


def read(data: bytes) -> File:
    """A whole .vqz file, its checksums compared. Raises `Refused`."""
    source = Bytes(data)
    demand(source.take(6) == MAGIC, "no .vqz file")
    version = source.u8(1, 4)
    length = source.varint(0, 2**24)
    fields = Bytes(source.take(length))
    file, index = read_fields(fields, version)
    demand(fields.at == length, "bytes follow the index")
    demand(crc32(data[: source.at]) == source.u32(), "the header's checksum differs")
    for size, checksum in index:
        file.payloads.append(source.take(size))
        demand(crc32(file.payloads[-1]) == checksum, "a payload's checksum differs")
    demand(source.at == len(data) <= 2**32, "bytes follow the last payload")
    return file


def read_fields(source: Bytes, version: int) -> tuple[File, list[tuple[int, int]]]:
    """The header fields: what they say, and the index as (length, CRC-32) of each payload."""
    modality = MODALITIES[source.u8(1, 3)]
    coder, quality, levels = source.u8(0, 127), source.u8(), source.u8(1, 64)
    model = source.take(source.u8()).decode("latin-1")
    demand(re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", model), "the model's name")
    digest, kind = source.take(8), source.u8(0, 2)
    prior = source.take(8) if kind == 1 else digest if kind == 2 else b""
    size = read_size(source, modality)
    grid = source.varints({"image": 2, "audio": 1, "video": 3}[modality], 1)
    chunk = read_chunk(source, grid, modality)
    sizes = read_codebook_sizes(source)
    demand(prod(grid) * len(sizes) <= 2**33, "too many codes")
    books = read_books(source, version, levels, sizes)
    side_bytes = source.varint(1, 2**32) if version == 4 else 0
    crcs = tuple(source.u32() for _ in range(levels))
    metadata = read_metadata(source.take(source.varint(0, 4096)))
    demand(version != 2 or modality == "image", "a residual of what is no image")
    residual = (source.u8(0, 127), source.u32()) if version == 2 else None
    file = File(
        version, modality, coder, quality, model, digest, prior, size, grid, chunk, sizes, books, side_bytes, crcs,
        metadata, residual,
    )  # fmt: skip
    entries = (levels + (version == 2)) * prod(-(-side // step) for side, step in zip(grid, chunk or grid, strict=True))
    demand(entries <= 2**20, "too many payloads")
    return file, [(source.varint(), source.u32()) for _ in range(entries)]


def read_size(source: Bytes, modality: str) -> tuple[int, ...]:
    if modality == "audio":
        return source.varint(1, 2**36), source.varint(1, 2**20), source.varint(1, 64)
    width, height = source.varints(2, 1, 2**20)
    demand(width * height <= 2**32, "too many pixels")
    if modality == "image":
        return width, height, source.varint(1, 4)
    return width, height, source.varint(1, 2**24), source.varint(1, 2**20)


def read_chunk(source: Bytes, grid: tuple[int, ...], modality: str) -> tuple[int, ...]:
    first = source.varint()
    if not first:
        return ()
    chunk = (first, *source.varints(len(grid) - 1))
    demand(all(1 <= step <= side for step, side in zip(chunk, grid, strict=True)) and chunk != grid, "the chunk")
    if modality == "video":
        frames, *frame = chunk
        demand(tuple(frame) == grid[1:], "a chunk of parts of frames")
        demand(frames == 1 or (frames <= 64 and prod(chunk) <= 2**20), "a chunk of too many frames")
    return chunk


def read_codebook_sizes(source: Bytes) -> list[int]:
    runs = [(source.varint(2, 2**18), source.varint(1, 4096)) for _ in range(source.u8(1))]
    demand(all(a[0] != b[0] for a, b in zip(runs, runs[1:], strict=False)), "neighbouring runs are equal")
    sizes = [K for K, count in runs for _ in range(count)]
    demand(len(sizes) <= 4096, "too many codebooks")
    return sizes


def read_books(source: Bytes, version: int, levels: int, sizes: list[int]) -> list[int]:
    """How many codebooks each level has."""
    wide = max(sizes) > NARROW
    if version in (1, 2):
        demand(len(sizes) % levels == 0 and not wide, "not a file of this version")
        return [len(sizes) // levels] * levels
    books = list(source.varints(levels, 1, 4096))
    demand(sum(books) == len(sizes), "codebooks of the levels")
    demand(version == 4 or wide or len(set(books)) > 1, "a file of version 1")
    return books


def read_metadata(text: bytes) -> dict[str, str]:
    if not text:
        return {}
    try:
        metadata = json.loads(text)
    except ValueError as error:
        raise Refused(f"the metadata: {error}") from None
    demand(isinstance(metadata, dict) and metadata, "the metadata are no strings by strings")
    demand(all(isinstance(value, str) for value in metadata.values()), "the metadata are no strings by strings")
    spelled = json.dumps(metadata, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    demand(spelled == text, "the metadata have another spelling")
    return metadata


def coded_channels(file: File) -> int:
    """How many rows a payload has for each codebook: of audio, one for each channel that is coded."""
    return file.metadata.get("loudness_db", "").count(",") + 1 if file.modality == "audio" else 1


def split_side(file: File) -> tuple[list[bytes], list[bytes]]:
    """The side information of each chunk (version 4), and all payloads without it."""
    count = len(file.chunks())
    sides, payloads = [], list(file.payloads)
    if file.version == 4:
        for number in range(count):
            source = Bytes(payloads[number])
            sides.append(source.take(source.varint()))
            payloads[number] = payloads[number][source.at :]
        demand(sum(map(len, sides)) == file.side_bytes, "bytes of side information")
    return sides, payloads
