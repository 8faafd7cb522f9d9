"""Cluster targets for the encoder, so that codes follow phonemes (HuBERT: Hsu et al. 2021).

Targets are clusters, which correlate with phonemes: first of normalised cepstra, later of the net's own latents, or of
one of its hidden layers: in HuBERT those in the middle tell most of phonemes. The clusters of clean speech are
predicted from the same speech warped to another vocal tract length and with masked parts, so the encoder has to discard
the speaker and to use context. They are predicted from both z_e and z_q. Clusters are fitted again a few times, to the
encoder by then.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.errors import UsageError
from vqcli.media import mel
from vqcli.nets.codecs.speech import MelEncoder
from vqcli.nets.layers import distributed
from vqcli.nets.layers.quantizer import nearest_codes
from vqcli.training.speech.discriminants import discriminants

GATHER = 64  # steps in which rows are gathered before clusters are fitted to them; meanwhile there are none
ROWS = 2**15
ROUNDS = 20  # of Lloyd's algorithm
CEPSTRA = 13
AROUND = (-3, 0, 3)  # frames of 10 ms from the middle of a position
CONTEXT = (-12, -9, -6, -4, -2, 0, 2, 4, 6, 9, 12)  # for discriminants
BEGIN = (-4, 0, 4)  # of these, for their first clusters


class Clusters(nn.Module):
    """Predicts the clusters of normalised log-mel spectra [B, bands, P * frames] from latents [B, dim, P].

    sizes  clusters in each of several clusterings, coarse and fine
    begin  steps at which clusters are fitted: first to cepstra, then to the encoder at that step
    layer  block of the encoder whose output they are fitted to (MelEncoder.hidden); 0 for its latents
    directions  number of discriminants of cepstra in context (discriminants.py) that the first are fitted to; 0 for
                cepstra themselves
    """

    heard: Tensor
    rows: Tensor
    scale: Tensor
    centres: Tensor
    basis: Tensor
    directions: Tensor

    def __init__(
        self,
        encoder: MelEncoder,
        dim: int,
        frames: int,
        sizes: Sequence[int],
        begin: Sequence[int],
        layer: int = 0,
        directions: int = 0,
    ) -> None:
        super().__init__()
        if not sizes or not begin or min(np.diff([0, *begin])) < GATHER:
            raise UsageError(f"clusters are fitted from step {GATHER} on, and again after {GATHER} steps or more")
        if not 0 <= layer <= len(encoder.after.blocks):
            raise UsageError(f"the encoder has {len(encoder.after.blocks)} blocks at positions, and no block {layer}")
        if not 0 <= directions <= CEPSTRA * len(CONTEXT):
            raise UsageError(f"there are 1 to {CEPSTRA * len(CONTEXT)} discriminants, or none")
        self.frames, self.sizes, self.begin, self.layer = frames, tuple(sizes), tuple(begin), layer
        self.teacher = copy.deepcopy(encoder).requires_grad_(False)
        heads = [nn.Conv1d(dim, sum(sizes), 1) for _ in range(2)]  # from z_e, from z_q
        self.guesses: Sequence[nn.Conv1d] = nn.ModuleList(heads)  # type: ignore[assignment]
        self.around = CONTEXT if directions else AROUND
        width = max(encoder.out.in_features if layer else dim, CEPSTRA * len(self.around))
        self.discriminants = directions
        if directions:  # columns of 0 after the first of them
            self.register_buffer("directions", torch.zeros(width, width))
        self.register_buffer("heard", torch.tensor(0))  # number of steps
        self.register_buffer("rows", torch.zeros(ROWS, width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("centres", torch.zeros(sum(sizes), width))
        angles = np.outer(np.arange(CEPSTRA), np.arange(mel.BANDS) + 0.5) * np.pi / mel.BANDS
        self.register_buffer("basis", torch.from_numpy(np.cos(angles).astype(np.float32)), persistent=False)

    @torch.no_grad()
    def step(self, clean: Tensor, encoder: MelEncoder) -> Tensor | None:
        """Count a step; the clusters int64 [B, clusterings, P] of clean spectra, or None while they are fitted."""
        self.heard += 1
        step, fitted = int(self.heard), sum(int(self.heard) > at for at in self.begin)
        coming = next((at for at in self.begin if at - GATHER < step <= at), 0)
        if coming:
            place = step - (coming - GATHER) - 1
            if fitted and not place:
                self.teacher.load_state_dict(encoder.state_dict())
            self._gather(self._features(clean, fitted), place)
            if step == coming:
                self._fit(first=not fitted)
            return None
        return self._assign(self._features(clean, fitted - 1), first=fitted == 1) if fitted else None

    def loss(self, z_e: Tensor, z_q: Tensor, clusters: Tensor) -> Tensor:
        """Cross-entropy in nats per position, mean over clusterings, from latents z_e and z_q [B, dim, P]."""
        total = z_e.new_zeros(())
        for head, z in zip(self.guesses, (z_e, z_q), strict=True):
            parts = head(z).float().split(self.sizes, 1)
            total = total + sum(F.cross_entropy(part, clusters[:, n]) for n, part in enumerate(parts)) / len(parts)
        return total

    def _features(self, clean: Tensor, number: int) -> Tensor:
        """The features that the `number`-th clusters are fitted to: [B, P, width]."""
        width = self.rows.shape[1]
        if number:
            found = self.teacher.hidden(clean, self.layer) if self.layer else self.teacher(clean)
            features = found.float().transpose(1, 2)
        else:
            cepstra = (self.basis @ clean.float()).transpose(1, 2)  # (B, T, 13)
            if self.discriminants:  # they follow differences between recordings where these are left
                cepstra = (cepstra - cepstra.mean(1, keepdim=True)) / (cepstra.std(1, keepdim=True) + 1e-3)
            T, middle = cepstra.shape[1], torch.arange(0, cepstra.shape[1], self.frames, device=clean.device)
            # the middle lies between two frames
            first = middle + self.frames // 2 - 1
            parts = [(cepstra[:, at.clamp(0, T - 1)] + cepstra[:, (at + 1).clamp(0, T - 1)]) / 2
                     for at in (first + offset for offset in self.around)]  # fmt: skip
            features = torch.cat(parts, 2)
        return F.pad(features, (0, width - features.shape[2]))

    def _assign(self, features: Tensor, first: bool) -> Tensor:
        rows = (features * self.scale).flatten(0, 1)
        if first and self.discriminants:
            rows = rows @ self.directions
        found = [nearest_codes(rows, centres) for centres in self.centres.split(self.sizes)]
        return torch.stack(found).unflatten(1, features.shape[:2]).transpose(0, 1)  # (B, clusterings, P)

    def _gather(self, features: Tensor, place: int) -> None:
        each = ROWS // GATHER
        rows = features.flatten(0, 1)
        # the same rows on every rank; small batches give some of them twice
        chosen = torch.randint(len(rows) * distributed.world(), (each,), device=rows.device)
        self.rows[place * each : (place + 1) * each] = distributed.rows_at(rows, chosen)

    def _fit(self, first: bool) -> None:
        """Cluster the rows, each dimension scaled to unit variance, and reset the heads."""
        self.scale.copy_(1 / self.rows.std(0).clamp(min=1e-3))
        rows = self.rows * self.scale
        if first and self.discriminants:
            used = rows[:, : CEPSTRA * len(CONTEXT)]
            nearest = used.unflatten(1, (-1, CEPSTRA))[:, [CONTEXT.index(at) for at in BEGIN]].flatten(1)
            directions = discriminants(used, nearest, self.discriminants, kmeans)
            self.directions[: used.shape[1], : self.discriminants] = directions
            rows = rows @ self.directions
        self.centres.copy_(torch.cat([kmeans(rows, size) for size in self.sizes]))
        for head in self.guesses:
            head.reset_parameters()


def kmeans(rows: Tensor, K: int) -> Tensor:
    """Centres [K, D] of rows [N, D] (Lloyd), initialised by k-means++."""
    centres = [rows[int(torch.randint(len(rows), ()))]]
    nearest = (rows - centres[0]).square().sum(1)
    while len(centres) < K:
        centres.append(rows[torch.multinomial(nearest + 1e-9, 1)[0]])
        nearest = torch.minimum(nearest, (rows - centres[-1]).square().sum(1))
    found = torch.stack(centres)
    for _ in range(ROUNDS):
        codes = nearest_codes(rows, found)
        counts = torch.bincount(codes, minlength=K)[:, None]
        sums = torch.zeros_like(found).index_add_(0, codes, rows)
        found = torch.where(counts > 0, sums / counts.clamp(min=1), found)
    return found


def masked(spectra: Tensor, share: float) -> Tensor:
    """Normalised spectra [B, bands, T] with about this share of the frames set to their mean, in runs."""
    if not share:
        return spectra
    B, _, T = spectra.shape
    length = 16  # frames: 160 ms, longer than most phonemes
    begins = distributed.rand(B, T, device=spectra.device) < share / length
    hidden = F.max_pool1d(F.pad(begins.float(), (length - 1, 0))[:, None], length, stride=1)
    return spectra * (1 - hidden)
