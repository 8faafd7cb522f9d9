"""Windows of recordings as codes, for priors over video.

A window is a frame, the frames before it and the actions between them. In a share of the windows the first frames are
missing, or actions are unknown, so that the prior can also sample with less context.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vqcli.data import split
from vqcli.data.dataset import Batch, permutation
from vqcli.data.prefetch import Batches
from vqcli.data.recordings import episode_files, read_actions, read_episode
from vqcli.errors import ModelError, UsageError
from vqcli.evaluation.video.frames import codes_of
from vqcli.files.remote import Remote
from vqcli.nets.priors.frames import MISSING, UNKNOWN
from vqcli.recipe import Data
from vqcli.training.datasets import code_shards
from vqcli.training.datasets.base import paths_of_here
from vqcli.training.datasets.code_files import require_one_quality
from vqcli.zoo import loading

SHORTENED = 0.1  # of the windows miss some of their first frames
WITHOUT_ACTIONS = 0.1  # of the windows
LATE_ACTIONS = 0.4  # of the windows have the last actions only, as when sampling continues a clip without actions


class CodeWindows(Batches[Batch]):
    """Windows of the episodes of recordings (data/recordings.py) that are held out, or of those that are not; or of
    recordings that vq tokenize made shards of.

    classes     names of the actions, the same for both parts
    codes       of each episode, uint16 [T, rows, columns, n_codebooks]
    actions     of each episode, int64 [T]
    frame_size  height and width in pixels
    """

    def __init__(
        self, paths: Sequence[Path | Remote], codec: loading.LoadedModel, context: int, *, held_out: bool
    ) -> None:
        episodes = _in_shards(paths, codec) if any(map(code_shards.is_set, paths)) else _in_files(paths, codec)
        kept = [episode for episode in episodes if episode.held_out == held_out]
        if not kept:
            which = "are held out" if held_out else "are left to train on"
            raise UsageError(f"no episodes of {len(episodes)} {which}", "name a folder that vq record wrote")
        self.classes = tuple(sorted({name for episode in episodes for name in episode.actions}))
        if self.classes and not all(episode.actions for episode in episodes):
            raise UsageError("some of the episodes have no actions", "record all, or none, with actions")
        numbers = {name: number for number, name in enumerate(self.classes)}
        if max(codec.net.codebook_sizes) > MISSING:
            raise ModelError(f"a prior over video has codebooks of up to {MISSING} vectors", "use another codec")
        self.context, self.names = context, [episode.name for episode in kept]
        self.skipped: dict[str, str] = {}
        self.too_small: dict[str, str] = {}
        sizes: set[tuple[int, int]] = set()
        self.codes: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []
        for episode in kept:
            codes, size = episode.read()
            sizes.add(size)
            self.codes.append(codes)
            names = [numbers[name] for name in episode.actions] or [UNKNOWN] * len(codes)
            self.actions.append(np.array(names, np.int64))
        if len(sizes) > 1:
            raise UsageError("the episodes have frames of several sizes", "train on one size")
        [self.frame_size] = sizes
        self._ends = np.cumsum([len(codes) for codes in self.codes])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def window(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Codes uint16 [context + 1, rows, columns, n_codebooks], the frame last, and actions int64 [context]."""
        episode = int(np.searchsorted(self._ends, index, side="right"))
        codes, actions = self.codes[episode], self.actions[episode]
        t = index - int(self._ends[episode]) + len(codes)
        have = min(t, self.context)
        window = np.full((self.context + 1, *codes.shape[1:]), MISSING, np.uint16)
        done = np.full(self.context, UNKNOWN, np.int64)
        window[self.context - have :] = codes[t - have : t + 1]
        done[self.context - have :] = actions[t - have : t]
        return window, done

    def batch(self, data: Data, seed: int, first: int, count: int) -> Batch:
        items = []
        for n in range(first, first + count):
            epoch, position = divmod(n, len(self))
            window, done = self.window(int(permutation(len(self), seed, epoch)[position]))
            generator = random.Random(f"{seed} {n}")
            if generator.random() < SHORTENED:
                missing = generator.randint(1, self.context)
                window[:missing], done[:missing] = MISSING, UNKNOWN
            kind = generator.random()
            if kind < WITHOUT_ACTIONS:
                done[:] = UNKNOWN
            elif kind < WITHOUT_ACTIONS + LATE_ACTIONS:
                done[: generator.randint(1, self.context - 1)] = UNKNOWN
            items.append((window, done))
        return _stack(items)

    def held_out_batch(self, data: Data, count: int) -> Batch:
        return _stack([self.window(index) for index in permutation(len(self), 0, 0)[:count].tolist()])


class _Episode(NamedTuple):
    """`read` gives the codes uint16 [T, rows, columns, n_codebooks] and the height and width of frames; `actions` are
    T names, or none where they are unknown."""

    name: str
    held_out: bool
    actions: tuple[str, ...]
    read: Callable[[], tuple[np.ndarray, tuple[int, int]]]


def _in_files(paths: Sequence[Path | Remote], codec: loading.LoadedModel) -> list[_Episode]:
    """The episodes of recordings, which are encoded when they are read."""

    def read(file: Path) -> tuple[np.ndarray, tuple[int, int]]:
        images = read_episode(file).images
        codes = codes_of(codec, images)  # (T, n_codebooks, rows, columns)
        return codes.movedim(1, -1).numpy().astype(np.uint16), (images.shape[1], images.shape[2])

    return [
        _Episode(file.stem, held, read_actions(file), partial(read, file))
        for names in map(episode_files, paths_of_here(paths))
        for file, held in zip(names.values(), split.held_out(list(names)), strict=True)
    ]


def _in_shards(paths: Sequence[Path | Remote], codec: loading.LoadedModel) -> list[_Episode]:
    """The episodes of sets: frames that follow each other in one folder. Raises UsageError if some are missing, and as
    code_shards.read."""
    require_one_quality(codec)
    found = code_shards.read(paths, codec)
    if found.failed:
        raise UsageError(f"frames that could not be tokenized: {found.failed}; clips have gaps", "see failed.jsonl")

    def read(frames: list[int]) -> tuple[np.ndarray, tuple[int, int]]:
        if len({(found.shapes[frame], found.sizes[frame]) for frame in frames}) > 1:
            raise UsageError("the episodes have frames of several sizes", "train on one size")
        first = found.of(frames[0])
        code_shards.check_groups(first, codec)
        start, shape = found.starts[frames[0]], (len(frames), *first.shape)
        codes = found.values[start : start + int(np.prod(shape))].reshape(shape)
        width, height, _ = found.sizes[frames[0]]
        return np.moveaxis(codes, 1, -1), (height, width)

    def folder(index: int) -> tuple[str, str]:
        return found.sources[index], found.names[index].rpartition("/")[0]

    episodes = [(name, list(frames)) for (_, name), frames in groupby(range(len(found.names)), folder)]
    held_out = split.held_out([f"{name}.npz" for name, _ in episodes])  # as the files of recordings are called
    made = []
    for (name, frames), held in zip(episodes, held_out, strict=True):
        actions = tuple(action for index in frames if (action := found.actions[index]) is not None)
        if actions and len(actions) != len(frames):
            raise UsageError(f"some frames of {name} have no action", "record all, or none, with actions")
        made.append(_Episode(name.rpartition("/")[2], held, actions, partial(read, frames)))
    return made


def _stack(items: list[tuple[np.ndarray, np.ndarray]]) -> Batch:
    windows, actions = zip(*items, strict=True)
    return Batch(np.stack(windows), np.stack(actions))
