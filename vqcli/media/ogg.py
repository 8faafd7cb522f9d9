"""Pages of Ogg files (RFC 3533): where the streams of a chain begin, and whether the last one has its end."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import BinaryIO

_MAGIC = b"OggS\0"  # and the version
_HEAD = 27  # bytes of a page before its table of segments
_BEGINS, _ENDS = 2, 4  # flags of the first and the last page of a stream
_SEARCHED = 2**16  # bytes at once
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass
class Link:
    """A stream of a chain, or several side by side: from byte `begin` to `end`; `whole` if its last page is there."""

    begin: int
    end: int
    whole: bool = False


def links(stream: BinaryIO) -> list[Link]:
    """The streams of a file that can be read again; what is no page, or a damaged one, is skipped."""
    size = stream.seek(0, 2)
    found, within = [Link(0, size)], False  # the stream, beyond its first pages
    at: int | None = 0
    while at is not None and at + _HEAD <= size:
        page = _page(stream, at)
        if page is None:
            at = _next(stream, at + 1)
            continue
        begins, ends = page[5] & _BEGINS, bool(page[5] & _ENDS)
        if begins and within:
            found[-1].end = at
            found.append(Link(at, size))
        within, found[-1].whole = not begins, ends
        at += len(page)
    return found


def _page(stream: BinaryIO, at: int) -> bytes | None:
    """The page that begins there, if it is sound."""
    stream.seek(at)
    head = stream.read(_HEAD)
    if not head.startswith(_MAGIC):
        return None
    head += stream.read(head[26])
    body = stream.read(size := sum(head[_HEAD:]))
    stored, bare = int.from_bytes(head[22:26], "little"), head[:22] + bytes(4) + head[26:] + body
    return head + body if len(body) == size and _checksum(bare) == stored else None


def _checksum(data: bytes) -> int:
    """CRC-32 that begins with 0 and takes the highest bit first; that of zlib is its mirror image."""
    mirrored = zlib.crc32(data.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_MIRRORED), "big")


def _next(stream: BinaryIO, at: int) -> int | None:
    """Where the next page begins, from there on."""
    stream.seek(at)
    tail = b""
    while part := stream.read(_SEARCHED):
        known = tail + part
        if (place := known.find(_MAGIC)) >= 0:
            return at + place
        tail = known[-len(_MAGIC) + 1 :]
        at += len(known) - len(tail)
    return None
