"""The block of all frame-rate nets for speech: a ConvNeXt block (Liu et al. 2022) in one dimension."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL = 7
REACH = KERNEL // 2  # frames that a block looks to either side


class Block(nn.Module):
    """x + gain * mlp(norm(depthwise(x))), where a voice embedding scales and shifts the input of the mlp (FiLM).

    x [B, width, T], voice [B, voice] or None for blocks without one.
    """

    def __init__(self, width: int, voice: int = 0, expansion: int = 3, eps: float = 1e-5) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, KERNEL, padding=REACH, groups=width)
        self.norm = nn.LayerNorm(width, eps)
        self.up, self.down = nn.Linear(width, expansion * width), nn.Linear(expansion * width, width)
        self.gain = nn.Parameter(torch.full((width,), 0.1))
        self.film = nn.Linear(voice, 2 * width) if voice else None
        if self.film is not None:
            nn.init.normal_(self.film.weight, std=0.02)
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, voice: Tensor | None = None) -> Tensor:
        h = self.norm(self.depthwise(x).transpose(1, 2))  # (B, T, width)
        if self.film is not None and voice is not None:
            scale, shift = self.film(voice)[:, None].chunk(2, 2)
            h = h * (1 + scale) + shift
        h = self.down(F.gelu(self.up(h))) * self.gain
        return x + h.transpose(1, 2)


class Blocks(nn.Module):
    """A number of blocks, one after another."""

    def __init__(self, count: int, width: int, voice: int = 0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, voice) for _ in range(count))
        self.reach = count * REACH

    def forward(self, x: Tensor, voice: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x, voice)
        return x
