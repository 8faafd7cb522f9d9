"""The codes that a finished speech model makes of clips, as data for priors."""

from __future__ import annotations

import itertools
import random
from bisect import bisect
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from vqcli import windows, zoo
from vqcli.data.ahead import in_order
from vqcli.data.clips import FULL_SCALE, RATE_HZ, Clips
from vqcli.media.audio import Recording
from vqcli.recipe import Data

SHIFTS = (0.0, 0.5)  # of a position: each clip is coded so many times, since its codes hang on where it begins


@dataclass(frozen=True, eq=False)
class CodeBatch:
    """`codes` uint16 [B, groups, T], `labels` int64 [B]."""

    codes: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def part(self, start: int, stop: int) -> CodeBatch:
        return CodeBatch(self.codes[start:stop], self.labels[start:stop])


class SpeechCodes:
    """Codes of clips, cut into stretches of `data.seconds`; clips are drawn by their length, their places at random.

    Shorter clips are left out. `classes`, `labels` and the rest are those of the clips.
    """

    def __init__(self, clips: Clips, codec: zoo.LoadedModel, seconds: float) -> None:
        self.classes, self.skipped, self.too_small = clips.classes, clips.skipped, dict(clips.too_small)
        self._T = max(1, round(seconds * RATE_HZ / codec.net.stride))
        self._codes: list[np.ndarray] = []
        labels: list[int] = []
        for index, name in enumerate(clips.names):
            clip = clips.clip(index)
            if clip is None:
                continue
            if len(clip.samples) < (self._T + 1) * codec.net.stride:
                self.too_small[name] = f"shorter than {seconds:g} s"
                continue
            for shift in SHIFTS:
                samples = clip.samples[round(shift * codec.net.stride) :].astype(np.float32)[None] / FULL_SCALE
                recording = Recording(samples, RATE_HZ, RATE_HZ, samples.shape[1], 1)
                # the last position may be half silence
                self._codes.append(windows.encode_audio(codec, recording).codes[0, :, :-1])
                labels.append(int(clips.labels[index]))
        self.labels = np.array(labels, np.int64)
        self._ends = list(itertools.accumulate(codes.shape[1] for codes in self._codes))

    def __len__(self) -> int:
        return len(self._codes)

    def item(self, index: int, place: float) -> np.ndarray:
        """Codes [groups, T] of a clip, from a place 0 .. 1 of what is free."""
        codes = self._codes[index]
        start = int(place * (codes.shape[1] - self._T + 1))
        return codes[:, start : start + self._T]

    def batch(self, data: Data, seed: int, first: int, count: int) -> CodeBatch:
        """Draws first .. first + count; what is random about draw n hangs on seed and n alone."""
        draws = [random.Random(f"{seed} {n}") for n in range(first, first + count)]
        chosen = [bisect(self._ends, draw.random() * self._ends[-1]) for draw in draws]
        codes = [self.item(index, draw.random()) for index, draw in zip(chosen, draws, strict=True)]
        return CodeBatch(np.stack(codes), self.labels[chosen])

    def batches(
        self,
        data: Data,
        seed: int,
        first_step: int,
        *,
        rank: int = 0,
        world: int = 1,
        workers: int | None = None,
        ahead: int = 4,
    ) -> Generator[CodeBatch, None, None]:
        """As Clips.batches."""

        def make(step: int) -> CodeBatch:
            return self.batch(data, seed, (step * world + rank) * data.batch, data.batch)

        return in_order(make, itertools.count(first_step), workers=1, ahead=ahead)

    def held_out_batch(self, data: Data, count: int) -> CodeBatch:
        """Stretches of the clips in turn, each from another place: always the same."""
        chosen = [index % len(self) for index in range(count)]
        places = [(0.5 + index // len(self) * 0.37) % 1 for index in range(count)]
        return CodeBatch(np.stack(list(map(self.item, chosen, places))), self.labels[chosen])
