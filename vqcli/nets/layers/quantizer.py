"""Continuous latents to integer codes and back.

Two quantizers share one interface, so that nets, codec and training need not distinguish them:

    quantizer(z_e, quality)        -> Quantized: z_q with a gradient, codes, loss terms
    quantizer.codes(z_e, quality)  -> codes                                 (inference)
    quantizer.lookup(codes, quality) -> z_q

`VectorQuantizer` is the paper's (section 3.1 and 3.2), with product groups and residual levels;
`ScalarQuantizer` rounds each channel to an integer (finite scalar quantization) and serves rate and distortion.
Everything here is float32 whatever the precision around it: nearest-code search and moving averages
lose codes in 16 bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.nets.layers import distributed


@dataclass(frozen=True)
class Quantized:
    """The output of a quantizer for latents `z_e` [B, D, *grid].

    z_q     [B, D, *grid], equal to the decoder's input; gradients pass straight through to z_e
    codes   [B, codebooks, *grid] int64, in 0 .. codebook_sizes[codebook] - 1
    losses  named scalar terms, already weighted, to be added to the reconstruction loss
    """

    z_q: Tensor
    codes: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)


def straight_through(z_e: Tensor, z_q: Tensor) -> Tensor:
    """The value of z_q with the gradient of z_e (section 3.2)."""
    return z_e + (z_q - z_e).detach()


def nearest_codes(rows: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest codebook entry for each row (eq. 1): rows [N, D], codebook [K, D] -> [N] int64.

    argmin |x - e|^2 = argmin |e|^2 / 2 - x.e, one matrix product; in chunks, so that the
    scores of a chunk stay in cache (2^18 floats = 1 MiB) instead of taking N x K.
    """
    half_norms = codebook.square().sum(1) / 2  # (K,)
    if rows.shape[0] == 0:
        return rows.new_zeros(0, dtype=torch.int64)
    chunk = max(1, 2**18 // codebook.shape[0])
    if torch.compiler.is_compiling():  # a graph for any number of rows has no loop over them
        return torch.addmm(half_norms, rows, codebook.T, alpha=-1).argmin(1)
    with torch.autocast(rows.device.type, enabled=False):  # a product in 16 bits chooses other codes
        scores = (torch.addmm(half_norms, part, codebook.T, alpha=-1) for part in rows.split(chunk))
        # on a CPU min takes half the time of argmin, and gives the place too
        return torch.cat([score.min(1).indices for score in scores])


class Quantizer(nn.Module):
    """The interface of both quantizers.

    dim             channels of z_e
    levels          residual levels; their codes follow each other, and the last levels can be left out
    qualities       number of whole quality steps, 0 if there is but one quality
    codebook_sizes  K of each codebook
    """

    dim: int
    levels: int
    qualities: int
    codebook_sizes: tuple[int, ...]

    def codes(self, z_e: Tensor, quality: Tensor | None = None, levels: int | None = None) -> Tensor:
        raise NotImplementedError

    def lookup(self, codes: Tensor, quality: Tensor | None = None) -> Tensor:
        raise NotImplementedError


class VectorQuantizer(Quantizer):
    """Vector quantization with codebooks [levels, groups, K, D / groups].

    dim       D, channels of z_e
    K         entries of each codebook
    groups    product groups: z_e is split along its channels, each part with a codebook of its own
    levels    residual levels: each quantizes the residual of the levels before it
    update    'ema' (eq. 6 to 8), 'loss' (second term of eq. 3) or 'frozen' (Kumar et al. 2018, section 3.3)
    beta      weight of the commitment term (eq. 3); gamma: decay of the moving averages
    init      'data' (entries are encoder outputs of the first batch) or 'uniform' (U(-1/K, 1/K))
    revive    an entry whose average count per batch falls below this share of an even use
              is replaced by an encoder output; 0 turns it off
    """

    counts: Tensor
    sums: Tensor
    initialised: Tensor

    def __init__(
        self,
        dim: int,
        K: int,
        groups: int = 1,
        levels: int = 1,
        update: str = "ema",
        beta: float = 0.25,
        gamma: float = 0.99,
        init: str = "data",
        revive: float = 0.03,
    ) -> None:
        super().__init__()
        if dim % groups:
            raise ValueError(f"{dim} channels do not split into {groups} groups")
        if update not in ("ema", "loss", "frozen") or init not in ("data", "uniform"):
            raise ValueError(f"unknown update {update!r} or init {init!r}")
        self.dim, self.K, self.product_groups, self.levels, self.qualities = dim, K, groups, levels, 0
        self.codebook_sizes = (K,) * (levels * groups)
        self.update, self.beta, self.gamma, self.init, self.revive = update, beta, gamma, init, revive
        codebook = torch.empty(levels, groups, K, dim // groups).uniform_(-1 / K, 1 / K)
        self.codebook = nn.Parameter(codebook, requires_grad=update == "loss")
        self.register_buffer("counts", torch.ones(levels, groups, K), persistent=False)
        self.register_buffer("sums", codebook.clone(), persistent=False)
        self.register_buffer("initialised", torch.tensor(False), persistent=False)

    def keep_codebook(self) -> None:
        """Begin with the codebooks as they are, whatever `init` says; counts start at an even use."""
        self.init = "given"

    def forward(self, z_e: Tensor, quality: Tensor | None = None, levels: int | None = None) -> Quantized:
        """Quantize z_e [B, D, *grid] with the first `levels` levels; in training, also update the codebooks."""
        rows = self._rows(z_e)  # (G, N, d)
        if self.training and not self.initialised and rows.shape[1]:
            self._initialise(rows.detach())
        residual, z_q, codes = rows, torch.zeros_like(rows), []
        codebook_loss = commitment = rows.new_zeros(())
        for level in range(levels or self.levels):
            index, chosen = self._quantize_level(residual, level)
            codes.append(index)
            if self.update == "loss":
                codebook_loss = codebook_loss + _mse(chosen, residual.detach())
            commitment = commitment + _mse(residual, chosen.detach())
            if self.training and self.update == "ema" and rows.shape[1]:
                self._update_averages(residual.detach(), index, level)
            z_q = z_q + chosen
            residual = residual - chosen.detach()
        losses = {"commitment": self.beta * commitment}
        if self.update == "loss":
            losses["codebook"] = codebook_loss
        return Quantized(
            straight_through(z_e.float(), self._grid(z_q.detach(), z_e)),
            self._codes_grid(torch.cat(codes), z_e),
            losses,
        )

    @torch.no_grad()
    def codes(self, z_e: Tensor, quality: Tensor | None = None, levels: int | None = None) -> Tensor:
        """Codes [B, levels * groups, *grid] of z_e [B, D, *grid]."""
        residual, codes = self._rows(z_e), []
        for level in range(levels or self.levels):
            index, chosen = self._quantize_level(residual, level)
            codes.append(index)
            residual = residual - chosen
        return self._codes_grid(torch.cat(codes), z_e)

    def lookup(self, codes: Tensor, quality: Tensor | None = None) -> Tensor:
        """z_q [B, D, *grid] of codes [B, n * groups, *grid], the first n levels (eq. 2)."""
        G = self.product_groups
        index = codes.movedim(1, 0).flatten(1)  # (n G, N)
        z_q = torch.stack(
            [
                torch.stack([self.codebook[level, group][index[level * G + group]] for group in range(G)])
                for level in range(codes.shape[1] // G)
            ]
        ).sum(0)  # (G, N, d)
        return self._grid(z_q, codes)

    def _quantize_level(self, residual: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Codes [G, N] of rows [G, N, d] and the entries [G, N, d] they stand for."""
        codebooks = self.codebook[level]
        index = torch.stack(
            [
                nearest_codes(part.detach(), codebook.detach())
                for part, codebook in zip(residual, codebooks, strict=True)
            ]
        )
        return index, torch.stack([codebook[i] for codebook, i in zip(codebooks, index, strict=True)])

    @torch.no_grad()
    def _initialise(self, rows: Tensor) -> None:
        """Initialise from the first batch: codebooks from its rows if `init` is 'data', averages at an even use."""
        if self.init == "data" and self.update != "frozen":
            residual = rows
            for level in range(self.levels):
                pick = torch.randint(distributed.count_rows(rows), (self.K,), device=rows.device)
                entries = distributed.rows_at(residual, pick)
                # a little noise separates repeated rows, or they would stay one code for ever
                spread = entries.std(dim=1, keepdim=True, correction=0) * 0.01 + 1e-6
                self.codebook.data[level] = entries + spread * torch.randn_like(entries)
                residual = residual - self._quantize_level(residual, level)[1]
        # with a count of 1, all entries would look dead after a large batch
        self.counts.fill_(distributed.count_rows(rows) / self.K)
        self.sums.copy_(self.codebook * self.counts[..., None])
        self.initialised.fill_(True)

    @torch.no_grad()
    def _update_averages(self, rows: Tensor, index: Tensor, level: int) -> None:
        """Moving averages of counts and sums, and the codebook as their quotient (eq. 6 to 8)."""
        counts, sums = self.counts[level], self.sums[level]  # (G, K), (G, K, d)
        for group, (part, i) in enumerate(zip(rows, index, strict=True)):
            batch_counts = distributed.summed(torch.bincount(i, minlength=self.K).float())
            batch_sums = distributed.summed(torch.zeros_like(sums[group]).index_add_(0, i, part))
            counts[group].lerp_(batch_counts, 1 - self.gamma)
            sums[group].lerp_(batch_sums, 1 - self.gamma)
            even_use = distributed.count_rows(rows) / self.K
            dead = (counts[group] < self.revive * even_use).nonzero()[:, 0]
            if len(dead):
                pick = torch.randint(distributed.count_rows(part), (len(dead),), device=part.device)
                # count and sum are reset together: else the old average would overwrite the new entry at once
                counts[group, dead] = even_use
                sums[group, dead] = distributed.rows_at(part, pick) * even_use
        self.codebook.data[level] = sums / counts.clamp_min(1e-6)[..., None]

    def _rows(self, z_e: Tensor) -> Tensor:
        """[B, D, *grid] -> [G, N, d] float32."""
        split = z_e.float().unflatten(1, (self.product_groups, self.dim // self.product_groups))
        return split.movedim((1, 2), (0, -1)).flatten(1, -2)

    def _grid(self, rows: Tensor, like: Tensor) -> Tensor:
        """[G, N, d] -> [B, D, *grid], B and grid as those of `like`."""
        grid = rows.unflatten(1, (like.shape[0], *like.shape[2:]))
        return grid.movedim((0, -1), (1, 2)).flatten(1, 2)

    def _codes_grid(self, index: Tensor, like: Tensor) -> Tensor:
        """[groups, N] -> [B, codebooks, *grid]."""
        return index.unflatten(1, (like.shape[0], *like.shape[2:])).movedim(0, 1)


def _mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean square, 0 for an empty batch."""
    return F.mse_loss(a, b) if a.numel() else a.sum() * 0


class ScalarQuantizer(Quantizer):
    """Each channel of z_e is a group of its own, rounded to an integer after a gain.

    The codebook of channel c is -limits[c] .. limits[c], shifted to 0 .. 2 limits[c] for the codes.
    A quality is a real number from 1 to `qualities`; the gain of each channel is learned at the whole
    numbers and interpolated geometrically between them, so one net serves all rates. The decoder
    undoes the gain with one learned apart, since the best reconstruction of a bin is not its middle.

    `gain_range` gives the gains of quality 1 and of the last one before training.
    """

    limit: Tensor

    def __init__(
        self, dim: int, limits: Sequence[int] | int, qualities: int = 1, gain_range: tuple[float, float] = (1.0, 1.0)
    ) -> None:
        super().__init__()
        limits = [limits] * dim if isinstance(limits, int) else list(limits)
        if len(limits) != dim or min(limits) < 1 or qualities < 1:
            raise ValueError("one limit of at least 1 for each channel, and at least one quality")
        self.dim, self.levels, self.qualities = dim, 1, qualities
        self.codebook_sizes = tuple(2 * limit + 1 for limit in limits)
        low, high = (math.log(gain) for gain in gain_range)
        log_gain = torch.linspace(low, high, qualities)[:, None].repeat(1, dim)
        self.log_gain = nn.Parameter(log_gain)
        self.log_inverse_gain = nn.Parameter(-log_gain.clone())
        self.register_buffer("limit", torch.tensor(limits, dtype=torch.float32), persistent=False)

    def forward(self, z_e: Tensor, quality: Tensor | None = None, levels: int | None = None) -> Quantized:
        """z_e [B, D, *grid], quality [B] in 1 .. qualities -> Quantized; rounding passes gradients straight through."""
        # no gradient beyond the limits: it would push clipped values further and further out
        scaled = self._clip(self.scale(z_e, quality))
        rounded = scaled.round()
        z_q = straight_through(scaled, rounded) * self._interpolate(self.log_inverse_gain, z_e, quality)
        return Quantized(z_q, self._to_codes(rounded))

    def scale(self, z_e: Tensor, quality: Tensor | None = None) -> Tensor:
        """z_e times its gain: what is rounded, in units of the codes."""
        return z_e.float() * self._interpolate(self.log_gain, z_e, quality)

    @torch.no_grad()
    def codes(self, z_e: Tensor, quality: Tensor | None = None, levels: int | None = None) -> Tensor:
        """Codes [B, D, *grid] of z_e [B, D, *grid]."""
        return self._to_codes(self._clip(self.scale(z_e, quality)).round())

    def lookup(self, codes: Tensor, quality: Tensor | None = None) -> Tensor:
        """z_q [B, D, *grid] of codes [B, D, *grid]."""
        rounded = codes.float() - _per_channel(self.limit, codes)
        return rounded * self._interpolate(self.log_inverse_gain, rounded, quality)

    def _clip(self, scaled: Tensor) -> Tensor:
        limit = _per_channel(self.limit, scaled)
        return scaled.clamp(-limit, limit)

    def _to_codes(self, rounded: Tensor) -> Tensor:
        return (rounded + _per_channel(self.limit, rounded)).long()

    def _interpolate(self, table: Tensor, like: Tensor, quality: Tensor | None) -> Tensor:
        """exp of `table` [qualities, D] at a real quality for each item of the batch: [B, D, 1, ...]."""
        if quality is None:
            quality = table.new_full((like.shape[0],), self.qualities)
        log_gain = interpolate_rows(table, quality - 1)  # (B, D)
        return log_gain.exp().reshape(*log_gain.shape, *(1,) * (like.dim() - 2))


def interpolate_rows(table: Tensor, at: Tensor) -> Tensor:
    """Rows of table [Q, D] at real positions `at` [B] in 0 .. Q - 1, linear between rows: [B, D]."""
    last = table.shape[0] - 1
    below = at.floor().clamp(0, max(last - 1, 0)).long()
    return torch.lerp(table[below], table[(below + 1).clamp(max=last)], (at - below).clamp(0, 1)[:, None])


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *(1,) * (like.dim() - 2))


def jitter(z_q: Tensor, share: float) -> Tensor:
    """Latents [B, D, P] where a share of the positions takes the code before or after (Chorowski et al. 2019).

    Codes that cannot rely on their neighbours describe what lasts for longer than one position: phones.
    """
    if not share or z_q.shape[2] < 2:
        return z_q
    B, _, P = z_q.shape
    step = torch.rand(B, P, device=z_q.device)
    shift = (step < share / 2).long() - (step > 1 - share / 2).long()
    place = (torch.arange(P, device=z_q.device) + shift).clamp(0, P - 1)
    return z_q.gather(2, place[:, None].expand_as(z_q))
