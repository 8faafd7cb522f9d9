"""Codes of a recording <-> a .vqz file: what its header says, and whether that can be."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from vqcli.codec import chunks, windows
from vqcli.codec.codes import (
    MAX_CODES,
    AudioCodes,
    book_layout,
    books,
    check_books,
    check_levels,
    levels_in,
    new_header,
)
from vqcli.container import bounds, vqz
from vqcli.container.vqz import Header, Vqz
from vqcli.errors import BadFile, UsageError
from vqcli.media import audio
from vqcli.zoo.loading import LoadedModel

CHUNK_SECONDS = 10  # of sound, at least
CHUNK_BYTES = 1200  # of a level's chunk when packed, at least: so its 6 bytes of index stay below 1 % when coded well
# keys of the metadata that are vq's own
LOUDNESS, VOICE, GAIN, WINDOW = "loudness_db", "voice", "decoder_gain_db", "decoder_window"


def file_size(model: LoadedModel, recording: AudioCodes, *, coder: str = "auto") -> int:
    """Bytes of the whole .vqz file of these codes."""
    return len(vqz.pack(*pack_audio(model, recording, coder=coder)))


def positions(model: LoadedModel, samples: int, rate_hz: int, window: int = 0) -> int:
    """T, the number of positions of codes, for so many samples at the rate of the original.

    Raises BadFile for windows that the model cannot decode.
    """
    return windows.framing(model, window).positions(audio.length_at(samples, rate_hz, model.audio.rate_hz))


def pack_audio(
    model: LoadedModel, recording: AudioCodes, *, coder: str = "auto", metadata: dict[str, str] | None = None
) -> tuple[Header, tuple[bytes, ...]]:
    """Header and payloads of codes, by the coder of that name; see `chunks.pack`.

    Raises UsageError if `metadata` has keys that are vq's own, BadFile for more codes than a file may hold, and for
    side information that does not belong to them.
    """
    if reserved := {LOUDNESS, VOICE, GAIN, WINDOW} & (metadata or {}).keys():
        raise UsageError(f"the metadata key {min(reserved)} is vq's own", "use another")
    channels, groups, T = recording.codes.shape
    if recording.codes.size > MAX_CODES:
        raise BadFile(
            f"{recording.length_s / 3600:.1f} hours are too much for one file", "cut the recording into parts"
        )
    levels = levels_in(model, groups)
    # level by level, in each channel by channel
    ends = list(accumulate(books(model)[1][:levels]))[:-1]
    codes = np.concatenate([part.reshape(-1, T) for part in np.split(recording.codes, ends, 1)])
    header = new_header(
        model,
        "audio",
        (recording.samples, recording.rate_hz, recording.channels),
        (T,),
        levels,
        channels=channels,
        codes=codes,
        chunk=(_chunk_length(model, levels, channels),),
        metadata={**(metadata or {}), **_own_metadata(model, recording)},
    )
    sides = _sides(model, header, recording.voice) if model.audio.side_bytes else []
    header = replace(header, side_bytes=sum(map(len, sides)))
    return chunks.pack(model, header, codes, channels=channels, coder=coder, sides=sides)


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
    if model.audio.side_bytes:
        voice = _of_sides(model, file, channels)
    window = None if wanted is None else (wanted,)
    codes, lost = chunks.unpack(model, file, channels=channels, levels=levels, wanted=window)
    T, kept = header.grid[0], levels or header.levels
    parts = [codes[header.groups_of(level)].reshape(channels, -1, T) for level in range(kept)]
    codes = np.concatenate(parts, 1)
    side: dict[str, Any] = {"gain_db": _gain(header, channels), "window": window_of(header)}
    return AudioCodes(codes, header.size[1], header.size[0], header.size[2], loudness_db, voice, **side), lost


def check_audio(model: LoadedModel, header: Header) -> tuple[int, tuple[float, ...], tuple[bytes, ...]]:
    """The number of coded channels, their loudness and their voices.

    Raises BadFile for a header that is sound in itself but cannot be that of a recording by this model.
    """
    if header.modality != "audio" or model.info.modality != "audio":
        raise BadFile(f"the file holds {header.modality}, not sound of model {model.info.name}")
    samples, rate_hz, channels = header.size
    if rate_hz not in audio.RATES_HZ:
        raise BadFile(f"a sample rate of {rate_hz} Hz is not within 1,000 to 768,000")
    T = positions(model, samples, rate_hz, window_of(header))
    bounds.check(header)
    if T * header.groups > MAX_CODES:
        raise BadFile(f"{samples} samples in {header.groups} groups are more than vq decodes")
    if header.grid != (T,):
        raise BadFile(f"{header.grid[0]} positions of codes do not belong to {samples} samples at {rate_hz} Hz")
    if header.quality:
        raise BadFile("audio has no quality, and the file has one")
    coded = header.level_groups[0] // books(model)[1][0]
    if coded not in (1, -(-channels // model.audio.channels)):
        raise BadFile(f"{coded} coded channels do not make {channels}")
    check_books(model, header, coded)
    _check_segments(model, header, coded)
    _gain(header, coded)
    return coded, _loudness(header, coded), _voice(header, coded)


def _chunk_length(model: LoadedModel, levels: int, channels: int) -> int:
    """Positions in a chunk, for so many levels of so many channels: those of whole segments."""
    net = model.audio
    sizes, ends = book_layout(model, levels, channels), [channels * n for n in accumulate(books(model)[1][:levels])]
    parts = (sizes[begin:end] for begin, end in pairwise([0, *ends]))
    leanest = min(sum((k - 1).bit_length() for k in part) for part in parts)
    least = max(-(-CHUNK_SECONDS * net.rate_hz // net.stride), -(-8 * CHUNK_BYTES // leanest))
    return -(-least // net.framing.segment) * net.framing.segment


def _check_segments(model: LoadedModel, header: Header, coded: int) -> None:
    """Raise BadFile unless chunks and side information are those of whole segments."""
    framing = model.audio.framing
    if header.chunk and header.chunk[0] % framing.segment:
        raise BadFile(f"chunks of {header.chunk[0]} positions cut segments of {framing.segment}")
    if model.audio.side_bytes and VOICE in header.metadata:
        raise BadFile(f"the file holds a voice, and model {model.info.name} knows none")
    segments = len(framing.segments(header.grid[0])) - 1 if model.audio.side_bytes else 0
    if header.side_bytes != coded * segments * model.audio.side_bytes:
        raise BadFile(f"{header.side_bytes} bytes of side information are not those of {segments} segments")


def _segments_of_chunks(model: LoadedModel, header: Header) -> list[slice]:
    """The segments that begin in each chunk."""
    begins = model.audio.framing.segments(header.grid[0])[:-1]
    ends = [int(np.searchsorted(begins, window.stop)) for (window,) in header.chunk_windows()]
    return [slice(first, last) for first, last in pairwise([0, *ends])]


def _sides(model: LoadedModel, header: Header, stored: Sequence[bytes]) -> list[bytes]:
    """The side information of each chunk: that of the segments that begin in it, coded channel by coded channel."""
    if header.grid != (positions(model, *header.size[:2]),):
        raise BadFile(f"{header.grid[0]} positions of codes do not belong to {header.size[0]} samples")
    size, parts = model.audio.side_bytes, _segments_of_chunks(model, header)
    if any(len(each) != size * parts[-1].stop for each in stored):
        raise BadFile(f"codes of model {model.info.name} come with {size} bytes for each of {parts[-1].stop} segments")
    return [b"".join(each[size * part.start : size * part.stop] for each in stored) for part in parts]


def _of_sides(model: LoadedModel, file: Vqz, channels: int) -> tuple[bytes, ...]:
    """The mirror of `_sides`; that of lost chunks is zeros."""
    size, parts = model.audio.side_bytes, _segments_of_chunks(model, file.header)
    stored = np.zeros((channels, size * parts[-1].stop), np.uint8)
    for number, part in enumerate(parts):
        side = file.side(number)
        if side is None:
            continue
        if len(side) != channels * size * (part.stop - part.start):
            raise BadFile(f"{len(side)} bytes of side information are not those of chunk {number + 1}")
        stored[:, size * part.start : size * part.stop] = np.frombuffer(side, np.uint8).reshape(channels, -1)
    return tuple(map(bytes, stored))


def _own_metadata(model: LoadedModel, recording: AudioCodes) -> dict[str, str]:
    own = {LOUDNESS: ",".join(f"{level:.1f}" for level in recording.loudness_db)}
    joined = b"" if model.audio.side_bytes else b"".join(recording.voice)
    if recording.gain_db:
        own[GAIN] = ",".join(f"{gain:.5f}" for gain in recording.gain_db)
    if recording.window:
        own[WINDOW] = str(recording.window)
    return own | ({VOICE: base64.b64encode(joined).decode()} if joined else {})


def window_of(header: Header) -> int:
    """Positions of the windows that decode on their own, 0 for one signal. Raises BadFile."""
    text = header.metadata.get(WINDOW, "0")
    if not re.fullmatch(r"0|[1-9][0-9]{0,8}", text, re.ASCII):
        raise BadFile(f"windows of {text[:20]!r} positions are none")
    return int(text)


def _gain(header: Header, channels: int) -> tuple[float, ...]:
    """What the decoder's output of each coded channel is raised by, in dB; () if the file does not say."""
    if GAIN not in header.metadata:
        return ()
    parts = header.metadata[GAIN].split(",")
    if len(parts) != channels or not all(re.fullmatch(r"-?[0-9]{1,3}\.[0-9]{5}", part, re.ASCII) for part in parts):
        raise BadFile(f"the file does not tell the gain of its {channels} coded channels")
    return tuple(map(float, parts))


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
