"""The .vqz file: a checked header, then the codes in independently checked chunks.

FORMAT.md in this folder is the specification of all format versions, byte by byte. Here are the parts that concern the
whole file: magic, version, checksum, index and payloads. header.py has the fields of the header.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from zlib import crc32

from vqcli.container import bounds
from vqcli.container.bounds import NO_LIMITS, Limits
from vqcli.container.fields import Reader, require, u32, varint
from vqcli.container.header import NARROW_K, Header, code_bytes, read_fields, write_fields
from vqcli.container.payloads import Payloads
from vqcli.errors import BadFile, DamagedChunks, OutputError, UsageError
from vqcli.files import release, replacing, spooled

if TYPE_CHECKING:
    import numpy as np

MAGIC = b"\x89VQZ\r\n"
VERSION = 4  # the newest; a file has the lowest that can say what it holds

_START_BYTES = 6 + 1 + 6  # magic, version and the longest varint tell how long the header is; no file is shorter
_FOREIGN = {
    b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"RIFF": "RIFF, as WAV, WebP and AVI do",
    b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3", b"ftyp": "ftyp, as MP4 and HEIC do", b"\x1aE\xdf\xa3": "Matroska",
    b"PK\3\4": "ZIP", b"\x1f\x8b": "gzip", b"%PDF": "PDF",
}  # fmt: skip


@dataclass(frozen=True)
class Vqz:
    """A file that was checked. Record `level * header.chunk_count + chunk` of `payloads` is None if it is damaged,
    which only `salvage` lets through; `lengths` are the sizes in bytes that the index gives. The residual's records
    follow those of the last level."""

    header: Header
    payloads: Sequence[bytes | None]
    lengths: tuple[int, ...]

    @property
    def damaged(self) -> tuple[int, ...]:
        """The indices of the damaged records."""
        return tuple(number for number, payload in enumerate(self.payloads) if payload is None)

    @property
    def size_bytes(self) -> int:
        """The size of the whole file in bytes, damaged payloads included."""
        return len(_front(self.header, [(length, 0) for length in self.lengths])) + sum(self.lengths)

    def payload(self, level: int, chunk: int) -> bytes | None:
        """The coded bytes of one chunk, None if damaged. Raises UsageError if there is no such level or chunk."""
        if not (0 <= level < self.header.levels and 0 <= chunk < self.header.chunk_count):
            raise UsageError(f"no chunk {chunk} in level {level}")
        payload = self.payloads[level * self.header.chunk_count + chunk]
        return payload if payload is None or level or not self.header.side_bytes else _without_side(payload)[1]

    def side(self, chunk: int) -> bytes | None:
        """The side information of one chunk, None if damaged. Raises UsageError if there is no such chunk."""
        if not 0 <= chunk < self.header.chunk_count:
            raise UsageError(f"no chunk {chunk}")
        payload = self.payloads[chunk] if self.header.side_bytes else b"\0"
        return None if payload is None else _without_side(payload)[0]

    def residual(self, chunk: int) -> bytes | None:
        """The coded residual of one chunk, None if damaged. Raises UsageError if the file has no such."""
        if not (self.header.residual and 0 <= chunk < self.header.chunk_count):
            raise UsageError(f"no residual of chunk {chunk}")
        return self.payloads[self.header.levels * self.header.chunk_count + chunk]


def pack(header: Header, payloads: Sequence[bytes | None]) -> bytes:
    """The file's bytes. `payloads` go level by level, chunk by chunk, then those of the residual.

    Raises BadFile if their number is not header.records, one is None, or the file would pass 2^32 bytes.
    """
    stream = io.BytesIO()
    _write(stream, header, payloads)
    return stream.getvalue()


def with_side(side: bytes, payload: bytes) -> bytes:
    """The payload of a chunk in the first level, of a file whose chunks have side information."""
    return varint(len(side)) + side + payload


def unpack(data: bytes, *, salvage: bool = False, limits: Limits | None = None) -> Vqz:
    """Parse and check a file's bytes. Raises BadFile; DamagedChunks if only payloads are damaged or cut off.

    With `salvage` damaged payloads become None and bytes after the end are ignored; header and index must be sound.
    With `limits` a file that declares more is a BadFile, before its payloads are read.
    """
    return _unpack(io.BytesIO(data), salvage, limits)


def read(source: Path | BinaryIO, salvage: bool = False, limits: Limits | None = NO_LIMITS) -> Vqz:
    """`unpack` a file, or a stream to its end; messages of any BadFile, a missing file's too, begin with the path."""
    with _opened(source) if isinstance(source, Path) else _copied(source) as stream:
        return _unpack(stream, salvage, limits)


