"""Codes in memory, of an image, a recording or a clip, and what all media check of a file that holds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vqcli.codec.tiles import Tiles
from vqcli.container import vqz
from vqcli.container.header import MODEL_NAME, NARROW_K
from vqcli.container.vqz import Header
from vqcli.entropy import coders
from vqcli.errors import BadFile, ModelError, UsageError
from vqcli.zoo.loading import LoadedModel

MAX_CODES = 2**27  # of a recording: 256 MiB


def code_type(codebook_sizes: Sequence[int]) -> type[np.unsignedinteger[Any]]:
    """The type of codes of such codebooks: uint16, or uint32 where one has more than 65,536 vectors."""
    return np.uint16 if max(codebook_sizes, default=0) <= NARROW_K else np.uint32


class File:
    """The bytes of a .vqz file, of what has its header and payloads."""

    header: Header
    payloads: Sequence[bytes | None]

    @cached_property
    def data(self) -> bytes:
        """The whole file."""
        return vqz.pack(self.header, self.payloads)

    def save(self, path: str | Path, *, force: bool = False) -> int:
        """Write the .vqz file and return its size in bytes."""
        return vqz.write(Path(path), self.header, self.payloads, force=force)


@dataclass(frozen=True)
class ImageCodes:
    """An image as integers.

    codes     uint16 (as all codes, or uint32: `code_type`) [groups, rows, columns]
    size      width, height of the image in pixels
    channels  1 grey, 3 colour
    quality   in tenths of a step, 0 for models without one
    tiles     in which a net decodes it that would have to see it whole, None for all others
    """

    codes: np.ndarray
    size: tuple[int, int]
    channels: int
    quality: int
    tiles: Tiles | None = None


@dataclass(frozen=True)
class AudioCodes:
    """A recording as integers.

    codes        uint16 [coded channels, groups, T]; groups level by level, T positions as the model has them (framing)
    rate_hz      of the original, as are
    samples      of each channel, and
    channels     either as many as are coded, or any number that one coded channel stands for; a coded channel of a
                 model of stereo is two
    loudness_db  of each coded channel: RMS of its active part, -100 to 100, in a file to a tenth; of models that scale
                 their input, that at which it decodes as loud as it was. -100 is silence
    voice        of each coded channel, what decoding it needs besides codes, in the bytes of its model (nets/codecs): a
                 voice, or the scale of each segment; b"" if nothing
    gain_db      what the decoder's output of each coded channel is raised by, () for nothing
    window       positions of the windows that decode one by one, without padding (dac.py); 0: as the model has them
    """

    codes: np.ndarray
    rate_hz: int
    samples: int
    channels: int
    loudness_db: tuple[float, ...]
    voice: tuple[bytes, ...]
    gain_db: tuple[float, ...] = ()
    window: int = 0

    @property
    def length_s(self) -> float:
        return self.samples / self.rate_hz


Codes = TypeVar("Codes", ImageCodes, AudioCodes)


def books(model: LoadedModel) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Codebook sizes of all groups (of one channel), and how many groups each level has."""
    return model.net.codebook_sizes, model.net.level_codebooks


def book_layout(model: LoadedModel, levels: int, channels: int = 1) -> tuple[int, ...]:
    """Codebook sizes as files list them: level by level, in each channel by channel. `levels` are the first ones."""
    sizes, counts = books(model)
    ends = list(accumulate(counts[:levels]))
    return tuple(k for n, end in zip(counts, ends, strict=False) for k in sizes[end - n : end] * channels)


def levels_in(model: LoadedModel, groups: int) -> int:
    """How many levels so many groups of codes (of one channel) make up."""
    return list(accumulate(books(model)[1], initial=0)).index(groups)


