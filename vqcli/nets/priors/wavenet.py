"""A WaveNet over codes in time: a distribution to sample speech from (section 4.3).

The trunk is causal over positions; the groups of a position follow one another, each with a small head that is
conditioned on the groups before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.nets.layers.wavenet_stack import GatedStack


class WaveNetPrior(nn.Module):
    """A distribution over codes [B, G, T], position by position, group by group at a position.

    codebook_sizes            K of each group; groups may differ
    residual, skip            channels of the stack (nets/layers/wavenet_stack.py)
    cycles, layers_per_cycle  repetitions of the dilations 1, 2, 4 .. 2^(layers_per_cycle - 1)
    hidden                    channels of each head
    labels                    number of labels, as of speakers; 0 for none
    unlabelled                also learn to do without the label: it is left out at random in training, and may be None
    dropout                   share of channels left out in training, before the stack and before the heads
    """

    TASK = "prior1d"  # the training run of this family (training/tasks)
    BY_CLASS, BY_QUALITY, EXACT = True, False, False  # it takes labels or qualities; it becomes integers
    CLASS_TABLES = ("label_embedding.weight",)  # a row for each class
    GRID: tuple[str, ...] = ("T",)  # of the codes, after batch and groups
    condition = 0  # it takes no map
    UNLABELLED_SHARE = 0.1  # of the items in training

    def __init__(
        self,
        codebook_sizes: Sequence[int],
        residual: int = 96,
        skip: int = 192,
        cycles: int = 2,
        layers_per_cycle: int = 6,
        hidden: int = 192,
        labels: int = 0,
        label_dim: int = 32,
        dropout: float = 0.0,
        unlabelled: bool = False,
    ) -> None:
        super().__init__()
        self.codebook_sizes = list(codebook_sizes)
        self.labels, self.unlabelled = labels, unlabelled and labels > 0
        # One table for all groups: the rows of group g begin at offsets[g].
        self.offsets = [0, *accumulate(self.codebook_sizes)]
        self.embedding = nn.Embedding(self.offsets[-1], residual)
        self.within = nn.Embedding(self.offsets[-2], hidden)  # input of later groups at the same position
        rows = labels + self.unlabelled  # the last is for no label
        self.label_embedding = nn.Embedding(rows, label_dim) if labels else None
        dilations = [2**n for _ in range(cycles) for n in range(layers_per_cycle)]
        self.stack = GatedStack(residual, skip, dilations, globals_=label_dim if labels else 0)
        groups = len(self.codebook_sizes)
        self.inner = nn.Linear(skip, groups * hidden)  # of all heads at once
        outer = [nn.Linear(hidden, K) for K in codebook_sizes]
        self.outer: Sequence[nn.Linear] = nn.ModuleList(outer)  # type: ignore[assignment]
        self.dropout = nn.Dropout(dropout)
        for table in (self.embedding, self.within):  # these are added to sums of many terms: begin small
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, codes: Tensor, label: Tensor | None = None) -> Tensor:
        """Logits [B, G, K, T] float32 of codes [B, G, T] int64, given label [B] int64.

        K is the largest of the groups; codes that a smaller group does not have get -inf.
        """
        logits = [
            F.pad(part.transpose(1, 2), (0, 0, 0, max(self.codebook_sizes) - part.shape[2]), value=-torch.inf)
            for part in self.logits(codes, label)
        ]
        return torch.stack(logits, 1)

    def logits(self, codes: Tensor, label: Tensor | None = None) -> list[Tensor]:
        """Logits [B, T, K] float32 for each group."""
        rows = self.rows(codes)
        previous = F.pad(self.embed(rows).transpose(1, 2), (1, -1))  # (B, R, T), of the position before each
        skips = self.stack(self.dropout(previous), global_=self.label_features(label, len(codes), codes.device))
        inner = self.inner(self.dropout(F.relu(skips.transpose(1, 2))))  # (B, T, G hidden)
        earlier_groups = torch.zeros((), device=codes.device)
        logits = []
        for g, x in enumerate(inner.chunk(len(self.outer), 2)):
            if g > 0:
                earlier_groups = earlier_groups + self.within(rows[:, g - 1]).to(x.dtype)
            logits.append(self.outer[g](self.dropout(F.relu(x + earlier_groups))).float())
        return logits

    def rows(self, codes: Tensor) -> Tensor:
        """Codes [B, G, ...] -> their rows in the table of embeddings."""
        offsets = torch.tensor(self.offsets[:-1], device=codes.device)
        return codes + offsets.view(-1, *(1,) * (codes.dim() - 2))

    def embed(self, rows: Tensor) -> Tensor:
        """The sum of the embeddings of all groups: rows [B, G, ...] -> [B, ..., R]."""
        return self.embedding(rows).sum(1)

    def label_features(self, label: Tensor | None, batch: int, device: torch.device) -> Tensor | None:
        """The stack's global condition [B, label_dim], None for a net without labels."""
        if self.label_embedding is None:
            return None
        if label is None:
            if not self.unlabelled:
                raise ValueError("this net needs a label")
            label = torch.full((batch,), self.labels, device=device)
        elif self.training and self.unlabelled:
            left_out = torch.rand(batch, device=device) < self.UNLABELLED_SHARE
            label = label.masked_fill(left_out, self.labels)
        return self.label_embedding(label)

    def loss(self, codes: Tensor, label: Tensor | None = None) -> Tensor:
        """Nats for each code, on average."""
        nats = [
            F.cross_entropy(part.flatten(0, 1), codes[:, g].flatten())
            for g, part in enumerate(self.logits(codes, label))
        ]
        return torch.stack(nats).mean()

    def bits_per_code(self, codes: Tensor, labels: Tensor | None, quality: Tensor | None) -> Tensor:
        """Bits for each code, on average; of labels [B] if it has any, whatever the quality."""
        return self.loss(codes, labels if self.labels else None) / math.log(2)


FAMILY = WaveNetPrior
