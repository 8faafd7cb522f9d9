"""Attention within blocks of frames, each of which sees the frames of its own block and no others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.nets.layers.causal_transformer import Rotation, rotated

HEAD = 64  # dimensions
PERIOD = 10_000.0  # the slowest rotation takes about 2 pi times as many frames


class LocalAttention(nn.Module):
    """x + attention(norm(x)) of [B, width, T], T a multiple of `block` frames, with heads of HEAD dimensions.

    Rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864) count from the beginning of a block.
    """

    def __init__(self, width: int, block: int) -> None:
        super().__init__()
        if width % HEAD or width < HEAD or block < 1:
            raise ValueError(f"{width} channels do not make heads of {HEAD}, or no blocks of {block} frames")
        self.heads, self.block = width // HEAD, block
        self.norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.to_qkv(self.norm(x.transpose(1, 2))).unflatten(1, (-1, self.block)).flatten(0, 1)
        # each [B * blocks, heads, block, HEAD]
        query, key, value = (part.unflatten(2, (self.heads, HEAD)).transpose(1, 2) for part in qkv.chunk(3, -1))
        rotation = self._rotation(x.device)
        h = F.scaled_dot_product_attention(rotated(query, rotation), rotated(key, rotation), value)
        y: Tensor = self.to_out(h.transpose(1, 2).flatten(2)).view(x.shape[0], -1, x.shape[1])
        return y.transpose(1, 2) + x

    def _rotation(self, device: torch.device) -> Rotation:
        speeds = 1 / PERIOD ** (torch.arange(0, HEAD, 2, device=device).float() / HEAD)
        angles = torch.arange(self.block, device=device).float()[:, None] * speeds
        return angles.cos(), angles.sin()
