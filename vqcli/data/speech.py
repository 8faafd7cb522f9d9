"""Utterances -> batches of crops with pitch, voice profile and speaker, the same on every machine.

An utterance is decoded and analysed once: scaled to -26 dB, its pitch tracked, its profile computed (media/voice.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from vqcli.data import pitch_cache
from vqcli.data.clips import Clip, Clips
from vqcli.media import loudness, pitch, voice
from vqcli.recipe import Data

RATE_HZ = 16_000


@dataclass(frozen=True, eq=False)
class UtteranceBatch:
    """Crops of utterances.

    samples  float32 [B, N] at RATE_HZ and -26 dB RMS
    pitch    uint8 [B, N / pitch.STEP]
    profile  float32 [B, voice.SIZE], of the whole utterance
    labels   int64 [B], indices of the speakers
    """

    samples: np.ndarray
    pitch: np.ndarray
    profile: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> UtteranceBatch:
        cut = slice(start, stop)
        return UtteranceBatch(self.samples[cut], self.pitch[cut], self.profile[cut], self.labels[cut])


@dataclass(frozen=True, eq=False)
class Utterance(Clip):
    """A whole utterance for batches."""

    FULL_SCALE: ClassVar[int] = 2**13  # at -26 dB, so that peaks up to 4 fit

    pitch: np.ndarray
    profile: np.ndarray


@dataclass(frozen=True)
class Speaker:
    """A speaker of the data: seconds of speech trained on, mean pitch (Hz, geometric), the data folder."""

    name: str
    seconds: float
    pitch_hz: float
    source: str


class Utterances(Clips[Utterance, UtteranceBatch]):
    """The utterances below some folders (clips.py); crops lie on a grid of 40 ms."""

    def __init__(self, folders: Sequence[Path], *, held_out: bool | None) -> None:
        super().__init__(folders, held_out=held_out, rate_hz=RATE_HZ, grid=2 * pitch.STEP)

    def speakers(self) -> list[Speaker]:
        """The speakers of `classes`, in their order; 0 seconds for one without an utterance here."""
        speakers = []
        for label, name in enumerate(self.classes):
            own = self._by_speaker.get(label, [])
            pitches = [self._clips[i].profile[-3] for i in own] or [voice.USUAL_LOG_HZ]
            source = self.sources[own[0]] if own else ""
            speakers.append(
                Speaker(name, round(self._seconds(own), 1), round(float(np.exp(np.mean(pitches))), 1), source)
            )
        return speakers

    def analysed(self, samples: np.ndarray) -> Utterance:
        samples = samples * np.float32(voice.gain(loudness.active_rms_db(samples)))
        codes = pitch_cache.codes_of(samples)
        return Utterance(Utterance.rounded(samples), codes, voice.profile(samples, codes))

    def _crop(self, index: int, data: Data, place: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        samples, start = self._samples(index, data, place)
        codes = np.zeros(len(samples) // pitch.STEP, np.uint8)
        pitches = self._clips[index].pitch[start // pitch.STEP :][: len(codes)]
        codes[: len(pitches)] = pitches
        return samples, codes, self._clips[index].profile, int(self.labels[index])

    @staticmethod
    def _stack(items: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]]) -> UtteranceBatch:
        samples, codes, profiles, labels = zip(*items, strict=True)
        return UtteranceBatch(np.stack(samples), np.stack(codes), np.stack(profiles), np.array(labels, np.int64))
