"""A prior over video learns: recordings as codes, windows of them as batches, and how the prior is measured.

A window is a frame, the frames before it and the actions between them. In a share of the windows the first of the
frames before are missing, or no action is known, so that the prior learns to do without.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqcli.data.source import Source
from vqcli.errors import UsageError
from vqcli.evaluation.video.frames import bits_per_code
from vqcli.nets.layers.quantizer import VectorQuantizer
from vqcli.nets.priors.frames import CONTEXT, MISSING, UNKNOWN, FramePrior
from vqcli.recipe import Recipe
from vqcli.training.datasets.code_windows import Windows
from vqcli.training.export.finished import Finished
from vqcli.training.losses import Loss, direct_bits
from vqcli.training.tasks.base import PriorTask, needed
from vqcli.zoo.loading import LoadedModel
from vqcli.zoo.store import ModelInfo

MEASURED_AT_ONCE = 16  # frames
DIRECT = 0.5  # weight of the bits when the map alone names the codes


class FramesTask(PriorTask):
    """A prior over video. What names codes by the map alone is dropped when the run is over: without it the PixelCNN
    would guess from the first rows of a frame what was done, rows that no one gives it when it draws."""

    KINDS = "actions"
    prior: FramePrior

    @classmethod
    def open(cls, recipe: Recipe, codec: LoadedModel | None, source: Source | list[Path], held_out: bool) -> Windows:
        if codec is None or not isinstance(source, list):
            raise UsageError("a prior over video learns the codes of a model", "--codec NAME, and recordings")
        return Windows(source, codec, recipe.model.arguments.get("context", CONTEXT), held_out=held_out)

    @classmethod
    def begin(cls, recipe: Recipe, codec: LoadedModel | None, dataset: Windows) -> FramesTask:
        return cls(recipe, needed(codec, "a prior over video"), dataset.classes)

    def __init__(self, recipe: Recipe, codec: LoadedModel, actions: tuple[str, ...]) -> None:
        super().__init__(recipe, codec, actions, {"actions": len(actions), **recipe.model.arguments})
        for table in (self.prior.embedding, self.prior.decoder.embedding):
            begin_alike(table, codec.net.quantizer)
        self.direct = nn.ModuleList(nn.Conv2d(self.prior.decoder.condition, K, 1) for K in self.prior.codebook_sizes)

    def forward(self, codes: Tensor, actions: Tensor) -> Loss:
        """The loss of windows [B, groups, context + 1, rows, columns] with actions [B, context]."""
        before, frame = codes[:, :, :-1], codes[:, :, -1]
        condition = self.prior.condition(before, actions)
        bits = self.prior.decoder.loss(frame, None, condition) / math.log(2)
        direct = direct_bits(self.direct, condition, frame)
        return Loss(bits + DIRECT * direct, {"bits_per_code": bits, "direct": direct})

    def measure(self, finished: Finished[Windows], net: None) -> dict[str, Any]:
        """Bits for a held-out code under the prior: as it is, without actions, with those of other windows, without
        frames before; under the frequencies of codes alone, and under none."""
        assert finished.validation is not None
        sizes = self.prior.codebook_sizes
        codes, actions = self.as_input(finished.validation.batch, torch.device("cpu"))
        before, frame = codes[:, :, :-1], codes[:, :, -1]
        unknown = torch.full_like(actions, UNKNOWN)
        given = {"bits_per_code": (before, actions)}
        if self.classes:
            given |= {"without_actions": (before, unknown), "other_actions": (before, actions.roll(1, 0))}
        given["without_frames"] = torch.full_like(before, MISSING), unknown
        sums, count = dict.fromkeys(given, 0.0), 0
        for start in finished.budget.limit(range(0, len(frame), MEASURED_AT_ONCE)):
            part = slice(start, start + MEASURED_AT_ONCE)
            for name, (frames, done) in given.items():
                sums[name] += bits_per_code(self.prior, frame[part], frames[part], done[part]) * len(frame[part])
            count += len(frame[part])
        order_0 = []
        for group, K in enumerate(sizes):
            seen = (np.bincount(codes[..., group].ravel(), minlength=K) for codes in finished.dataset.codes)
            counts = np.full(K, 0.5) + sum(seen)
            order_0.append(-np.log2(counts / counts.sum())[frame[:count, group].numpy()].mean())
        pixels = self.codec.net.channels * self.codec.net.stride**2  # values that a position stands for
        bits = {name: round(total / count, 4) for name, total in sums.items()}
        return {
            "on": f"{count} held-out frames",
            **bits,
            "bits_per_dim": round(bits["bits_per_code"] * len(sizes) / pixels, 4),
            "order_0": round(float(np.mean(order_0)), 4),
            "uniform": round(float(np.mean(np.log2(sizes))), 4),
        }

    def export(self, finished: Finished[Windows], **facts: Any) -> ModelInfo:
        return super().export(finished, frame_size=list(finished.dataset.frame_size), **facts)


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


TASK = FramesTask
