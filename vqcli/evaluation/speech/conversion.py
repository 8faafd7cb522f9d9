"""Evaluation of voice conversion: speaker similarity, word errors, pitch and quality."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vqcli.codec import conversion, voices, windows
from vqcli.codec.codes import AudioCodes
from vqcli.errors import BadFile, UsageError
from vqcli.evaluation.speech import coding, evaluators, metrics
from vqcli.evaluation.speech.coding import (
    SOURCE,
    Complain,
    OnAudio,
    Utterance,
    decode_waveform,
    evaluator_scores,
    mean_row,
    nan_to_none,
    word_error,
)
from vqcli.media import audio
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo.loading import LoadedModel

MOST_REFERENCES = 20  # clips for the embedding of a speaker


@dataclass(frozen=True)
class Conversion:
    """A clip in another voice, or the mean of several; `source_*` is the same measure of the clip itself.

    to, speaker          the voice, and the speaker of the clip; "" for several
    speed                seconds of audio per second of encoding, converting and decoding
    pitch_hz, target_hz  geometric means: of the conversion, and of the target in the model's speaker table
    melody               correlation of the pitch with that of the clip
    log_mel_correlation  with the clip: content and timing stay, the voice does not
    word_error           errors over words of the transcript, summed over clips
    like_target          cosine of the embeddings of the conversion and of the target, 0 .. 1
    like_speaker         the same with the speaker of the clip
    quality              DNSMOS, 1 .. 5
    """

    to: str
    speaker: str
    clip: str
    seconds: float
    speed: float
    target_hz: float
    source_pitch_hz: float | None
    pitch_hz: float | None
    melody: float | None
    log_mel_correlation: float | None
    words: int | None = None
    source_word_error: float | None = None
    word_error: float | None = None
    like_target: float | None = None
    like_speaker: float | None = None
    source_quality: float | None = None
    quality: float | None = None


class Speakers:
    """Speaker embeddings by reference clips, computed once for each clip."""

    def __init__(self, references: Mapping[str, Sequence[Path]]) -> None:
        self._references = references
        self._embeddings: dict[Path, np.ndarray] = {}

    def embedding(self, name: str, excluded: Path) -> np.ndarray:
        """Of a speaker, from MOST_REFERENCES clips but the excluded one, which is used if there is no other."""
        others = [other for other in self._references.get(name, ()) if other.resolve() != excluded.resolve()]
        return evaluators.mean_embedding(map(self._of_clip, others[:MOST_REFERENCES] or [excluded]))

    def _of_clip(self, path: Path) -> np.ndarray:
        if path not in self._embeddings:
            samples = audio.read(path, metrics.RATE_HZ, mono=True).samples[0]
            self._embeddings[path] = evaluators.embedding(np.asarray(samples))
        return self._embeddings[path]


def evaluate(
    model: LoadedModel,
    clips: Mapping[Path, str],
    targets: Sequence[str | voices.Voice],
    references: Mapping[str, Sequence[Path]],
    *,
    pitch: str = "target",
    levels: int = 1,
    with_evaluators: bool = False,
    progress: ProgressCallback = silent,
    complain: Complain = lambda error: None,
    on_audio: OnAudio = lambda waveforms: None,
) -> Iterator[Conversion]:
    """Conversions of clips, each with its speaker, to each target but the speaker.

    `references` are clips of each speaker, as `Speakers` uses them. `pitch` and `levels` as in `convert`. Clips
    that cannot be read are reported to `complain`; `on_audio` gets the waveforms of each, by title. Raises
    UnknownLabel, and UsageError if `with_evaluators` without clips of a target or without the extra.
    """
    known = {to: voices.find(model.info, to) if isinstance(to, str) else to.speaker for to in targets}
    if with_evaluators and (missing := [one.name for one in known.values() if not references.get(one.name)]):
        raise UsageError(
            f"there are no clips of {', '.join(missing)} to compare with",
            "--references names a folder with a subfolder of clips for each speaker",
        )
    speakers = Speakers(references) if with_evaluators else None
    for index, (path, name) in enumerate(clips.items()):
        try:
            clip = coding.read(path)
        except BadFile as error:
            complain(error)
            continue
        source = _encode(model, clip, name, with_evaluators)
        waveforms = {SOURCE: clip.samples}
        for to, voice in known.items():
            if voice.name != name:
                began = time.perf_counter()
                converted = conversion.convert(source.codes, to, model, pitch=pitch, levels=levels)
                waveform = waveforms[f"as {voice.name}"] = decode_waveform(model, converted, len(clip.samples))
                yield _measure(source, voice, waveform, time.perf_counter() - began, speakers)
        on_audio(waveforms)
        progress((index + 1) / len(clips))


class _Source(NamedTuple):
    """A clip before conversion: its speaker, codes, mean pitch and evaluator scores ({} without evaluators)."""

    clip: Utterance
    speaker: str
    codes: AudioCodes
    encoding_s: float
    pitch_hz: float | None
    scores: dict[str, Any]


def _encode(model: LoadedModel, clip: Utterance, name: str, with_evaluators: bool) -> _Source:
    began = time.perf_counter()
    codes = windows.encode_audio(model, clip.recording)
    encoding_s = time.perf_counter() - began
    pitch_hz = nan_to_none(metrics.pitch_hz(clip.samples))
    scores = evaluator_scores(clip.samples, clip.text) if with_evaluators else {}
    return _Source(clip, name, codes, encoding_s, pitch_hz, scores)


def _measure(
    source: _Source, voice: voices.Speaker, waveform: np.ndarray, conversion_s: float, speakers: Speakers | None
) -> Conversion:
    """The row of a converted waveform; without `speakers`, without evaluators."""
    clip = source.clip
    scores: dict[str, Any] = {}
    if speakers is not None:
        scores = evaluator_scores(waveform, clip.text)
        embedding = evaluators.embedding(waveform)
        scores["source_word_error"], scores["source_quality"] = source.scores["word_error"], source.scores["quality"]
        scores["like_target"] = float(embedding @ speakers.embedding(voice.name, clip.path))
        scores["like_speaker"] = float(embedding @ speakers.embedding(source.speaker, clip.path))
    return Conversion(
        voice.name,
        source.speaker,
        clip.path.name,
        clip.seconds,
        clip.seconds / (source.encoding_s + conversion_s),
        voice.pitch_hz,
        source.pitch_hz,
        nan_to_none(metrics.pitch_hz(waveform)),
        nan_to_none(metrics.melody(clip.samples, waveform).correlation),
        nan_to_none(metrics.log_mel_correlation(clip.samples, waveform)),
        **scores,
    )


def means(conversions: Iterable[Conversion]) -> list[Conversion]:
    """The mean for each target and, where there are several, that over all conversions as "all"."""
    groups: dict[str, list[Conversion]] = {}
    for one in conversions:
        groups.setdefault(one.to, []).append(one)
    if len(groups) > 1:
        groups["all"] = [one for group in groups.values() for one in group]
    return [_mean(to, group) for to, group in groups.items()]


def _mean(to: str, group: list[Conversion]) -> Conversion:
    seconds = sum(one.seconds for one in group)
    whole = {
        "to": to,
        "speaker": "",
        "clip": f"mean of {len(group)}",
        "seconds": seconds,
        "speed": seconds / sum(one.seconds / one.speed for one in group),
        "words": sum(one.words or 0 for one in group) or None,
        "source_word_error": word_error(group, "source_word_error"),
        "word_error": word_error(group, "word_error"),
    }
    return mean_row(group, whole)


def speaker_of(name: str) -> str:
    """The speaker by a clip's relative name: its first folder, else the file name up to the first _ or -."""
    first, slash, _ = name.partition("/")
    return first if slash else re.split(r"[_-]", Path(name).stem)[0]
