"""Images of a source -> batches of crops, the same on every machine.

Draws are numbered without end and without replacement: draw n belongs to epoch n // N and stands at n % N of that
epoch's permutation. What is random about draw n comes from a generator seeded by (seed, n) alone. So any worker can
compute any item, and a resumed run gets the same batches without a stored random state.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from vqcli.data import crops, synthetic
from vqcli.data.prefetch import Batches
from vqcli.data.source import Source
from vqcli.data.sources import open_sources
from vqcli.errors import BadFile, UsageError
from vqcli.recipe import Data

TRIES = 200  # images that are tried for one item before an error


@dataclass(frozen=True, eq=False)
class Batch:
    """`pixels`: uint8 [B, crop, crop, 3]. `labels`: int64 [B], indices of `Dataset.classes`, -1 for none.

    From a source of codes, `pixels` are uint16 [B, rows, columns, groups] of as many pixels.
    """

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def part(self, start: int, stop: int) -> Batch:
        return Batch(self.pixels[start:stop], self.labels[start:stop])


class Dataset(Batches[Batch]):
    """The held-out images of a source (or of some paths), or those to train on.

    Decoded images are kept in memory up to `cache_bytes` and decoded again beyond. `classes` are the sorted names of
    all labels, the same for both halves; `labels` the index of each image's, -1 for none. Images that cannot be
    used are listed with the reason, once each: `skipped` if damaged, `too_small` if smaller than a crop.
    Raises UsageError if there are no images.
    """

    def __init__(self, source: Source | Sequence[Path], *, held_out: bool, cache_bytes: int = 2**31) -> None:
        self._source = open_sources(source) if isinstance(source, Sequence) else source
        self._indices = [index for index, held in enumerate(self._source.held_out) if held == held_out]
        if not self._indices:
            which = "are held out" if held_out else "are left to train on"
            raise UsageError(f"no images of {len(self._source.names)} {which}", "use more, or folders train and val")
        self.names: list[str] = [self._source.names[i] for i in self._indices]
        self.classes: tuple[str, ...] = tuple(sorted({label for label in self._source.labels if label is not None}))
        numbers: dict[str | None, int] = {None: -1} | {name: number for number, name in enumerate(self.classes)}
        self.labels = np.array([numbers[self._source.labels[i]] for i in self._indices], np.int64)
        self.skipped: dict[str, str] = {}
        self.too_small: dict[str, str] = {}
        self._cache: dict[int, np.ndarray] = {}
        self._shorter: dict[
            int, int
        ] = {}  # shorter side of each image read, so that too small ones are not decoded again
        self._room = 0 if self._source.decoded else cache_bytes
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._indices)

    def pixels(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3], not to be written to. Raises BadFile, and lists the image in `skipped`."""
        cached = self._cache.get(index)
        if cached is not None:
            return cached
        name = self.names[index]
        if name in self.skipped:
            raise BadFile(self.skipped[name])
        try:
            pixels = self._source.read(self._indices[index])
        except BadFile as error:
            self.skipped[name] = str(error)
            raise
        self._shorter[index] = min(pixels.shape[:2])
        with self._lock:
            if pixels.nbytes <= self._room and index not in self._cache:
                self._cache[index] = pixels
                self._room -= pixels.nbytes
        return pixels

    def item(self, data: Data, seed: int, n: int) -> tuple[np.ndarray, int]:
        """Draw n: pixels uint8 [crop, crop, 3], and the label. An unusable image is replaced by another."""
        data, rng = crops.on_a_grid(data, self._source.stride), random.Random(f"{seed} {n}")
        if data.synthetic and rng.random() < data.synthetic:
            return synthetic.draw(rng, data.crop), -1
        epoch, position = divmod(n, len(self))
        index = int(permutation(len(self), seed, epoch)[position])
        for _ in range(TRIES):
            pixels = self._usable(index, data)
            if pixels is not None:
                return crops.random_crop(pixels, data, rng), int(self.labels[index])
            index = int(rng.random() * len(self))
        raise self._too_few_usable(data)

    def batch(self, data: Data, seed: int, first: int, count: int) -> Batch:
        """Draws first .. first + count."""
        _check(data)
        return _stack([self.item(data, seed, n) for n in range(first, first + count)])

    def held_out_batch(self, data: Data, count: int) -> Batch:
        """Centre crops of the first usable images in a fixed shuffled order: always the same, `count` at most.

        Raises UsageError if there is none.
        """
        _check(data)
        data = crops.on_a_grid(data, self._source.stride)
        items: list[tuple[np.ndarray, int]] = []
        for index in permutation(len(self), 0, 0).tolist():
            if len(items) == count:
                break
            pixels = self._usable(index, data)
            if pixels is not None:
                items.append((crops.centre_crop(pixels, data), int(self.labels[index])))
        if not items:
            raise self._too_few_usable(data)
        return _stack(items)

    def _usable(self, index: int, data: Data) -> np.ndarray | None:
        """The pixels, or None for an image that is damaged, or smaller than the crop and not to be resized."""
        needed = 1 if data.size else data.crop
        if self._shorter.get(index, needed) < needed:
            return None
        try:
            pixels = self.pixels(index)
        except BadFile:
            return None
        height, width = pixels.shape[:2]
        if min(height, width) >= needed:
            return pixels
        self.too_small[self.names[index]] = f"{width} x {height} pixels, {needed} are needed"
        return None

    def _too_few_usable(self, data: Data) -> UsageError:
        counts = f"{len(self.skipped)} are damaged, {len(self.too_small)} smaller than {data.crop} pixels"
        return UsageError(
            f"hardly any of {len(self)} images can be used: {counts}",
            "lower data.crop, set data.size so that images are resized, or use larger ones",
        )


@lru_cache(maxsize=4)  # this epoch and the next, of a run and its validation
def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """int64 [count], from the raw bits of the generator: only these are stable across numpy versions."""
    bits = np.random.PCG64(np.random.SeedSequence([seed % 2**64, epoch])).random_raw(count)
    return np.argsort(bits, kind="stable")


def _stack(items: list[tuple[np.ndarray, int]]) -> Batch:
    pixels, labels = zip(*items, strict=True)
    return Batch(np.stack(pixels), np.array(labels, np.int64))


def _check(data: Data) -> None:
    if data.size is not None and data.size < data.crop:
        raise UsageError(f"data.size {data.size} is smaller than data.crop {data.crop}", "make them equal")
