"""Blocks of convolutions with snake activations, of which encoders and decoders of waveforms are made (DAC, SNAC).

Kumar et al. 2023, https://arxiv.org/abs/2306.06546, section 3.1. All convolutions pad with zeros, alike on both sides.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
    """x + conv(snake(conv(snake(x)))), the first convolution over 7 frames, dilated, the second within each."""

    def __init__(self, width: int, dilation: int) -> None:
        dilated = nn.Conv1d(width, width, 7, dilation=dilation, padding=3 * dilation)
        super().__init__(Snake(width), dilated, Snake(width), nn.Conv1d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x)
        return y.add_(x)


def encoder_block(width: int, stride: int) -> nn.Sequential:
    """[B, width, N] to [B, 2 width, N / stride], for N a multiple of the stride, which is at least 2."""
    down = nn.Conv1d(width, 2 * width, 2 * stride, stride, padding=(stride + 1) // 2)
    return nn.Sequential(*(ResidualUnit(width, dilation) for dilation in DILATIONS), Snake(width), down)


def decoder_block(width: int, stride: int) -> nn.Sequential:
    """[B, width, N] to [B, width / 2, N stride], a frame less for an odd stride."""
    up = nn.ConvTranspose1d(width, width // 2, 2 * stride, stride, padding=(stride + 1) // 2)
    return nn.Sequential(Snake(width), up, *(ResidualUnit(width // 2, dilation) for dilation in DILATIONS))
