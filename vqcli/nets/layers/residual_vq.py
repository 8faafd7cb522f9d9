"""Residual vector quantization of other people's codecs: each codebook codes what the ones before leave.

The codebooks are as a checkpoint has them and are not learned here; nets/layers/quantizer.py has those that are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualVQ(nn.Module):
    """Codes [B, n, P] of latents [B, D, P] by the Euclidean distance (Zeghidour et al. 2021)."""

    codebooks: Tensor

    def __init__(self, n: int, K: int, dim: int) -> None:
        super().__init__()
        self.codebooks = nn.Parameter(torch.randn(n, K, dim))

    def encode(self, z_e: Tensor) -> Tensor:
        residual, codes = z_e.transpose(1, 2), []
        for book in self.codebooks:
            flat = residual.flatten(0, 1)
            # in this order of operations, ties fall as they do in the reference
            distance = flat.square().sum(1, keepdim=True) - 2 * flat @ book.T + book.square().sum(1)
            codes.append(distance.argmin(1).view(residual.shape[:2]))
            residual = residual - book[codes[-1]]
        return torch.stack(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Latents of codes [B, k, P] of the first k codebooks."""
        total = torch.zeros((), device=codes.device)
        for book, plane in zip(self.codebooks, codes.unbind(1), strict=False):
            total = total + book[plane]
        return total.transpose(1, 2)


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
