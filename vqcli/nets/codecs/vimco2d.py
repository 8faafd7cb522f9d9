"""The baseline with categorical latents, by VIMCO's estimator (Mnih and Rezende 2016): arXiv v2, section 4.1."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from vqcli.nets.codecs.vae2d import Baseline, Bound


class CategoricalVAE(Baseline):
    """Categorical latents, `groups` at a position with K values and a codebook each; p(z) is uniform.

    The bound is log 1/S sum_s p(x, z_s) / q(z_s | x) with S = `samples` of q (Burda et al. 2016), its gradient VIMCO's
    estimate. `dim` channels of the decoder's input are split among the groups.
    """

    def __init__(self, dim: int = 64, K: int = 512, groups: int = 1, samples: int = 50, **common: Any) -> None:
        if dim % groups:
            raise ValueError(f"{dim} channels do not split into {groups} groups")
        super().__init__(groups * K, dim=dim, **common)
        self.K, self.groups, self.samples = K, groups, samples
        self.codebook = nn.Parameter(torch.randn(groups, K, dim // groups) * 0.5)

    def bound(self, x: Tensor) -> Bound:
        log_q = self.log_posterior(x)  # (B, G, h, w, K)
        codes = self.sample_codes(log_q)  # (S, B, G, h, w)
        log_q_of_code = log_q.expand(self.samples, *log_q.shape).gather(-1, codes[..., None])[..., 0]
        log_q_of = log_q_of_code.flatten(2).sum(2)  # (S, B)
        output = self.decoder(self.lookup(codes.flatten(0, 1)))
        repeated = x.expand(self.samples, *x.shape).flatten(0, 1)
        log_likelihood = self.likelihood.log_prob(output, repeated).unflatten(0, (self.samples, -1))  # (S, B)
        log_p = -codes[0, 0].numel() * math.log(self.K)
        bound, surrogate = vimco(log_likelihood + log_p - log_q_of, log_q_of)
        return Bound(bound, log_likelihood.mean(0), surrogate, output[: len(x)])

    def log_posterior(self, x: Tensor) -> Tensor:
        """log q(k | x) of each latent, [B, groups, h, w, K]."""
        return self.encoder(x).float().unflatten(1, (self.groups, self.K)).movedim(2, -1).log_softmax(-1)

    @torch.no_grad()
    def sample_codes(self, log_q: Tensor) -> Tensor:
        """Samples of all latents, int64 [samples, B, groups, h, w]."""
        rows = log_q.exp().flatten(0, -2)
        return torch.multinomial(rows, self.samples, replacement=True).T.unflatten(1, log_q.shape[:-1])

    def lookup(self, codes: Tensor) -> Tensor:
        """The decoder's input [B, dim, h, w] of codes [B, groups, h, w]."""
        parts = [self.codebook[group][codes[:, group]] for group in range(self.groups)]  # each (B, h, w, d)
        return torch.cat(parts, -1).movedim(-1, 1)


def vimco(log_w: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """The multi-sample bound and what to differentiate for it (Mnih and Rezende 2016, eq. 5 to 10): [B] each.

    log_w  [S, B], log p(x, z_s) - log q(z_s | x) of S >= 2 samples
    log_q  [S, B], log q(z_s | x), whose gradient is estimated

    Each sample's learning signal is the bound less what the bound would be had the others' geometric mean stood in its
    place: a baseline without a net of its own.
    """
    S = len(log_w)
    bound = torch.logsumexp(log_w, 0) - math.log(S)
    with torch.no_grad():
        others = (log_w.sum(0) - log_w) / (S - 1)
        replaced = log_w.expand(S, *log_w.shape).clone()  # [s, :] has entry s replaced
        places = torch.arange(S)
        replaced[places, places] = others
        signal = bound - (torch.logsumexp(replaced, 1) - math.log(S))  # (S, B)
    return bound, bound + (signal * log_q).sum(0)


FAMILY = CategoricalVAE
