"""A VAE in place of the second VQ-VAE (the paper, 4.2): what it says breaks with a decoder as strong as a PixelCNN.

Encoder, decoder and first stage are those of twostage2d.py; the latents are Gaussians that pay by their divergence from
a standard normal. Where the PixelCNN predicts well from the codes before, paying nothing and telling nothing is cheaper
for a long time, and the latents collapse onto the prior (Bowman et al. 2016). It has no codes, and writes no files.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import torch
from torch import Tensor

from vqcli.errors import ModelError
from vqcli.nets.codecs.twostage2d import Stages
from vqcli.nets.codecs.vae2d import ContinuousVAE


class TwoStageVAE(Stages):
    """q(z | x) = N(mean, scale^2) of latents * dim numbers for each image, p(z) = N(0, 1); arguments as of TwoStage."""

    codebook_sizes: tuple[int, ...] = ()

    def __init__(self, first: dict[str, Any], side: int = 84, latents: int = 3, dim: int = 32, **common: Any) -> None:
        super().__init__(first, side, 2 * latents * dim, latents * dim, **common)

    def _no_codes(self, *_: Any, **__: Any) -> NoReturn:
        raise ModelError("the model has no codes: it shows what a VAE does in place of twostage2d")

    latents = quantize = decode = graphs = _no_codes
    qualities = quantizer = property(_no_codes)

    def bottleneck(self, codes: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """A sample of the latents, and their divergence in bits for each code of the first stage."""
        mean, log_scale = self.squeeze(self.first.quantizer.lookup(codes)).float().chunk(2, 1)
        log_scale = log_scale.clamp(*ContinuousVAE.LOG_SCALES)
        z = mean + log_scale.exp() * torch.randn_like(mean)
        divergence = (mean.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).flatten(1).sum(1) / 2
        return z, {"divergence": divergence.mean() / (math.log(2) * codes[0].numel())}, None


FAMILY = TwoStageVAE
