"""The contract of a kind of training run: its data set, its loss, its measure, its export.

A kind is one file in this folder, whose `TASK` is a class of these; registry.py finds it by being there. A recipe names
it by `task`, or its family does: `TASK` of the net's class.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqcli.codec.codes import books
from vqcli.data.source import Source
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
from vqcli.training.export.finished import Finished
from vqcli.training.losses import Loss
from vqcli.zoo import registry, store, weights
from vqcli.zoo.loading import LoadedModel


class Task(nn.Module):
    """Everything of a run with weights: the net that becomes a model, `model` or `prior`, and what helps it to learn.

    Here are pictures as data and a recipe alone as the beginning; a kind overrides what is different about it, and has
    `forward` and `export` in any case.

    codebook_sizes  of the codes whose use is watched, () if none is
    THINGS, KINDS   what the lines about a run call items of the data and their classes
    """

    THINGS, KINDS = "pictures", "classes"
    usage: Tensor

    def __init__(self, recipe: Recipe, codebook_sizes: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.recipe, self.codebook_sizes = recipe, codebook_sizes
        counts = torch.zeros(len(codebook_sizes), max(codebook_sizes, default=0), dtype=torch.int64)
        self.register_buffer("usage", counts, persistent=False)  # of each code of each group, in this epoch

    # ---------------------------------------------------------------- before the loop

    @classmethod
    def open(cls, recipe: Recipe, codec: LoadedModel | None, source: Source | list[Path], held_out: bool) -> DataSet:
        """The data that are held out, or those that are not. Raises UsageError if there are none that it learns from.

        `codec` is the model that the recipe names as such.
        """
        return datasets.pictures(recipe, source, held_out)

    @classmethod
    def begin(cls, recipe: Recipe, codec: LoadedModel | None, dataset: Any) -> Task:
        """The task, with fresh weights, for what `open` returned. Raises UsageError for a codec or data without use,
        ModelError for arguments that do not fit the family."""
        task = cls(recipe)
        if codec is not None:
            raise UsageError(f"{recipe.model.family} does not learn from the codes of a model", "leave out --codec")
        return task

    def fill_in(self, given: Container[str], statistics: Statistics | None, dataset: Any) -> dict[str, str]:
        """After a warm start, fit what files of models lack to what they hold: parts that are fitted, and to what.

        `given` has the names of the weights that came from the model, `statistics` are those of its codes.
        """
        return {}

    # ---------------------------------------------------------------- in the loop

    @staticmethod
    def as_input(batch: Any, device: torch.device) -> tuple[Tensor, ...]:
        """What `forward` takes, on the device. Here, of pictures, codes or windows of codes: themselves and labels.

        uint8 [B, H, W, 3] becomes float [B, 3, H, W] in -0.5 .. 0.5; codes uint16 [B, *grid, groups] become int64
        [B, groups, *grid]; labels are int64 [B], of windows of video [B, context].
        """
        labels = torch.from_numpy(batch.labels).to(device)
        if batch.pixels.dtype == np.uint16:
            return torch.from_numpy(batch.pixels.astype(np.int64)).to(device).movedim(-1, 1), labels
        return from_pixels(batch.pixels, device), labels

    def forward(self, *batch: Any, **_: Any) -> Loss:
        """The loss of a batch as `as_input` makes it."""
        raise NotImplementedError

    def show(self, *batch: Any, **_: Any) -> tuple[np.ndarray, np.ndarray] | None:
        """Pictures of items and of what the model makes of them, uint8 [B, H, W, 3] each; None if it shows none."""
        return None

    @torch.no_grad()
    def count(self, codes: Tensor) -> None:
        """Add codes [B, groups, *grid] to the usage of the epoch."""
        groups, K = self.usage.shape
        shifted = codes + K * torch.arange(groups, device=codes.device).view(1, -1, *(1,) * (codes.dim() - 2))
        self.usage += torch.bincount(shifted.flatten(), minlength=groups * K).view(groups, K)

    # ---------------------------------------------------------------- after the loop

    def export(self, finished: Finished[Any]) -> store.ModelInfo:
        """Write model or prior, statistics of codes, measured figures and card to the folder of the finished run."""
        raise NotImplementedError


class ClipTask(Task):
    """A task that learns from clips of speech. A kind has `begin`, `forward` and `export`."""

    THINGS, KINDS = "clips", "speakers"

    @classmethod
    def open(cls, recipe: Recipe, codec: LoadedModel | None, source: Source | list[Path], held_out: bool) -> Utterances:
        return datasets.clips(recipe, source, held_out)

    @staticmethod
    def as_input(batch: UtteranceBatch, device: torch.device) -> tuple[Tensor, ...]:
        """Samples [B, N], pitch codes [B, N / 320], profiles [B, SIZE] and speakers [B] of a batch, on the device."""
        arrays = (batch.samples, batch.pitch, batch.profile, batch.labels)
        samples, pitch, profile, labels = (torch.from_numpy(array).to(device) for array in arrays)
        return samples, pitch.long(), profile, labels


class PriorTask(Task):
    """A prior over the codes of a finished codec, which learns nothing itself. A kind has `begin` and `measure`."""

    def __init__(self, recipe: Recipe, codec: LoadedModel, classes: tuple[str, ...], arguments: dict[str, Any]) -> None:
        super().__init__(recipe)
        sizes, _ = books(codec)
        self.arguments, self.classes = {"codebook_sizes": sizes, **arguments}, classes
        self.prior = registry.build(recipe.model.family, self.arguments)
        self._codec = (codec,)  # in a tuple, so that its weights are not those of the task

    @property
    def codec(self) -> LoadedModel:
        return self._codec[0]

    def rounded(self) -> Net | SequenceNet | None:
        """The integers that become the file of a prior for entropy coding; None for floats."""
        return None

    def measure(self, finished: Finished[Any], net: Any) -> dict[str, Any]:
        """What held-out codes cost, by name; `net` is what `rounded` returned."""
        raise NotImplementedError

    def write_card(self, finished: Finished[Any], info: store.ModelInfo, description: dict[str, Any]) -> None:
        # what the model of the codec began with is not what its prior did
        facts = info.description | {"start": None} | description
        card.write(finished.folder, facts, finished.shown(self))

    def export(self, finished: Finished[Any], **facts: Any) -> store.ModelInfo:
        """Write the prior, measured, beside a copy of its codec; `facts` join its description."""
        net = self.rounded()
        measured = {} if finished.validation is None else self.measure(finished, net)
        arrays = weights.packed(self.prior.state_dict(), self.recipe.model.eight_bits) if net is None else net.arrays()
        facts = {"classes": list(self.classes), **facts, "measured": measured}
        info, description = prior.write(finished, self.codec.info, self.arguments, facts, arrays)
        self.write_card(finished, info, description)
        return info


def needed(codec: LoadedModel | None, what: str) -> LoadedModel:
    """The codec, which such a run cannot do without. Raises UsageError."""
    if codec is None:
        raise UsageError(f"{what} learns the codes of a model", "--codec NAME")
    return codec
