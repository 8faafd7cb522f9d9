"""Codes of a picture or a recording <-> a .vqz file: what its header says, and whether that can be.

That of clips is in packing_video.py.
"""

from __future__ import annotations

import base64
import math
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vqcli import chunks
from vqcli.container import vqz
from vqcli.container.header import MODEL_NAME
from vqcli.container.vqz import Header, Vqz
from vqcli.entropy import coders
from vqcli.errors import BadFile, ModelError, UsageError
from vqcli.media import audio
from vqcli.media.image import MAX_PIXELS
from vqcli.zoo.loading import LoadedModel

CHUNK = 1024  # pixels: large enough for the counts to settle, small enough that damage stays local
MAX_CHUNK = 2**22  # pixels of a chunk with a remainder, which takes some tens of bytes for each to decode
CHUNK_SECONDS = 10  # of sound, at least
CHUNK_BYTES = 1200  # of a level's chunk when packed, at least: so its 6 bytes of index stay below 1 % when coded well
MAX_CODES = 2**27  # of a recording: 256 MiB
LOUDNESS, VOICE = "loudness_db", "voice"  # keys of the metadata that are vq's own


class File:
    """The bytes of a .vqz file, of what has its header and payloads."""

    header: Header
    payloads: tuple[bytes, ...]

    @cached_property
    def data(self) -> bytes:
        """The whole file."""
        return vqz.pack(self.header, self.payloads)

    def save(self, path: str | Path, *, force: bool = False) -> int:
        """Write the .vqz file and return its size in bytes."""
        return vqz.write(Path(path), self.header, self.payloads, force=force)


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
class AudioCodes:
    """A recording as integers.

    codes        uint16 [coded channels, groups, T]; groups level by level, T positions of the model's stride
    rate_hz      of the original, as are
    samples      of each channel, and
    channels     either as many as are coded, or any number that one coded channel stands for
    loudness_db  of each coded channel: RMS of its active part, -100 to 100, in a file to a tenth
    voice        of each coded channel, in the bytes of its model (windows.py), b"" if it keeps none
    """

    codes: np.ndarray
    rate_hz: int
    samples: int
    channels: int
    loudness_db: tuple[float, ...]
    voice: tuple[bytes, ...]

    @property
    def length_s(self) -> float:
        return self.samples / self.rate_hz


Codes = TypeVar("Codes", ImageCodes, AudioCodes)


def books(model: LoadedModel) -> tuple[tuple[int, ...], int]:
    """Codebook sizes of all groups (of one channel), and the number of levels that they part into."""
    return model.net.codebook_sizes, model.net.levels


def keep_levels(model: LoadedModel, codes: Codes, levels: int) -> Codes:
    """The same codes with their first residual levels only. Raises UsageError for more than the model has."""
    sizes, available = books(model)
    if not 1 <= levels <= available:
        raise UsageError(f"--levels {levels}: model {model.info.name} has {available}")
    groups = levels * len(sizes) // available
    kept = codes.codes[:groups] if isinstance(codes, ImageCodes) else codes.codes[:, :groups]
    return replace(codes, codes=kept)


def file_size(model: LoadedModel, codes: ImageCodes | AudioCodes, *, coder: str = "auto") -> int:
    """Bytes of the whole .vqz file of these codes."""
    packed = pack_image if isinstance(codes, ImageCodes) else pack_audio
    return len(vqz.pack(*packed(model, codes, coder=coder)))  # type: ignore[arg-type]


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
    sizes, levels = books(model)
    n = len(sizes) // levels
    parts = (sizes[n * level : n * (level + 1)] * channels for level in range(min(header.levels, levels)))
    if header.groups_per_level != n * channels or header.codebook_sizes != tuple(k for part in parts for k in part):
        raise BadFile(f"the file's codebooks are not those of model {model.info.name}")
    if header.coder == coders.IDS["histogram"] and model.statistics is None:
        raise BadFile(f"the file needs counts, and model {model.info.name} ships none")


# ---------------------------------------------------------------- pictures


