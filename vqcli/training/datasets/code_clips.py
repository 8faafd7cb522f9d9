"""Codes of clips as batches, for priors over sequences of codes. Each clip is encoded once, or is codes already."""

from __future__ import annotations

import itertools
import random
from bisect import bisect
from typing import Any

import numpy as np
import torch

from vqcli.codec import windows
from vqcli.codec.codes import code_type
from vqcli.data.clips import Clip, Clips
from vqcli.data.dataset import Batch
from vqcli.data.prefetch import Batches
from vqcli.data.speech import Utterance
from vqcli.errors import UsageError
from vqcli.media.audio import Recording
from vqcli.recipe import Data
from vqcli.training.datasets.coded_clips import CodedClips
from vqcli.zoo import loading


class CodeSequences(Batches[Batch]):
    """Clips (data/clips.py, or codes already) as codes. Those of a speaker follow each other, and a crop may span
    several, as many are shorter than a crop.

    sequences  uint16 [n_codebooks, T] of each usable clip, by its index
    """

    def __init__(self, clips: Clips[Any, Any] | CodedClips, codec: loading.LoadedModel) -> None:
        """Raises UsageError if no clip can be used."""
        self.classes, self.names, self.labels = clips.classes, clips.names, clips.labels
        self.skipped, self.too_small = clips.skipped, clips.too_small
        self.rate_hz = codec.net.rate_hz / codec.net.stride  # positions per second
        known = ((index, _codes(clips, index, codec)) for index in range(len(clips)))
        self.sequences = {index: codes for index, codes in known if codes is not None}
        if not self.sequences:
            reason = next(iter(self.skipped.values()), "")
            raise UsageError(f"none of {len(self)} clips can be used: {reason}")
        self._speakers = {
            int(label): _Sequence([codes for i, codes in self.sequences.items() if self.labels[i] == label])
            for label in np.unique(self.labels[sorted(self.sequences)])
        }

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, data: Data, seed: int, first: int, count: int) -> Batch:
        """The random crops first .. first + count. Speakers are weighted by speaking time to the power of `balance`."""
        ends = list(itertools.accumulate(len(codes) ** data.balance for codes in self._speakers.values()))
        items = []
        for n in range(first, first + count):
            generator = random.Random(f"{seed} {n}")
            label = list(self._speakers)[bisect(ends, generator.random() * ends[-1])]
            items.append((self._crop(label, data, generator.random()), label))
        return _stack(items)

    def held_out_batch(self, data: Data, count: int) -> Batch:
        """Crops of all speakers in turn, always the same."""
        labels = list(self._speakers)
        return _stack([(self._crop(labels[i % len(labels)], data, (i * 0.618) % 1), labels[i % len(labels)])
                       for i in range(count)])  # fmt: skip

    def _crop(self, label: int, data: Data, position: float) -> np.ndarray:
        """Codes [T, n_codebooks] at a position 0 .. 1; sequences shorter than a crop are repeated."""
        codes, T = self._speakers[label], max(1, round(data.seconds * self.rate_hz))
        return codes.part(int(position * max(1, len(codes) - T + 1)), T).T


class _Sequence:
    """Clips of codes [n_codebooks, T] as if they were one; they stay where they are, as in a file that is mapped."""

    def __init__(self, clips: list[np.ndarray]) -> None:
        self._clips, self._ends = clips, list(itertools.accumulate(codes.shape[1] for codes in clips))

    def __len__(self) -> int:
        return self._ends[-1]

    def part(self, start: int, T: int) -> np.ndarray:
        """Codes [n_codebooks, T] from `start` on; after the last clip comes the first again."""
        parts = []
        while T > 0:
            start %= len(self)
            number = bisect(self._ends, start)
            clip = self._clips[number]
            first = start - self._ends[number] + clip.shape[1]
            parts.append(clip[:, first : first + T])
            start, T = start + parts[-1].shape[1], T - parts[-1].shape[1]
        return np.concatenate(parts, 1)


def _codes(clips: Clips[Any, Any] | CodedClips, index: int, codec: loading.LoadedModel) -> np.ndarray | None:
    """Codes [n_codebooks, T] of a clip, None if it cannot be used."""
    if isinstance(clips, CodedClips):
        return clips.codes(index)
    clip = clips.clip(index)
    return None if clip is None else codes_of(codec, clip)


@torch.inference_mode()
def codes_of(codec: loading.LoadedModel, clip: Clip) -> np.ndarray:
    """Codes uint16 [n_codebooks, T] of a clip at the codec's rate, the same as those of windows.encode_audio."""
    net = codec.audio
    if not isinstance(clip, Utterance):
        N = len(clip.samples)
        return windows.encode_audio(codec, Recording(clip.wave[None], net.rate_hz, net.rate_hz, N, 1)).codes[0]
    # utterances are analysed once, for all runs
    known = net.analysis_of(clip.profile, clip.pitch)
    parts = [part.cpu().numpy() for part in net.encode_windows(clip.wave, known, codec.device)]
    return np.concatenate(parts, 1).astype(code_type(net.codebook_sizes))


def _stack(items: list[tuple[np.ndarray, int]]) -> Batch:
    codes, labels = zip(*items, strict=True)
    return Batch(np.stack(codes), np.array(labels, np.int64))
