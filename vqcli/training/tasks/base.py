"""The interface of a training task: its data set, its loss, its measurements, its export.

A task is one file in this folder, whose `TASK` is a subclass of `Task`; registry.py finds it by its file name. A recipe
names it by `task`, or its family does: `TASK` of the net's class.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqcli.codec.codes import books
from vqcli.data.source import Given
from vqcli.data.speech import UtteranceBatch, Utterances
from vqcli.entropy.prior1d_net import SequenceNet
from vqcli.entropy.prior2d_net import Net
from vqcli.entropy.statistics import Statistics
from vqcli.errors import UsageError
from vqcli.nets.layers.convnet2d import from_pixels
from vqcli.recipe import Recipe
from vqcli.training.datasets import base as datasets
from vqcli.training.datasets.base import DataSet
from vqcli.training.export import card, prior
from vqcli.training.export.finished import FinishedRun
from vqcli.training.losses import Loss
from vqcli.zoo import registry, store, weights
from vqcli.zoo.loading import LoadedModel


class Task(nn.Module):
    """All modules of a run: the net that becomes a model, `model` or `prior`, and nets that are needed to train it.

    The defaults are for images and a recipe without a codec; a subclass overrides what differs, and always defines
    `forward` and `export`.

    codebook_sizes  of the codes whose usage is logged, () for none
    ITEMS, CLASSES  words for items of the data and their classes, in messages and headers
    """

    ITEMS, CLASSES = "pictures", "classes"
    usage: Tensor

    def __init__(self, recipe: Recipe, codebook_sizes: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.recipe, self.codebook_sizes = recipe, codebook_sizes
        counts = torch.zeros(len(codebook_sizes), max(codebook_sizes, default=0), dtype=torch.int64)
        self.register_buffer("usage", counts, persistent=False)  # of each code of each codebook, in this epoch

    # ---------------------------------------------------------------- before the loop

    @classmethod
    def open(cls, recipe: Recipe, codec: LoadedModel | None, source: Given, held_out: bool) -> DataSet:
        """The held-out data, or the training data. Raises UsageError if there are none of the kind it trains on.

        `codec` is the model that the recipe names as its codec.
        """
        return datasets.images(recipe, source, held_out)

    @classmethod
    def build(cls, recipe: Recipe, codec: LoadedModel | None, dataset: Any) -> Task:
        """The task, with random weights, for the data of `open`. Raises UsageError for a codec or data that it cannot
        use, ModelError for arguments that do not fit the family."""
        task = cls(recipe)
        if codec is not None:
            raise UsageError(f"{recipe.model.family} is not trained on the codes of a model", "leave out --codec")
        return task

    def fit_missing(self, given: Container[str], statistics: Statistics | None, dataset: Any) -> dict[str, str]:
        """After a warm start, fit the parts that model files lack: the fitted parts, and what each was fitted to.

        `given` has the names of the weights that came from the model, `statistics` are those of its codes.
        """
        return {}

    # ---------------------------------------------------------------- in the loop

    @staticmethod
    def as_input(batch: Any, device: torch.device) -> tuple[Tensor, ...]:
        """The arguments of `forward`, on the device: by default images, codes or windows of codes, and their labels.

        uint8 [B, H, W, 3] becomes float [B, 3, H, W] in -0.5 .. 0.5; codes uint16 [B, *grid, n_codebooks] become
        int64 [B, n_codebooks, *grid]; labels are int64 [B], of windows of video [B, context].
        """
        labels = torch.from_numpy(batch.labels).to(device)
        if batch.pixels.dtype != np.uint8:
            return torch.from_numpy(batch.pixels.astype(np.int64)).to(device).movedim(-1, 1), labels
        return from_pixels(batch.pixels, device), labels

    def forward(self, *batch: Any, **_: Any) -> Loss:
        """The loss of a batch as `as_input` makes it."""
        raise NotImplementedError

    def show(self, *batch: Any, **_: Any) -> tuple[np.ndarray, np.ndarray] | None:
        """Images of items and of their reconstructions, uint8 [B, H, W, 3] each; None if the task has none."""
        return None

    @torch.no_grad()
    def count(self, codes: Tensor) -> None:
        """Add codes [B, n_codebooks, *grid] to the usage of the epoch."""
        n_codebooks, K = self.usage.shape
        shifted = codes + K * torch.arange(n_codebooks, device=codes.device).view(1, -1, *(1,) * (codes.dim() - 2))
        self.usage += torch.bincount(shifted.flatten(), minlength=n_codebooks * K).view(n_codebooks, K)

    # ---------------------------------------------------------------- after the loop

    def export(self, finished: FinishedRun[Any]) -> store.ModelInfo:
        """Write model or prior, code statistics, measurements and card to the folder of the finished run."""
        raise NotImplementedError


class UtteranceTask(Task):
    """A task on utterances. A subclass defines `build`, `forward` and `export`."""

    ITEMS, CLASSES = "clips", "speakers"

    @classmethod
    def open(cls, recipe: Recipe, codec: LoadedModel | None, source: Given, held_out: bool) -> Utterances:
        return datasets.utterances(recipe, source, held_out)

    @staticmethod
    def as_input(batch: UtteranceBatch, device: torch.device) -> tuple[Tensor, ...]:
        """Samples [B, N], pitch codes [B, N / 320], profiles [B, SIZE] and speakers [B] of a batch, on the device."""
        arrays = (batch.samples, batch.pitch, batch.profile, batch.labels)
        samples, pitch, profile, labels = (torch.from_numpy(array).to(device) for array in arrays)
        return samples, pitch.long(), profile, labels


class PriorTask(Task):
    """A prior over the codes of a trained codec, which stays fixed. A subclass defines `build` and `measure`."""

    def __init__(self, recipe: Recipe, codec: LoadedModel, classes: tuple[str, ...], arguments: dict[str, Any]) -> None:
        super().__init__(recipe)
        sizes, _ = books(codec)
        self.arguments, self.classes = {"codebook_sizes": sizes, **arguments}, classes
        self.prior = registry.build(recipe.model.family, self.arguments)
        self._codec = (codec,)  # in a tuple, so that its weights are not registered with the task

    @property
    def codec(self) -> LoadedModel:
        return self._codec[0]

    def integer_net(self) -> Net | SequenceNet | None:
        """The integer net that an entropy model is stored as; None for a float prior."""
        return None

    def measure(self, finished: FinishedRun[Any], net: Any) -> dict[str, Any]:
        """Bits of held-out codes, by name; `net` is the result of `integer_net`."""
        raise NotImplementedError

    def write_card(self, finished: FinishedRun[Any], info: store.ModelInfo, description: dict[str, Any]) -> None:
        # the codec's `start` is not the start of its prior
        facts = info.description | {"start": None} | description
        card.write(finished.folder, facts, finished.examples(self))

    def export(self, finished: FinishedRun[Any], **facts: Any) -> store.ModelInfo:
        """Measure the prior and write it next to a copy of its codec; `facts` join its description."""
        net = self.integer_net()
        measured = {} if finished.validation is None else self.measure(finished, net)
        arrays = weights.packed(self.prior.state_dict(), self.recipe.model.eight_bits) if net is None else net.arrays()
        facts = {"classes": list(self.classes), **facts, "measured": measured}
        info, description = prior.write(finished, self.codec.info, self.arguments, facts, arrays)
        self.write_card(finished, info, description)
        return info


def require_codec(codec: LoadedModel | None, what: str) -> LoadedModel:
    """The codec. Raises UsageError if the recipe names none; `what` is trained on its codes."""
    if codec is None:
        raise UsageError(f"{what} is trained on the codes of a model", "--codec NAME")
    return codec
