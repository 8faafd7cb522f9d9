"""Clips of audio -> batches of crops, the same on every machine; folders are speakers.

A clip is decoded once. What is random about draw n comes from a generator seeded by (seed, n) alone, as with images
(dataset.py). `Waveforms` are clips as they are, at any rate; speech.py has those of one loudness, with pitch and voice.
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
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from vqcli.data import split
from vqcli.data.prefetch import Batches
from vqcli.errors import BadFile, UsageError
from vqcli.files import files_below
from vqcli.media import audio
from vqcli.recipe import Data

SHORTEST_S = 0.25  # too short for a voice profile, and for most nets
WELL_KNOWN_S = 60.0  # of speech, enough for a voice to be a target of conversion


@dataclass(frozen=True, eq=False)
class Clip:
    """A whole clip for batches; `samples` int16 [N], `FULL_SCALE` for 1."""

    FULL_SCALE: ClassVar[int] = 2**15

    samples: np.ndarray

    @property
    def wave(self) -> np.ndarray:
        """float32 [N]."""
        return self.samples.astype(np.float32) / np.float32(self.FULL_SCALE)

    @classmethod
    def rounded(cls, samples: np.ndarray) -> np.ndarray:
        """int16 [N] of samples float32 [N]; peaks that do not fit are cut off."""
        return np.clip(np.rint(samples * cls.FULL_SCALE), -(2**15), 2**15 - 1).astype(np.int16)


@dataclass(frozen=True, eq=False)
class ClipBatch:
    """Crops of clips: samples float32 [B, N], labels int64 [B], indices of the speakers."""

    samples: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> ClipBatch:
        return ClipBatch(self.samples[start:stop], self.labels[start:stop])


AnyClip = TypeVar("AnyClip", bound=Clip)
AnyBatch = TypeVar("AnyBatch")


def is_audio_name(name: str) -> bool:
    return name.lower().endswith(audio.SUFFIXES) and not name.startswith(".") and "/." not in name


class Clips(Batches[AnyBatch], Generic[AnyClip, AnyBatch]):
    """The clips below some folders that are held out, those that are not, or (None) all, as one channel at `rate_hz`.

    Crops begin at multiples of `grid` samples and are as long as a multiple of it. `classes` are the sorted names of
    all speakers, the same for both halves. Clips that cannot be used are listed with the reason in `skipped`. A
    subclass gives `analysed`, `_crop` and `_stack`. Raises UsageError if there are none.
    """

    def __init__(self, folders: Sequence[Path], *, held_out: bool | None, rate_hz: int, grid: int) -> None:
        self.rate_hz, self.grid = rate_hz, grid
        files = [
            (name, folder / name, folder.name)
            for folder in folders
            for name in sorted(
                path.relative_to(folder).as_posix() for path in files_below(folder) if is_audio_name(path.name)
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
        self.paths, self.sources = [files[i][1] for i in chosen], [files[i][2] for i in chosen]
        self.skipped: dict[str, str] = {}
        self.too_small: dict[str, str] = {}
        self._clips: dict[int, AnyClip] = {}
        self._lock = threading.Lock()
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(self._load, range(len(chosen))))
        if not self._clips:
            raise UsageError(f"none of {len(chosen)} clips can be used: {next(iter(self.skipped.values()), '')}")
        self._by_speaker = {
            int(label): [i for i in sorted(self._clips) if self.labels[i] == label]
            for label in np.unique(self.labels[sorted(self._clips)])
        }

    def __len__(self) -> int:
        return len(self.names)

    def analysed(self, samples: np.ndarray) -> AnyClip:
        """The clip of samples float32 [N] at `rate_hz`."""
        raise NotImplementedError

    def clip(self, index: int) -> AnyClip | None:
        """A whole clip, None if it could not be used."""
        return self._clips.get(index)

    def batch(self, data: Data, seed: int, first: int, count: int) -> AnyBatch:
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
            index = rng.choices(own, [len(self._clips[i].samples) for i in own])[0]
            items.append(self._crop(index, data, rng.random()))
        return self._stack(items)

    def held_out_batch(self, data: Data, count: int) -> AnyBatch:
        """Crops of `count` clips, several of each if there are fewer: always the same."""
        order = sorted(self._clips)
        places = ((order[i % len(order)], (1 + i // len(order)) / 3 % 1) for i in range(count))
        return self._stack([self._crop(index, data, place) for index, place in places])

    def _seconds(self, clips: Sequence[int]) -> float:
        return sum(len(self._clips[i].samples) for i in clips) / self.rate_hz

    def _load(self, index: int) -> None:
        try:
            samples = np.asarray(audio.read(self.paths[index], self.rate_hz, mono=True).samples[0])
            if len(samples) < SHORTEST_S * self.rate_hz:
                raise BadFile(f"{len(samples) / self.rate_hz:.2f} s, shorter than {SHORTEST_S} s")
            clip = self.analysed(samples)
        except BadFile as error:
            self.skipped[self.names[index]] = str(error)
            return
        with self._lock:
            self._clips[index] = clip

    def _samples(self, index: int, data: Data, place: float) -> tuple[np.ndarray, int]:
        """A crop of `data.seconds` at a place 0 .. 1 of the range, padded with silence, and where it begins."""
        clip = self._clips[index]
        N = max(1, round(data.seconds * self.rate_hz / self.grid)) * self.grid
        free = max(0, len(clip.samples) - N) // self.grid
        start = int(place * (free + 1)) * self.grid
        samples = np.zeros(N, np.float32)
        part = clip.samples[start : start + N]
        samples[: len(part)] = part / np.float32(clip.FULL_SCALE)
        return samples, start

    def _crop(self, index: int, data: Data, place: float) -> Any:
        """An item of a batch."""
        raise NotImplementedError

    @staticmethod
    def _stack(items: list[Any]) -> AnyBatch:
        raise NotImplementedError


class Waveforms(Clips[Clip, ClipBatch]):
    """Clips as loud as they are."""

    def analysed(self, samples: np.ndarray) -> Clip:
        return Clip(Clip.rounded(samples))

    def _crop(self, index: int, data: Data, place: float) -> tuple[np.ndarray, int]:
        return self._samples(index, data, place)[0], int(self.labels[index])

    @staticmethod
    def _stack(items: list[tuple[np.ndarray, int]]) -> ClipBatch:
        samples, labels = zip(*items, strict=True)
        return ClipBatch(np.stack(samples), np.array(labels, np.int64))
