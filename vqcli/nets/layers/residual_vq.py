"""Residual vector quantization of other people's codecs: each codebook codes what the ones before leave.

    quantizer.encode(z_e)     -> codes of all levels
    quantizer.decode(codes)   -> z_q of the first levels
    quantizer(z_e, levels)    -> z_q of each item's first levels with a gradient, and what training minimises

Codebooks learn by a loss, where the averages of nets/layers/quantizer.py would need counts that checkpoints do not
have: what a file holds is then all that learning goes on from, in the same way for every family.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.nets.layers.quantizer import straight_through


class Losses(NamedTuple):
    """Squared distances of vectors and what they stand for, summed over levels, means over all else.

    codebook    with a gradient for the vectors
    commitment  with one for what they stand for (van den Oord et al. 2017, eq. 3, the other two terms)
    """

    codebook: Tensor
    commitment: Tensor

    def plus(self, z: Tensor, z_q: Tensor, kept: Tensor) -> Losses:
        """With those of one more level: z and z_q [B, ...] of the items that keep it, bool [B]."""
        share = kept.to(z) / len(kept)
        codebook, commitment = (
            (difference.square().flatten(1).mean(1) * share).sum()
            for difference in (z_q - z.detach(), z - z_q.detach())
        )
        return Losses(self.codebook + codebook, self.commitment + commitment)


def none_of(z_e: Tensor) -> Losses:
    return Losses(z_e.new_zeros(()), z_e.new_zeros(()))


def each(kept: Tensor, z_e: Tensor) -> Tensor:
    """1 for items that keep a level and 0 for others, [B, 1, 1]."""
    return kept.to(z_e)[:, None, None]


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Which row of a codebook [K, D] each of the vectors [n, D] is nearest to, int64 [n]."""
    # in this order of operations, ties fall as they do in the references
    distance = vectors.square().sum(1, keepdim=True) - 2 * vectors @ codebook.T + codebook.square().sum(1)
    return distance.argmin(1)


@torch.no_grad()
def _nearest_rows(rows: Tensor, codebook: Tensor) -> Tensor:
    """The same of rows [B, P, D], int64 [B, P]."""
    return nearest(rows.flatten(0, 1), codebook).view(rows.shape[:2])