def pack_image(
    model: LoadedModel, image: ImageCodes, *, coder: str = "auto", metadata: dict[str, str] | None = None
) -> tuple[Header, tuple[bytes, ...]]:
    """Header and payloads of codes, by the coder of that name; see `chunks.pack`."""
    check_name(model)
    sizes, levels = books(model)
    groups, *grid = image.codes.shape
    levels = levels * groups // len(sizes)
    side = CHUNK // model.net.stride
    header = Header(
        modality="image",
        size=(*image.size, image.channels),
        grid=tuple(grid),
        codebook_sizes=sizes[:groups],
        levels=levels,
        model=model.info.name,
        digest=model.info.digest,
        coder=coders.IDS["packed"],
        quality=image.quality,
        chunk=() if max(grid) <= side else tuple(min(side, length) for length in grid),
        codes_crcs=tuple(vqz.codes_crc(part) for part in np.split(image.codes, levels)),
        metadata=metadata or {},
    )
    return chunks.pack(model, header, image.codes, coder=coder)


def unpack_image(model: LoadedModel, file: Vqz, *, levels: int | None = None) -> tuple[ImageCodes, np.ndarray]:
    """Codes of a parsed file, and which positions are lost: bool [rows, columns], true only in salvaged files.

    `levels` reads the first ones only. Lost positions hold the middle of each codebook. Raises BadFile if a chunk
    does not decode, the codes fail their checksum or do not fit the model, ModelError if the prior that the file
    was made with is not there, UsageError for levels it has not.
    """
    _check_image(model, file.header)  # before anything is allocated
    check_levels(file.header, levels)
    codes, lost = chunks.unpack(model, file, levels=levels)
    width, height, channels = file.header.size
    return ImageCodes(codes, (width, height), channels, file.header.quality), lost


def _check_image(model: LoadedModel, header: Header) -> None:
    """Raise BadFile for a header that is sound in itself but cannot be that of a picture by this model."""
    if header.modality != "image" or model.info.modality != "image":
        raise BadFile(f"the file holds {header.modality}, not a picture of model {model.info.name}")
    width, height, channels = header.size
    if width * height > MAX_PIXELS:
        raise BadFile(f"{width} x {height} pixels are more than the {MAX_PIXELS:,} that vq decodes")
    if channels not in (1, 3):
        raise BadFile(f"{channels} channels are neither grey nor colour")
    if header.grid != model.net.grid(height, width):
        raise BadFile(
            f"a grid of {' x '.join(map(str, header.grid))} codes does not belong to {width} x {height} pixels"
        )
    if header.remainder and math.prod(header.chunk or header.grid) * model.net.stride**2 > MAX_CHUNK:
        raise BadFile(f"a chunk is of more than the {MAX_CHUNK:,} pixels that vq decodes without loss")
    check_books(model, header, channels=1)


# ---------------------------------------------------------------- recordings


