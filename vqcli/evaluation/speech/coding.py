"""Rate and quality of a speech model, and of baselines at their lowest rates.

All audio is compared as one channel at 16 kHz. Values that are not or cannot be measured are None. The evaluators
(evaluators.py) add word errors and quality.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from vqcli.codec import audio_file, windows
from vqcli.codec.codes import AudioCodes, keep_levels
from vqcli.errors import BadFile
from vqcli.evaluation.speech import baselines, evaluators, metrics
from vqcli.media import audio
from vqcli.media.audio import Recording
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo.loading import LoadedModel

SOURCE = "source"
FEW_LEVELS = 6

Row = TypeVar("Row")
Complain = Callable[[BadFile], None]
OnAudio = Callable[[dict[str, np.ndarray]], None]


class Utterance(NamedTuple):
    """A clip at 16 kHz, mono, and the transcript of the .txt file of the same name, if there is one."""

    path: Path
    recording: Recording
    text: str | None

    @property
    def samples(self) -> np.ndarray:
        return np.asarray(self.recording.samples[0])

    @property
    def seconds(self) -> float:
        return len(self.samples) / metrics.RATE_HZ


def read(path: Path) -> Utterance:
    """Raises BadFile for a file that is not audio, or a .txt file that is not text."""
    transcript = path.with_suffix(".txt")
    text = evaluators.read_transcript(transcript) if transcript.is_file() else None
    return Utterance(path, audio.read(path, metrics.RATE_HZ, mono=True), text)


@dataclass(frozen=True)
class Point:
    """A clip through a codec, or the mean of several.

    codec              name of a model or of a baseline; SOURCE for the clip itself
    levels             of the model; 0 for the others
    kbit_per_s         of whole files, header included; of several, all bits over all seconds
    log_mel_*, stoi    see metrics.py; `visqol` too
    pitch_correlation  of log Hz where both are voiced; `voicing_error`: share of positions where only one is
    word_error         of the recogniser against the transcript: errors over words, summed over clips
    quality            DNSMOS, 1 .. 5
    """

    codec: str
    levels: int
    clip: str
    seconds: float
    size_bytes: int
    kbit_per_s: float
    log_mel_distance_db: float | None = None
    log_mel_correlation: float | None = None
    pitch_correlation: float | None = None
    voicing_error: float | None = None
    stoi: float | None = None
    visqol: float | None = None
    words: int | None = None
    word_error: float | None = None
    quality: float | None = None


def evaluate(
    model: LoadedModel,
    clips: Sequence[Path],
    *,
    codecs: Iterable[str | LoadedModel] = (baselines.OPUS,),
    coder: str = "auto",
    with_evaluators: bool = False,
    progress: ProgressCallback = silent,
    complain: Complain = lambda error: None,
    on_audio: OnAudio = lambda waveforms: None,
) -> Iterator[Point]:
    """Points of each clip, of the model with one level and more (`measured_levels`), and of `codecs`, or other models.

    A clip that cannot be read is reported to `complain` and left out; `on_audio` gets the waveforms of each, by title.
    Raises UsageError for a codec that is not installed, and if `with_evaluators` without the extra `evaluators`.
    """
    codecs = list(codecs)
    for index, path in enumerate(clips):
        try:
            clip = read(path)
        except BadFile as error:
            complain(error)
            continue
        scores = evaluator_scores(clip.samples, clip.text) if with_evaluators else {}
        size = path.stat().st_size
        yield Point(SOURCE, 0, path.name, clip.seconds, size, _kbit_per_s(clip, size), **scores)
        waveforms = {SOURCE: clip.samples}
        for codec in (model, *codecs):
            for title, name, level, waveform, size in _coded(codec, clip, coder):
                waveforms[title] = waveform
                yield measure(name, level, clip, waveform, size, with_evaluators)
        on_audio(waveforms)
        progress((index + 1) / len(clips))


def _coded(codec: str | LoadedModel, clip: Utterance, coder: str) -> Iterator[tuple[str, str, int, np.ndarray, int]]:
    """Title, name, levels, decoded float32 [N] at 16 kHz and bytes: of a model for each of `measured_levels`."""
    if isinstance(codec, str):
        baseline = baselines.through(clip.samples, codec)
        yield codec, codec, 0, baseline.samples, baseline.size_bytes
        return
    name, levels = codec.info.name, codec.audio.levels
    codes = windows.encode_audio(codec, _at_its_rate(codec, clip))
    for level in measured_levels(levels):
        kept = keep_levels(codec, codes, level)
        size = audio_file.file_size(codec, kept, coder=coder)
        yield f"{name}, {level} of {levels} levels", name, level, decode_waveform(codec, kept, len(clip.samples)), size


def measure(
    codec: str, levels: int, clip: Utterance, waveform: np.ndarray, size_bytes: int, with_evaluators: bool
) -> Point:
    """The point of a clip and its decoded waveform, mono float32 [N] at 16 kHz, from a file of `size_bytes`."""
    melody = metrics.melody(clip.samples, waveform)
    return Point(
        codec,
        levels,
        clip.path.name,
        clip.seconds,
        size_bytes,
        _kbit_per_s(clip, size_bytes),
        nan_to_none(metrics.log_mel_distance(clip.samples, waveform)),
        nan_to_none(metrics.log_mel_correlation(clip.samples, waveform)),
        nan_to_none(melody.correlation),
        nan_to_none(melody.voicing_error),
        nan_to_none(metrics.stoi(clip.samples, waveform)) if metrics.has_stoi() else None,
        nan_to_none(metrics.visqol(clip.samples, waveform)) if metrics.has_visqol() else None,
        **(evaluator_scores(waveform, clip.text) if with_evaluators else {}),
    )


def evaluator_scores(waveform: np.ndarray, text: str | None) -> dict[str, Any]:
    """words, word_error and quality of mono float32 [N] at 16 kHz; the first two None without a text."""
    errors = evaluators.word_errors(waveform, text) if text else None
    return {
        "words": errors.words if errors else None,
        "word_error": errors.errors / errors.words if errors else None,
        "quality": evaluators.dnsmos(waveform),
    }


def decode_waveform(model: LoadedModel, codes: AudioCodes, length: int) -> np.ndarray:
    """The waveform of the first coded channel, float32 [length] at 16 kHz."""
    blocks = (block[:1] for block in windows.decode_audio(model, codes))
    at_16_khz = audio.restore(blocks, model.audio.rate_hz, metrics.RATE_HZ, length, channels=1)
    return np.concatenate([block[0] for block in at_16_khz])


def measured_levels(levels: int) -> list[int]:
    """All of a few levels; of many, as other people's codecs have them, powers of two and the last."""
    if levels <= FEW_LEVELS:
        return list(range(1, levels + 1))
    return sorted({*(2**n for n in range(levels.bit_length())), levels})


