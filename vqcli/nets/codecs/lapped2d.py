"""Photographs by rate and distortion: a lapped transform, gated blocks, scalar codes, and the model of their bits.

    x -> Analysis -> blocks -> latents z_e [2 dim] -> blend, gain -> round -> codes
                                                        |
                               rate: the entropy model in floats, which the coder uses in integers
    codes -> inverse gain -> 3x3 -> blocks -> Synthesis -> x

The net is trained with its entropy model (Minnen, Ballé and Toderici 2018), which is part of it: rounding.py makes the
integers of the coder from it, and encoding with effort differentiates it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vqcli.container.header import QUALITIES_OF_TUNE, TUNES
from vqcli.nets.codecs.base import ImageCodec
from vqcli.nets.layers import lapped
from vqcli.nets.layers.code_search import Coded, Costs, Place, ScalarSearch
from vqcli.nets.layers.quantizer import ScalarQuantizer, interpolate_rows, straight_through
from vqcli.nets.priors.exact import ExactPrior


class LappedCodec(nn.Module, ImageCodec):
    """Images [B, 3, H, W] in -0.5 .. 0.5, H and W multiples of 8, to codes [B, dim, h, w] and back.

    Qualities 1 .. 10 are tuned for the first of TUNES, 11 .. 20 for the second: each has rows of its own in the tables
    of gains, of the blend and of the entropy model.

    width       channels of the blocks
    dim         channels of the codes
    blocks      of encoder and decoder, each; decoder_blocks if the decoder has another number
    quantizer   limits and gain_range of ScalarQuantizer, for each tune
    rate        arguments of the entropy model: slices, levels, hidden (nets/priors/exact.py)
    """

    TASK = "joint2d"
    channels, stride, levels = 3, lapped.STRIDE, 1
    first = likelihood = None
    tunes, searchable = TUNES, True

    def __init__(
        self,
        width: int = 256,
        dim: int = 64,
        blocks: int = 4,
        decoder_blocks: int | None = None,
        quantizer: dict[str, Any] | None = None,
        rate: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if dim > width or dim > 3 * self.stride**2:
            raise ValueError(f"{dim} channels of codes from {width}")
        options: dict[str, Any] = {"limits": 255, "gain_range": (2.5, 28.0)} | (quantizer or {})
        decoder_blocks = blocks if decoder_blocks is None else decoder_blocks
        self.qualities, rows = QUALITIES_OF_TUNE, QUALITIES_OF_TUNE * len(TUNES)
        self.quantizer = ScalarQuantizer(dim, qualities=rows, **options)
        with torch.no_grad():  # each tune begins with the same gains
            begin = ScalarQuantizer(dim, qualities=self.qualities, **options).log_gain.repeat(len(TUNES), 1)
            self.quantizer.log_gain.copy_(begin)
            self.quantizer.log_inverse_gain.copy_(-begin)
        self.codebook_sizes, self.latent_dim = self.quantizer.codebook_sizes, 2 * dim
        atoms = lapped.atoms(dim)
        self.analysis, self.synthesis = lapped.Analysis(width, atoms), lapped.Synthesis(width, atoms)
        self.encoder = nn.Sequential(*(lapped.GatedBlock(width) for _ in range(blocks)))
        self.decoder = nn.Sequential(*(lapped.GatedBlock(width) for _ in range(decoder_blocks)))
        self.to_latents, self.from_latents = nn.Conv2d(width, 2 * dim, 1), nn.Conv2d(dim, width, 3, padding=1)
        self.blend = nn.Parameter(torch.zeros(rows, dim))  # how much of the second half of z_e joins the first
        self.modulation = nn.Parameter(torch.zeros(rows, width))  # of the decoder's channels
        self.rate = ExactPrior(self.codebook_sizes, qualities=rows, **(rate or {}))
        self._begin_as_transform(dim)
        self.encoder_margin, self.decoder_margin = 1 + blocks, 2 + decoder_blocks
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def _begin_as_transform(self, dim: int) -> None:
        """Let the first `dim` channels pass, so that the net begins as its lapped transform."""
        same = torch.eye(dim)
        into, out = self.to_latents, self.from_latents
        into.weight[:dim].mul_(0.02)
        into.weight[dim:].mul_(0.3)
        into.weight[:dim, :dim, 0, 0] += same
        out.weight.mul_(0.1)
        out.weight[:dim, :, 1, 1] *= 0.1
        out.weight[:dim, :, 1, 1] += same
        for layer in (into, out):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def latents(self, x: Tensor) -> Tensor:
        """z_e [B, 2 dim, h, w]: what every quality shares."""
        z_e: Tensor = self.to_latents(self.encoder(self.analysis(x)))
        return z_e

    def scaled(self, z_e: Tensor, quality: Tensor) -> Tensor:
        """Latents [B, dim, h, w] at a quality [B], in units of the codes: what is rounded."""
        main, other = z_e.chunk(2, 1)
        return self.quantizer.scale(main + _spread(interpolate_rows(self.blend, quality - 1)) * other, quality)

    @torch.no_grad()
    def quantize(self, z_e: Tensor, quality: Tensor | None = None) -> Tensor:
        """Codes [B, dim, h, w] int64 of latents."""
        quality = self._given(z_e, quality)
        limit = self.quantizer.limit[:, None, None]
        return (self.scaled(z_e, quality).round().clamp(-limit, limit) + limit).long()

    @torch.no_grad()
    def decode(self, codes: Tensor, quality: Tensor | None = None, seed: int | None = None) -> Tensor:
        """Images of codes [B, dim, h, w]; values may leave -0.5 .. 0.5 a little."""
        values = codes - self.quantizer.limit[:, None, None]
        return self.reconstruct(values, self._given(values, quality))

    def reconstruct(self, values: Tensor, quality: Tensor) -> Tensor:
        """Images of rounded latents [B, dim, h, w], with a gradient."""
        gain = interpolate_rows(self.quantizer.log_inverse_gain, quality - 1).exp()
        h = self.from_latents((values * _spread(gain)).contiguous(memory_format=torch.channels_last))
        h = h * (1 + _spread(interpolate_rows(self.modulation, quality - 1)))
        image: Tensor = self.synthesis(self.decoder(h))
        return image

    def forward(self, x: Tensor, quality: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Images, bits [B] of their codes, and the rounded latents [B, dim, h, w], with gradients for training.

        Bits are those of latents with uniform noise, given their rounded neighbours; images those of rounded latents
        (Minnen and Singh 2020, section 3.3).
        """
        quality = self._given(x, quality)
        scaled = self.scaled(self.latents(x).float(), quality)
        rounded = straight_through(scaled, scaled.round())
        noisy = scaled + torch.rand_like(scaled) - 0.5
        with torch.autocast(x.device.type, enabled=False):  # sums of bits want all their digits
            bits = self.rate.bits(rounded, quality, noisy)
        return self.reconstruct(rounded, quality), bits, rounded

    def search(
        self, x: Tensor, codes: Tensor, place: Place, quality: Tensor | None = None, costs: Costs | None = None
    ) -> ScalarSearch:
        at, limit = self._given(x, quality), self.quantizer.limit[:, None, None]
        with torch.no_grad():
            latents = self.scaled(self.latents(x), at)[(..., *place)]

        def coded(values: Tensor, drawn: float) -> Coded:
            return self.reconstruct(values, at), self.rate.bits(values, at, drawn=drawn).sum()

        return ScalarSearch(latents, (codes - limit)[None].float(), place, limit, coded)

    def _given(self, like: Tensor, quality: Tensor | None) -> Tensor:
        if quality is None:
            return torch.full((len(like),), float(self.qualities), device=like.device)
        return quality


def _spread(rows: Tensor) -> Tensor:
    """[B, C] over a grid: [B, C, 1, 1]."""
    return rows[..., None, None]


FAMILY = LappedCodec
