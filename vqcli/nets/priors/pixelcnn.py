"""A Gated PixelCNN over codes (van den Oord et al. 2016, Conditional Image Generation with PixelCNN Decoders).

Two stacks run side by side (section 2.2, figure 2). The vertical one covers the rows above a position, the horizontal
one its own row to the left; together they cover every position before it in raster order, without a blind spot.
Kernels have the shape that their masks leave: 3 x 7 and 1 x 3 at first (a 7 x 7 kernel with mask A), 2 x 3 and
1 x 2 from then on (3 x 3 with mask B), so nothing is multiplied by zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.nets.layers.gated import gate

REACH = 3  # rows above and columns to each side in the first layer's receptive field


class Layer(nn.Module):
    """One step of both stacks: xv, xh [B, C, H, W] and the condition's part [B, 4 C, H or 1, W or 1] to the next
    xv, xh (figure 2).

    first   mask A: neither stack has the position itself as input, and there is nothing to add a residual to
    last    no later layer needs the vertical stack, which ends here as None
    """

    def __init__(self, width: int, first: bool, last: bool, dropout: float) -> None:
        super().__init__()
        self.first, self.last = first, last
        self.vertical = nn.Conv2d(width, 2 * width, (REACH, 2 * REACH + 1) if first else (2, 3))
        self.across = nn.Conv2d(2 * width, 2 * width, 1)  # vertical to horizontal
        self.horizontal = nn.Conv2d(width, 2 * width, (1, REACH if first else 2), bias=False)
        self.mix = nn.Conv2d(width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, xv: Tensor, xh: Tensor, part: Tensor | None) -> tuple[Tensor | None, Tensor]:
        # (left, right, top, bottom); -1 drops the position itself
        above = F.pad(xv, (REACH, REACH, REACH, -1) if self.first else (1, 1, 1, 0))
        before = F.pad(xh, (REACH, -1, 0, 0) if self.first else (1, 0, 0, 0))
        v = self.vertical(above)  # (B, 2 C, H, W)
        h = self.across(v) + self.horizontal(before)
        if part is not None:
            for_v, for_h = part.to(v.dtype).chunk(2, 1)
            v, h = v + for_v, h + for_h
        out = self.mix(self.dropout(gate(h, 1)))
        return None if self.last else gate(v, 1), out if self.first else xh + out


class PixelCNN(nn.Module):
    """A distribution over codes [B, G, H, W], position by position in raster order, group by group at a position.

    Group g at a position is conditioned on all groups of all earlier positions, and on earlier groups at its own: their
    embeddings are added to the features before the head of group g.

    codebook_sizes  K of each group; groups may differ
    width           C, channels of each stack
    hidden          channels between the two 1 x 1 convolutions of each head
    labels          number of labels, 0 for none
    unlabelled      also learn to do without the label: it is left out at random in training, and may be None
    condition       channels of a map that conditions each position (section 2.3), 0 for none
    """

    TASK = "prior2d"  # the training run of this family (training/tasks)
    BY_CLASS, BY_QUALITY, EXACT = True, False, False  # it takes labels or qualities; it becomes integers
    CLASS_TABLES = ("label_embedding.weight",)  # a row for each class
    GRID: tuple[str, ...] = ("H", "W")  # of the codes, after batch and groups
    UNLABELLED_SHARE = 0.1  # of the items in training

    def __init__(
        self,
        codebook_sizes: Sequence[int],
        width: int = 64,
        layers: int = 12,
        hidden: int = 512,
        labels: int = 0,
        dropout: float = 0.0,
        unlabelled: bool = False,
        condition: int = 0,
    ) -> None:
        super().__init__()
        self.codebook_sizes = list(codebook_sizes)
        self.width, self.hidden, self.labels, self.condition = width, hidden, labels, condition
        self.unlabelled = unlabelled and labels > 0
        # One table for all groups: the rows of group g begin at offsets[g].
        self.offsets = [0, *accumulate(self.codebook_sizes)]
        self.embedding = nn.Embedding(self.offsets[-1], width)
        self.within = nn.Embedding(self.offsets[-2], width)  # input of later groups at the same position
        rows = labels + self.unlabelled  # the last is for no label
        self.label_embedding = nn.Embedding(rows, layers * 4 * width) if labels else None
        self.of_condition = nn.Conv2d(condition, layers * 4 * width, 1, bias=False) if condition else None
        stack = [Layer(width, n == 0, n == layers - 1, dropout) for n in range(layers)]
        heads = [nn.Sequential(nn.Conv2d(width, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, K, 1)) for K in codebook_sizes]
        self.layers: Sequence[Layer] = nn.ModuleList(stack)  # type: ignore[assignment]
        self.heads: Sequence[nn.Sequential] = nn.ModuleList(heads)  # type: ignore[assignment]
        # these are added to sums of many terms: begin small
        nn.init.normal_(self.within.weight, std=0.1)
        if self.label_embedding is not None:
            nn.init.normal_(self.label_embedding.weight, std=0.1)

    def forward(self, codes: Tensor, label: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """Logits [B, G, K, H, W] float32 of codes [B, G, H, W] int64, given label [B] int64 or a map [B, S, H, W].

        K is the largest of the groups; codes that a smaller group does not have get -inf.
        """
        rows = [codes[:, g] + offset for g, offset in enumerate(self.offsets[:-1])]  # G times (B, H, W)
        x = sum(self.embedding(row) for row in rows).permute(0, 3, 1, 2)  # (B, C, H, W)
        xv, xh = x, x
        parts = self.parts(label, condition, len(codes), codes.device)
        for n, layer in enumerate(self.layers):
            xv, xh = layer(xv, xh, None if parts is None else parts[:, n])
        logits = []
        for g, head in enumerate(self.heads):
            if g > 0:
                xh = xh + self.within(rows[g - 1]).permute(0, 3, 1, 2).to(xh.dtype)
            missing = max(self.codebook_sizes) - self.codebook_sizes[g]
            logits.append(F.pad(head(xh).float(), (0, 0, 0, 0, 0, missing), value=-torch.inf))
        return torch.stack(logits, 1)

    def parts(self, label: Tensor | None, condition: Tensor | None, batch: int, device: torch.device) -> Tensor | None:
        """The gates' conditions by label and map: [B, layers, 4 C, H or 1, W or 1], the vertical stack's 2 C first."""
        if (condition is None) != (self.of_condition is None):
            raise ValueError("this net needs a map" if condition is None else "this net takes no map")
        by_label = self._label_parts(label, batch, device)
        if self.of_condition is None or condition is None:
            return by_label
        by_map: Tensor = self.of_condition(condition).unflatten(1, (len(self.layers), -1))
        return by_map if by_label is None else by_map + by_label

    def _label_parts(self, label: Tensor | None, batch: int, device: torch.device) -> Tensor | None:
        if self.label_embedding is None:
            return None
        if label is None:
            if not self.unlabelled:
                raise ValueError("this net needs a label")
            label = torch.full((batch,), self.labels, device=device)
        elif self.training and self.unlabelled:
            left_out = torch.rand(batch, device=device) < self.UNLABELLED_SHARE
            label = label.masked_fill(left_out, self.labels)
        parts: Tensor = self.label_embedding(label).unflatten(1, (len(self.layers), -1))[..., None, None]
        return parts

    def nats(self, codes: Tensor, label: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """-log p(codes) of each item, [B], in nats."""
        logits = self(codes, label, condition).movedim(2, 1)
        return F.cross_entropy(logits, codes, reduction="none").flatten(1).sum(1)

    def loss(self, codes: Tensor, label: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """Nats for each code, on average."""
        return F.cross_entropy(self(codes, label, condition).movedim(2, 1), codes)

    def bits_per_code(self, codes: Tensor, labels: Tensor | None, quality: Tensor | None) -> Tensor:
        """Bits for each code, on average; of labels [B] if it has any, whatever the quality."""
        return self.loss(codes, labels if self.labels else None) / math.log(2)


FAMILY = PixelCNN
