"""The voices that a model speaks with: rows of its table, those fitted later, and those of a recording.

voice = of_recording(model, "me.wav")        voice.save("me.voice")        voice = load("me.voice", model)
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from vqcli.container.bounds import Limits
from vqcli.errors import BadFile, ModelError, UnknownLabel, UsageError, near_matches
from vqcli.files import make_folder, replacing
from vqcli.media import audio, loudness, pitch, voice
from vqcli.media.audio import Recording
from vqcli.zoo import store
from vqcli.zoo.loading import LoadedModel
from vqcli.zoo.store import ModelInfo

SUFFIX = ".voice"
FOLDER = "voices"  # beside a model, of voices that were fitted to it
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LONGEST_S = 600.0  # of a reference
SHORTEST_S, SHORTEST_VOICED_S = 1.5, 0.5  # of it that is active, and that has a pitch
LARGEST_FILE = 2**16


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


@dataclass(frozen=True, eq=False)
class Voice:
    """A voice that is in no table.

    values  float32 [voice_dim], -1 .. 1
    digest  of the model that speaks with it
    """

    speaker: Speaker
    values: np.ndarray
    digest: bytes

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write it as a safetensors file of some hundred bytes. Raises UsageError for an existing file, OutputError."""
        from safetensors.numpy import save

        facts = asdict(self.speaker)
        del facts["name"], facts["row"]
        metadata = {"vq": json.dumps({**facts, "model": self.digest.hex()}, sort_keys=True)}
        with replacing(Path(path), force=force) as stream:
            stream.write(save({"voice": self.values.astype(np.float32)}, metadata))

    def stored(self, model: LoadedModel) -> bytes:
        """As files of codes hold it. Raises ModelError if it belongs to another model."""
        if self.digest != model.info.digest:
            raise ModelError(
                f"the voice {self.speaker.name} belongs to another model than {model.info.name}",
                "make it again from the recording",
            )
        return model.audio.voice_of_values(self.values, float(np.log(self.speaker.pitch_hz)))


def load(path: str | Path, model: LoadedModel) -> Voice:
    """The voice in a file, called like the file. Raises BadFile if it holds none, ModelError if of another model."""
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError("it is too large")
        facts = store.read_description(path)
        digest = bytes.fromhex(facts.pop("model"))
        found = Voice(_speaker(path.stem, facts), _values(path), digest)
        if digest == model.info.digest and found.values.shape != (model.audio.voice_dim,):
            raise ValueError("it has another size")
    except FileNotFoundError:
        raise BadFile(f"{path} is not there") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFile(f"{path} does not hold a voice: {error}", "--save-voice writes such files") from None
    found.stored(model)
    return found


