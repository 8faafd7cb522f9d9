"""The encoder and decoder of section 4.1, which the VQ-VAE and the baselines share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def from_pixels(pixels: np.ndarray, device: torch.device) -> Tensor:
    """Pixels uint8 [B, H, W, C] as the input of nets: float [B, C, H, W] in -0.5 .. 0.5."""
    return torch.tensor(pixels, device=device).movedim(-1, 1).float() / 255 - 0.5


def to_pixels(x: Tensor) -> np.ndarray:
    """The output of nets, float [B, C, H, W], as pixels uint8 [B, H, W, C]."""
    return ((x.float() + 0.5) * 255).round().clamp(0, 255).byte().movedim(1, -1).cpu().numpy()


def in_channels(x: Tensor, channels: int) -> Tensor:
    """Images [B, C, H, W] grey or in colour as a net for `channels` takes them; grey is the mean of the colours."""
    if x.shape[1] == channels:
        return x
    return x.mean(1, keepdim=True) if channels == 1 else x.expand(-1, channels, -1, -1)


class ResidualBlock(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x)))), as section 4.1 describes it; perhaps with batch normalisation."""

    def __init__(self, width: int, normalised: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.mix = nn.Conv2d(width, width, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2)) if normalised else None

    def forward(self, x: Tensor) -> Tensor:
        if self.norms is None:
            return x + self.mix(F.relu(self.conv(F.relu(x))))
        inner, outer = self.norms
        return x + outer(self.mix(F.relu(inner(self.conv(F.relu(x))))))


class GDN(nn.Module):
    """Divisive normalisation x / (b + G |x|) across channels, or its inverse x * (b + G |x|).

    The simplified form of Ballé et al. 2016 (without the square root), made for codes that follow rate and
    distortion. Both are squares of what is learned, which keeps them positive and lets the many small entries of G
    move slowly: a step of their own size on a whole row at once would blow the net up. b stays at FLOOR or above:
    near zero the quotient would turn into a sign function, whose gradient has no bound.
    """

    FLOOR = 0.1

    def __init__(self, width: int, inverse: bool = False) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.ones(width))
        self.weight = nn.Parameter((torch.eye(width) * 0.1 + 1e-4).sqrt())
        self.inverse = inverse

    def forward(self, x: Tensor) -> Tensor:
        norm = F.conv2d(x.abs(), self.weight.square()[..., None, None], self.bias.square() + self.FLOOR)
        return x * norm if self.inverse else x / norm


class Float32(nn.Module):
    """Runs the layer in float32 under autocast: the first and last steps set the precision of codes and pixels."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.layer(x.to(next(self.layer.parameters()).dtype))


@dataclass(frozen=True)
class Shape:
    """What encoder and decoder have in common.

    widths      channels after each strided convolution; their number is the number of halvings
    dim         D, channels of the latents
    kernel      4 (the paper) or 5
    activation  'relu' (the paper) or 'gdn'
    normalised  batch normalisation after each convolution but the last (Kumar et al. 2018, 2.1)
    """

    widths: Sequence[int]
    dim: int
    kernel: int = 4
    activation: str = "relu"
    normalised: bool = False

    @property
    def stride(self) -> int:
        """Pixels, each way, of a position of the latents."""
        return 2 ** len(self.widths)

    def reach(self, blocks: int) -> int:
        """How far, in positions of the latents, an input reaches: tiles with this margin give what the whole gives.

        Each halving adds at most (kernel // 2) pixels at its own scale, each 3x3 convolution one position.
        """
        return 1 + blocks + self.kernel // 2

    def encoder(self, channels: int, blocks: int, out: int | None = None) -> nn.Sequential:
        """Images [B, channels, H, W] to [B, out or dim, H / stride, W / stride]."""
        layers: list[nn.Module] = []
        for i, (into, width) in enumerate(pairwise([channels, *self.widths])):
            conv = nn.Conv2d(into, width, self.kernel, stride=2, padding=(self.kernel - 1) // 2)
            layers += [Float32(conv) if i == 0 else conv, *self._norm(width), self._activation(width)]
        if self.activation == "relu" and blocks:
            layers.pop()  # the blocks begin with a ReLU of their own
        layers += [ResidualBlock(self.widths[-1], self.normalised) for _ in range(blocks)]
        if self.activation == "relu" and blocks:
            layers.append(nn.ReLU())
        return nn.Sequential(*layers, Float32(nn.Conv2d(self.widths[-1], out or self.dim, 3, padding=1)))

    def decoder(self, out: int, blocks: int, exact: bool = True) -> nn.Sequential:
        """Latents [B, dim, h, w] to [B, out, h * stride, w * stride]; the last layer in float32 if `exact`."""
        layers: list[nn.Module] = [nn.Conv2d(self.dim, self.widths[-1], 3, padding=1)]
        layers += [ResidualBlock(self.widths[-1], self.normalised) for _ in range(blocks)]
        upward = [*reversed(self.widths), out]
        padding, odd = (self.kernel - 1) // 2, self.kernel % 2
        for i, (into, width) in enumerate(pairwise(upward)):
            conv = nn.ConvTranspose2d(into, width, self.kernel, stride=2, padding=padding, output_padding=odd)
            last = i == len(self.widths) - 1
            layers.append(self._activation(into, inverse=True))
            layers += [Float32(conv) if exact else conv] if last else [conv, *self._norm(width)]
        return nn.Sequential(*layers)

    def _activation(self, width: int, inverse: bool = False) -> nn.Module:
        return GDN(width, inverse) if self.activation == "gdn" else nn.ReLU()

    def _norm(self, width: int) -> list[nn.Module]:
        return [nn.BatchNorm2d(width)] if self.normalised else []
