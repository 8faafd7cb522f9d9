"""Windows of recordings as codes, for priors over video.

A window is a frame, the frames before it and the actions between them. In a share of the windows the first frames are
missing, or actions are unknown, so that the prior can also sample with less context.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vqcli.data import split
from vqcli.data.dataset import Batch, permutation
from vqcli.data.prefetch import Batches
from vqcli.data.recordings import episode_files, read_actions, read_episode
from vqcli.errors import ModelError, UsageError
from vqcli.evaluation.video.frames import codes_of
from vqcli.nets.priors.frames import MISSING, UNKNOWN
from vqcli.recipe import Data
from vqcli.zoo import loading

SHORTENED = 0.1  # of the windows miss some of their first frames
WITHOUT_ACTIONS = 0.1  # of the windows
LATE_ACTIONS = 0.4  # of the windows have the last actions only, as when sampling continues a clip without actions


class CodeWindows(Batches[Batch]):
    """Windows of the episodes of recordings (data/recordings.py) that are held out, or of those that are not.

    classes     names of the actions, the same for both parts
    codes       of each episode, uint16 [T, rows, columns, n_codebooks]
    actions     of each episode, int64 [T]
    frame_size  height and width in pixels
    """

    def __init__(self, paths: Sequence[Path], codec: loading.LoadedModel, context: int, *, held_out: bool) -> None:
        recordings = [episode_files(path) for path in paths]
        files = [file for names in recordings for file in names.values()]
        held = [held for names in recordings for held in split.held_out(list(names))]
        kept = [file for file, out in zip(files, held, strict=True) if out == held_out]
        if not kept:
            which = "are held out" if held_out else "are left to train on"
            raise UsageError(f"no episodes of {len(files)} {which}", "name a folder that vq record wrote")
        known = [read_actions(file) for file in files]
        self.classes = tuple(sorted({name for names in known for name in names}))
        if self.classes and not all(known):
            raise UsageError("some of the episodes have no actions", "record all, or none, with actions")
        numbers = {name: number for number, name in enumerate(self.classes)}
        if max(codec.net.codebook_sizes) > MISSING:
            raise ModelError(f"a prior over video has codebooks of up to {MISSING} vectors", "use another codec")
        self.context, self.names = context, [file.stem for file in kept]
        self.skipped: dict[str, str] = {}
        self.too_small: dict[str, str] = {}
        sizes: set[tuple[int, ...]] = set()
        self.codes: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []
        for file in kept:
            episode = read_episode(file)
            sizes.add(episode.images.shape[1:3])
            codes = codes_of(codec, episode.images)  # (T, n_codebooks, rows, columns)
            self.codes.append(codes.movedim(1, -1).numpy().astype(np.uint16))
            names = [numbers[name] for name in episode.actions] or [UNKNOWN] * len(episode.images)
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


def _stack(items: list[tuple[np.ndarray, np.ndarray]]) -> Batch:
    windows, actions = zip(*items, strict=True)
    return Batch(np.stack(windows), np.stack(actions))
