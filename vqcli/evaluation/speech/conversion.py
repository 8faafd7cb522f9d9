"""How well speech is given other voices: who seems to speak, what is still understood, how it sounds."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from vqcli.codec import conversion as speaker
from vqcli.codec import windows
from vqcli.errors import BadFile, UsageError
from vqcli.evaluation.speech import coding, evaluators, metrics
from vqcli.evaluation.speech.coding import SOURCE, Complain, Look, averaged, decoded, judged, known, word_error
from vqcli.media import audio
from vqcli.progress import Report, silent
from vqcli.zoo.loading import LoadedModel

MOST_REFERENCES = 20  # clips that a speaker is known by


@dataclass(frozen=True)
class Conversion:
    """A clip in another voice, or the mean of several; `source_*` is the same measure of the clip itself.

    to, speaker          the voice, and whose clip it is; "" for several
    speed                seconds of sound for each second that encoding, converting and decoding took
    pitch_hz, target_hz  geometric means: of the conversion, and of the target's speech as the model knows it
    melody               correlation of the pitch with that of the clip
    log_mel_correlation  with the clip: what is said when stays, the voice does not
    word_error           errors over words of the transcript, of several all over all
    like_target          likeness to the clips of the target, and
    like_speaker         to those of the speaker: mean cosine of embeddings, 0 .. 1
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


def evaluate(
    model: LoadedModel,
    clips: Mapping[Path, str],
    targets: Sequence[str],
    references: Mapping[str, Sequence[Path]],
    *,
    pitch: str = "target",
    levels: int = 1,
    with_evaluators: bool = False,
    report: Report = silent,
    complain: Complain = lambda error: None,
    look: Look = lambda sounds: None,
) -> Iterator[Conversion]:
    """Conversions of clips, each with its speaker, to each target but the speaker.

    `references` are clips of each speaker, to know them by: the first MOST_REFERENCES but the clip itself, which
    stands for its speaker alone where there are no others. `pitch` and `levels` as in `speaker.convert`. Clips that
    cannot be read are reported to `complain`; `look` gets the sounds of each, by title. Raises UnknownLabel, and
    UsageError if `with_evaluators` have no clips of a target or are not installed.
    """
    voices = [speaker.find(model.info, name) for name in targets]
    if with_evaluators and (missing := [name for name in targets if not references.get(name)]):
        raise UsageError(
            f"there are no clips of {', '.join(missing)} to compare with",
            "--references names a folder with a subfolder of clips for each speaker",
        )

    @cache
    def embedding(path: Path) -> np.ndarray:
        return evaluators.voice(np.asarray(audio.read(path, metrics.RATE_HZ, mono=True).samples[0]))

    def voice_of(name: str, path: Path) -> np.ndarray:
        others = [other for other in references.get(name, ()) if other.resolve() != path.resolve()]
        return evaluators.mean_voice(map(embedding, others[:MOST_REFERENCES] or [path]))

    for index, (path, who) in enumerate(clips.items()):
        try:
            clip = coding.read(path)
        except BadFile as error:
            complain(error)
            continue
        began = time.perf_counter()
        codes = windows.encode_audio(model, clip.recording)
        encoding_s = time.perf_counter() - began
        source_hz = known(metrics.pitch_hz(clip.samples))
        before = judged(clip.samples, clip.text) if with_evaluators else {}
        sounds = {SOURCE: clip.samples}
        for voice in voices:
            if voice.name == who:
                continue
            began = time.perf_counter()
            other = speaker.convert(codes, voice.name, model, pitch=pitch, levels=levels)
            sound = sounds[f"as {voice.name}"] = decoded(model, other, len(clip.samples))
            taken_s = encoding_s + time.perf_counter() - began
            after = judged(sound, clip.text) if with_evaluators else {}
            if with_evaluators:
                spoken = evaluators.voice(sound)
                after["source_word_error"], after["source_quality"] = before["word_error"], before["quality"]
                after["like_target"] = float(spoken @ voice_of(voice.name, path))
                after["like_speaker"] = float(spoken @ voice_of(who, path))
            yield Conversion(
                voice.name,
                who,
                path.name,
                clip.seconds,
                clip.seconds / taken_s,
                voice.pitch_hz,
                source_hz,
                known(metrics.pitch_hz(sound)),
                known(metrics.melody(clip.samples, sound).correlation),
                known(metrics.log_mel_correlation(clip.samples, sound)),
                **after,
            )
        look(sounds)
        report((index + 1) / len(clips))


def means(conversions: Iterable[Conversion]) -> list[Conversion]:
    """The mean for each target and, where there are several, that over all conversions as "all"."""
    groups: dict[str, list[Conversion]] = {}
    for conversion in conversions:
        groups.setdefault(conversion.to, []).append(conversion)
    if len(groups) > 1:
        groups["all"] = [conversion for group in groups.values() for conversion in group]
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
    return averaged(group, whole)


def speaker_of(name: str) -> str:
    """Whose clip a relative name says it is: its first folder, else what stands before the first _ or - of the file."""
    first, slash, _ = name.partition("/")
    return first if slash else re.split(r"[_-]", Path(name).stem)[0]
