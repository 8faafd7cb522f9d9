"""A second decoder of .vqz files, written from vqcli/container/FORMAT.md alone: no vqcli, no numpy.

`read` takes a file of any version apart and refuses what the document does not allow; `decode` gives the codes of files
whose coder is `packed`, `histogram` or `adaptive`. Slow, and meant to be read beside the document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise, product
from math import prod
from typing import Any
from zlib import crc32, decompress

MAGIC = bytes.fromhex("8956515A0D0A")
MODALITIES = {1: "image", 2: "audio", 3: "video"}
NARROW = 65536  # the largest K whose codes take two bytes under the checksum
Plane = list[list[int]]  # codes of one codebook, row by row


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
    demand(all(a[0] != b[0] for a, b in pairwise(runs)), "neighbouring runs are equal")
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


@dataclass
class Tables:
    """What `histogram` and `adaptive` know of the codebooks of one coded channel, as nested lists (FORMAT.md)."""

    mean: list[list[int]]
    own: list[list[int]]
    earlier: list[list[int]]
    thresholds: list[list[int]]
    counts: list[list[list[int]]]

    def part(self, first: int, last: int) -> Tables:
        """Those of the codebooks first .. last - 1."""
        part = slice(first, last)
        earlier = [row[part] for row in self.earlier[part]]
        return Tables(self.mean[part], self.own[part], earlier, self.thresholds[part], self.counts[part])


def without_tables(sizes: list[int]) -> Tables:
    """Of codebooks of a model that has none."""
    n, largest = len(sizes), max(sizes)
    counts = [[[150] * K + [0] * (largest - K)] for K in sizes]
    return Tables([[0] * 4] * n, [[0] * 4] * n, [[0] * n] * n, [[]] * n, counts)


def read_tables(model: bytes) -> Tables | None:
    """The tensors `statistics.*` of a model.safetensors: u64 length, JSON, then the numbers."""
    begin = 8 + int.from_bytes(model[:8], "little")
    entries = json.loads(model[8:begin])

    def numbers_of(name: str) -> bytes:
        first, last = entries[name]["data_offsets"]
        return model[begin + first : begin + last]

    def table(name: str) -> Any:
        kind, shape, data = entries[name]["dtype"], entries[name]["shape"], numbers_of(name)
        size = {"I32": 4, "U16": 2}[kind]
        if shape[0] == 0:
            shape, planes = shape[1:], decompress(numbers_of(name + ".deflated"))
            count = prod(shape)
            data = bytes(planes[place * count + at] for at in range(count) for place in range(size))
        parts = (data[at : at + size] for at in range(0, len(data), size))
        return nested((int.from_bytes(part, "little", signed=kind == "I32") for part in parts), shape)

    if "statistics.mean" not in entries:
        return None
    names = ("mean", "own", "earlier", "thresholds", "counts")
    return Tables(*(table("statistics." + name) for name in names))


def nested(numbers: Iterator[int], shape: list[int]) -> list[Any]:
    """Numbers in C order as lists of lists."""
    if len(shape) == 1:
        return [next(numbers) for _ in range(shape[0])]
    return [nested(numbers, shape[1:]) for _ in range(shape[0])]


def decode_packed(payload: bytes, rows: int, columns: int, sizes: list[int]) -> list[Plane]:
    widths = [(K - 1).bit_length() for K in sizes]
    total = rows * columns * sum(widths)
    demand(len(payload) == (total + 7) // 8, "a packed payload of another length")
    bits = "".join(f"{byte:08b}" for byte in payload)
    demand("1" not in bits[total:], "fill bits that are not zero")
    planes, at = [], 0
    for K, width in zip(sizes, widths, strict=True):
        plane = []
        for _ in range(rows):
            row = [int(bits[at + width * x : at + width * (x + 1)], 2) for x in range(columns)]
            plane.append(row)
            at += width * columns
        demand(all(code < K for row in plane for code in row), "a code beyond its codebook")
        planes.append(plane)
    return planes


class RangeDecoder:
    """Symbols by their frequencies."""

    def __init__(self, payload: bytes) -> None:
        self.payload, self.at = payload, 7
        self.range, self.value = 2**56, int.from_bytes(payload[:7].ljust(7, b"\0"), "big")

    def symbol(self, frequencies: list[int]) -> int:
        total = sum(frequencies)
        step = self.range // total
        target = min(self.value // step, total - 1)
        before = symbol = 0
        while before + frequencies[symbol] <= target:
            before += frequencies[symbol]
            symbol += 1
        self.value -= step * before
        last = before + frequencies[symbol] == total
        self.range = self.range - step * before if last else step * frequencies[symbol]
        while self.range < 2**48:
            demand(self.at < len(self.payload) + 6, "a payload that ends too early")
            self.value = 256 * self.value + (self.payload[self.at] if self.at < len(self.payload) else 0)
            self.range *= 256
            self.at += 1
        return symbol

    def end(self) -> None:
        demand(self.at == len(self.payload) + 6, "a payload that ends too late")


def decode_context(
    payload: bytes, rows: int, columns: int, sizes: list[int], tables: Tables, adaptive: bool
) -> list[Plane]:
    source = RangeDecoder(payload)
    largest = len(tables.counts[0][0])
    planes: list[Plane] = []
    for book, K in enumerate(sizes):
        m, values = (K - 1) // 2, [[0] * columns for _ in range(rows)]
        counts = [list(row) for row in tables.counts[book]]
        skews = len(counts) // (len(tables.thresholds[book]) + 1)
        for y, x in product(range(rows), range(columns)):
            places = ((y, x - 1), (y - 1, x), (y - 1, x - 1), (y - 1, x + 1))
            around = [values[v][u] if v >= 0 and 0 <= u < columns else 0 for v, u in places]
            exact = sum(map(int.__mul__, tables.mean[book], around))
            rounded = (exact + 32) // 64
            fraction = exact - 64 * rounded
            energy = sum(weight * abs(value) for weight, value in zip(tables.own[book], around, strict=True))
            for other in range(book):
                energy += tables.earlier[book][other] * abs(planes[other][y][x] - (sizes[other] - 1) // 2)
            skew = (abs(fraction) >= 6) + (abs(fraction) >= 18) if skews == 3 else 0
            context = sum(threshold <= energy for threshold in tables.thresholds[book]) * skews + skew
            symbol = source.symbol(counts[context])
            value = rounded + symbol - m if fraction >= 0 else rounded - symbol + m
            values[y][x] = (m + value) % K - m
            if adaptive:
                counts[context][symbol] += 300
                if sum(counts[context]) > max(2**17, 256 * largest):
                    counts[context] = [(count + 1) // 2 for count in counts[context]]
        planes.append([[value + m for value in row] for row in values])
    source.end()
    return planes


def decode(file: File, tables: Tables | None = None) -> list[list[int]]:
    """Codes of a file as [codebook][position], of positions in C order over the grid; their checksums are compared.

    `tables` are those of the model, if it has any. Raises `Refused`.
    """
    demand(file.coder in (0, 1, 2), "a coder that needs an entropy model")
    demand(file.coder != 1 or tables, "histogram without counts")
    chunks, channels = file.chunks(), coded_channels(file)
    _, payloads = split_side(file)
    codes = [[0] * prod(file.grid) for _ in file.codebook_sizes]
    first = 0
    for level, books in enumerate(file.books):
        demand(books % channels == 0, "codebooks of the channels")
        each = books // channels
        sizes = file.codebook_sizes[first : first + each]
        demand(sizes * channels == file.codebook_sizes[first : first + books], "codebooks of the channels")
        known = tables.part(first // channels, first // channels + each) if tables else without_tables(sizes)
        for number, chunk in enumerate(chunks):
            *sides, columns = map(len, chunk)
            rows = prod(sides) * channels
            payload = payloads[level * len(chunks) + number]
            if file.coder == 0:
                planes = decode_packed(payload, rows, columns, sizes)
            else:
                planes = decode_context(payload, rows, columns, sizes, known, adaptive=file.coder == 2)
            positions = [place(position, file.grid) for position in product(*chunk)]
            for book, plane in enumerate(planes):
                flat = [code for row in plane for code in row]
                for channel in range(channels):
                    part = flat[channel * len(positions) : (channel + 1) * len(positions)]
                    for position, code in zip(positions, part, strict=True):
                        codes[first + channel * each + book][position] = code
        checksum = 0
        for book in range(first, first + books):
            width = 4 if file.codebook_sizes[book] > NARROW else 2
            checksum = crc32(b"".join(code.to_bytes(width, "little") for code in codes[book]), checksum)
        demand(checksum == file.codes_crcs[level], "the codes' checksum differs")
        first += books
    return codes


def place(position: tuple[int, ...], grid: tuple[int, ...]) -> int:
    """Where a position of the grid stands in C order."""
    at = 0
    for index, side in zip(position, grid, strict=True):
        at = at * side + index
    return at
