"""The entropy model of codes in time, in floats: trained as it is here, then rounded to the integers of
entropy/prior1d_net.py.

A group at a time, each from its first position to its last. Every step has an exact counterpart in integers: inputs are
rows of tables, activations are clipped to 0 .. CEILING, and there is neither normalisation nor division.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.entropy import prior1d_net
from vqcli.entropy.coders import EntropyNet
from vqcli.entropy.prior1d_net import groups_seen, places
from vqcli.nets.priors.exact import activation

GROUPS_OF_STEP = 8  # that learn in a step


class SequenceGroup(nn.Module):
    """Logits of the codes of one group, from the embeddings of codes coded before."""

    def __init__(
        self,
        sizes: Sequence[int],
        seen: Sequence[int],
        context: Sequence[tuple[int, int]],
        hidden: int,
        embedding: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.seen, self.group, self.places = list(seen), seen[-1], list(context)
        # the last row of each table is for positions outside the sequence
        tables = [nn.Embedding(sizes[other] + 1, embedding) for other in seen]
        for table in tables:
            nn.init.normal_(table.weight, std=0.7)
        self.tables: Sequence[nn.Embedding] = nn.ModuleList(tables)  # type: ignore[assignment]
        self.first = nn.Linear((len(self.places) + len(seen)) * embedding, hidden)
        self.hidden, self.out = nn.Linear(hidden, hidden), nn.Linear(hidden, sizes[self.group])
        self.dropout = nn.Dropout(dropout)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits [B, T, K] of codes [B, G, T], a whole sequence each, as means over it are features."""
        T, tables = codes.shape[2], dict(zip(self.seen, self.tables, strict=True))
        neighbours, means = [], []
        for other, away in self.places:
            # (left, right): negative numbers drop what lies beyond
            moved = F.pad(codes[:, other], (-away, away), value=tables[other].num_embeddings - 1)
            neighbours.append(tables[other](moved))
        for other in self.seen[:-1]:
            means.append(tables[other](codes[:, other]).mean(1, keepdim=True).expand(-1, T, -1))
        before = F.pad(tables[self.group](codes[:, self.group]), (0, 0, 1, -1)).cumsum(1)
        counts = torch.arange(T, device=codes.device).clamp(min=1)
        means.append(before / counts[:, None])
        x = torch.cat([*neighbours, *means], 2)
        x = activation(self.first(self.dropout(x)))
        x = activation(self.hidden(self.dropout(x)))
        return self.out(self.dropout(x))


class SequencePrior(nn.Module):
    """An entropy model of the codes of one stretch of time.

    codebook_sizes  K of each group
    past            earlier positions of its own group that a code is predicted from
    around          positions to each side in earlier groups that a code is predicted from
    earlier         groups before its own that a code is predicted from: the first one and the nearest others
    hidden          channels of the perceptrons
    embedding       channels for each known code
    dropout         share of inputs and channels left out in training
    """

    TASK = "prior1d"  # the training run of this family (training/tasks)
    BY_CLASS, BY_QUALITY, EXACT = False, False, True  # it takes labels or qualities; it becomes integers

    def __init__(
        self,
        codebook_sizes: Sequence[int],
        past: int = 4,
        around: int = 2,
        earlier: int = 6,
        hidden: int = 192,
        embedding: int = 24,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if past < 1 or around < 0 or earlier < 1:
            raise ValueError("a code is predicted from at least the one before it, and the group before")
        self.codebook_sizes, self.past, self.around, self.earlier = tuple(codebook_sizes), past, around, earlier
        contexts = [places(group, past, around, earlier) for group in range(len(codebook_sizes))]
        modules = [
            SequenceGroup(codebook_sizes, groups_seen(group, earlier), context, hidden, embedding, dropout)
            for group, context in enumerate(contexts)
        ]
        self.groups: Sequence[SequenceGroup] = nn.ModuleList(modules)  # type: ignore[assignment]

    def loss(self, codes: Tensor) -> Tensor:
        """Bits for each code, on average: codes int64 [B, G, T]. In training those of a few groups, drawn anew for each
        step, so that a step of a codec of many codebooks takes no more memory and time than one of few."""
        G = len(self.groups)
        if self.training and G > GROUPS_OF_STEP:
            return self.bits(codes, torch.randperm(G)[:GROUPS_OF_STEP].tolist()).mean()
        return self.bits(codes).mean()

    def bits_per_code(self, codes: Tensor, labels: Tensor | None, quality: Tensor | None) -> Tensor:
        """As `loss`, whatever labels and quality."""
        return self.loss(codes)

    def bits(self, codes: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """Bits for a code of each group, or of some, on average: [G]."""
        chosen = range(len(self.groups)) if groups is None else groups
        with torch.autocast(codes.device.type, enabled=False):
            nats = [F.cross_entropy(self.groups[g](codes).flatten(0, 1), codes[:, g].flatten()) for g in chosen]
        return torch.stack(nats) / math.log(2)

    @staticmethod
    def integer_net(arrays: Mapping[str, np.ndarray], codebook_sizes: Sequence[int]) -> EntropyNet:
        """The net in integers that files hold (`rounding.py` makes it). Raises ValueError for unsound arrays."""
        return prior1d_net.from_arrays(arrays, codebook_sizes)


FAMILY = SequencePrior
