"""The baselines of section 4.1: the same encoder and decoder with other latents between them.

    ContinuousVAE    a Gaussian posterior, by the reparameterisation trick (Kingma and Welling 2014)
    CategoricalVAE   categorical latents, by VIMCO's estimator (Mnih and Rezende 2016)

They bound the likelihood that the VQ-VAE is compared by, and have no codes to write into files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from vqcli.errors import ModelError
from vqcli.nets import likelihood as likelihoods
from vqcli.nets.convnet2d import Shape
from vqcli.nets.looks_linear import begin_linear


@dataclass(frozen=True)
class Bound:
    """A lower bound on log p(x) in nats, for each picture.

    value           [B], the bound
    log_likelihood  [B], E_q log p(x | z), what the decoder has in it
    surrogate       [B], whose gradient is that of the bound, or an estimate of it
    made            [B, numbers, H, W] by the decoder, of one z
    """

    value: Tensor
    log_likelihood: Tensor
    surrogate: Tensor
    made: Tensor


class Baseline(nn.Module):
    """What both have; arguments as ImageVQVAE has them. `out` are the numbers that the encoder makes at a position."""

    codebook_sizes: tuple[int, ...] = ()
    levels = 1

    def __init__(
        self,
        out: int,
        widths: Sequence[int] = (256, 256),
        dim: int = 64,
        blocks: int = 2,
        kernel: int = 4,
        activation: str = "relu",
        normalised: bool = False,
        linear_start: float = 0.0,
        channels: int = 3,
        likelihood: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        made = likelihoods.make(channels, likelihood or {"kind": "gaussian"})
        assert made is not None
        shape = Shape(tuple(widths), dim, kernel, activation, normalised)
        self.likelihood, self.channels, self.stride = made, channels, shape.stride
        self.encoder = shape.encoder(channels, blocks, out)
        self.decoder = shape.decoder(self.likelihood.numbers, blocks, exact=False)
        if linear_start:
            begin_linear(self.encoder, self.decoder, channels, self.likelihood, gain=linear_start)

    @property
    def quantizer(self) -> NoReturn:
        """What all that codes pictures asks a model for first."""
        raise ModelError("the model has no codes: it is a baseline for likelihoods", "vq eval likelihood measures it")

    def bound(self, x: Tensor) -> Bound:
        """The bound for pictures x [B, channels, H, W] in -0.5 .. 0.5, with fresh samples from the posterior."""
        raise NotImplementedError

    def picture(self, made: Tensor) -> Tensor:
        """The picture [B, channels, H, W] of what the decoder made."""
        return self.likelihood.mean(made)


class ContinuousVAE(Baseline):
    """q(z | x) = N(mean, scale^2) of `dim` numbers at each position, p(z) = N(0, 1)."""

    LOG_SCALES = (-7.0, 3.0)

    def __init__(self, dim: int = 64, **common: Any) -> None:
        super().__init__(2 * dim, dim=dim, **common)

    def bound(self, x: Tensor) -> Bound:
        mean, log_scale = self.encoder(x).float().chunk(2, 1)
        log_scale = log_scale.clamp(*self.LOG_SCALES)
        z = mean + log_scale.exp() * torch.randn_like(mean)
        made = self.decoder(z)
        log_likelihood = self.likelihood.log_prob(made, x)
        # KL(q || p) in closed form (appendix B of Kingma and Welling)
        divergence = (mean.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).flatten(1).sum(1) / 2
        value = log_likelihood - divergence
        return Bound(value, log_likelihood, value, made)


class CategoricalVAE(Baseline):
    """Categorical latents, `groups` at a position with K values and a codebook each; p(z) is uniform.

    The bound is log 1/S sum_s p(x, z_s) / q(z_s | x) with S = `samples` draws from q (Burda et al. 2016), its gradient
    VIMCO's estimate. `dim` channels of the decoder's input are split among the groups.
    """

    def __init__(self, dim: int = 64, K: int = 512, groups: int = 1, samples: int = 50, **common: Any) -> None:
        if dim % groups:
            raise ValueError(f"{dim} channels do not split into {groups} groups")
        super().__init__(groups * K, dim=dim, **common)
        self.K, self.groups, self.samples = K, groups, samples
        self.codebook = nn.Parameter(torch.randn(groups, K, dim // groups) * 0.5)

    def bound(self, x: Tensor) -> Bound:
        log_q = self.log_posterior(x)  # (B, G, h, w, K)
        codes = self.draw(log_q)  # (S, B, G, h, w)
        each = log_q.expand(self.samples, *log_q.shape).gather(-1, codes[..., None])[..., 0]
        log_q_of = each.flatten(2).sum(2)  # (S, B)
        made = self.decoder(self.lookup(codes.flatten(0, 1)))
        many = x.expand(self.samples, *x.shape).flatten(0, 1)
        log_likelihood = self.likelihood.log_prob(made, many).unflatten(0, (self.samples, -1))  # (S, B)
        log_p = -codes[0, 0].numel() * math.log(self.K)
        bound, surrogate = vimco(log_likelihood + log_p - log_q_of, log_q_of)
        return Bound(bound, log_likelihood.mean(0), surrogate, made[: len(x)])

    def log_posterior(self, x: Tensor) -> Tensor:
        """log q(k | x) of each latent, [B, groups, h, w, K]."""
        return self.encoder(x).float().unflatten(1, (self.groups, self.K)).movedim(2, -1).log_softmax(-1)

    @torch.no_grad()
    def draw(self, log_q: Tensor) -> Tensor:
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
    log_q  [S, B], log q(z_s | x), through which the samples were chosen

    Each sample's learning signal is the bound less what the bound would be had the others' geometric mean stood in its
    place: a baseline that needs no net of its own.
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
