"""What a run trains: the nets with weights, the loss of a batch, and what to show of it.

A codec is trained on pictures; a prior on the codes that a finished codec makes of them, with all the crops and flips
of the recipe: a small set of pictures gives many sets of codes.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from vqcli import zoo
from vqcli.data.dataset import Batch, Dataset
from vqcli.errors import ModelError, UsageError
from vqcli.nets.pixelcnn import PixelCNN
from vqcli.nets.quantizer import VectorQuantizer
from vqcli.nets.rate import ScalarRate
from vqcli.nets.vqvae2d import from_pixels
from vqcli.recipe import Recipe
from vqcli.training.losses import Loss, rate_distortion_loss, reconstruction_loss


class Task(nn.Module):
    """Everything of a run with weights. `codebook_sizes` are those whose use is watched, () if none is."""

    usage: Tensor

    def __init__(self, recipe: Recipe, codebook_sizes: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.recipe, self.codebook_sizes = recipe, codebook_sizes
        counts = torch.zeros(len(codebook_sizes), max(codebook_sizes, default=0), dtype=torch.int64)
        self.register_buffer("usage", counts, persistent=False)  # of each code of each group, in this epoch

    def forward(self, pixels: Tensor, labels: Tensor) -> Loss:
        """The loss of pictures [B, 3, H, W] in -0.5 .. 0.5 with labels [B], -1 for none."""
        raise NotImplementedError

    def show(self, pixels: Tensor) -> Tensor | None:
        """What the model makes of pictures, in the same form; None if there is nothing to look at."""
        return None

    @torch.no_grad()
    def count(self, codes: Tensor) -> None:
        """Add codes [B, groups, *grid] to the usage of the epoch."""
        groups, K = self.usage.shape
        shifted = codes + K * torch.arange(groups, device=codes.device).view(1, -1, *(1,) * (codes.dim() - 2))
        self.usage += torch.bincount(shifted.flatten(), minlength=groups * K).view(groups, K)


class CodecTask(Task):
    """A model, and for scalar codes the rate model that is not shipped."""

    def __init__(self, recipe: Recipe) -> None:
        model = zoo.build(recipe.model.family, recipe.model.arguments)
        quantizer = model.quantizer
        # scalar codes have room at the borders of their codebooks on purpose
        super().__init__(recipe, quantizer.codebook_sizes if isinstance(quantizer, VectorQuantizer) else ())
        self.model = model
        self.rate = ScalarRate(quantizer.dim, quantizer.qualities) if recipe.rate else None

    def forward(self, pixels: Tensor, labels: Tensor) -> Loss:
        if self.rate is not None and self.recipe.rate is not None:
            return rate_distortion_loss(self.model, self.rate, self.recipe.rate, pixels)
        return reconstruction_loss(self.model, pixels)

    def show(self, pixels: Tensor) -> Tensor:
        reconstruction: Tensor = self.model(pixels)[0]
        return reconstruction


class PriorTask(Task):
    """A prior over the codes of a codec that is finished: it makes the codes, and learns nothing."""

    def __init__(self, recipe: Recipe, codec: zoo.LoadedModel, classes: tuple[str, ...]) -> None:
        super().__init__(recipe)
        arguments = dict(recipe.model.arguments)
        if recipe.model.family == "pixelcnn":
            arguments["labels"] = len(classes)
        if recipe.model.family == "exact":
            if codec.net.quantizer.levels > 1:
                raise ModelError(f"model {codec.info.name} has residual levels, which an exact prior cannot tell apart")
            arguments["qualities"] = codec.net.quantizer.qualities
        self.arguments, self.classes = {"codebook_sizes": codec.net.quantizer.codebook_sizes, **arguments}, classes
        self.prior = zoo.build(recipe.model.family, self.arguments)
        self._codec = (codec,)  # in a tuple, so that its weights are not those of the task

    @property
    def codec(self) -> zoo.LoadedModel:
        return self._codec[0]

    def forward(self, pixels: Tensor, labels: Tensor) -> Loss:
        codes, quality = self.codes(pixels)
        if isinstance(self.prior, PixelCNN):
            bits = self.prior.loss(codes, labels if self.classes else None) / math.log(2)
        else:
            bits = self.prior.loss(codes, quality)
        return Loss(bits, {"bits_per_code": bits})

    @torch.no_grad()
    def codes(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Codes of pictures: [B, groups, *grid] and None, or [2 B, groups, *grid] and qualities [2 B].

        If the codec has qualities, each picture comes at two random ones: the encoder costs as much as the prior.
        """
        if not pixels.is_floating_point():
            return pixels, None  # codes already
        quantizer = self.codec.net.quantizer
        z_e, quality = self.codec.net.encoder(pixels), None
        if quantizer.qualities:
            steps = 10 * (quantizer.qualities - 1) + 1  # in tenths, as files have it
            quality = 1 + torch.randint(steps, (2 * len(pixels),), device=pixels.device) / 10
            z_e = z_e.repeat(2, 1, 1, 1)
        return quantizer.codes(z_e, quality), quality


def make(recipe: Recipe, codec: zoo.LoadedModel | None, dataset: Dataset, device: torch.device) -> Task:
    """The task of a recipe, on its device. Raises UsageError if a prior by class misses the class of some picture."""
    if codec is None:
        return CodecTask(recipe).to(device)
    without = int((dataset.labels < 0).sum()) if dataset.classes else 0
    if without and recipe.model.family == "pixelcnn":
        raise UsageError(
            f"{without} of {len(dataset)} pictures lie in no class folder", "put all into class folders, or none"
        )
    return PriorTask(recipe, codec, dataset.classes).to(device)


def as_input(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """uint8 [B, H, W, 3] -> float [B, 3, H, W] in -0.5 .. 0.5, and labels int64 [B], on the device.

    Codes uint16 [B, rows, columns, groups] become int64 [B, groups, rows, columns].
    """
    labels = torch.from_numpy(batch.labels).to(device)
    if batch.pixels.dtype == np.uint16:
        return torch.from_numpy(batch.pixels.astype(np.int64)).to(device).movedim(-1, 1), labels
    return from_pixels(batch.pixels, device), labels
