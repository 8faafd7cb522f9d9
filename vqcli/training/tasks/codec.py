"""Codecs of images learn: rate and distortion, reconstruction, or a likelihood."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from vqcli.nets.layers.convnet2d import in_channels, to_pixels
from vqcli.nets.layers.quantizer import VectorQuantizer
from vqcli.nets.layers.rate import ScalarRate
from vqcli.recipe import Recipe
from vqcli.training.losses import Loss, likelihood_loss, rate_distortion_loss, reconstruction_loss
from vqcli.training.task import Task
from vqcli.zoo import registry


class CodecTask(Task):
    """A model of pictures, and for scalar codes the rate model that is not shipped."""

    def __init__(self, recipe: Recipe) -> None:
        model = registry.build(recipe.model.family, recipe.model.arguments)
        quantizer = model.quantizer
        # scalar codes have room at the borders of their codebooks on purpose
        super().__init__(recipe, quantizer.codebook_sizes if isinstance(quantizer, VectorQuantizer) else ())
        self.model = model
        self.rate = ScalarRate(quantizer.dim, quantizer.qualities) if recipe.rate else None

    def forward(self, pixels: Tensor, labels: Tensor) -> Loss:
        """The loss of pictures [B, 3, H, W] in -0.5 .. 0.5; labels [B] do not matter."""
        x = in_channels(pixels, self.model.channels)
        if self.rate is not None and self.recipe.rate is not None:
            return rate_distortion_loss(self.model, self.rate, self.recipe.rate, x)
        return reconstruction_loss(self.model, x) if self.model.likelihood is None else likelihood_loss(self.model, x)

    def show(self, pixels: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        x = in_channels(pixels, self.model.channels)
        return to_pixels(pixels), to_pixels(in_channels(self.model.picture(self.model(x)[0]), 3))
