"""A prior over video learns: recordings as codes, windows of them as batches, and how the prior is measured.

A window is a frame, the frames before it and the actions between them. In a share of the windows the first of the
frames before are missing, or no action is known, so that the prior learns to do without.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqcli.codec.codes import books
from vqcli.data.dataset import Batch
from vqcli.evaluation.video.frames import bits_per_code
from vqcli.nets.layers.quantizer import VectorQuantizer
from vqcli.nets.priors.frames import MISSING, UNKNOWN, FramePrior
from vqcli.recipe import Recipe
from vqcli.training.budget import Budget
from vqcli.training.datasets.code_windows import Windows
from vqcli.training.losses import Loss, direct_bits
from vqcli.training.task import Task
from vqcli.zoo import loading, registry

MEASURED_AT_ONCE = 16  # frames
DIRECT = 0.5  # weight of the bits when the map alone names the codes


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
