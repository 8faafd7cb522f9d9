"""Train the baselines without codes by their bounds on the likelihood (section 4.1)."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from vqcli.data.dataset import Dataset
from vqcli.nets.codecs.vae2d import Baseline
from vqcli.nets.layers.convnet2d import in_channels, to_pixels
from vqcli.recipe import Recipe
from vqcli.training.export import codec
from vqcli.training.export.finished import FinishedRun
from vqcli.training.losses import Loss, bound_loss
from vqcli.training.tasks.base import Task
from vqcli.zoo import loading, registry, store


class BaselineTask(Task):
    """A baseline without codes, trained on its bound."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.model: Baseline = registry.build(recipe.model.family, recipe.model.arguments)

    def forward(self, pixels: Tensor, labels: Tensor) -> Loss:
        """The loss of images [B, 3, H, W] in -0.5 .. 0.5; labels [B] are not used."""
        return bound_loss(self.model, in_channels(pixels, self.model.channels))

    def show(self, pixels: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        output = self.model.bound(in_channels(pixels, self.model.channels)).output
        return to_pixels(pixels), to_pixels(in_channels(self.model.to_image(output), 3))

    def export(self, finished: FinishedRun[Dataset]) -> store.ModelInfo:
        info = loading.save(finished.folder, self.model, None, finished.description)
        return codec.measure_and_describe(finished, self, self.model, info, finished.description)


TASK = BaselineTask