class ResidualVQ(nn.Module):
    """Codes [B, n, P] of latents [B, D, P] by the Euclidean distance (Zeghidour et al. 2021)."""

    codebooks: Tensor

    def __init__(self, n: int, K: int, dim: int) -> None:
        super().__init__()
        self.codebooks = nn.Parameter(torch.randn(n, K, dim))

    def encode(self, z_e: Tensor) -> Tensor:
        residual, codes = z_e.transpose(1, 2), []
        for book in self.codebooks:
            codes.append(_nearest_rows(residual, book))
            residual = residual - book[codes[-1]]
        return torch.stack(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Latents of codes [B, k, P] of the first k codebooks."""
        total = torch.zeros((), device=codes.device)
        for book, plane in zip(self.codebooks, codes.unbind(1), strict=False):
            total = total + book[plane]
        return total.transpose(1, 2)

    def forward(self, z_e: Tensor, levels: Tensor) -> tuple[Tensor, Losses]:
        """z_q [B, D, P] of the first levels int64 [B] of each item, with the gradient of z_e; and the losses."""
        residual, total, losses = z_e.transpose(1, 2), torch.zeros_like(z_e.transpose(1, 2)), none_of(z_e)
        for n, book in enumerate(self.codebooks):
            z_q, kept = book[_nearest_rows(residual, book)], levels > n
            losses = losses.plus(residual, z_q, kept)
            part = z_q.detach() * each(kept, z_q)
            residual, total = residual - part, total + part
        return straight_through(z_e, total.transpose(1, 2)), losses


class ProjectedVQ(ResidualVQ):
    """Vectors of `dim` numbers for latents [B, latent_dim, P], with a matrix to them and one back."""

    def __init__(self, n: int, K: int, dim: int, latent_dim: int) -> None:
        super().__init__(n, K, dim)
        self.input_proj = nn.Conv1d(latent_dim, dim, 1, bias=False)
        self.output_proj = nn.Conv1d(dim, latent_dim, 1, bias=False)

    def encode(self, z_e: Tensor) -> Tensor:
        return super().encode(self.input_proj(z_e))

    def decode(self, codes: Tensor) -> Tensor:
        z_q: Tensor = self.output_proj(super().decode(codes))
        return z_q

    def forward(self, z_e: Tensor, levels: Tensor) -> tuple[Tensor, Losses]:
        z_q, losses = super().forward(self.input_proj(z_e), levels)
        return self.output_proj(z_q), losses


class SplitVQ(nn.Module):
    """Two quantizers of the same latents, whose sum stands for them (Défossez et al. 2024, section 3.3).

    The codes are those of the semantic one, which learned from a model of speech, then those of the acoustic one.
    """

    def __init__(self, semantic: int, acoustic: int, K: int, dim: int, latent_dim: int) -> None:
        super().__init__()
        self.semantic = ProjectedVQ(semantic, K, dim, latent_dim)
        self.acoustic = ProjectedVQ(acoustic, K, dim, latent_dim)

    def encode(self, z_e: Tensor) -> Tensor:
        return torch.cat([self.semantic.encode(z_e), self.acoustic.encode(z_e)], 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Latents of codes [B, k, P] of the first k codebooks."""
        n = len(self.semantic.codebooks)
        z_q = self.semantic.decode(codes[:, :n])
        return z_q + self.acoustic.decode(codes[:, n:]) if codes.shape[1] > n else z_q

    def forward(self, z_e: Tensor, levels: Tensor) -> tuple[Tensor, Losses]:
        n = len(self.semantic.codebooks)
        z_q, semantic = self.semantic(z_e, levels)
        rest, acoustic = self.acoustic(z_e, levels - n)
        losses = Losses(*(a + b for a, b in zip(semantic, acoustic, strict=True)))
        return z_q + rest * each(levels > n, rest), losses


class FactorizedVQ(nn.Module):
    """Codes [B, P] of latents [B, D, P]: of a projection to few dimensions, the nearest in direction.

    Yu et al. 2022, https://arxiv.org/abs/2110.04627, section 3.2: factorized and l2-normalized codes.
    """

    def __init__(self, K: int, dim: int, code_dim: int) -> None:
        super().__init__()
        self.in_proj, self.out_proj = nn.Conv1d(dim, code_dim, 1), nn.Conv1d(code_dim, dim, 1)
        self.codebook = nn.Embedding(K, code_dim)

    def encode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Codes, and the latents that they stand for."""
        z_e = self.in_proj(latents)
        codes = self._codes(z_e)
        z_q = self.codebook(codes).transpose(1, 2)
        # by way of z_e, as where gradients pass straight through: residuals round as they do in the references
        return codes, self.out_proj(z_e + (z_q - z_e))

    def decode(self, codes: Tensor) -> Tensor:
        latents: Tensor = self.out_proj(self.codebook(codes).transpose(1, 2))
        return latents

    def forward(self, latents: Tensor, kept: Tensor, losses: Losses) -> tuple[Tensor, Losses]:
        """What stands for latents, 0 for items that do not keep this level (bool [B]); with its losses."""
        z_e = self.in_proj(latents)
        z_q = self.codebook(self._codes(z_e)).transpose(1, 2)
        out = self.out_proj(straight_through(z_e, z_q))
        return out * each(kept, out), losses.plus(z_e, z_q, kept)

    def _codes(self, z_e: Tensor) -> Tensor:
        return _nearest_rows(F.normalize(z_e.transpose(1, 2), dim=2), F.normalize(self.codebook.weight))


class ResidualFactorizedVQ(nn.Module):
    """Codes [B, n, P] of latents [B, D, P], each level with projections of its own (Kumar et al. 2023, section 3.2)."""

    def __init__(self, n: int, K: int, dim: int, code_dim: int) -> None:
        super().__init__()
        levels = nn.ModuleList(FactorizedVQ(K, dim, code_dim) for _ in range(n))
        self.quantizers: Sequence[FactorizedVQ] = levels  # type: ignore[assignment]

    def encode(self, z_e: Tensor) -> Tensor:
        residual, codes = z_e, []
        for level in self.quantizers:
            plane, latents = level.encode(residual)
            codes.append(plane)
            residual = residual - latents
        return torch.stack(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Latents of codes [B, k, P] of the first k levels."""
        total = torch.zeros((), device=codes.device)
        for level, plane in zip(self.quantizers, codes.unbind(1), strict=False):
            total = total + level.decode(plane)
        return total

    def forward(self, z_e: Tensor, levels: Tensor) -> tuple[Tensor, Losses]:
        """z_q of the first levels int64 [B] of each item, with a gradient; and the losses."""
        residual, losses = z_e, none_of(z_e)
        for n, level in enumerate(self.quantizers):
            part, losses = level(residual, levels > n, losses)
            residual = residual - part
        return z_e - residual, losses


class MultiScaleVQ(nn.Module):
    """Codes of latents [B, D, T], level by level, each for as many frames as its stride says (Siuzdak et al. 2024).

    A level codes the mean of what the ones before leave of its frames, and stands for all of them alike.
    """

    def __init__(self, strides: Sequence[int], K: int, dim: int, code_dim: int) -> None:
        super().__init__()
        self.strides = tuple(strides)
        levels = nn.ModuleList(FactorizedVQ(K, dim, code_dim) for _ in strides)
        self.quantizers: Sequence[FactorizedVQ] = levels  # type: ignore[assignment]

    def encode(self, z_e: Tensor) -> list[Tensor]:
        """Codes [B, T / stride] of each level, T a multiple of all strides."""
        residual, codes = z_e, []
        for level, stride in zip(self.quantizers, self.strides, strict=True):
            row, latents = level.encode(F.avg_pool1d(residual, stride))
            codes.append(row)
            residual = residual - latents.repeat_interleave(stride, 2)
        return codes

    def decode(self, codes: Sequence[Tensor]) -> Tensor:
        """Latents of codes of the first levels."""
        total = torch.zeros((), device=codes[0].device)
        for level, stride, row in zip(self.quantizers, self.strides, codes, strict=False):
            total = total + level.decode(row).repeat_interleave(stride, 2)
        return total

    def forward(self, z_e: Tensor, levels: Tensor) -> tuple[Tensor, Losses]:
        """z_q of the first levels int64 [B] of each item, with a gradient; and the losses."""
        residual, losses = z_e, none_of(z_e)
        for n, (level, stride) in enumerate(zip(self.quantizers, self.strides, strict=True)):
            part, losses = level(F.avg_pool1d(residual, stride), levels > n, losses)
            residual = residual - part.repeat_interleave(stride, 2)
        return z_e - residual, losses