def read_header(path: Path) -> tuple[Header, tuple[int, ...]]:
    """The header and the length in bytes of each payload, without reading payloads. Raises BadFile as `read`."""
    with _opened(path) as stream:
        header, index = _read_front(stream)
    return header, tuple(length for length, _ in index)


def write(path: Path, header: Header, payloads: Sequence[bytes | None], *, force: bool = False) -> int:
    """Write a file that is known to read back equal; returns its size in bytes.

    Raises what `pack` raises, UsageError if `path` exists without `force`, OutputError if it cannot be written.
    """
    with replacing(path, force=force) as stream:
        size_bytes = _write(stream, header, payloads)
        stream.seek(0)
        again = _unpack(stream, salvage=False)
        if again.header != header or any(one != other for one, other in zip(again.payloads, payloads, strict=True)):
            raise OutputError(f"{path} would not read back as it was written")
    return size_bytes


def drop_levels(vqz: Vqz, keep: int) -> Vqz:
    """The same file with only its first `keep` levels and no residual, payloads untouched.

    Raises UsageError unless 1 <= keep <= levels.
    """
    header = vqz.header
    if not 1 <= keep <= header.levels:
        raise UsageError(f"cannot keep {keep} levels", f"the file has {header.levels}")
    sizes, crcs = header.codebook_sizes[: header.groups_in(keep)], header.codes_crcs[:keep]
    uneven = header.uneven[:keep]
    fewer = replace(header, levels=keep, uneven=uneven, codebook_sizes=sizes, codes_crcs=crcs, residual=None)
    return Vqz(fewer, vqz.payloads[: fewer.records], vqz.lengths[: fewer.records])


def codes_crc(codes: np.ndarray, codebook_sizes: Sequence[int] = ()) -> int:
    """The CRC-32 of one level's codes, integers [groups of the level, *grid]; no K means that of NARROW_K or less.

    Raises BadFile for what are no codes of such codebooks.
    """
    import numpy as np

    require(np.issubdtype(codes.dtype, np.integer), f"codes are {codes.dtype}, not integers")
    largest = max(NARROW_K, *codebook_sizes) - 1 if codebook_sizes else NARROW_K - 1
    crc = 0
    for group, K in zip(codes, codebook_sizes or (NARROW_K,) * len(codes), strict=True):
        require(group.size == 0 or (group.min() >= 0 and group.max() <= largest), f"codes are not in 0..{largest}")
        crc = group_crc(group, K, crc)  # one by one, as a copy of all may take much memory
        release(codes)
    return crc


def group_crc(codes: np.ndarray, K: int, crc: int = 0) -> int:
    """The CRC-32 of the codes of a codebook of K, after those that have the CRC-32 `crc`."""
    return crc32(codes.astype(f"<u{code_bytes(K)}").tobytes(), crc)


def _write(stream: BinaryIO, header: Header, payloads: Sequence[bytes | None]) -> int:
    """What `pack` returns, to a stream; returns its size in bytes."""
    index = [(len(payload), crc32(payload)) for payload in payloads if payload is not None]
    needed = header.records
    require(len(index) == len(payloads) == needed, f"{needed} payloads are needed, {len(index)} are there")
    _check_side(header, payloads)
    front = _front(header, index)
    stream.write(front)
    for payload in payloads:
        stream.write(payload or b"")
    return len(front) + sum(length for length, _ in index)


def _front(header: Header, index: Sequence[tuple[int, int]]) -> bytes:
    """All that precedes the payloads; `index` holds (length in bytes, CRC-32) of each."""
    fields = write_fields(header, index)
    front = MAGIC + bytes([header.version]) + varint(len(fields)) + fields
    require(len(front) + 4 + sum(length for length, _ in index) <= 2**32, "larger than 2^32 bytes")
    return front + u32(crc32(front))


