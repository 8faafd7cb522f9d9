"""Priors learn the codes of a finished codec.

With all the crops and flips of the recipe a small set of images gives many sets of codes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vqcli.codec.codes import books
from vqcli.errors import ModelError
from vqcli.nets.layers.convnet2d import in_channels
from vqcli.nets.priors.exact1d import SequencePrior
from vqcli.nets.priors.pixelcnn import PixelCNN
from vqcli.nets.priors.wavenet import WaveNetPrior
from vqcli.recipe import Recipe
from vqcli.training.losses import Loss
from vqcli.training.task import Task
from vqcli.zoo import loading, registry

OF_TIME = ("wavenet", "exact1d")  # families of priors over codes in time


class PriorTask(Task):
    """A prior over the codes of a codec that is finished: it makes the codes, and learns nothing."""

    def __init__(self, recipe: Recipe, codec: loading.LoadedModel, classes: tuple[str, ...]) -> None:
        super().__init__(recipe)
        arguments = dict(recipe.model.arguments)
        if recipe.model.family in ("pixelcnn", "wavenet"):
            arguments["labels"] = len(classes)
        if recipe.model.family == "exact":
            if codec.net.levels > 1:
                raise ModelError(f"model {codec.info.name} has residual levels, which an exact prior cannot tell apart")
            arguments["qualities"] = codec.net.qualities
        sizes, _ = books(codec)
        self.arguments, self.classes = {"codebook_sizes": sizes, **arguments}, classes
        self.prior = registry.build(recipe.model.family, self.arguments)
        self._codec = (codec,)  # in a tuple, so that its weights are not those of the task

    @property
    def codec(self) -> loading.LoadedModel:
        return self._codec[0]

    def forward(self, pixels: Tensor, labels: Tensor) -> Loss:
        codes, quality = self.codes(pixels)
        if isinstance(self.prior, PixelCNN | WaveNetPrior):
            bits = self.prior.loss(codes, labels if self.classes else None) / math.log(2)
        elif isinstance(self.prior, SequencePrior):
            bits = self.prior.loss(codes)
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
        quantizer, quality = self.codec.net.quantizer, None
        with torch.autocast(pixels.device.type, enabled=False):  # in 16 bits, flat areas get other codes
            z_e = self.codec.net.latents(in_channels(pixels, self.codec.net.channels))
        if quantizer.qualities:
            steps = 10 * (quantizer.qualities - 1) + 1  # in tenths, as files have it
            quality = 1 + torch.randint(steps, (2 * len(pixels),), device=pixels.device) / 10
            z_e = z_e.repeat(2, 1, 1, 1)
        return quantizer.codes(z_e, quality), quality
