"""A prior over video learns: recordings as codes, windows of them as batches, and how the prior is measured.

A window is a frame, the frames before it and the actions between them. In a share of the windows the first of the
frames before are missing, or no action is known, so that the prior learns to do without.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqcli.codec.codes import books
from vqcli.data import split
from vqcli.data.ahead import Batches
from vqcli.data.dataset import Batch, permutation
from vqcli.data.recordings import episode_files, read_actions, read_episode
from vqcli.errors import UsageError
from vqcli.evaluation.video.frames import bits_per_code, codes_of
from vqcli.nets.layers.quantizer import VectorQuantizer
from vqcli.nets.priors.frames import MISSING, UNKNOWN, FramePrior
from vqcli.recipe import Data, Recipe
from vqcli.training.budget import Budget
from vqcli.training.losses import Loss, direct_bits
from vqcli.training.task import Task
from vqcli.zoo import loading, registry

SHORTENED = 0.1  # of the windows miss some of their frames before
WITHOUT_ACTIONS = 0.1  # of the windows
SINCE_ACTIONS = 0.4  # of the windows tell the last actions only, as when a clip is given and what follows is drawn
MEASURED_AT_ONCE = 16  # frames
DIRECT = 0.5  # weight of the bits when the map alone names the codes


class Windows(Batches[Batch]):
    """Windows of the episodes of recordings (data/recordings.py) that are held out, or of those that are not.

    classes     names of the actions, the same for both halves
    codes       of each episode, uint16 [T, rows, columns, groups]
    actions     of each episode, int64 [T]
    frame_size  height and width in pixels
    """

    def __init__(self, paths: Sequence[Path], codec: loading.LoadedModel, context: int, *, held_out: bool) -> None:
        found = [episode_files(path) for path in paths]
        files = [file for names in found for file in names.values()]
        held = [held for names in found for held in split.held_out(list(names))]
        kept = [file for file, out in zip(files, held, strict=True) if out == held_out]
        if not kept:
            which = "are held out" if held_out else "are left to train on"
            raise UsageError(f"no episodes of {len(files)} {which}", "name a folder that vq record wrote")
        known = [read_actions(file) for file in files]
        self.classes = tuple(sorted({name for names in known for name in names}))
        if self.classes and not all(known):
            raise UsageError("some of the episodes do not tell actions", "record all, or none, with actions")
        numbers = {name: number for number, name in enumerate(self.classes)}
        self.context, self.names = context, [file.stem for file in kept]
        self.skipped: dict[str, str] = {}
        self.too_small: dict[str, str] = {}
        sizes: set[tuple[int, ...]] = set()
        self.codes: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []
        for file in kept:
            episode = read_episode(file)
            sizes.add(episode.images.shape[1:3])
            codes = codes_of(codec, episode.images)  # (T, groups, rows, columns)
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
        """Codes uint16 [context + 1, rows, columns, groups], the frame itself last, and actions int64 [context]."""
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
            draw = random.Random(f"{seed} {n}")
            if draw.random() < SHORTENED:
                missing = draw.randint(1, self.context)
                window[:missing], done[:missing] = MISSING, UNKNOWN
            kind = draw.random()
            if kind < WITHOUT_ACTIONS:
                done[:] = UNKNOWN
            elif kind < WITHOUT_ACTIONS + SINCE_ACTIONS:
                done[: draw.randint(1, self.context - 1)] = UNKNOWN
            items.append((window, done))
        return _stack(items)

    def held_out_batch(self, data: Data, count: int) -> Batch:
        return _stack([self.window(index) for index in permutation(len(self), 0, 0)[:count].tolist()])


def _stack(items: list[tuple[np.ndarray, np.ndarray]]) -> Batch:
    windows, actions = zip(*items, strict=True)
    return Batch(np.stack(windows), np.stack(actions))


class FramesTask(Task):
    """A prior over video. What names codes by the map alone is dropped when the run is over: without it the PixelCNN
    would guess from the first rows of a frame what was done, rows that no one gives it when it draws."""

    prior: FramePrior

    def __init__(self, recipe: Recipe, codec: loading.LoadedModel, actions: tuple[str, ...]) -> None:
        super().__init__(recipe)
        sizes, _ = books(codec)
        self.arguments = {"codebook_sizes": sizes, "actions": len(actions), **recipe.model.arguments}
        self.classes = actions
        self.prior = registry.build(recipe.model.family, self.arguments)
        self._codec = (codec,)  # in a tuple, so that its weights are not those of the task
        for table in (self.prior.embedding, self.prior.decoder.embedding):
            begin_alike(table, codec.net.quantizer)
        self.direct = nn.ModuleList(nn.Conv2d(self.prior.decoder.condition, K, 1) for K in self.prior.codebook_sizes)

    @property
    def codec(self) -> loading.LoadedModel:
        return self._codec[0]

    def forward(self, codes: Tensor, actions: Tensor) -> Loss:
        """The loss of windows [B, groups, context + 1, rows, columns] with actions [B, context]."""
        before, frame = codes[:, :, :-1], codes[:, :, -1]
        condition = self.prior.condition(before, actions)
        bits = self.prior.decoder.loss(frame, None, condition) / math.log(2)
        direct = direct_bits(self.direct, condition, frame)
        return Loss(bits + DIRECT * direct, {"bits_per_code": bits, "direct": direct})


@torch.no_grad()
def begin_alike(table: nn.Embedding, quantizer: nn.Module) -> None:
    """Begin with codes that stand for like latents near each other: the principal components of the codebooks."""
    if not isinstance(quantizer, VectorQuantizer):
        return
    row = 0
    for book in quantizer.codebook.flatten(0, 1):  # (K, d)
        centred = book - book.mean(0)
        axes = torch.linalg.svd(centred, full_matrices=False)[2][: table.embedding_dim]  # (channels or d, d)
        components = centred @ axes.T
        table.weight[row : row + len(book), : len(axes)] = components / components.std().clamp_min(1e-6)
        row += len(book)


def measure(task: FramesTask, seen: Windows, batch: Batch, budget: Budget) -> dict[str, Any]:
    """Bits for a held-out code under the prior: as it is, without actions, with those of other windows, without frames
    before; under the frequencies of codes alone, and under none."""
    sizes = task.prior.codebook_sizes
    codes = torch.from_numpy(batch.pixels.astype(np.int64)).movedim(-1, 1)
    actions = torch.from_numpy(batch.labels)
    before, frame = codes[:, :, :-1], codes[:, :, -1]
    unknown = torch.full_like(actions, UNKNOWN)
    given = {"bits_per_code": (before, actions)}
    if task.classes:
        given |= {"without_actions": (before, unknown), "other_actions": (before, actions.roll(1, 0))}
    given["without_frames"] = torch.full_like(before, MISSING), unknown
    sums, count = dict.fromkeys(given, 0.0), 0
    for start in budget.limit(range(0, len(frame), MEASURED_AT_ONCE)):
        part = slice(start, start + MEASURED_AT_ONCE)
        for name, (frames, done) in given.items():
            sums[name] += bits_per_code(task.prior, frame[part], frames[part], done[part]) * len(frame[part])
        count += len(frame[part])
    order_0 = []
    for group, K in enumerate(sizes):
        counts = np.full(K, 0.5) + sum(np.bincount(codes[..., group].ravel(), minlength=K) for codes in seen.codes)
        order_0.append(-np.log2(counts / counts.sum())[frame[:count, group].numpy()].mean())
    pixels = task.codec.net.channels * task.codec.net.stride**2  # values that a position stands for
    bits = {name: round(total / count, 4) for name, total in sums.items()}
    return {
        "on": f"{count} held-out frames",
        **bits,
        "bits_per_dim": round(bits["bits_per_code"] * len(sizes) / pixels, 4),
        "order_0": round(float(np.mean(order_0)), 4),
        "uniform": round(float(np.mean(np.log2(sizes))), 4),
    }
