"""A learned lapped transform and the gated residual blocks between it and the latents, at an eighth of the size.

All convolutions but the first and last see the grid of the latents only, where they are large matrix products: on a CPU
several times faster than the same work spread over a pyramid of resolutions.
"""

from __future__ import annotations

import math
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 8
OVERLAP = STRIDE // 2  # pixels by which a window of 16 x 16 reaches over its 8 x 8 on each side
# luma and two differences of colours, with about the share that each has of the energy of photographs
COLOURS = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 2.0, -1.0))
ENERGIES = (1.0, 0.12, 0.05)


class Analysis(nn.Module):
    """Windows of 16 x 16 pixels every 8: images [B, 3, H, W] to [B, width, H / 8, W / 8]; begins as a DCT."""

    def __init__(self, width: int, atoms: Tensor) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3 * STRIDE**2, width, 2)
        with torch.no_grad():
            self.conv.weight.mul_(0.3)
            self.conv.weight[: len(atoms)] = _taps(atoms)
            nn.init.zeros_(_bias(self.conv))

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (OVERLAP,) * 4, mode="replicate")
        return self.conv(F.pixel_unshuffle(padded, STRIDE).contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]


class Synthesis(nn.Module):
    """The transpose: [B, width, h, w] to images [B, 3, 8 h, 8 w], sums of overlapping windows."""

    def __init__(self, width: int, atoms: Tensor) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(width, 3 * STRIDE**2, 2)
        with torch.no_grad():
            self.conv.weight.mul_(0.1)
            self.conv.weight[: len(atoms)] = _taps(atoms)
            nn.init.zeros_(_bias(self.conv))

    def forward(self, h: Tensor) -> Tensor:
        whole = F.pixel_shuffle(self.conv(h), STRIDE)
        return whole[:, :, OVERLAP:-OVERLAP, OVERLAP:-OVERLAP]


class GatedBlock(nn.Module):
    """x + down(a * clip(b, -1, 1)), where a and b are the halves of up(depthwise 3x3(x)).

    The product of two linear maps takes the place of divisive normalisation: it adapts to the local contrast, without a
    quotient. The gate b stays within -1 .. 1 on nearly all of a photograph; beyond, the block grows as its input does.
    A product of both would grow as the square, and five of them make garbage of a chessboard. `down` begins small, so
    that a net begins as its lapped transform alone.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.up, self.down = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(width, width, 1)
        with torch.no_grad():
            self.depthwise.weight.mul_(0.3)
            self.depthwise.weight[:, 0, 1, 1] += 1
            self.down.weight.mul_(0.1)
            for layer in (self.depthwise, self.up, self.down):
                nn.init.zeros_(_bias(layer))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.up(self.depthwise(x)).chunk(2, 1)
        return x + self.down(a * F.hardtanh(b))  # type: ignore[no-any-return]


def atoms(count: int) -> Tensor:
    """The first atoms [count, 3, 8, 8] of an orthonormal DCT of luma and colour differences, by expected energy."""
    at = torch.arange(STRIDE)
    basis = torch.cos(math.pi * (at + 0.5) * at[:, None] / STRIDE) * math.sqrt(2 / STRIDE)
    basis[0] /= math.sqrt(2)
    colours = F.normalize(torch.tensor(COLOURS))
    places = sorted(
        product(range(STRIDE), range(STRIDE), range(3)),
        key=lambda place: -ENERGIES[place[2]] / (1 + place[0] ** 2 + place[1] ** 2),
    )
    return torch.stack([torch.einsum("c,i,j->cij", colours[c], basis[u], basis[v]) for u, v, c in places[:count]])


def _taps(blocks: Tensor) -> Tensor:
    """Blocks [N, 3, 8, 8] in the middle of windows, as weights [N, 192, 2, 2] on pixels that are unshuffled."""
    windows = F.pad(blocks, (OVERLAP,) * 4)
    return windows.unflatten(3, (2, STRIDE)).unflatten(2, (2, STRIDE)).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def _bias(layer: nn.Module) -> Tensor:
    bias = layer.bias
    assert isinstance(bias, Tensor)
    return bias
