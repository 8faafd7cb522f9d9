"""What a step minimises, by the kind of model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.nets.codecs.vae2d import Baseline
from vqcli.nets.codecs.vqvae2d import ImageVQVAE
from vqcli.nets.layers import distributed
from vqcli.nets.layers.likelihood import bits_per_dim
from vqcli.nets.layers.quantizer import ScalarQuantizer
from vqcli.nets.layers.rate import ScalarRate
from vqcli.recipe import Rate
from vqcli.training.ms_ssim import ms_ssim


@dataclass(frozen=True)
class Loss:
    """What to minimise, the named terms for the log, and codes [B, groups, *grid] whose use is worth watching."""

    value: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    codes: Tensor | None = None


def reconstruction_loss(model: ImageVQVAE, x: Tensor) -> Loss:
    """Eq. 3 with a Gaussian decoder: squared error plus the quantizer's own terms. x [B, 3, H, W]."""
    reconstruction, quantized = model(x)
    error = F.mse_loss(reconstruction, x)
    # the error counts in units of a typical picture's variance (0.06 in -0.5 .. 0.5), beside which beta is stated
    value = error / 0.06 + sum(quantized.losses.values())
    return Loss(value, {"mse": error * 255**2, **quantized.losses}, quantized.codes)


def likelihood_loss(model: ImageVQVAE, x: Tensor) -> Loss:
    """Eq. 3 with a likelihood: bits/dim of log p(x | z_q) plus the quantizer's own terms. x [B, C, H, W].

    The bound that is logged has the uniform prior's bits in it, which are the same for all pictures.
    """
    assert model.likelihood is not None
    made, quantized = model(x)
    bits = bits_per_dim(-model.likelihood.log_prob(made, x), x).mean()
    uniform = model.uniform_nats(*x.shape[-2:]) / (math.log(2) * x[0].numel())
    with torch.no_grad():
        error = F.mse_loss(model.to_image(made), x) * 255**2
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


def direct_bits(heads: nn.ModuleList, condition: Tensor, codes: Tensor) -> Tensor:
    """Bits for a code where the map that conditions a PixelCNN names it alone, by a 1 x 1 convolution a group.

    A PixelCNN predicts well from codes nearby, so it would hardly look at a map that says nothing yet, which then never
    learned to: this teaches it. condition [B, S, H, W], codes [B, groups, H, W].
    """
    nats = [F.cross_entropy(head(condition).float(), codes[:, group]) for group, head in enumerate(heads)]
    return torch.stack(nats).mean() / math.log(2)


SSIM_SCALE = 2500.0  # 1 - MS-SSIM times this weighs about as much as the squared error of a usable picture


def rate_distortion_loss(model: ImageVQVAE, rate: ScalarRate, recipe: Rate, x: Tensor) -> Loss:
    """Bits per pixel + lambda * distortion, each picture at a quality of its own. x [B, 3, H, W].

    distortion = (1 - ssim) * squared error in 0 .. 255 + ssim * SSIM_SCALE * (1 - MS-SSIM), `ssim` of the recipe.
    """
    B, _, H, W = x.shape
    assert isinstance(model.quantizer, ScalarQuantizer)
    qualities = model.quantizer.qualities
    quality = 1 + distributed.rand(B, device=x.device) * (qualities - 1)
    position = (quality - 1) / max(qualities - 1, 1)
    weight = recipe.lambda_low * (recipe.lambda_high / recipe.lambda_low) ** position  # (B,)
    z_e = model.encoder(x).float()
    bits_per_pixel = rate(model.quantizer.scale(z_e, quality), quality) / (H * W)  # (B,)
    reconstruction = model.decoder(model.quantizer(z_e, quality).z_q)
    error = (reconstruction - x).square().flatten(1).mean(1) * 255**2  # (B,)
    terms = {"bits_per_pixel": bits_per_pixel.mean(), "mse": error.mean()}
    distortion = error
    if recipe.ssim:
        unlike = 1 - ms_ssim(reconstruction, x)  # (B,)
        distortion = (1 - recipe.ssim) * error + recipe.ssim * SSIM_SCALE * unlike
        terms["1_minus_ms_ssim"] = unlike.mean()
    value = (bits_per_pixel + weight * distortion) / weight**recipe.balance
    return Loss(value.mean() * recipe.lambda_high**recipe.balance, terms)
