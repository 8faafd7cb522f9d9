"""Codes <-> .vqz: which coder, which chunks, and the proof that they come back.

Levels and chunks are coded on their own, so that a level can be dropped, a chunk read or lost alone, and all of
them coded side by side.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np

from vqcli import coders, vqz, zoo
from vqcli.coders.prior_net import Net
from vqcli.coders.statistics import Statistics
from vqcli.errors import BadFile, ModelError, UsageError, VqError
from vqcli.media.image import MAX_PIXELS
from vqcli.vqz import Header, Vqz
from vqcli.vqz_header import MODEL_NAME
from vqcli.zoo import LoadedModel

CHUNK = 1024  # pixels: large enough for the counts to settle, small enough that damage stays local

Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageCodes:
    """A picture as integers.

    codes     uint16 [groups, rows, columns]
    size      width, height of the picture in pixels
    channels  1 grey, 3 colour
    quality   in tenths of a step, 0 for models without one
    """

    codes: np.ndarray
    size: tuple[int, int]
    channels: int
    quality: int


@dataclass(frozen=True)
class _Part:
    """One chunk of one level: where its codes lie, and its index in the file."""

    level: int
    chunk: int
    groups: slice
    window: tuple[slice, ...]


def pack_image(
    model: LoadedModel, image: ImageCodes, *, coder: str = "auto", metadata: dict[str, str] | None = None
) -> tuple[Header, tuple[bytes, ...]]:
    """Header and payloads of codes, by the coder of that name.

    'auto' takes the smallest that verifies, so never more than `packed`: every payload is decoded again and compared
    with its codes. Raises VqError if no coder returns what it was given.
    """
    header = _header(model, image, metadata or {})
    parts = _parts(header)
    net, digest = (coder in ("auto", "prior") and model.exact) or (None, b"")
    attempts = []
    for name in coders.candidates(coder, model.statistics, net):
        payloads = tuple(_together(partial(_encode, model, header, image, name, net), parts))
        used = replace(header, coder=coders.IDS[name])
        if name == "prior":  # one digest names both, so the header is no longer than without
            used = replace(used, digest=zoo.joint_digest(header.digest, digest), joint=True)
        attempts.append((sum(map(len, payloads)), used, payloads))
    for _, attempt, payloads in sorted(attempts, key=lambda attempt: attempt[0]):
        decoded, _ = unpack_image(model, vqz.unpack(vqz.pack(attempt, payloads)))
        if np.array_equal(decoded.codes, image.codes):
            return attempt, payloads
    raise VqError("no coder returns the codes it was given", "this is a defect of vq: please report it")


def file_size(model: LoadedModel, image: ImageCodes, *, coder: str = "auto") -> int:
    """Bytes of the whole .vqz file of these codes."""
    return len(vqz.pack(*pack_image(model, image, coder=coder)))


def unpack_image(model: LoadedModel, file: Vqz, *, levels: int | None = None) -> tuple[ImageCodes, np.ndarray]:
    """Codes of a parsed file, and which positions are lost: bool [rows, columns], true only in salvaged files.

    `levels` reads the first ones only. Lost positions hold the middle of each codebook. Raises BadFile if a chunk
    does not decode, the codes fail their checksum or do not fit the model, ModelError if the prior that the file
    was made with is not there, UsageError for levels it has not.
    """
    header = file.header
    _check_fits(model, header)  # before anything is allocated
    if levels is not None and not 1 <= levels <= header.levels:
        raise UsageError(f"--levels {levels}: the file has {header.levels}")
    kept = levels or header.levels
    name = coders.name_of(header.coder)
    net = _prior_of(model, header) if name == "prior" else None
    codes = np.empty((kept * header.groups_per_level, *header.grid), np.uint16)
    lost = np.zeros(header.grid, bool)

    def read(part: _Part) -> None:
        target = codes[(part.groups, *part.window)]
        sizes = header.codebook_sizes[part.groups]
        payload = file.payload(part.level, part.chunk)
        if payload is None:
            lost[part.window] = True
            target[...] = ((np.array(sizes) - 1) // 2)[:, None, None]
        else:
            tables = _statistics(model, part)
            target[...] = coders.decode(name, payload, target.shape, sizes, tables, net, header.quality)

    _together(read, [part for part in _parts(header) if part.level < kept])
    if not lost.any():
        for level, part in enumerate(np.split(codes, kept)):
            if vqz.codes_crc(part) != header.codes_crcs[level]:
                raise BadFile("the codes fail their checksum", "the file is damaged, or was not made with this model")
    width, height, channels = header.size
    return ImageCodes(codes, (width, height), channels, header.quality), lost


def _check_fits(model: LoadedModel, header: Header) -> None:
    """Raise BadFile for a header that is sound in itself but cannot be that of a picture by this model."""
    if header.modality != "image":
        raise BadFile(f"the file holds {header.modality}, not a picture")
    width, height, channels = header.size
    if width * height > MAX_PIXELS:
        raise BadFile(f"{width} x {height} pixels are more than the {MAX_PIXELS:,} that vq decodes")
    if channels not in (1, 3):
        raise BadFile(f"{channels} channels are neither grey nor colour")
    quantizer = model.net.quantizer
    if header.grid != model.net.grid(height, width):
        raise BadFile(
            f"a grid of {' x '.join(map(str, header.grid))} codes does not belong to {width} x {height} pixels"
        )
    whole_levels = header.groups_per_level * quantizer.levels == len(quantizer.codebook_sizes)
    if not whole_levels or header.codebook_sizes != quantizer.codebook_sizes[: header.groups]:
        raise BadFile(f"the file's codebooks are not those of model {model.info.name}")
    if header.coder == coders.IDS["histogram"] and model.statistics is None:
        raise BadFile(f"the file needs counts, and model {model.info.name} ships none")


def _prior_of(model: LoadedModel, header: Header) -> Net:
    """The very prior that a file was made with. Raises ModelError if there is another beside the model, or none."""
    if not (header.joint or header.prior):
        raise BadFile("the file needs a prior and does not say which")
    if model.exact is None:
        raise ModelError(
            f"the file needs the exact prior of model {model.info.name}, and there is no {zoo.EXACT} beside it",
            f"put it into {model.info.folder}",
        )
    net, digest = model.exact
    if header.joint:
        if zoo.joint_digest(model.info.digest, digest) != header.digest:  # both known: nothing is read again
            zoo.check_digest(model.info, header.model, header.digest, joint=True)
    elif digest != header.prior:
        raise ModelError(
            f"the file was made with prior {header.prior.hex()}, not with {digest.hex()} beside {model.info.name}"
        )
    return net


def keep_levels(model: LoadedModel, image: ImageCodes, levels: int) -> ImageCodes:
    """The same codes with their first residual levels only. Raises UsageError for more than the model has."""
    available = model.net.quantizer.levels
    if not 1 <= levels <= available:
        raise UsageError(f"--levels {levels}: model {model.info.name} has {available}")
    return replace(image, codes=image.codes[: levels * image.codes.shape[0] // available])


def _header(model: LoadedModel, image: ImageCodes, metadata: dict[str, str]) -> Header:
    if not MODEL_NAME.fullmatch(model.info.name):
        raise ModelError(
            f"{model.info.name!r} cannot be the name of a model in a file", "rename its folder: a-z, 0-9, ., _ and -"
        )
    quantizer = model.net.quantizer
    groups, *grid = image.codes.shape
    levels = quantizer.levels * groups // len(quantizer.codebook_sizes)
    side = CHUNK // model.net.stride
    return Header(
        modality="image",
        size=(*image.size, image.channels),
        grid=tuple(grid),
        codebook_sizes=quantizer.codebook_sizes[:groups],
        levels=levels,
        model=model.info.name,
        digest=model.info.digest,
        coder=coders.IDS["packed"],
        quality=image.quality,
        chunk=() if max(grid) <= side else tuple(min(side, length) for length in grid),
        codes_crcs=tuple(vqz.codes_crc(part) for part in np.split(image.codes, levels)),
        metadata=metadata,
    )


def _parts(header: Header) -> list[_Part]:
    n = header.groups_per_level
    windows = header.chunk_windows()
    return [
        _Part(level, chunk, slice(level * n, (level + 1) * n), window)
        for level in range(header.levels)
        for chunk, window in enumerate(windows)
    ]


def _encode(model: LoadedModel, header: Header, image: ImageCodes, coder: str, net: Net | None, part: _Part) -> bytes:
    codes, sizes = image.codes[(part.groups, *part.window)], header.codebook_sizes[part.groups]
    return coders.encode(coder, codes, sizes, _statistics(model, part), net, header.quality)


def _statistics(model: LoadedModel, part: _Part) -> Statistics | None:
    return model.statistics and model.statistics.of_groups(part.groups.start, part.groups.stop)


def _together(work: Callable[[_Part], Result], parts: Iterable[_Part]) -> list[Result]:
    """Results in order; the coders release the interpreter's lock, so threads are enough."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(work, parts))
