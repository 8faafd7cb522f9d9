"""Train image codecs by rate and distortion, by reconstruction, or by a likelihood."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import torch
from torch import Tensor

from vqcli.data.dataset import Dataset
from vqcli.entropy.statistics import Statistics
from vqcli.nets.layers import distributed
from vqcli.nets.layers.convnet2d import in_channels, to_pixels
from vqcli.nets.layers.quantizer import VectorQuantizer
from vqcli.nets.layers.rate import ScalarRate, fit
from vqcli.recipe import Recipe
from vqcli.training.export import codec
from vqcli.training.export.finished import FinishedRun
from vqcli.training.losses import Loss, likelihood_loss, rate_distortion_loss, reconstruction_loss
from vqcli.training.tasks.base import Task
from vqcli.zoo import registry, store

RATE_BATCHES, RATE_STEPS, RATE_LEARNING_RATE = 8, 300, 0.15


class CodecTask(Task):
    """An image model, and for scalar codes the rate model, which is not shipped."""

    def __init__(self, recipe: Recipe) -> None:
        model = registry.build(recipe.model.family, recipe.model.arguments)
        quantizer = model.quantizer
        # the outer codes of scalar codebooks are a margin and rarely used
        super().__init__(recipe, quantizer.codebook_sizes if isinstance(quantizer, VectorQuantizer) else ())
        self.model = model
        self.rate = ScalarRate(quantizer.dim, quantizer.qualities) if recipe.rate else None

    def forward(self, pixels: Tensor, labels: Tensor) -> Loss:
        """The loss of images [B, 3, H, W] in -0.5 .. 0.5; labels [B] are not used."""
        x = in_channels(pixels, self.model.channels)
        if self.rate is not None and self.recipe.rate is not None:
            return rate_distortion_loss(self.model, self.rate, self.recipe.rate, x)
        return reconstruction_loss(self.model, x) if self.model.likelihood is None else likelihood_loss(self.model, x)

    def show(self, pixels: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        x = in_channels(pixels, self.model.channels)
        return to_pixels(pixels), to_pixels(in_channels(self.model.to_image(self.model(x)[0]), 3))

    def fit_missing(self, given: Container[str], statistics: Statistics | None, dataset: Dataset) -> dict[str, str]:
        """Fit the rate model, which model files lack, to the codes."""
        if self.rate is None or "rate.mean" in given:
            return {}
        self._fit_rate(self.rate, statistics, dataset)
        return {"rate": "its codes"}

    @torch.no_grad()
    def _fit_rate(self, rate: ScalarRate, statistics: Statistics | None, dataset: Dataset) -> None:
        """Fit the rate model alone to codes of some batches, from its weights in the statistics of the model."""
        quantizer, data = self.model.quantizer, self.recipe.data
        if statistics is not None and statistics.mean.shape == tuple(rate.mean.shape):
            rate.restore({name: torch.from_numpy(getattr(statistics, name)) for name in ("mean", "own", "earlier")})
        device = rate.mean.device
        latents = []
        for number in range(RATE_BATCHES):
            pixels, _ = self.as_input(dataset.batch(data, 1, number * data.batch, data.batch), device)
            latents.append(self.model.encoder(in_channels(pixels, self.model.channels)).float())

        def batch(step: int) -> tuple[Tensor, Tensor]:
            z_e = latents[step % RATE_BATCHES]
            quality = 1 + torch.rand(len(z_e), device=device) * (quantizer.qualities - 1)
            return quantizer.scale(z_e, quality), quality

        fit(rate, batch, RATE_STEPS, RATE_LEARNING_RATE)
        for parameter in rate.parameters():  # each process had its own noise
            parameter.copy_(distributed.summed(parameter.clone()) / distributed.world())

    def export(self, finished: FinishedRun[Dataset]) -> store.ModelInfo:
        info, description = codec.write_coded(finished, self.model, self.rate)
        return codec.measure_and_describe(finished, self, self.model, info, description)


TASK = CodecTask
