"""Blocks of convolutions with snake activations, of which encoders and decoders of waveforms are made (DAC, SNAC).

Kumar et al. 2023, https://arxiv.org/abs/2306.06546, section 3.1. All convolutions pad with zeros, alike on both sides.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vqcli.nets.layers.noise import Noise, Noisy

DILATIONS = (1, 3, 9)  # of the residual units of a block


class Snake(nn.Module):
    """x + sin²(alpha x) / alpha, with an alpha for each channel (Ziyin et al. 2020, https://arxiv.org/abs/2006.08195)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        squared = (self.alpha * x).sin_().square_()  # in place, as memory is what takes the time
        return squared.mul_((self.alpha + 1e-9).reciprocal()).add_(x)


class ResidualUnit(nn.Sequential):
    """x + conv(snake(conv(snake(x)))), the first convolution over 7 frames, dilated, the second within each.

    groups  of channels that the first convolution keeps apart
    """

    def __init__(self, width: int, dilation: int, groups: int = 1) -> None:
        dilated = nn.Conv1d(width, width, 7, dilation=dilation, padding=3 * dilation, groups=groups)
        super().__init__(Snake(width), dilated, Snake(width), nn.Conv1d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x)
        return y.add_(x)


def encoder_block(width: int, stride: int, groups: int = 1) -> nn.Sequential:
    """[B, width, N] to [B, 2 width, N / stride], for N a multiple of the stride, which is at least 2."""
    down = nn.Conv1d(width, 2 * width, 2 * stride, stride, padding=(stride + 1) // 2)
    return nn.Sequential(*_units(width, groups), Snake(width), down)


def decoder_block(width: int, stride: int) -> nn.Sequential:
    """[B, width, N] to [B, width / 2, N stride], a frame less for an odd stride."""
    up = nn.ConvTranspose1d(width, width // 2, 2 * stride, stride, padding=(stride + 1) // 2)
    return nn.Sequential(Snake(width), up, *_units(width // 2))


def noisy_block(width: int, stride: int, groups: int = 1, noise: Noise | None = None) -> Noisy:
    """[B, width, N] to [B, width / 2, N stride], with noise, if any, after the upsampling."""
    up = nn.ConvTranspose1d(width, width // 2, 2 * stride, stride, padding=(stride + 1) // 2, output_padding=stride % 2)
    return Noisy(Snake(width), up, *([noise] if noise else []), *_units(width // 2, groups))


def _units(width: int, groups: int = 1) -> list[ResidualUnit]:
    return [ResidualUnit(width, dilation, groups) for dilation in DILATIONS]