def positions(model: LoadedModel, samples: int, rate_hz: int) -> int:
    """T, the number of positions of codes, for so many samples at the rate of the original."""
    net: Any = model.net
    return -(-audio.length_at(samples, rate_hz, net.rate_hz) // net.stride)


def pack_audio(
    model: LoadedModel, recording: AudioCodes, *, coder: str = "auto", metadata: dict[str, str] | None = None
) -> tuple[Header, tuple[bytes, ...]]:
    """Header and payloads of codes, by the coder of that name; see `chunks.pack`.

    Raises UsageError if `metadata` has keys that are vq's own, BadFile for more codes than a file may hold.
    """
    check_name(model)
    if reserved := {LOUDNESS, VOICE} & (metadata or {}).keys():
        raise UsageError(f"the metadata key {min(reserved)} is vq's own", "use another")
    sizes, levels = books(model)
    channels, groups, T = recording.codes.shape
    if recording.codes.size > MAX_CODES:
        raise BadFile(
            f"{recording.length_s / 3600:.1f} hours are too much for one file", "cut the recording into parts"
        )
    levels = levels * groups // len(sizes)
    n = groups // levels
    parts = [sizes[n * level : n * (level + 1)] * channels for level in range(levels)]
    # level by level, in each channel by channel
    codes = recording.codes.reshape(channels, levels, n, T).swapaxes(0, 1).reshape(-1, T)
    header = Header(
        modality="audio",
        size=(recording.samples, recording.rate_hz, recording.channels),
        grid=(T,),
        codebook_sizes=tuple(k for part in parts for k in part),
        levels=levels,
        model=model.info.name,
        digest=model.info.digest,
        coder=coders.IDS["packed"],
        chunk=(_chunk_length(model, parts),),
        codes_crcs=tuple(vqz.codes_crc(part) for part in np.split(codes, levels)),
        metadata={**(metadata or {}), **_own_metadata(recording)},
    )
    return chunks.pack(model, header, codes, channels=channels, coder=coder)


def unpack_audio(
    model: LoadedModel, file: Vqz, *, levels: int | None = None, wanted: slice | None = None
) -> tuple[AudioCodes, np.ndarray]:
    """Codes of a parsed file, and which positions are lost: bool [T], true only in salvaged files.

    `wanted` positions alone are read, with the rest of their chunks; all others are 0. `levels`, lost positions and
    errors as `unpack_image` has them.
    """
    header = file.header
    channels, loudness_db, voice = check_audio(model, header)  # before anything is allocated
    check_levels(header, levels)
    window = None if wanted is None else (wanted,)
    codes, lost = chunks.unpack(model, file, channels=channels, levels=levels, wanted=window)
    T = header.grid[0]
    n = header.groups_per_level // channels
    codes = codes.reshape(-1, channels, n, T).swapaxes(0, 1).reshape(channels, -1, T)
    return AudioCodes(codes, header.size[1], header.size[0], header.size[2], loudness_db, voice), lost


def check_audio(model: LoadedModel, header: Header) -> tuple[int, tuple[float, ...], tuple[bytes, ...]]:
    """The number of coded channels, their loudness and their voices.

    Raises BadFile for a header that is sound in itself but cannot be that of a recording by this model.
    """
    if header.modality != "audio" or model.info.modality != "audio":
        raise BadFile(f"the file holds {header.modality}, not sound of model {model.info.name}")
    samples, rate_hz, channels = header.size
    if rate_hz not in audio.RATES_HZ:
        raise BadFile(f"a sample rate of {rate_hz} Hz is not within 1,000 to 768,000")
    T = positions(model, samples, rate_hz)
    if samples > audio.MAX_SECONDS * rate_hz or T * header.groups > MAX_CODES:
        raise BadFile(f"{samples} samples in {header.groups} groups are more than vq decodes")
    if header.grid != (T,):
        raise BadFile(f"{header.grid[0]} positions of codes do not belong to {samples} samples at {rate_hz} Hz")
    if header.quality:
        raise BadFile("sound has no quality, and the file tells one")
    sizes, levels = books(model)
    coded = header.groups_per_level * levels // len(sizes)
    if coded not in (1, channels):
        raise BadFile(f"{coded} coded channels do not make {channels}")
    check_books(model, header, coded)
    return coded, _loudness(header, coded), _voice(header, coded)


def _chunk_length(model: LoadedModel, parts: list[tuple[int, ...]]) -> int:
    """Positions in a chunk, for levels of these codebook sizes."""
    net: Any = model.net
    leanest = min(sum((k - 1).bit_length() for k in part) for part in parts)
    return max(-(-CHUNK_SECONDS * net.rate_hz // net.stride), -(-8 * CHUNK_BYTES // leanest))


def _own_metadata(recording: AudioCodes) -> dict[str, str]:
    own = {LOUDNESS: ",".join(f"{level:.1f}" for level in recording.loudness_db)}
    joined = b"".join(recording.voice)
    return own | ({VOICE: base64.b64encode(joined).decode()} if joined else {})


def _loudness(header: Header, channels: int) -> tuple[float, ...]:
    parts = header.metadata.get(LOUDNESS, "").split(",")
    levels = tuple(float(part) if re.fullmatch(r"-?[0-9]{1,3}\.[0-9]", part, re.ASCII) else 1e9 for part in parts)
    if len(levels) != channels or max(map(abs, levels)) > 100:
        raise BadFile(f"the file does not tell the loudness of its {channels} coded channels")
    return levels


def _voice(header: Header, channels: int) -> tuple[bytes, ...]:
    """The voice of each coded channel: equal parts of what the file holds; whether the model knows them is its word."""
    try:
        joined = base64.b64decode(header.metadata.get(VOICE, ""), validate=True)
    except ValueError as error:  # also that of letters beyond ASCII
        raise BadFile("the voice in the file is not written in base64") from error
    size, rest = divmod(len(joined), channels)
    if rest:
        raise BadFile(f"{len(joined)} bytes are no voices of {channels} coded channels")
    return tuple(joined[at * size : (at + 1) * size] for at in range(channels))
