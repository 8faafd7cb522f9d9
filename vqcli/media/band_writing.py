"""JPEG, TIFF, BMP and PPM files of images that come in bands, for those that are too large to be in memory as a whole.

Each function writes an image of `width` x `height` pixels and `channels` 1 (grey) or 3 (RGB), 8 bits each, that comes
in bands uint8 [h, width, channels] from top to bottom, to a stream that can be sought in.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import Image

from vqcli.errors import OutputError

STRIP_BYTES = 2**20  # of a strip of a TIFF, before it is deflated
LARGEST_JPEG = 65_500  # pixels along a side: as libjpeg has it
BLOCK = 8  # pixels of a JPEG along each side
MOST_BLOCKS = 2**16 - 1  # between two restarts
ROWS = 128  # of pixels between two restarts, at most


def regrouped(bands: Iterable[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """The same image in bands of so many rows, but for the last one."""
    waiting: list[np.ndarray] = []
    count = 0
    for band in bands:
        while len(band):
            part = band[: rows - count]
            waiting.append(part)
            band, count = band[len(part) :], count + len(part)
            if count == rows:
                yield np.concatenate(waiting)
                waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting)


def jpeg(
    stream: BinaryIO, bands: Iterable[np.ndarray], width: int, height: int, channels: int, quality: int = 95
) -> None:
    """A baseline JPEG, with a restart after each band, which is thus coded on its own (ITU-T T.81, section E.1.4).

    Chroma is not subsampled. The pixels are those of an image that is coded as a whole. Raises OutputError for one that
    no JPEG holds.
    """
    if max(width, height) > LARGEST_JPEG:
        raise OutputError(f"JPEG cannot hold {width} x {height} pixels: {LARGEST_JPEG} along a side", "try .png")
    across = -(-width // BLOCK)
    down = min(MOST_BLOCKS // across, ROWS // BLOCK)
    for number, band in enumerate(regrouped(bands, down * BLOCK)):
        file = BytesIO()
        _image(band).save(file, "JPEG", quality=quality, subsampling="4:4:4")
        head, start, scan = _parts(file.getvalue())
        if number == 0:
            stream.write(_with_height(head, height) + b"\xff\xdd" + struct.pack(">HH", 4, across * down) + start)
        else:
            stream.write(bytes((0xFF, 0xD0 + (number - 1) % 8)))
        stream.write(scan)
    stream.write(b"\xff\xd9")


def _parts(file: bytes) -> tuple[bytes, bytes, bytes]:
    """Of a JPEG of one scan: what comes before the scan, its header, and its data."""
    at = 2
    while file[at + 1] != 0xDA:
        at += 2 + int.from_bytes(file[at + 2 : at + 4], "big")
    end = at + 2 + int.from_bytes(file[at + 2 : at + 4], "big")
    return file[:at], file[at:end], file[end:-2]


def _with_height(head: bytes, height: int) -> bytes:
    """The same tables for an image of another height, which the frame header has after length and precision."""
    at = 2
    while head[at + 1] != 0xC0:
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return head[: at + 5] + struct.pack(">H", height) + head[at + 7 :]


def tiff(stream: BinaryIO, bands: Iterable[np.ndarray], width: int, height: int, channels: int) -> None:
    """A TIFF of deflated strips (TIFF 6.0, sections 3 to 6)."""
    rows = max(1, min(height, STRIP_BYTES // (width * channels)))
    begin = stream.tell()
    stream.write(b"II*\0" + bytes(4))
    places: list[tuple[int, int]] = []
    for band in regrouped(bands, rows):
        strip = zlib.compress(np.ascontiguousarray(band).data)
        places.append((stream.tell() - begin, len(strip)))
        stream.write(strip + bytes(len(strip) % 2))  # everything begins at even places
    offsets, lengths = zip(*places, strict=True)
    entries: list[tuple[int, str, tuple[int, ...]]] = [  # by tag
        (256, "I", (width,)), (257, "I", (height,)), (258, "H", (8,) * channels), (259, "H", (8,)),
        (262, "H", (2 if channels == 3 else 1,)), (273, "I", offsets), (277, "H", (channels,)),
        (278, "I", (rows,)), (279, "I", lengths), (284, "H", (1,)),
    ]  # fmt: skip
    table = b""
    for tag, kind, values in entries:
        data = struct.pack(f"<{len(values)}{kind}", *values)
        if len(data) > 4:
            data = struct.pack("<I", _appended(stream, data) - begin)
        table += struct.pack("<HHI", tag, {"H": 3, "I": 4}[kind], len(values)) + data.ljust(4, b"\0")
    place = _appended(stream, struct.pack("<H", len(entries)) + table + bytes(4))
    stream.seek(begin + 4)
    stream.write(struct.pack("<I", place - begin))
    stream.seek(0, 2)


def _appended(stream: BinaryIO, data: bytes) -> int:
    """Where the data begin, after they are written."""
    place = stream.tell()
    stream.write(data + bytes(len(data) % 2))
    return place


def bmp(stream: BinaryIO, bands: Iterable[np.ndarray], width: int, height: int, channels: int) -> None:
    """A BMP, whose rows are stored from bottom to top, padded to four bytes, as blue, green and red."""
    pitch = -(-width * channels // 4) * 4
    palette = b"".join(bytes((grey, grey, grey, 0)) for grey in range(256)) if channels == 1 else b""
    offset, begin = 54 + len(palette), stream.tell()
    stream.write(
        struct.pack("<2sIIIIiiHH", b"BM", offset + pitch * height, 0, offset, 40, width, height, 1, 8 * channels)
    )
    stream.write(struct.pack("<IIiiII", 0, pitch * height, 0, 0, len(palette) // 4, 0) + palette)
    top = 0
    for band in bands:
        top += len(band)
        rows = np.zeros((len(band), pitch), np.uint8)
        rows[:, : width * channels] = band[::-1, :, ::-1].reshape(len(band), -1)
        stream.seek(begin + offset + (height - top) * pitch)
        stream.write(rows.data)
    stream.seek(0, 2)


def ppm(stream: BinaryIO, bands: Iterable[np.ndarray], width: int, height: int, channels: int) -> None:
    """A PGM or PPM."""
    stream.write(b"P%d\n%d %d\n255\n" % (5 if channels == 1 else 6, width, height))
    for band in bands:
        stream.write(np.ascontiguousarray(band).data)


def _image(band: np.ndarray) -> Image.Image:
    return Image.fromarray(band[..., 0] if band.shape[2] == 1 else band)