def _read_front(stream: BinaryIO) -> tuple[Header, list[tuple[int, int]]]:
    """Check and parse all that precedes the payloads, and leave the stream where they begin."""
    start = stream.read(_START_BYTES)
    if start.startswith((b"\x89VQZ\n", b"\x89VQZ\r\r", b"\xc2\x89VQZ", b"\xef\xbf\xbdVQZ")):
        raise BadFile("damaged by a newline or text conversion", "copy it again in binary mode")
    if not start.startswith(MAGIC[: len(start) or 1]):
        kinds = [f"starts with {name}" for magic, name in _FOREIGN.items() if start.find(magic) in (0, 4)]
        raise BadFile(f"not a .vqz file ({(kinds or ['unknown first bytes'])[0] if start else 'empty'})")
    require(len(start) == _START_BYTES, f"truncated: only {len(start)} bytes")
    rest = Reader(start[len(MAGIC) :])
    version = rest.u8()
    require(version > 0, "format version 0 does not exist")
    if version > VERSION:
        raise BadFile(f"made by a newer vq (format version {version}; this one reads up to {VERSION})", "update vq")
    length = rest.varint()
    begin = _START_BYTES - len(rest)
    end = begin + length + 4
    require(length <= 2**24, "the header is damaged (its length is out of range)")
    require(end <= stream.seek(0, io.SEEK_END), f"truncated within the header of {end} bytes")
    stream.seek(0)
    front = stream.read(end)
    require(u32(crc32(front[:-4])) == front[-4:], "the header is damaged (its checksum differs)")
    header, index = read_fields(Reader(front[begin:-4]), version)
    require(_front(header, index) == front, "the header is not in canonical form")
    return header, index


def _unpack(stream: BinaryIO, salvage: bool, limits: Limits | None = None) -> Vqz:
    header, index = _read_front(stream)
    if limits is not None:
        bounds.check(header, [length for length, _ in index], limits)
    begin, size = stream.tell(), stream.seek(0, io.SEEK_END)
    lengths = tuple(length for length, _ in index)
    end = begin + sum(lengths)
    if size > end and not salvage:
        raise BadFile(f"{size - end} bytes follow the end of the file", "--salvage ignores them")
    stream.seek(begin)

    def read() -> Iterator[bytes | None]:
        for length, crc in index:
            payload = stream.read(min(length, size - stream.tell()))
            yield payload if len(payload) == length and crc32(payload) == crc else None

    payloads = Payloads(read())
    _check_side(header, payloads)
    vqz = Vqz(header, payloads, lengths)
    damaged = vqz.damaged
    if damaged and not salvage:
        cut = f"truncated, {size} of {end} bytes: " if size < end else ""
        chunks = [str(number + 1) for number in damaged]  # for people, so counted from 1
        listed = ", ".join(chunks[:8]) + (f" and {len(chunks) - 8} more" if len(chunks) > 8 else "")
        names = f"chunk {listed} of {len(index)} is" if len(chunks) == 1 else f"chunks {listed} of {len(index)} are"
        raise DamagedChunks(f"{cut}{names} damaged", damaged, "--salvage decodes the rest")
    return vqz


def _without_side(payload: bytes) -> tuple[bytes, bytes]:
    """The mirror of `with_side`."""
    reader = Reader(payload, "the side information of a chunk")
    side = reader.take(reader.varint())
    return side, reader.take(len(reader))


def _check_side(header: Header, payloads: Sequence[bytes | None]) -> None:
    """Raise BadFile unless the payloads, of which None are damaged, hold the side information that the header says."""
    if header.side_bytes:
        first = payloads[: header.chunk_count]
        found = sum(len(_without_side(payload)[0]) for payload in first if payload is not None)
        least = 0 if None in first else header.side_bytes
        require(least <= found <= header.side_bytes, f"{found} bytes of side information are not {header.side_bytes}")


@contextmanager
def _copied(stream: BinaryIO) -> Iterator[BinaryIO]:
    """A stream that can be sought in; of one that is no .vqz file, and may never end, what tells so."""
    head = stream.read(_START_BYTES)
    with ExitStack() as stack:
        yield spooled(stream, stack, head) if head.startswith(MAGIC) else io.BytesIO(head)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The open file; what goes wrong within the block becomes a BadFile that names it."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe or a device may never end
            raise BadFile("not a file but a folder or device")
        with path.open("rb") as stream:
            yield stream
    except BadFile as error:
        error.args = (f"{path}: {error}",)
        raise
    except OSError as error:
        raise BadFile(f"{path}: cannot be read ({error.strerror or error})") from error
