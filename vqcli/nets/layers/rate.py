"""How many bits scalar codes will take: the rate term of training.

The model has the form that the `histogram` coder can follow with integers: each code is predicted from
its causal neighbours. Its mean is a weighted sum of the four neighbours that come before it in its own
channel; its scale is a weighted sum of their magnitudes and of the magnitudes of the earlier channels
at the same position. `fitted_weights` gives these weights to the context coder (entropy/statistics.py),
which replaces the logistic shape by counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.nets.layers import distributed
from vqcli.nets.layers.quantizer import interpolate_rows

# Neighbours that precede a position in raster order, as (rows, columns) away. The coder uses the same four.
NEIGHBOURS = ((0, -1), (-1, 0), (-1, -1), (-1, 1))


class ScalarRate(nn.Module):
    """Bits of scaled latents under a conditional logistic; used in training only and not shipped."""

    triangle: Tensor

    def __init__(self, dim: int, qualities: int) -> None:
        super().__init__()
        self.log_floor = nn.Parameter(torch.full((qualities, dim), math.log(0.3)))
        self.mean = nn.Parameter(torch.zeros(dim, len(NEIGHBOURS)))
        self.own = nn.Parameter(torch.full((dim, len(NEIGHBOURS)), -2.5))
        self.earlier = nn.Parameter(torch.full((dim, dim), -5.0))
        self.register_buffer("triangle", torch.ones(dim, dim).tril(-1), persistent=False)

    def forward(self, scaled: Tensor, quality: Tensor) -> Tensor:
        """Bits of each item of the batch: scaled [B, C, H, W] real, quality [B] -> [B].

        Uniform noise in place of rounding keeps the term smooth (Ballé et al. 2017, section 4).
        """
        value = scaled + distributed.rand(*scaled.shape, device=scaled.device) - 0.5
        around = torch.stack([_shifted(value, *offset) for offset in NEIGHBOURS], dim=2)  # (B, C, 4, H, W)
        mean = torch.einsum("bcnhw,cn->bchw", around, self.mean)
        own, earlier = self.positive_weights()
        floor = interpolate_rows(self.log_floor, quality - 1).exp()[..., None, None]
        scale = floor + torch.einsum("bcnhw,cn->bchw", around.abs(), own)
        scale = scale + F.conv2d(value.abs(), earlier[..., None, None])
        upper, lower = (value - mean + 0.5) / scale, (value - mean - 0.5) / scale
        # log(sigmoid(upper) - sigmoid(lower)), written so that it keeps its gradient however far out a value lies
        log_p = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-1 / scale))
        return -log_p.flatten(1).sum(1) / math.log(2)

    def positive_weights(self) -> tuple[Tensor, Tensor]:
        """Weights of the magnitudes: own neighbours [C, 4], earlier channels [C, C] strictly lower triangular."""
        return F.softplus(self.own), F.softplus(self.earlier) * self.triangle

    @torch.no_grad()
    def restore(self, weights: dict[str, Tensor]) -> None:
        """Take the weights of `fitted_weights` back; those that were rounded to zero become small ones."""
        self.mean.copy_(weights["mean"] / 64)
        for parameter, name in ((self.own, "own"), (self.earlier, "earlier")):
            positive = weights[name].to(parameter.device).float().clamp_min(0.25) / 64
            parameter.copy_(torch.log(torch.expm1(positive)))  # the inverse of softplus

    @torch.no_grad()
    def fitted_weights(self) -> dict[str, Tensor]:
        """The learned weights in units of 1/64, as integers, for the coder."""
        own, earlier = self.positive_weights()
        return {
            "mean": (self.mean * 64).round().int(),
            "own": (own * 64).round().int(),
            "earlier": (earlier * 64).round().int(),
        }


def fit(rate: ScalarRate, batch: Callable[[int], tuple[Tensor, Tensor]], steps: int, learning_rate: float) -> None:
    """Fit a rate model alone: `batch` gives scaled latents [B, C, H, W] and their qualities [B] for a step of Adam."""
    optimizer = torch.optim.Adam(rate.parameters(), learning_rate)
    with torch.enable_grad():
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            scaled, quality = batch(step)
            optimizer.zero_grad()
            (rate(scaled, quality).mean() / scaled[0].numel()).backward()
            optimizer.step()


def _shifted(value: Tensor, rows: int, columns: int) -> Tensor:
    """The neighbour `rows` and `columns` away from each position, 0 outside."""
    top, left, right = -rows, max(-columns, 0), max(columns, 0)
    H, W = value.shape[-2:]
    padded = F.pad(value, (left, right, top, 0))
    return padded[..., :H, right : right + W]
