"""Clusters of what is heard as targets, so that codes tell of phonemes (HuBERT: Hsu et al. 2021).

Speech falls into clusters that say a little about its phonemes: first those of normalised cepstra, later those of the
net's own latents. The net learns to name the cluster of each position of clean speech from the same speech heard
through another vocal tract and with parts missing, so it has to forget the speaker and to look around. Both its
latents z_e and its codes z_q have to do it. What it learned makes better clusters, and the game begins anew.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.media import mel
from vqcli.nets.codecs.speech import MelEncoder
from vqcli.nets.layers import distributed
from vqcli.nets.layers.quantizer import nearest_codes

GATHER = 64  # steps in which rows are gathered before clusters are made of them; meanwhile there are none
ROWS = 2**15
ROUNDS = 20  # of Lloyd's algorithm
CEPSTRA = 13
AROUND = (-3, 0, 3)  # frames of 10 ms from the middle of a position


class Clusters(nn.Module):
    """Names the clusters of normalised log-mel spectra [B, bands, P * frames] from latents [B, dim, P].

    sizes  clusters in each of several clusterings: coarse and fine ones say more together
    begin  steps at which clusters are made: first of cepstra, then of the latents of the encoder as it is by then
    """

    heard: Tensor
    rows: Tensor
    scale: Tensor
    centres: Tensor
    basis: Tensor

    def __init__(self, encoder: MelEncoder, dim: int, frames: int, sizes: Sequence[int], begin: Sequence[int]) -> None:
        super().__init__()
        if not sizes or not begin or min(np.diff([0, *begin])) < GATHER:
            raise ValueError(f"clusters are made from step {GATHER} on, and again after {GATHER} steps or more")
        self.frames, self.sizes, self.begin = frames, tuple(sizes), tuple(begin)
        self.teacher = copy.deepcopy(encoder).requires_grad_(False)
        guesses = [nn.Conv1d(dim, sum(sizes), 1) for _ in range(2)]  # from z_e, from z_q
        self.guesses: Sequence[nn.Conv1d] = nn.ModuleList(guesses)  # type: ignore[assignment]
        width = max(dim, CEPSTRA * len(AROUND))
        self.register_buffer("heard", torch.tensor(0))  # steps
        self.register_buffer("rows", torch.zeros(ROWS, width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("centres", torch.zeros(sum(sizes), width))
        angles = np.outer(np.arange(CEPSTRA), np.arange(mel.BANDS) + 0.5) * np.pi / mel.BANDS
        self.register_buffer("basis", torch.from_numpy(np.cos(angles).astype(np.float32)), persistent=False)

    @torch.no_grad()
    def listen(self, clean: Tensor, encoder: MelEncoder) -> Tensor | None:
        """The clusters int64 [B, clusterings, P] of clean spectra, or None while they are being made. Counts a step."""
        self.heard += 1
        step, made = int(self.heard), sum(int(self.heard) > at for at in self.begin)
        coming = next((at for at in self.begin if at - GATHER < step <= at), 0)
        if coming:
            place = step - (coming - GATHER) - 1
            if made and not place:
                self.teacher.load_state_dict(encoder.state_dict())
            self._gather(self._features(clean, made), place)
            if step == coming:
                self._make()
            return None
        return self._named(self._features(clean, made - 1)) if made else None

    def loss(self, z_e: Tensor, z_q: Tensor, clusters: Tensor) -> Tensor:
        """Nats for each position, mean over clusterings, from latents [B, dim, P] before and after quantizing."""
        total = z_e.new_zeros(())
        for guess, z in zip(self.guesses, (z_e, z_q), strict=True):
            parts = guess(z).float().split(self.sizes, 1)
            total = total + sum(F.cross_entropy(part, clusters[:, n]) for n, part in enumerate(parts)) / len(parts)
        return total

    def _features(self, clean: Tensor, number: int) -> Tensor:
        """What the clusters of this number are made of: [B, P, width]."""
        width = self.rows.shape[1]
        if number:
            found = self.teacher(clean).float().transpose(1, 2)
        else:
            cepstra = (self.basis @ clean.float()).transpose(1, 2)  # (B, T, 13)
            T, middle = cepstra.shape[1], torch.arange(0, cepstra.shape[1], self.frames, device=clean.device)
            # the middle lies between two frames
            first = middle + self.frames // 2 - 1
            parts = [(cepstra[:, at.clamp(0, T - 1)] + cepstra[:, (at + 1).clamp(0, T - 1)]) / 2
                     for at in (first + offset for offset in AROUND)]  # fmt: skip
            found = torch.cat(parts, 2)
        return F.pad(found, (0, width - found.shape[2]))

    def _named(self, features: Tensor) -> Tensor:
        rows = (features * self.scale).flatten(0, 1)
        found = [nearest_codes(rows, centres) for centres in self.centres.split(self.sizes)]
        return torch.stack(found).unflatten(1, features.shape[:2]).transpose(0, 1)  # (B, clusterings, P)

    def _gather(self, features: Tensor, place: int) -> None:
        each = ROWS // GATHER
        rows = features.flatten(0, 1)
        # the same rows on every rank; where a batch has too few, some come twice
        chosen = torch.randint(len(rows) * distributed.world(), (each,), device=rows.device)
        self.rows[place * each : (place + 1) * each] = distributed.rows_at(rows, chosen)

    def _make(self) -> None:
        """Cluster the rows, each dimension brought to the same spread, and let the guesses start anew."""
        self.scale.copy_(1 / self.rows.std(0).clamp(min=1e-3))
        rows = self.rows * self.scale
        self.centres.copy_(torch.cat([kmeans(rows, size) for size in self.sizes]))
        for guess in self.guesses:
            guess.reset_parameters()


def kmeans(rows: Tensor, K: int) -> Tensor:
    """Centres [K, D] of rows [N, D] (Lloyd), begun far from each other (k-means++)."""
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
    """Normalised spectra [B, bands, T] with about this share of the frames set to their mean, in stretches."""
    if not share:
        return spectra
    B, _, T = spectra.shape
    length = 16  # frames: 160 ms, longer than most phonemes
    begins = distributed.rand(B, T, device=spectra.device) < share / length
    hidden = F.max_pool1d(F.pad(begins.float(), (length - 1, 0))[:, None], length, stride=1)
    return spectra * (1 - hidden)
