"""The baseline with continuous latents, by the reparameterisation trick (Kingma and Welling 2014): section 4.1.

`Baseline` is what it shares with the one of categorical latents (vimco2d.py): the encoder and decoder of the VQ-VAE.
Both bound the likelihood that the VQ-VAE is compared by, and have no codes to write into files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from vqcli.errors import ModelError
from vqcli.nets.codecs.base import ImageCodec
from vqcli.nets.layers import likelihood as likelihoods
from vqcli.nets.layers.convnet2d import Shape
from vqcli.nets.layers.likelihood import Likelihood
from vqcli.nets.layers.linear_init import init_linear


@dataclass(frozen=True)
class Bound:
    """A lower bound on log p(x) in nats, for each image.

    value           [B], the bound
    log_likelihood  [B], E_q log p(x | z), the reconstruction term
    surrogate       [B], whose gradient is that of the bound, or an estimate of it
    output          [B, numbers, H, W] of the decoder, for one z
    """

    value: Tensor
    log_likelihood: Tensor
    surrogate: Tensor
    output: Tensor


class Baseline(nn.Module, ImageCodec):
    """What both share; arguments as those of ImageVQVAE. `out`: the encoder's output channels at a position."""

    TASK = "baseline"  # the training run of this family (training/tasks)
    codebook_sizes: tuple[int, ...] = ()
    levels = 1
    likelihood: Likelihood
    first = None
    KL_APART = False  # whether the bound is a sum of reconstruction and divergence

    def __init__(
        self,
        out: int,
        widths: Sequence[int] = (256, 256),
        dim: int = 64,
        blocks: int = 2,
        kernel: int = 4,
        activation: str = "relu",
        normalised: bool = False,
        linear_start: float = 0.0,
        channels: int = 3,
        likelihood: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        p_x = likelihoods.make(channels, likelihood or {"kind": "gaussian"})
        assert p_x is not None
        shape = Shape(tuple(widths), dim, kernel, activation, normalised)
        self.likelihood, self.channels, self.stride, self.latent_dim = p_x, channels, shape.stride, dim
        self.encoder = shape.encoder(channels, blocks, out)
        self.decoder = shape.decoder(self.likelihood.numbers, blocks, exact=False)
        if linear_start:
            init_linear(self.encoder, self.decoder, channels, self.likelihood, gain=linear_start)

    def _no_codes(self, *_: Any, **__: Any) -> NoReturn:
        raise ModelError("the model has no codes: it is a baseline for likelihoods", "vq eval likelihood measures it")

    latents = quantize = decode = graphs = _no_codes
    qualities = quantizer = property(_no_codes)

    def bound(self, x: Tensor) -> Bound:
        """The bound for images x [B, channels, H, W] in -0.5 .. 0.5, with fresh samples from the posterior."""
        raise NotImplementedError

    def to_image(self, output: Tensor) -> Tensor:
        """The image [B, channels, H, W] of the decoder's output."""
        return self.likelihood.mean(output)


class ContinuousVAE(Baseline):
    """q(z | x) = N(mean, scale^2) of `dim` numbers at each position, p(z) = N(0, 1)."""

    LOG_SCALES = (-7.0, 3.0)
    KL_APART = True

    def __init__(self, dim: int = 64, **common: Any) -> None:
        super().__init__(2 * dim, dim=dim, **common)

    def bound(self, x: Tensor) -> Bound:
        mean, log_scale = self.encoder(x).float().chunk(2, 1)
        log_scale = log_scale.clamp(*self.LOG_SCALES)
        z = mean + log_scale.exp() * torch.randn_like(mean)
        output = self.decoder(z)
        log_likelihood = self.likelihood.log_prob(output, x)
        # KL(q || p) in closed form (appendix B of Kingma and Welling)
        divergence = (mean.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).flatten(1).sum(1) / 2
        value = log_likelihood - divergence
        return Bound(value, log_likelihood, value, output)


FAMILY = ContinuousVAE
