"""Another voice for speech: the words and the melody stay, the speaker changes (the paper, section 4.3).

converted = convert_speaker("in.wav", "p225")        converted.save("out.wav")

The codes of level 0 carry the words; the decoder gets another voice, and the pitch moves to its register.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vqcli.codec import windows
from vqcli.codec.codes import AudioCodes, keep_levels
from vqcli.deprecation import renamed_keyword
from vqcli.errors import ModelError, UnknownLabel, UsageError, near_matches
from vqcli.files import make_folder, replacing
from vqcli.media import audio
from vqcli.media.audio import Recording
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo import loading, store
from vqcli.zoo.loading import LoadedModel
from vqcli.zoo.store import ModelInfo

PITCHES = ("target", "keep")
VOICES = "voices"  # folder beside a model
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Speaker:
    """A voice that a model can speak with.

    row       of the model's table; -1 for a voice that was fitted later and lies in a file of its own
    seconds   of speech that it was learned from
    pitch_hz  its mean pitch
    sex       'f', 'm' or '' if unknown
    source    the data it comes from
    """

    name: str
    row: int
    seconds: float
    pitch_hz: float
    sex: str = ""
    source: str = ""


def speakers(info: ModelInfo) -> list[Speaker]:
    """All voices of a model, those with the most speech first. Raises ModelError if it has none."""
    known = info.description.get("speakers")
    if not isinstance(known, list) or not known:
        raise ModelError(f"model {info.name} knows no speakers", "--model speech does")
    try:
        found = [Speaker(row=row, **entry) for row, entry in enumerate(known)]
    except TypeError as error:
        raise ModelError(f"{info.path} does not describe its speakers: {error}") from None
    return sorted([*found, *_fitted(info)], key=lambda speaker: -speaker.seconds)


def find(info: ModelInfo, name: str) -> Speaker:
    """The voice of that name. Raises UnknownLabel with near matches."""
    known = {speaker.name: speaker for speaker in speakers(info)}
    if name not in known:
        raise UnknownLabel(
            f"model {info.name} knows no speaker {name}",
            near_matches(name, known, f"vq models show {info.name}"),
        )
    return known[name]


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
    to: str,
    model: str | LoadedModel = store.DEFAULTS["audio"],
    *,
    rate_hz: int | None = None,
    pitch: str = "target",
    semitones: float = 0.0,
    levels: int = 1,
    device: str = "auto",
    progress: ProgressCallback = silent,
) -> Converted:
    """Speech in another voice: a file, samples float [N] or [channels, N] at `rate_hz`, or what `convert` takes."""
    loaded = loading.load(model, device) if isinstance(model, str) else model
    if isinstance(source, str | Path):
        source = audio.read(Path(source), loaded.net.rate_hz, mono=True)
    elif isinstance(source, np.ndarray):
        if rate_hz is None:
            raise UsageError("samples have no rate of their own", "say it: convert_speaker(samples, to, rate_hz=16000)")
        source = audio.from_samples(source, rate_hz, loaded.net.rate_hz, mono=True)
    codes = convert(source, to, loaded, pitch=pitch, semitones=semitones, levels=levels, progress=progress)
    return Converted(codes, find(loaded.info, to), loaded)


def convert(
    source: Recording | AudioCodes,
    to: str,
    model: str | LoadedModel = store.DEFAULTS["audio"],
    *,
    pitch: str = "target",
    semitones: float = 0.0,
    levels: int = 1,
    device: str = "auto",
    progress: ProgressCallback = silent,
) -> AudioCodes:
    """The codes of a recording, or codes of one, in another voice.

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
    speaker = find(loaded.info, to)
    codes = source if isinstance(source, AudioCodes) else windows.encode_audio(loaded, source, progress)
    codes = keep_levels(loaded, codes, levels)
    target = voice_of(loaded, speaker)
    moved = [
        loaded.audio.convert(channel, before, target, pitch, semitones)
        for channel, before in zip(codes.codes, codes.voice, strict=True)
    ]
    return replace(codes, codes=np.stack(moved), voice=(target,) * len(moved))


def save_voice(info: ModelInfo, speaker: Speaker, values: np.ndarray, *, force: bool = False) -> Path:
    """Write a voice, float32 [voice_dim] in -1 .. 1, beside its model; `speakers` finds it there."""
    from safetensors.numpy import save

    if not NAME.fullmatch(speaker.name):
        raise UsageError(f"{speaker.name!r} cannot name a speaker", "letters, digits, . _ and -")
    facts = {"seconds": speaker.seconds, "pitch_hz": speaker.pitch_hz, "sex": speaker.sex, "source": speaker.source}
    folder = info.folder / VOICES
    make_folder(folder)
    path = folder / f"{speaker.name}.safetensors"
    metadata = {"vq": json.dumps({**facts, "model": info.digest.hex()}, sort_keys=True)}
    with replacing(path, force=force) as stream:
        stream.write(save({"voice": values.astype(np.float32)}, metadata))
    return path


def _fitted(info: ModelInfo) -> list[Speaker]:
    """The voices that were fitted later; those of another version of the model, and broken ones, are left out."""
    found = []
    for path in sorted((info.folder / VOICES).glob("*.safetensors")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            facts = store.read_description(path)
            if facts.pop("model") == info.digest.hex():
                found.append(Speaker(path.stem, -1, **facts))
    return found


def voice_of(model: LoadedModel, speaker: Speaker) -> bytes:
    """A speaker's voice as files hold it. Raises ModelError if the file of a fitted one is broken."""
    if speaker.row >= 0:
        return model.audio.voice_of_row(speaker.row)
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = model.info.folder / VOICES / f"{speaker.name}.safetensors"
    try:
        own = load_file(path)["voice"]
        if own.shape != (model.audio.voice_dim,) or not np.isfinite(own).all():
            raise ValueError("it has another size")
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ModelError(f"{path} does not hold a voice: {error}") from None
    return model.audio.voice_of_values(own, float(np.log(speaker.pitch_hz)))
