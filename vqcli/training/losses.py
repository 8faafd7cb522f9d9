"""Training losses of image models."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.nets.codecs.vae2d import Baseline
from vqcli.nets.codecs.vqvae2d import ImageVQVAE
from vqcli.nets.layers import distributed
from vqcli.nets.layers.distortion import distortion, lambda_at
from vqcli.nets.layers.likelihood import bits_per_dim
from vqcli.nets.layers.quantizer import ScalarQuantizer
from vqcli.nets.layers.rate import ScalarRate
from vqcli.recipe import Rate


@dataclass(frozen=True)
class Loss:
    """The value to minimise, its terms for the log, and codes [B, n_codebooks, *grid] whose usage is logged."""

    value: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    codes: Tensor | None = None


def reconstruction_loss(model: ImageVQVAE, x: Tensor) -> Loss:
    """Eq. 3 with a Gaussian decoder: squared error plus the quantizer's losses. x [B, 3, H, W]."""
    reconstruction, quantized = model(x)
    error = F.mse_loss(reconstruction, x)
    # the error is in units of a typical image's variance (0.06 in -0.5 .. 0.5), to which beta refers
    value = error / 0.06 + sum(quantized.losses.values())
    return Loss(value, {"mse": error * 255**2, **quantized.losses}, quantized.codes)


def likelihood_loss(model: ImageVQVAE, x: Tensor) -> Loss:
    """Eq. 3 with a likelihood: bits/dim of log p(x | z_q) plus the quantizer's losses. x [B, C, H, W].

    The logged bound includes the uniform prior's bits, which are the same for all images.
    """
    assert model.likelihood is not None
    output, quantized = model(x)
    bits = bits_per_dim(-model.likelihood.log_prob(output, x), x).mean()
    uniform = model.uniform_nats(*x.shape[-2:]) / (math.log(2) * x[0].numel())
    with torch.no_grad():
        error = F.mse_loss(model.to_image(output), x) * 255**2
    value = bits + sum(quantized.losses.values())
    return Loss(value, {"bits_per_dim": bits + uniform, "mse": error, **quantized.losses}, quantized.codes)


def bound_loss(model: Baseline, x: Tensor) -> Loss:
    """The lower bound of a baseline in bits/dim, with the gradient of its surrogate. x [B, C, H, W]."""
    bound = model.bound(x)
    bits, surrogate = (bits_per_dim(-nats, x).mean() for nats in (bound.value, bound.surrogate))
    with torch.no_grad():
        terms = {
            "bits_per_dim": bits,
            "reconstruction": bits_per_dim(-bound.log_likelihood, x).mean(),
            "mse": F.mse_loss(model.to_image(bound.output), x) * 255**2,
        }
    return Loss(bits.detach() + surrogate - surrogate.detach(), terms)


def auxiliary_bits(heads: nn.ModuleList, condition: Tensor, codes: Tensor) -> Tensor:
    """Auxiliary loss: bits for a code predicted from the conditioning map alone, by a 1 x 1 convolution per codebook.

    A PixelCNN predicts well from nearby codes and would ignore a map that carries no information at first, so that the
    map would get no gradient. condition [B, S, H, W], codes [B, n_codebooks, H, W].
    """
    nats = [F.cross_entropy(head(condition).float(), codes[:, n]) for n, head in enumerate(heads)]
    return torch.stack(nats).mean() / math.log(2)


def rate_distortion_loss(model: ImageVQVAE, rate: ScalarRate, recipe: Rate, x: Tensor) -> Loss:
    """Bits per pixel + lambda * distortion, each image at a random quality. x [B, 3, H, W].

    The distortion is that of nets/layers/distortion.py, with the `ssim` of the recipe.
    """
    B, _, H, W = x.shape
    assert isinstance(model.quantizer, ScalarQuantizer)
    qualities = model.quantizer.qualities
    quality = 1 + distributed.rand(B, device=x.device) * (qualities - 1)
    weight = lambda_at((quality - 1) / max(qualities - 1, 1), recipe.lambda_low, recipe.lambda_high)  # (B,)
    z_e = model.encoder(x).float()
    bits_per_pixel = rate(model.quantizer.scale(z_e, quality), quality) / (H * W)  # (B,)
    reconstruction = model.decoder(model.quantizer(z_e, quality).z_q)
    lost = distortion(reconstruction, x, recipe.ssim)  # (B,) each
    terms = {"bits_per_pixel": bits_per_pixel.mean(), "mse": lost.error.mean()}
    if recipe.ssim:
        terms["1_minus_ms_ssim"] = lost.unlike.mean()
    value = (bits_per_pixel + weight * lost.value) / weight**recipe.balance
    return Loss(value.mean() * recipe.lambda_high**recipe.balance, terms)
