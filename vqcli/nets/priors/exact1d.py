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
from vqcli.entropy.prior1d_net import places
from vqcli.nets.priors.exact import activation


class SequenceGroup(nn.Module):
    """Logits of the codes of one group, from the embeddings of codes coded before."""

    def __init__(
        self, group: int, sizes: Sequence[int], past: int, around: int, hidden: int, embedding: int, dropout: float
    ) -> None:
        super().__init__()
        self.group, self.places = group, places(group, past, around)
        # the last row of each table is for positions outside the sequence
        tables = [nn.Embedding(K + 1, embedding) for K in sizes[: group + 1]]
        for table in tables:
            nn.init.normal_(table.weight, std=0.7)
        self.tables: Sequence[nn.Embedding] = nn.ModuleList(tables)  # type: ignore[assignment]
        self.first = nn.Linear((len(self.places) + group + 1) * embedding, hidden)
        self.hidden, self.out = nn.Linear(hidden, hidden), nn.Linear(hidden, sizes[group])
        self.dropout = nn.Dropout(dropout)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits [B, T, K] of codes [B, G, T], a whole sequence each, as means over it are features."""
        T = codes.shape[2]
        neighbours, means = [], []
        for other, away in self.places:
            # (left, right): negative numbers drop what lies beyond
            moved = F.pad(codes[:, other], (-away, away), value=self.tables[other].num_embeddings - 1)
            neighbours.append(self.tables[other](moved))
        for other in range(self.group):
            means.append(self.tables[other](codes[:, other]).mean(1, keepdim=True).expand(-1, T, -1))
        before = F.pad(self.tables[self.group](codes[:, self.group]), (0, 0, 1, -1)).cumsum(1)
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
        hidden: int = 192,
        embedding: int = 24,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if past < 1 or around < 0:
            raise ValueError("a code is predicted from at least the one before it")
        self.codebook_sizes, self.past, self.around = tuple(codebook_sizes), past, around
        modules = [
            SequenceGroup(group, codebook_sizes, past, around, hidden, embedding, dropout)
            for group in range(len(codebook_sizes))
        ]
        self.groups: Sequence[SequenceGroup] = nn.ModuleList(modules)  # type: ignore[assignment]

    def loss(self, codes: Tensor) -> Tensor:
        """Bits for each code, on average: codes int64 [B, G, T]."""
        return self.bits(codes).mean()

    def bits_per_code(self, codes: Tensor, labels: Tensor | None, quality: Tensor | None) -> Tensor:
        """As `loss`, whatever labels and quality."""
        return self.loss(codes)

    def bits(self, codes: Tensor) -> Tensor:
        """Bits for a code of each group, on average: [G]."""
        with torch.autocast(codes.device.type, enabled=False):
            nats = [
                F.cross_entropy(part(codes).flatten(0, 1), codes[:, g].flatten()) for g, part in enumerate(self.groups)
            ]
        return torch.stack(nats) / math.log(2)

    @staticmethod
    def integer_net(arrays: Mapping[str, np.ndarray], codebook_sizes: Sequence[int]) -> EntropyNet:
        """The net in integers that files hold (`rounding.py` makes it). Raises ValueError for unsound arrays."""
        return prior1d_net.from_arrays(arrays, codebook_sizes)


FAMILY = SequencePrior
