"""Utterances -> batches of crops with pitch, voice profile and speaker, the same on every machine.

An utterance is decoded and analysed once: scaled to -26 dB, its pitch tracked, its profile computed (media/voice.py).
What is random about draw n comes from a generator seeded by (seed, n) alone, as with images (dataset.py).
"""

from __future__ import annotations

import itertools
import os
import random
import threading
from bisect import bisect
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vqcli.data import pitch_cache, split
from vqcli.data.prefetch import Batches
from vqcli.errors import BadFile, UsageError
from vqcli.media import audio, loudness, pitch, voice
from vqcli.recipe import Data

RATE_HZ = 16_000
SHORTEST = RATE_HZ // 4  # samples; too short for a voice profile
WELL_KNOWN_S = 60.0  # of speech, enough for a voice to be a target of conversion
FULL_SCALE = 2**13  # int16 for 1.0: utterances are at -26 dB, so peaks up to 4 fit


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
class Utterance:
    """A whole utterance for batches; `samples` int16 [N], FULL_SCALE for 1."""

    samples: np.ndarray
    pitch: np.ndarray
    profile: np.ndarray


@dataclass(frozen=True)
class Speaker:
    """A speaker of the data: seconds of speech trained on, mean pitch (Hz, geometric), the data folder."""

    name: str
    seconds: float
    pitch_hz: float
    source: str


def is_audio_name(name: str) -> bool:
    return name.lower().endswith(audio.SUFFIXES) and not name.startswith(".") and "/." not in name


class Utterances(Batches[UtteranceBatch]):
    """The utterances below some folders that are held out, those that are not, or (None) all; folders are speakers.

    `classes` are the sorted names of all speakers, the same for both halves. Utterances that cannot be used are
    listed with the reason in `skipped`. Raises UsageError if there are none.
    """

    def __init__(self, folders: Sequence[Path], *, held_out: bool | None) -> None:
        files = [
            (name, folder / name, folder.name)
            for folder in folders
            for name in sorted(
                path.relative_to(folder).as_posix() for path in folder.rglob("*") if is_audio_name(path.as_posix())
            )
        ]
        names = [name for name, *_ in files]
        speakers = [label or source for label, (_, _, source) in zip(split.labels(names), files, strict=True)]
        self.classes: tuple[str, ...] = tuple(sorted(set(speakers)))
        number = {name: index for index, name in enumerate(self.classes)}
        chosen = [index for index, held in enumerate(split.held_out(names)) if held_out in (None, held)]
        if not chosen:
            raise UsageError(
                f"no clips of {len(files)} {'are held out' if held_out else 'are left to train on'}",
                "name folders of clips, one folder for each speaker",
            )
        self.names = [split.printable(names[index]) for index in chosen]
        self.labels = np.array([number[speakers[index]] for index in chosen], np.int64)
        self._paths, self._sources = [files[i][1] for i in chosen], [files[i][2] for i in chosen]
        self.skipped: dict[str, str] = {}
        self.too_small: dict[str, str] = {}
        self._utterances: dict[int, Utterance] = {}
        self._lock = threading.Lock()
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(self._load, range(len(chosen))))
        if not self._utterances:
            raise UsageError(f"none of {len(chosen)} clips can be used: {next(iter(self.skipped.values()), '')}")
        self._by_speaker = {
            int(label): [i for i in sorted(self._utterances) if self.labels[i] == label]
            for label in np.unique(self.labels[sorted(self._utterances)])
        }

    def __len__(self) -> int:
        return len(self.names)

    def utterance(self, index: int) -> Utterance | None:
        """A whole utterance, None if it could not be used."""
        return self._utterances.get(index)

    def speakers(self) -> list[Speaker]:
        """The speakers of `classes`, in their order; 0 seconds for one without an utterance here."""
        speakers = []
        for label, name in enumerate(self.classes):
            own = self._by_speaker.get(label, [])
            pitches = [self._utterances[i].profile[-3] for i in own] or [voice.USUAL_LOG_HZ]
            source = self._sources[own[0]] if own else ""
            speakers.append(
                Speaker(name, round(self._seconds(own), 1), round(float(np.exp(np.mean(pitches))), 1), source)
            )
        return speakers

    def batch(self, data: Data, seed: int, first: int, count: int) -> UtteranceBatch:
        """Draws first .. first + count. A speaker's probability is the `balance`-th power of its seconds."""
        by_speaker = list(self._by_speaker.values())
        ends = list(itertools.accumulate(self._seconds(clips) ** data.balance for clips in by_speaker))
        known = [clips for clips in by_speaker if self._seconds(clips) >= WELL_KNOWN_S]
        items = []
        for n in range(first, first + count):
            rng = random.Random(f"{seed} {n}")
            own = by_speaker[bisect(ends, rng.random() * ends[-1])]
            if known and rng.random() < data.focus:
                own = rng.choice(known)
            index = rng.choices(own, [len(self._utterances[i].samples) for i in own])[0]
            items.append(self._crop(index, data, rng.random()))
        return _stack(items)

    def held_out_batch(self, data: Data, count: int) -> UtteranceBatch:
        """Crops of `count` utterances, several of each if there are fewer: always the same."""
        order = sorted(self._utterances)
        return _stack([self._crop(order[i % len(order)], data, (1 + i // len(order)) / 3 % 1) for i in range(count)])

    def _seconds(self, clips: Sequence[int]) -> float:
        return sum(len(self._utterances[i].samples) for i in clips) / RATE_HZ

    def _load(self, index: int) -> None:
        name = self.names[index]
        try:
            samples = np.asarray(audio.read(self._paths[index], RATE_HZ, mono=True).samples[0])
            if len(samples) < SHORTEST:
                raise BadFile(f"{len(samples) / RATE_HZ:.2f} s, shorter than {SHORTEST / RATE_HZ} s")
            samples = samples * np.float32(voice.gain(loudness.active_rms_db(samples)))
            codes = pitch_cache.codes_of(samples)
            clip = Utterance(_to_int16(samples), codes, voice.profile(samples, codes))
        except BadFile as error:
            self.skipped[name] = str(error)
            return
        with self._lock:
            self._utterances[index] = clip

    def _crop(self, index: int, data: Data, place: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """A crop of `data.seconds` at a place 0 .. 1 of the range, on a grid of 40 ms; padded with silence."""
        clip, grid = self._utterances[index], 2 * pitch.STEP
        N = max(1, round(data.seconds * RATE_HZ / grid)) * grid
        free = max(0, len(clip.samples) - N) // grid
        start = int(place * (free + 1)) * grid
        samples = np.zeros(N, np.float32)
        part = clip.samples[start : start + N]
        samples[: len(part)] = part / np.float32(FULL_SCALE)
        codes = np.zeros(N // pitch.STEP, np.uint8)
        pitches = clip.pitch[start // pitch.STEP :][: len(codes)]
        codes[: len(pitches)] = pitches
        return samples, codes, clip.profile, int(self.labels[index])


def _to_int16(samples: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(samples * FULL_SCALE), -(2**15), 2**15 - 1).astype(np.int16)


def _stack(items: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]]) -> UtteranceBatch:
    samples, codes, profiles, labels = zip(*items, strict=True)
    return UtteranceBatch(np.stack(samples), np.stack(codes), np.stack(profiles), np.array(labels, np.int64))
