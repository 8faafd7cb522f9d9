"""Train a prior over video on windows of coded recordings (datasets/code_windows.py), and measure it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqcli.data.source import Given
from vqcli.errors import UsageError
from vqcli.evaluation.video.frames import bits_per_code
from vqcli.nets.layers.quantizer import VectorQuantizer
from vqcli.nets.priors.frames import CONTEXT, MISSING, UNKNOWN, FramePrior
from vqcli.recipe import Recipe
from vqcli.training.datasets.code_windows import CodeWindows
from vqcli.training.export.finished import FinishedRun
from vqcli.training.losses import Loss, auxiliary_bits
from vqcli.training.tasks.base import PriorTask, require_codec
from vqcli.zoo.loading import LoadedModel
from vqcli.zoo.store import ModelInfo

MEASURED_AT_ONCE = 16  # frames
AUXILIARY = 0.5  # weight of the auxiliary loss


class FramesTask(PriorTask):
    """A prior over video. The heads of the auxiliary loss are dropped after the run: without this loss the PixelCNN
    infers the action from the first rows of the true frame, which it does not have when it samples."""

    CLASSES = "actions"
    prior: FramePrior

    @classmethod
    def open(cls, recipe: Recipe, codec: LoadedModel | None, source: Given, held_out: bool) -> CodeWindows:
        if codec is None or not isinstance(source, Sequence):
            raise UsageError("a prior over video learns the codes of a model", "--codec NAME, and recordings")
        return CodeWindows(source, codec, recipe.model.arguments.get("context", CONTEXT), held_out=held_out)

    @classmethod
    def build(cls, recipe: Recipe, codec: LoadedModel | None, dataset: CodeWindows) -> FramesTask:
        return cls(recipe, require_codec(codec, "a prior over video"), dataset.classes)

    def __init__(self, recipe: Recipe, codec: LoadedModel, actions: tuple[str, ...]) -> None:
        super().__init__(recipe, codec, actions, {"actions": len(actions), **recipe.model.arguments})
        for table in (self.prior.embedding, self.prior.decoder.embedding):
            init_from_codebooks(table, codec.net.quantizer)
        self.direct = nn.ModuleList(nn.Conv2d(self.prior.decoder.condition, K, 1) for K in self.prior.codebook_sizes)

    def forward(self, codes: Tensor, actions: Tensor) -> Loss:
        """The loss of windows [B, n_codebooks, context + 1, rows, columns] with actions [B, context]."""
        before, frame = codes[:, :, :-1], codes[:, :, -1]
        condition = self.prior.condition(before, actions)
        bits = self.prior.decoder.loss(frame, None, condition) / math.log(2)
        auxiliary = auxiliary_bits(self.direct, condition, frame)
        return Loss(bits + AUXILIARY * auxiliary, {"bits_per_code": bits, "direct": auxiliary})

    def measure(self, finished: FinishedRun[CodeWindows], net: None) -> dict[str, Any]:
        """Bits for a held-out code under the prior: with frames and actions, without actions, with those of other
        windows, without frames; under the code frequencies, and under a uniform prior."""
        assert finished.validation is not None
        sizes = self.prior.codebook_sizes
        codes, actions = self.as_input(finished.validation.batch, torch.device("cpu"))
        before, frame = codes[:, :, :-1], codes[:, :, -1]
        unknown = torch.full_like(actions, UNKNOWN)
        contexts = {"bits_per_code": (before, actions)}
        if self.classes:
            contexts |= {"without_actions": (before, unknown), "other_actions": (before, actions.roll(1, 0))}
        contexts["without_frames"] = torch.full_like(before, MISSING), unknown
        sums, count = dict.fromkeys(contexts, 0.0), 0
        for start in finished.budget.limit(range(0, len(frame), MEASURED_AT_ONCE)):
            part = slice(start, start + MEASURED_AT_ONCE)
            for name, (frames, done) in contexts.items():
                sums[name] += bits_per_code(self.prior, frame[part], frames[part], done[part]) * len(frame[part])
            count += len(frame[part])
        order_0 = []
        for n, K in enumerate(sizes):
            episodes = (np.bincount(codes[..., n].ravel(), minlength=K) for codes in finished.dataset.codes)
            counts = np.full(K, 0.5) + sum(episodes)
            order_0.append(-np.log2(counts / counts.sum())[frame[:count, n].numpy()].mean())
        pixels = self.codec.net.channels * self.codec.net.stride**2  # values for each position
        bits = {name: round(total / count, 4) for name, total in sums.items()}
        return {
            "on": f"{count} held-out frames",
            **bits,
            "bits_per_dim": round(bits["bits_per_code"] * len(sizes) / pixels, 4),
            "order_0": round(float(np.mean(order_0)), 4),
            "uniform": round(float(np.mean(np.log2(sizes))), 4),
        }

    def export(self, finished: FinishedRun[CodeWindows], **facts: Any) -> ModelInfo:
        return super().export(finished, frame_size=list(finished.dataset.frame_size), **facts)


@torch.no_grad()
def init_from_codebooks(table: nn.Embedding, quantizer: nn.Module) -> None:
    """Initialise embeddings by the principal components of the codebooks, so that similar codes begin close."""
    if not isinstance(quantizer, VectorQuantizer):
        return
    row = 0
    for codebook in quantizer.codebook.flatten(0, 1):  # (K, d)
        centred = codebook - codebook.mean(0)
        axes = torch.linalg.svd(centred, full_matrices=False)[2][: table.embedding_dim]  # (channels or d, d)
        components = centred @ axes.T
        table.weight[row : row + len(codebook), : len(axes)] = components / components.std().clamp_min(1e-6)
        row += len(codebook)


TASK = FramesTask
