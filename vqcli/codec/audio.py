"""Recordings -> codes -> .vqz and back; api.py calls this for sound."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vqcli.codec import audio_file, chunks, windows
from vqcli.codec import levels as file_levels
from vqcli.codec.codes import AudioCodes, File, keep_levels, part_in
from vqcli.container import vqz
from vqcli.container.bounds import NO_LIMITS, Limits
from vqcli.container.vqz import Header, Vqz
from vqcli.errors import BadFile, DamagedChunks, UsageError
from vqcli.media import audio
from vqcli.nets.codecs.framing import Framing
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo.loading import LoadedModel

WHAT, PLURAL, MODEL = "audio", "audio", "audio"
SLACK = 3  # positions that are decoded before and after a part, and dropped: resampling looks to both sides


@dataclass(frozen=True)
class EncodedAudio(File):
    """A recording as codes and as the bytes of its .vqz file.

    notes  what the user should know: what was found or changed on reading the recording
    """

    audio: AudioCodes
    header: Header
    payloads: Sequence[bytes | None]
    notes: tuple[str, ...] = ()

    @property
    def codes(self) -> np.ndarray:
        """uint16 [coded channels, groups, T]."""
        return self.audio.codes

    @property
    def kbit_per_s(self) -> float:
        """Of the whole file, header included; 1000 bits a second."""
        return 8 * len(self.data) / self.audio.length_s / 1000


@dataclass(frozen=True)
class DecodedAudio:
    """A recording from codes, or a part of it. Sound is made when it is asked for: whole, in blocks, or into a file.

    samples_count  of each channel
    lost           bool [T] of the codes: true where the first level was damaged; silent in the sound
    fewer          bool [T]: true where another level was, so that the sound is of those before it
    """

    rate_hz: int
    channels: int
    samples_count: int
    audio: AudioCodes
    header: Header
    lost: np.ndarray = field(repr=False)
    fewer: np.ndarray = field(repr=False)
    _whole: np.ndarray = field(repr=False)  # levels of each position
    _model: LoadedModel = field(repr=False)
    _first: int  # sample of the original where the part begins
    _progress: ProgressCallback = field(default=silent, repr=False)

    @property
    def codes(self) -> np.ndarray:
        """uint16 [coded channels, groups, T] of the whole recording; outside of a part they are 0."""
        return self.audio.codes

    @property
    def length_s(self) -> float:
        return self.samples_count / self.rate_hz

    @cached_property
    def samples(self) -> np.ndarray:
        """All of it, float32 [channels, N]."""
        return np.concatenate(list(self.blocks()), axis=1)

    def blocks(self) -> Iterator[np.ndarray]:
        """The sound in blocks float32 [channels, n] of some seconds, so that hours take no more memory than minutes."""
        net = self._model.audio
        framing = windows.framing(self._model, self.audio.window)
        start, stop = _positions(self._model, framing, len(self.lost), self.rate_hz, self._first, self.samples_count)
        made = windows.decode_audio(self._model, self.audio, start=start, stop=stop, progress=self._progress)
        begins, whole = framing.samples(len(self.lost)), self._whole
        if window := self.audio.window:  # which needs all of its codes
            whole = whole.reshape(-1, window).min(1).repeat(window)
        for levels in np.unique(whole[self.lost | self.fewer]):  # the best that each position still has
            other = None
            if levels:
                kept = keep_levels(self._model, self.audio, int(levels))
                other = windows.decode_audio(self._model, kept, start=start, stop=stop)
            made = _instead(made, other, (whole == levels)[start:stop], begins[start : stop + 1] - begins[start])
        begin = int(begins[start]) * self.rate_hz // net.rate_hz
        return audio.restore(
            made,
            *(net.rate_hz, self.rate_hz, self.samples_count, self.channels),
            skip=self._first - begin,
        )

    def save(self, target: str | Path | BinaryIO, *, format: str | None = None, force: bool = False) -> None:
        """Write the sound as it is made; the suffix chooses the format."""
        audio.write(
            Path(target) if isinstance(target, str) else target, self.blocks(), self.rate_hz, format=format, force=force
        )


def recognises(source: Path | BinaryIO | np.ndarray) -> bool:
    """Whether it is a file called like audio, a stream or file that begins like it, or an array of floats."""
    if isinstance(source, np.ndarray):
        return source.dtype.kind == "f"
    if isinstance(source, Path):
        if source.suffix.lower() in (*audio.SUFFIXES, ".m4a", ".aac", ".wma"):
            return True
        try:
            with source.open("rb") as stream:
                return audio.is_audio(stream.read(64))
        except (FileNotFoundError, PermissionError):  # reading will say what is wrong
            return False
        except OSError as error:
            raise BadFile(f"{source} cannot be read: {error.strerror or error}") from error
    head = source.read(64)
    source.seek(0)
    return audio.is_audio(head)


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """What can be chosen of the file of a recording. See `api.encode`."""

    rate_hz: int | None = None
    mono: bool | None = None
    levels: int | None = None
    kbit_per_s: float | None = None
    size_bytes: int | None = None
    coder: str = "auto"
    metadata: dict[str, str] | None = None

    def __post_init__(self) -> None:
        if sum(each is not None for each in (self.levels, self.kbit_per_s, self.size_bytes)) > 1:
            raise UsageError("levels and sizes exclude each other", "give one of --levels, --kbps and --bytes")


def encode(
    source: Path | BinaryIO | np.ndarray,
    model: LoadedModel,
    *,
    limits: Limits = NO_LIMITS,
    progress: ProgressCallback = silent,
    **options: Any,
) -> EncodedAudio:
    """Encode a recording: a path, an open file, or float samples [N] or [channels, N] at `rate_hz`; `options` of
    EncodeOptions."""
    net, chosen = model.audio, EncodeOptions(**options)
    keep = 1 if chosen.mono else net.channels  # channels that stay apart if a recording has no more
    if isinstance(source, np.ndarray):
        if chosen.rate_hz is None:
            raise UsageError("samples have no rate of their own", "say it: encode(samples, rate_hz=16000)")
        recording = audio.from_samples(source, chosen.rate_hz, net.rate_hz, chosen.mono is not False, keep, limits)
    else:
        recording = audio.read(source, net.rate_hz, chosen.mono is not False, keep, limits)
    codes = windows.encode_audio(model, recording, progress)
    if chosen.levels is not None:
        codes = keep_levels(model, codes, chosen.levels)
    header, payloads = audio_file.pack_audio(model, codes, coder=chosen.coder, metadata=chosen.metadata)
    encoded, size_bytes = EncodedAudio(codes, header, payloads, recording.notes), chosen.size_bytes
    if chosen.kbit_per_s is not None:
        size_bytes = file_levels.bytes_at(chosen.kbit_per_s, codes.length_s)
    return encoded if size_bytes is None else _within(encoded, model, size_bytes)


def _within(encoded: EncodedAudio, model: LoadedModel, size_bytes: int) -> EncodedAudio:
    """The same recording with as many levels as fit into so many bytes, one at least."""
    file = file_levels.within(vqz.unpack(encoded.data), size_bytes)
    fewer = replace(
        encoded,
        audio=keep_levels(model, encoded.audio, file.header.levels),
        header=file.header,
        payloads=file.payloads,
    )
    if file.size_bytes <= size_bytes:
        return fewer
    note = f"model {model.info.name} cannot go down to {size_bytes:,} bytes here"
    return replace(fewer, notes=(*fewer.notes, note))


def decode(
    file: Vqz,
    model: LoadedModel,
    *,
    levels: int | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    salvage: bool = False,
    limits: Limits = NO_LIMITS,
    progress: ProgressCallback = silent,
) -> DecodedAudio:
    """Decode a parsed file with the model that it was made with. See `api.decode`."""
    audio_file.check_audio(model, file.header)
    samples, rate_hz, channels = file.header.size
    first, count = part_in(start_s, end_s, samples, rate_hz)
    window = audio_file.window_of(file.header)
    wanted, margin = None, 0 if window else model.net.decoder_margin
    if count < samples and margin is not None:
        framing = windows.framing(model, window)
        start, stop = _positions(model, framing, file.header.grid[0], rate_hz, first, count)
        wanted = slice(max(0, start - (0 if window else margin + windows.CONTEXT)), stop + margin)
    codes, damaged = audio_file.unpack_audio(model, file, levels=levels, wanted=wanted)
    if damaged.any() and not salvage:
        raise DamagedChunks("chunks of this part are damaged", file.damaged, "--salvage decodes the rest")
    whole = chunks.whole_levels(file, levels)
    lost, fewer = damaged & (whole == 0), damaged & (whole > 0)
    return DecodedAudio(rate_hz, channels, count, codes, file.header, lost, fewer, whole, model, first, progress)


def _positions(model: LoadedModel, framing: Framing, T: int, rate_hz: int, first: int, count: int) -> tuple[int, int]:
    """Positions that `count` samples of the original from `first` on need, beginning where both rates have a sample."""
    net = model.audio
    slack, each = SLACK * net.stride * rate_hz, framing.hop * rate_hz  # in both rates: a segment is `each` long
    step = net.rate_hz // math.gcd(net.rate_hz, each)
    start = max(0, first * net.rate_hz - slack) // each // step * step
    stop = -(-((first + count) * net.rate_hz + slack) // each)
    return start * framing.segment, min(T, stop * framing.segment)


def _instead(
    blocks: Iterable[np.ndarray], others: Iterable[np.ndarray] | None, where: np.ndarray, begins: np.ndarray
) -> Iterator[np.ndarray]:
    """Blocks [channels, n], but others of the same sizes, or silence, at positions [T]. `begins` are their first
    samples."""
    done = 0
    silence: Iterable[np.ndarray] = repeat(np.zeros(1, np.float32))
    for block, other in zip(blocks, silence if others is None else others, strict=False):
        last = done + block.shape[1]
        first, stop = np.searchsorted(begins, done, "right") - 1, np.searchsorted(begins, last)
        gone = where[first:stop].repeat(np.diff(begins[first : stop + 1]))[done - begins[first] :][: last - done]
        yield np.where(gone, other, block) if gone.any() else block
        done = last