def _at_its_rate(model: LoadedModel, clip: Utterance) -> Recording:
    """The clip as the model takes it."""
    rate_hz = model.audio.rate_hz
    return clip.recording if rate_hz == metrics.RATE_HZ else audio.read(clip.path, rate_hz, mono=True)


def means(points: Iterable[Point]) -> list[Point]:
    """One point for each codec and number of levels, in the order of first appearance."""
    groups: dict[tuple[str, int], list[Point]] = {}
    for point in points:
        groups.setdefault((point.codec, point.levels), []).append(point)
    return [_mean(group) for group in groups.values()]


def _mean(points: list[Point]) -> Point:
    seconds, size = sum(point.seconds for point in points), sum(point.size_bytes for point in points)
    whole = {
        "clip": f"mean of {len(points)}",
        "seconds": seconds,
        "size_bytes": round(size / len(points)),
        "kbit_per_s": 8 * size / seconds / 1000,
        "words": sum(point.words or 0 for point in points) or None,
        "word_error": word_error(points, "word_error"),
    }
    return mean_row(points, whole)


def mean_row(rows: Sequence[Row], whole: dict[str, Any]) -> Row:
    """The mean of rows of one dataclass: `whole` as given, means of floats that are not None, else the first value."""
    values: dict[str, Any] = {}
    for name in (field.name for field in fields(rows[0])):  # type: ignore[arg-type]
        present = [value for row in rows if (value := getattr(row, name)) is not None]
        values[name] = float(np.mean(present)) if present and isinstance(present[0], float) else getattr(rows[0], name)
    return type(rows[0])(**values | whole)


def word_error(rows: Sequence[Any], name: str) -> float | None:
    """Errors of all rows over their `words`, from the field `name` of each."""
    counted = [(row.words, getattr(row, name)) for row in rows if row.words]
    words = sum(count for count, _ in counted)
    return sum(count * error for count, error in counted) / words if words else None


def nan_to_none(value: float) -> float | None:
    """None for nan, as JSON has it."""
    return None if math.isnan(value) else value


def _kbit_per_s(clip: Utterance, size_bytes: int) -> float:
    return metrics.kbit_per_s(size_bytes, len(clip.samples))
