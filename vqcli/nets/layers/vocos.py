"""The decoders of Vocos: from latents to short-time spectra, all at one rate, and from these to a waveform.

    [B, dim, P] -> conv -> what sees the whole signal -> ConvNeXt blocks -> spectra of P frames -> wave [B, P * hop]

(Siuzdak 2023, https://arxiv.org/abs/2306.00814.) What sees the whole signal is WavTokenizer's: residual blocks with
attention in their middle, as in VQGAN (Ji et al. 2024, https://arxiv.org/abs/2408.16532, section 3.3). Nothing in it
knows the time, but through convolutions and the sum over all.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from vqcli.nets.layers import convnext, vqgan
from vqcli.nets.layers.spectra import waveforms

EPS = 1e-6  # of normalisations
LOUDEST = 100.0  # a magnitude


class Backbone(nn.Module):
    """Latents [B, dim, P] to [B, P, width].

    groups     of channels that are normalised together, over time
    expansion  by how much ConvNeXt blocks are wider inside
    """

    def __init__(self, dim: int, width: int, blocks: int, expansion: int, groups: int) -> None:
        super().__init__()
        norm = partial(vqgan.Norm, groups, 0)
        block = partial(vqgan.Block, width, width, norm, nn.Conv1d)
        self.embed = nn.Conv1d(dim, width, 7, padding=3)
        self.context = nn.Sequential(block(), block(), vqgan.Attention(width, norm), block(), block(), norm(width))
        self.norm = nn.LayerNorm(width, EPS)
        self.blocks = nn.Sequential(*(convnext.Block(width, 0, expansion, EPS) for _ in range(blocks)))
        self.norm_out = nn.LayerNorm(width, EPS)

    def forward(self, z_q: Tensor) -> Tensor:
        h = self.norm(self.context(self.embed(z_q)).transpose(1, 2))
        y: Tensor = self.norm_out(self.blocks(h.transpose(1, 2)).transpose(1, 2))
        return y


class Head(nn.Module):
    """[B, P, width] to waveforms [B, P * hop] by way of magnitudes and phases of spectra of n samples."""

    window: Tensor

    def __init__(self, width: int, n: int, hop: int) -> None:
        super().__init__()
        if n % hop or n < 2 * hop or (n - hop) % 2:
            raise ValueError(f"spectra of {n} samples, {hop} apart")
        self.hop = hop
        self.spectra = nn.Linear(width, n + 2)
        self.register_buffer("window", torch.hann_window(n), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        magnitude, phase = self.spectra(x).chunk(2, -1)
        return waveforms(magnitude.exp().clamp(max=LOUDEST), phase, self.window, self.hop)
