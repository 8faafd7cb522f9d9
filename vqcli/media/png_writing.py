"""PNG files written row by row, for images that are too large to be in memory as a whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

LEVEL = 6  # of zlib
DATA_BYTES = 2**16  # of a chunk of the file, at least
PIXELS = 2**19  # that are filtered at once


def write(stream: BinaryIO, bands: Iterable[np.ndarray], width: int, height: int, channels: int) -> None:
    """Write an image of `channels` 1 (grey) or 3 (RGB), 8 bits each, that comes in bands uint8 [h, width, channels].

    Each row is filtered by that of the five filters whose bytes, as signed numbers, have the least sum of magnitudes
    (W3C, Portable Network Graphics, sections 9 and 12.7).
    """
    stream.write(b"\x89PNG\r\n\x1a\n")
    colour = {1: 0, 3: 2}[channels]
    _chunk(stream, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    deflate, waiting = zlib.compressobj(LEVEL), bytearray()
    above, step = np.zeros((1, width, channels), np.uint8), max(1, PIXELS // width)
    for band in bands:
        for top in range(0, len(band), step):
            rows = np.concatenate([above, band[top : top + step]])
            above = rows[-1:]
            waiting += deflate.compress(filtered(rows))
            if len(waiting) >= DATA_BYTES:
                _chunk(stream, b"IDAT", bytes(waiting))
                waiting.clear()
    _chunk(stream, b"IDAT", bytes(waiting) + deflate.flush())
    _chunk(stream, b"IEND", b"")


def filtered(rows: np.ndarray) -> bytes:
    """All rows but the first [n + 1, width, channels], each as its filter's number and its filtered bytes."""
    x, up = rows[1:], rows[:-1]
    left, up_left = (np.pad(side[:, :-1], ((0, 0), (1, 0), (0, 0))) for side in (x, up))
    mean = ((left.astype(np.uint16) + up) >> 1).astype(np.uint8)
    candidates = [x, x - left, x - up, x - mean, x - _paeth(left, up, up_left)]
    costs = [np.minimum(each, -each).sum((1, 2), dtype=np.int64) for each in candidates]
    best = np.argmin(costs, 0).astype(np.uint8)
    chosen = np.empty((len(x), 1 + x[0].size), np.uint8)
    chosen[:, 0] = best
    for number, each in enumerate(candidates):
        chosen[best == number, 1:] = each[best == number].reshape(-1, x[0].size)
    return chosen.tobytes()


def _paeth(left: np.ndarray, up: np.ndarray, up_left: np.ndarray) -> np.ndarray:
    """Whichever of the three is nearest to left + up - up_left, in this order."""
    a, b, c = (side.astype(np.int16) for side in (left, up, up_left))
    far_a, far_b, far_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    return np.where((far_a <= far_b) & (far_a <= far_c), left, np.where(far_b <= far_c, up, up_left))


def _chunk(stream: BinaryIO, kind: bytes, data: bytes) -> None:
    stream.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
