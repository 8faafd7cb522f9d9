"""Another voice for speech: the words and the melody stay, the speaker changes (the paper, section 4.3).

converted = convert_speaker("in.wav", "p225")        converted.save("out.wav")
converted = convert_speaker("in.wav", Path("me.wav"))       of a speaker whom the model need not know

The codes of level 0 carry the words; the decoder gets another voice, and the pitch moves to its register.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vqcli.codec import windows
from vqcli.codec.codes import AudioCodes, keep_levels
from vqcli.codec.voices import Speaker, Voice, find, given, voice_of
from vqcli.container.bounds import Limits
from vqcli.deprecation import renamed_keyword
from vqcli.errors import UsageError, near_matches
from vqcli.media import audio
from vqcli.media.audio import Recording
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo import loading, store
from vqcli.zoo.loading import LoadedModel

PITCHES = ("target", "keep")


@dataclass(frozen=True)
class Converted:
    """Speech in another voice; it sounds when it is asked for: whole, in blocks, or into a file.

    audio  its codes, with loudness and voice
    """

    audio: AudioCodes
    speaker: Speaker
    _model: LoadedModel

    @property
    def codes(self) -> np.ndarray:
        """uint16 [coded channels, groups, T]."""
        return self.audio.codes

    @property
    def rate_hz(self) -> int:
        return self.audio.rate_hz

    @cached_property
    def samples(self) -> np.ndarray:
        """All of it, float32 [channels, N], with the rate, length and loudness of the original."""
        return np.concatenate(list(self.blocks()), axis=1)

    def blocks(self, progress: ProgressCallback = silent) -> Iterator[np.ndarray]:
        """The sound in blocks float32 [channels, n] of some seconds."""
        made = windows.decode_audio(self._model, self.audio, progress=progress)
        return audio.restore(made, self._model.audio.rate_hz, self.rate_hz, self.audio.samples, self.audio.channels)

    @renamed_keyword("report", "progress")
    def save(
        self,
        target: str | Path | BinaryIO,
        *,
        format: str | None = None,
        force: bool = False,
        progress: ProgressCallback = silent,
    ) -> None:
        """Write the sound as it is made; the suffix chooses the format."""
        place = Path(target) if isinstance(target, str) else target
        audio.write(place, self.blocks(progress), self.rate_hz, format=format, force=force)


def convert_speaker(
    source: str | Path | np.ndarray | Recording | AudioCodes,
    to: str | Path | Voice,
    model: str | LoadedModel = store.DEFAULTS["audio"],
    *,
    rate_hz: int | None = None,
    pitch: str = "target",
    semitones: float = 0.0,
    levels: int = 1,
    device: str = "auto",
    progress: ProgressCallback = silent,
    max_seconds: float | None = None,
) -> Converted:
    """Speech in another voice: a file, samples float [N] or [channels, N] at `rate_hz`, or what `convert` takes.

    Raises BadFile for a file or samples of more than `max_seconds`, besides what `convert` does.
    """
    loaded = loading.load(model, device) if isinstance(model, str) else model
    limits = Limits(seconds=max_seconds)
    if isinstance(source, str | Path):
        source = audio.read(Path(source), loaded.net.rate_hz, mono=True, limits=limits)
    elif isinstance(source, np.ndarray):
        if rate_hz is None:
            raise UsageError("samples have no rate of their own", "say it: convert_speaker(samples, to, rate_hz=16000)")
        source = audio.from_samples(source, rate_hz, loaded.net.rate_hz, mono=True, limits=limits)
    to = given(loaded, to) if isinstance(to, Path) else to
    codes = convert(source, to, loaded, pitch=pitch, semitones=semitones, levels=levels, progress=progress)
    return Converted(codes, to.speaker if isinstance(to, Voice) else find(loaded.info, to), loaded)


def convert(
    source: Recording | AudioCodes,
    to: str | Path | Voice,
    model: str | LoadedModel = store.DEFAULTS["audio"],
    *,
    pitch: str = "target",
    semitones: float = 0.0,
    levels: int = 1,
    device: str = "auto",
    progress: ProgressCallback = silent,
) -> AudioCodes:
    """The codes of a recording, or codes of one, in another voice.

    to         the name of a voice of the model, the Path of a recording of another or of a .voice file, or a Voice
    pitch      'target' moves the melody to the register of the voice, 'keep' leaves it where it is
    semitones  by which the melody is moved besides, -24 .. 24
    levels     residual levels kept: more than one bring the likeness of the source back

    Raises UnknownLabel, ModelError, UsageError, BadFile for codes whose voice does not belong to the model.
    """
    if pitch not in PITCHES:
        raise UsageError(f"no pitch {pitch}", near_matches(pitch, PITCHES) or "target or keep")
    if not -24 <= semitones <= 24:
        raise UsageError(f"{semitones:g} semitones are not within -24 to 24")
    loaded = loading.load(model, device) if isinstance(model, str) else model
    target = voice_of(loaded, find(loaded.info, to)) if isinstance(to, str) else given(loaded, to).stored(loaded)
    codes = source if isinstance(source, AudioCodes) else windows.encode_audio(loaded, source, progress)
    codes = keep_levels(loaded, codes, levels)
    moved = [
        loaded.audio.convert(channel, before, target, pitch, semitones)
        for channel, before in zip(codes.codes, codes.voice, strict=True)
    ]
    return replace(codes, codes=np.stack(moved), voice=(target,) * len(moved))
