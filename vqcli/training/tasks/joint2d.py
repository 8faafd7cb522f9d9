"""Train an image codec together with its entropy model, by rate and distortion."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vqcli.data.dataset import Dataset
from vqcli.nets.codecs.lapped2d import LappedCodec
from vqcli.nets.layers import distributed
from vqcli.nets.layers.convnet2d import to_pixels
from vqcli.nets.layers.distortion import distortion, flat_colour, lambda_at
from vqcli.recipe import Rate, Recipe
from vqcli.training.export import joint2d
from vqcli.training.export.finished import FinishedRun
from vqcli.training.losses import Loss
from vqcli.training.tasks.base import Task
from vqcli.zoo import registry, store

SECOND_TUNE = 0.35  # share of the items that are tuned for squared error alone
FLOOR = 0.02  # bits per pixel that every item's cost begins with, so that flat images do not outweigh others


class JointTask(Task):
    """A codec that holds its entropy model; each item at a random quality and tune."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.model: LappedCodec = registry.build(recipe.model.family, recipe.model.arguments)
        self.options = recipe.rate or Rate()

    def forward(self, pixels: Tensor, labels: Tensor) -> Loss:
        """The mean of log(bits per pixel + lambda * distortion) of images [B, 3, H, W]; labels are not used.

        By the logarithm a percent counts the same in every image and at every rate, as in a BD-rate: plain sums are
        those of the few items with the largest cost, and their gradients jump by a factor of ten from batch to batch.
        """
        B, _, H, W = pixels.shape
        options, qualities = self.options, self.model.qualities
        within = distributed.rand(B, device=pixels.device) * (qualities - 1)
        second = distributed.rand(B, device=pixels.device) < SECOND_TUNE
        weight = lambda_at(within / max(qualities - 1, 1), options.lambda_low, options.lambda_high)
        image, bits, _ = self.model(pixels, 1 + within + qualities * second)
        bits_per_pixel = bits / (H * W)
        with torch.autocast(pixels.device.type, enabled=False):
            lost = distortion(image.float(), pixels, options.ssim * ~second)
            blotches = flat_colour(image.float(), pixels)
        cost = weight * (lost.value + options.flat * ~second * blotches)
        value = (FLOOR + bits_per_pixel + cost).log().mean()
        means = (bits_per_pixel.mean(), lost.error.mean(), lost.unlike.mean(), blotches.mean())
        terms = dict(zip(("bits_per_pixel", "mse", "1_minus_ms_ssim", "flat_colour"), means, strict=True))
        return Loss(value, terms)

    @torch.no_grad()
    def show(self, pixels: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        quality = torch.full((len(pixels),), (1 + self.model.qualities) / 2, device=pixels.device)
        return to_pixels(pixels), to_pixels(self.model(pixels, quality)[0])

    def export(self, finished: FinishedRun[Dataset]) -> store.ModelInfo:
        return joint2d.write(finished, self, self.model)


TASK = JointTask
