"""The baseline with continuous latents by VIMCO, where vae2d.py has the reparameterisation trick: arXiv v2, 4.1."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vqcli.nets.codecs.vae2d import Baseline, Bound, ContinuousVAE
from vqcli.nets.codecs.vimco2d import vimco


class GaussianVIMCO(Baseline):
    """q(z | x) = N(mean, scale^2) of `dim` numbers at each position, p(z) = N(0, 1): independent Gaussians.

    Bound and gradient are those of vimco2d.py. No gradient passes through a sample: the encoder learns from
    log q(z | x) alone, as it does where latents are categorical.
    """

    def __init__(self, dim: int = 64, samples: int = 50, **common: Any) -> None:
        super().__init__(2 * dim, dim=dim, **common)
        self.samples = samples

    def bound(self, x: Tensor) -> Bound:
        mean, log_scale = self.encoder(x).float().chunk(2, 1)
        log_scale = log_scale.clamp(*ContinuousVAE.LOG_SCALES)
        with torch.no_grad():
            z = mean + log_scale.exp() * torch.randn(self.samples, *mean.shape, device=x.device)  # (S, B, D, h, w)
        log_q = log_normal((z - mean) / log_scale.exp(), log_scale)
        log_p = log_normal(z, torch.zeros_like(log_scale))
        output = self.decoder(z.flatten(0, 1))
        repeated = x.expand(self.samples, *x.shape).flatten(0, 1)
        log_likelihood = self.likelihood.log_prob(output, repeated).unflatten(0, (self.samples, -1))  # (S, B)
        bound, surrogate = vimco(log_likelihood + log_p - log_q, log_q)
        return Bound(bound, log_likelihood.mean(0), surrogate, output[: len(x)])


def log_normal(deviations: Tensor, log_scale: Tensor) -> Tensor:
    """Log density [S, B] of independent Gaussians, for deviations [S, B, D, h, w] from the mean in units of a scale."""
    return (-deviations.square() / 2 - log_scale - math.log(2 * math.pi) / 2).flatten(2).sum(2)


FAMILY = GaussianVIMCO
