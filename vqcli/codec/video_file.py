"""Codes of a clip <-> a .vqz file: what its header says, and whether that can be.

A model of images codes a clip frame by frame, into a grid [frames, rows, columns] (the paper, 4.4), so the file says
video and its model says image. A chunk is a run of whole frames, which decodes alone: a file is written and read chunk
by chunk, and a part of a clip costs no more than its own chunks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from vqcli.codec import chunks, image_file, tiling
from vqcli.codec.codes import (
    MAX_CODES,
    ImageCodes,
    VideoCodes,
    check_books,
    check_levels,
    code_type,
    levels_in,
    new_header,
)
from vqcli.codec.tiles import Tiles
from vqcli.container import bounds
from vqcli.container.bounds import MAX_PIXELS, Limits
from vqcli.container.vqz import Header, Vqz
from vqcli.errors import BadFile, UsageError
from vqcli.media.frames import MAX_FRAMES
from vqcli.zoo.loading import LoadedModel


def chunk_frames(model: LoadedModel, rows: int, columns: int) -> int:
    """How many frames a chunk takes: about as many positions as one of an image, 1 to 64 frames."""
    return min(max(1, (image_file.CHUNK // model.net.stride) ** 2 // (rows * columns)), bounds.MAX_CHUNK_FRAMES)


def pack_video(
    model: LoadedModel, video: VideoCodes, *, coder: str = "auto", metadata: dict[str, str] | None = None
) -> tuple[Header, tuple[bytes, ...]]:
    """Header and payloads of codes, by the coder of that name; see `chunks.pack`."""
    return pack_frames(model, video.frames(), video.frames_per_1000s, coder=coder, metadata=metadata)


def pack_frames(
    model: LoadedModel,
    frames: Iterable[ImageCodes],
    frames_per_1000s: int,
    *,
    coder: str = "auto",
    metadata: dict[str, str] | None = None,
) -> tuple[Header, tuple[bytes, ...]]:
    """`pack_video` for codes that come frame by frame, all of one size; no more than a chunk of them is held.

    Raises BadFile if there are none, or more than a file can hold.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise BadFile("a clip needs a frame at least")
    (width, height), (groups, rows, columns) = first.size, first.codes.shape
    if width * height > bounds.MAX_FRAME_PIXELS:
        excess = f"frames of {width} x {height} pixels are more than the {bounds.MAX_FRAME_PIXELS:,} that vq decodes"
        raise BadFile(excess, "scale them down, or encode them as images")
    levels = levels_in(model, groups)
    size, grid = (*first.size, 1, frames_per_1000s), (1, rows, columns)
    metadata = image_file.with_tiles(model, metadata or {}, first)
    header = new_header(model, "video", size, grid, levels, quality=first.quality, metadata=metadata)
    n = chunk_frames(model, rows, columns)
    parts = _parts((frame.codes for frame in itertools.chain([first], frames)), n, 2**20 // levels)
    header, payloads = chunks.pack_stream(model, header, parts, coder=coder)
    return replace(header, size=(*first.size, header.grid[0], frames_per_1000s)), payloads


def unpack_video(
    model: LoadedModel, file: Vqz, *, levels: int | None = None, wanted: slice | None = None
) -> tuple[VideoCodes, np.ndarray]:
    """Codes of a parsed file, or of the `wanted` frames alone, and which of these frames are lost: bool [T].

    `levels`, lost frames and errors as `unpack_image` has them. Raises UsageError for more than memory should hold.
    """
    tiles = check_video(model, file.header)
    width, height, count, frames_per_1000s = file.header.size
    wanted = wanted or slice(0, count)
    T, groups = wanted.stop - wanted.start, file.header.groups_in(levels or file.header.levels)
    if T * groups * math.prod(file.header.grid[1:]) > MAX_CODES:
        raise UsageError(f"the codes of {T} frames are too many at once", "take a part of the clip")
    codes = np.empty((groups, T, *file.header.grid[1:]), code_type(file.header.codebook_sizes))
    lost = np.zeros(T, bool)
    for index, (frame, gone) in enumerate(unpack_frames(model, file, levels=levels, wanted=wanted)):
        codes[:, index], lost[index] = frame.codes, gone
    return VideoCodes(codes, (width, height), frames_per_1000s, file.header.quality, tiles), lost


def unpack_frames(
    model: LoadedModel, file: Vqz, *, levels: int | None = None, wanted: slice | None = None
) -> Iterator[tuple[ImageCodes, bool]]:
    """`unpack_video` frame by frame, each with whether it is lost; no more than a chunk of them is held."""
    tiles = check_video(model, file.header)  # before anything is allocated
    check_levels(file.header, levels)
    width, height, count, _ = file.header.size
    wanted = wanted or slice(0, count)
    for start, codes, lost in chunks.unpack_stream(model, file, levels=levels, wanted=wanted):
        for index in range(max(wanted.start - start, 0), min(wanted.stop - start, codes.shape[1])):
            yield ImageCodes(codes[:, index], (width, height), 3, file.header.quality, tiles), lost


def with_rate(header: Header, frames_per_1000s: int) -> Header:
    """The header of a clip at another rate."""
    return replace(header, size=(*header.size[:3], frames_per_1000s))


def lost_frames(file: Vqz, levels: int | None = None) -> np.ndarray:
    """Which frames of a parsed file are lost, as far as its first levels go: bool [T], true only in salvaged files."""
    count = file.header.chunk_count
    kept = np.array([payload is None for payload in file.payloads[: (levels or file.header.levels) * count]])
    n = (file.header.chunk or file.header.grid)[0]
    return kept.reshape(-1, count).any(0).repeat(n)[: file.header.grid[0]]


def check_video(model: LoadedModel, header: Header) -> Tiles | None:
    """The tiles in which each frame is decoded, if it is.

    Raises BadFile for a header that is sound in itself but cannot be that of a clip by this model.
    """
    if header.modality != "video" or model.info.modality != "image":
        raise BadFile(f"the file holds {header.modality}, and model {model.info.name} is of {model.info.modality}")
    width, height, count, _ = header.size
    bounds.check(header, limits=Limits(pixels=MAX_PIXELS))  # who decodes says whether it may be that many
    if tuple(tiling.frame_size(model) or (height, width)) != (height, width):
        raise BadFile(f"model {model.info.name} has no frames of {width} x {height} pixels")
    if header.grid != (count, *model.net.grid(height, width)):
        raise BadFile(
            f"a grid of {' x '.join(map(str, header.grid))} codes does not belong to {count} frames of "
            f"{width} x {height} pixels"
        )
    qualities = tiling.qualities(model)
    if not bool(qualities) <= header.quality <= 10 * qualities:
        raise BadFile(f"quality {header.quality / 10:g} is not one of model {model.info.name}")
    check_books(model, header, channels=1)
    return image_file.tiles_in(model, header)


def _parts(frames: Iterable[np.ndarray], n: int, most: int) -> Iterator[np.ndarray]:
    """Codes [groups, n, rows, columns] of frames [groups, rows, columns]; BadFile for more than `most` parts."""
    frames = iter(frames)
    done = 0
    while some := list(itertools.islice(frames, n)):
        done += len(some)
        if done > min(MAX_FRAMES, n * most):
            raise BadFile(f"a clip of more than {done - len(some):,} frames is too much for one file", "cut it")
        yield np.stack(some, axis=1)