def _values(path: Path) -> np.ndarray:
    """Raises OSError, ValueError or KeyError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as read

    try:
        values = read(path.read_bytes())["voice"]
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    if values.dtype != np.float32 or values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("it has another size, or no numbers")
    return np.clip(values, -1, 1)


def _speaker(name: str, facts: dict[str, Any]) -> Speaker:
    """Raises TypeError or ValueError for facts that are none of a speaker."""
    found = Speaker(name, -1, **facts)
    seconds, pitch_hz = float(found.seconds), float(found.pitch_hz)
    if not (0 <= seconds < 1e9 and 1 <= pitch_hz < 1e5):
        raise ValueError(f"{seconds:g} s of speech at {pitch_hz:g} Hz")
    return found


@dataclass(frozen=True, eq=False)
class Reference:
    """Speech of one speaker as nets take it: samples float32 [N] at -26 dB RMS, pitch codes [P] and voice profile."""

    name: str
    seconds: float
    samples: np.ndarray
    pitch: np.ndarray
    profile: np.ndarray


def reference(model: LoadedModel, source: str | Path | BinaryIO | Recording, name: str = "") -> Reference:
    """A recording of a speaker, of 1.5 s of speech to 10 minutes, by which `of_recording` knows the voice.

    Raises ModelError if the model speaks with the voices of its table alone, BadFile for a recording that is too long,
    has too little speech or cannot be read.
    """
    if not model.audio.voice_dim:
        raise ModelError(f"model {model.info.name} speaks with the voices of its table alone", "--model speech can")
    if isinstance(source, str):
        source = Path(source)
    if not isinstance(source, Recording):
        name = name or (source.stem if isinstance(source, Path) else "")
        source = audio.read(source, model.audio.rate_hz, mono=True, limits=Limits(seconds=LONGEST_S))
    what = name or "the recording"
    samples = np.asarray(source.samples[0])
    powers = loudness.block_powers(samples, model.audio.rate_hz)
    loudness_db = loudness.active_db(powers)
    if loudness_db <= voice.QUIETEST_DB:
        raise BadFile(f"{what} is silent", "a voice needs a few seconds of speech")
    samples = samples * np.float32(voice.gain(loudness_db, model.audio.level_db or voice.LEVEL_DB))
    codes = pitch.to_codes(pitch.track(samples))
    active_s = float((powers >= powers.max() * 1e-4).sum()) / 50
    voiced_s = float((codes > 0).sum()) * pitch.STEP / pitch.RATE_HZ
    if active_s < SHORTEST_S or voiced_s < SHORTEST_VOICED_S:
        raise BadFile(
            f"{what} has {voiced_s:.1f} s of voice in {active_s:.1f} s of sound, too little to know it by",
            f"a voice needs {SHORTEST_S:g} s of speech; ten are better",
        )
    return Reference(name or "voice", round(active_s, 1), samples, codes, voice.profile(samples, codes))


@torch.inference_mode()
def of_reference(model: LoadedModel, known: Reference) -> Voice:
    """The voice that the model predicts from the profile of a recording, as it does of what it encodes."""
    net: Any = model.net
    values, register = net.voice_of_profile(torch.from_numpy(known.profile)[None].to(model.device))
    return voice_of_values(model, known, values[0].cpu().numpy(), float(register[0]))


def voice_of_values(model: LoadedModel, known: Reference, values: np.ndarray, log_hz: float) -> Voice:
    """The voice of a reference that was found by whatever means."""
    speaker = Speaker(known.name, -1, known.seconds, round(float(np.exp(log_hz)), 1))
    return Voice(speaker, values.astype(np.float32), model.info.digest)


def of_recording(model: LoadedModel, source: str | Path | BinaryIO | Recording, name: str = "") -> Voice:
    """The voice of a recording of a speaker whom the model need not know; `name` is that of the file by default."""
    return of_reference(model, reference(model, source, name))


def given(model: LoadedModel, to: Path | Voice) -> Voice:
    """The voice of a recording, or that in a .voice file."""
    if isinstance(to, Voice):
        return to
    return load(to, model) if to.suffix.lower() == SUFFIX else of_recording(model, to)


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


def save_voice(info: ModelInfo, speaker: Speaker, values: np.ndarray, *, force: bool = False) -> Path:
    """Write a voice, float32 [voice_dim] in -1 .. 1, beside its model; `speakers` finds it there."""
    if not NAME.fullmatch(speaker.name):
        raise UsageError(f"{speaker.name!r} cannot name a speaker", "letters, digits, . _ and -")
    path = info.folder / FOLDER / f"{speaker.name}.safetensors"
    make_folder(path.parent)
    Voice(speaker, values, info.digest).save(path, force=force)
    return path


def _fitted(info: ModelInfo) -> list[Speaker]:
    """The voices that were fitted later; those of another version of the model, and broken ones, are left out."""
    found = []
    for path in sorted((info.folder / FOLDER).glob("*.safetensors")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            facts = store.read_description(path)
            if facts.pop("model") == info.digest.hex():
                found.append(_speaker(path.stem, facts))
    return found


def voice_of(model: LoadedModel, speaker: Speaker) -> bytes:
    """A speaker's voice as files hold it. Raises ModelError if the file of a fitted one is broken."""
    if speaker.row >= 0:
        return model.audio.voice_of_row(speaker.row)
    path = model.info.folder / FOLDER / f"{speaker.name}.safetensors"
    try:
        return load(path, model).stored(model)
    except BadFile as error:
        raise ModelError(str(error)) from None
