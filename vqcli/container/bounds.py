"""What a file may declare for vq to decode it, judged by its header alone.

A header of some seventy bytes may declare any size. So before a model is loaded or anything is allocated, `check`
compares what the header declares with what vq decodes within some 1.5 GB, and with what the caller allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vqcli.container.header import Header, code_bytes
from vqcli.errors import BadFile

MAX_PIXELS = 2**28  # of an image: 268 megapixels, 805 MB
MAX_FRAME_PIXELS = 2**25  # of a frame of a clip, which is decoded as a whole, unless the caller allows more: 8K
MAX_CHUNK_SIDE = 2**11  # pixels of a chunk of an image along each side, where vq writes 2^10
MAX_CHUNK_SECONDS = 60  # of a chunk of audio, where vq writes 10, or
MAX_CHUNK_POSITIONS = 2**16  # that many codes of a codebook, if they are longer
MAX_CHUNK_FRAMES = 64  # of a chunk: some seconds, so that damage stays local
MAX_FRAMES_CODES = 2**20  # positions of a chunk of several frames
MAX_CODE_BYTES = 2**29  # of all codes of an image, in memory
MAX_SECONDS = 24 * 3600  # of a recording
# of a payload at most: a code of the context coder takes 26 bits, a value of a residual may also stand in its list
BYTES_A_CODE, BYTES_A_RESIDUAL, BYTES_BESIDE = 5, 12, 2**10


@dataclass(frozen=True)
class Limits:
    """What a caller allows a file to declare, besides what vq decodes at all; None is as much as that.

    pixels   of an image, or of each frame of a clip
    seconds  of a recording or clip
    """

    pixels: int | None = None
    seconds: float | None = None


NO_LIMITS = Limits()


def check(header: Header, lengths: Sequence[int] = (), limits: Limits = NO_LIMITS) -> None:
    """Raise BadFile unless the file declares no more than vq decodes, and than the caller allows.

    `lengths` are the bytes of the payloads as the index has them, () if they are not to be compared.
    """
    {"image": _check_image, "video": _check_video, "audio": _check_audio}[header.modality](header, limits)
    _check_lengths(header, lengths)


def check_chunk(sides: Sequence[float]) -> None:
    """Raise BadFile for a chunk of an image of more pixels along a side than vq decodes at once."""
    if max(sides) > MAX_CHUNK_SIDE:
        size = " x ".join(f"{side:,.0f}" for side in reversed(sides))
        raise BadFile(f"a chunk of {size} pixels: vq decodes {MAX_CHUNK_SIDE:,} x {MAX_CHUNK_SIDE:,} at once")


def _check_image(header: Header, limits: Limits) -> None:
    width, height, _ = header.size
    _check_pixels(header, limits.pixels or MAX_PIXELS)
    shape = header.chunk or header.grid
    _check_grid(header, header.grid)
    check_chunk([step * side / n for step, side, n in zip(shape, (height, width), header.grid, strict=True)])
    size_bytes = math.prod(header.grid) * header.groups * code_bytes(max(header.codebook_sizes))
    if size_bytes > MAX_CODE_BYTES:
        raise BadFile(f"{size_bytes:,} bytes of codes are more than the {MAX_CODE_BYTES:,} that vq holds of an image")


def _check_video(header: Header, limits: Limits) -> None:
    _check_pixels(header, limits.pixels or MAX_FRAME_PIXELS)
    _check_grid(header, header.grid[1:])
    n, *sides = header.chunk or header.grid
    if tuple(sides) != header.grid[1:] or (n > 1 and (n > MAX_CHUNK_FRAMES or n * math.prod(sides) > MAX_FRAMES_CODES)):
        raise BadFile(f"chunks of {n} x {sides[0]} x {sides[1]} codes are not those of video")
    _check_seconds(1000 * header.size[2] / header.size[3], limits)


def _check_audio(header: Header, limits: Limits) -> None:
    samples, rate_hz, _ = header.size
    seconds = samples / rate_hz
    _check_seconds(seconds, limits)
    if seconds > MAX_SECONDS:
        raise BadFile(f"{samples} samples at {rate_hz} Hz are more than the {MAX_SECONDS // 3600} hours of vq")
    positions = (header.chunk or header.grid)[0]
    of_chunk = seconds * positions / header.grid[0]
    if positions > MAX_CHUNK_POSITIONS and of_chunk > MAX_CHUNK_SECONDS:
        raise BadFile(f"a chunk of {of_chunk:,.0f} seconds: vq decodes {MAX_CHUNK_SECONDS} at once")


def _check_pixels(header: Header, most: int) -> None:
    width, height = header.size[:2]
    if width * height > min(most, MAX_PIXELS):
        allowed = f"{width} x {height} pixels are more than the {min(most, MAX_PIXELS):,} that are decoded"
        raise BadFile(allowed, "--max-pixels allows more" if width * height <= MAX_PIXELS else "")


def _check_grid(header: Header, grid: Sequence[int]) -> None:
    """Each position stands for a pixel at least."""
    width, height = header.size[:2]
    if grid[0] > height or grid[1] > width:
        raise BadFile(f"a grid of {grid[0]} x {grid[1]} codes does not belong to {width} x {height} pixels")


def _check_seconds(seconds: float, limits: Limits) -> None:
    if limits.seconds is not None and seconds > limits.seconds:
        raise BadFile(
            f"{seconds:,.1f} seconds are more than the {limits.seconds:g} that are decoded", "--max-seconds allows more"
        )


def _check_lengths(header: Header, lengths: Sequence[int]) -> None:
    """Raise BadFile for a payload that is longer than any coder makes it."""
    chunk, groups, beside = math.prod(header.chunk or header.grid), header.level_groups, header.side_bytes
    if header.modality == "video":
        beside += 6 * (header.chunk or header.grid)[0]  # of each frame a length
    for number, length in enumerate(lengths):
        level = number // header.chunk_count
        if level < header.levels:
            most = chunk * groups[level] * BYTES_A_CODE + beside + BYTES_BESIDE
        else:
            most = MAX_CHUNK_SIDE**2 * header.size[2] * BYTES_A_RESIDUAL
        if length > most:
            raise BadFile(f"a payload of {length:,} bytes, where no coder takes more than {most:,}")