def new_header(
    model: LoadedModel,
    modality: str,
    size: tuple[int, ...],
    grid: tuple[int, ...],
    levels: int,
    *,
    channels: int = 1,
    codes: np.ndarray | None = None,
    **fields: Any,
) -> Header:
    """The header of a file of codes of a model, before they are coded.

    `codes` [groups of all levels and channels, *grid] are summed up in it level by level; None leaves that open.
    `fields` are those of the header that the medium decides. Raises ModelError if the model's name cannot be in a file.
    """
    check_name(model)
    counts = tuple(channels * count for count in books(model)[1][:levels])
    crcs = (0,) * levels
    if codes is not None:
        ends = list(accumulate(counts))[:-1]
        parts = zip(np.split(codes, ends), np.split(np.array(book_layout(model, levels, channels)), ends), strict=True)
        crcs = tuple(vqz.codes_crc(part, sizes.tolist()) for part, sizes in parts)
    return Header(
        modality=modality,
        size=size,
        grid=grid,
        codebook_sizes=book_layout(model, levels, channels),
        levels=levels,
        uneven=counts,
        model=model.info.name,
        digest=model.info.digest,
        coder=coders.get("packed").ID,
        codes_crcs=crcs,
        **fields,
    )


def keep_levels(model: LoadedModel, codes: Codes, levels: int) -> Codes:
    """The same codes with their first residual levels only. Raises UsageError for more than the model has."""
    counts = books(model)[1]
    if not 1 <= levels <= len(counts):
        raise UsageError(f"--levels {levels}: model {model.info.name} has {len(counts)}")
    groups = sum(counts[:levels])
    kept = codes.codes[:groups] if isinstance(codes, ImageCodes) else codes.codes[:, :groups]
    return replace(codes, codes=kept)


def part_in(start_s: float | None, end_s: float | None, total: int, per_s: float) -> tuple[int, int]:
    """The first sample or frame, and how many, of a part in seconds. Raises UsageError if none lies in it."""
    first = round((start_s or 0) * per_s)
    last = total if end_s is None else min(round(end_s * per_s), total)
    if not 0 <= first < last:
        given = " ".join(
            f"--{name} {value:g}" for name, value in (("start", start_s), ("end", end_s)) if value is not None
        )
        raise UsageError(f"{given}: there is no such part", f"the whole takes {total / per_s:.2f} s")
    return first, last - first


def check_name(model: LoadedModel) -> None:
    """Raise ModelError unless a file can hold the name of the model."""
    if not MODEL_NAME.fullmatch(model.info.name):
        raise ModelError(
            f"{model.info.name!r} cannot be the name of a model in a file", "rename its folder: a-z, 0-9, ., _ and -"
        )


def check_levels(header: Header, levels: int | None) -> None:
    """Raise UsageError unless the file has so many levels."""
    if levels is not None and not 1 <= levels <= header.levels:
        raise UsageError(f"--levels {levels}: the file has {header.levels}")


def check_books(model: LoadedModel, header: Header, channels: int) -> None:
    """Raise BadFile unless the groups are whole levels of the model, of so many channels, and the coder can be."""
    counts = tuple(channels * count for count in books(model)[1][: header.levels])
    if header.level_groups != counts or header.codebook_sizes != book_layout(model, header.levels, channels):
        raise BadFile(f"the file's codebooks are not those of model {model.info.name}")
    if coders.get(coders.name_of(header.coder)).NEEDS_STATISTICS and model.statistics is None:
        raise BadFile(f"the file needs counts, and model {model.info.name} ships none")


@dataclass(frozen=True)
class VideoCodes:
    """A clip as integers.

    codes     uint16 [groups, T, rows, columns]
    size              width, height of a frame in pixels
    frames_per_1000s  1 .. 2^20
    quality           in tenths of a step, 0 for models without one
    tiles             of a frame, as `ImageCodes` has them
    """

    codes: np.ndarray
    size: tuple[int, int]
    frames_per_1000s: int
    quality: int = 0
    tiles: Tiles | None = None

    def __len__(self) -> int:
        return self.codes.shape[1]

    @property
    def length_s(self) -> float:
        return 1000 * len(self) / self.frames_per_1000s

    def frame(self, index: int) -> ImageCodes:
        return ImageCodes(self.codes[:, index], self.size, 3, self.quality, self.tiles)

    def frames(self) -> Iterator[ImageCodes]:
        return map(self.frame, range(len(self)))
