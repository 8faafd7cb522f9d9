"""A prior over video: the codes of the next frame, given those of earlier frames and the actions (the paper, 4.4).

p(z_1 .. z_T | a) is the product of p(z_t | z_t-N .. z_t-1, a_t-N .. a_t-1), where action a_t is taken after
frame t. A convolutional net turns the earlier frames and the actions into a map, which conditions a Gated PixelCNN over
the codes of the next frame. Frames before the first one are missing, actions may be unknown: one net samples frames
from nothing, continues without actions, and with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.nets.priors.pixelcnn import PixelCNN

CONTEXT = 6  # frames, as in the paper's figure 7
MISSING = 65535  # stands for every code of a frame before the first
UNKNOWN = -1  # an action


class Block(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x)) * (1 + s) + b)), with s and b of the actions (FiLM, Perez et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, of_actions: Tensor) -> Tensor:
        """x [B, width, H, W], of_actions [B, 2 width]."""
        scale, shift = of_actions.to(x.dtype)[..., None, None].chunk(2, 1)
        return x + self.mix(F.relu(self.conv(F.relu(x)) * (1 + scale) + shift))


class FramePrior(nn.Module):
    """A distribution over the codes [B, G, H, W] of a frame.

    codebook_sizes  K of each group
    context         N, earlier frames that condition a frame
    actions         number of actions, 0 for none
    embedded        channels of the embedding of a code
    width, blocks   of the convolutional net, whose receptive field reaches blocks + 2 positions
    condition       channels of the map
    decoder         further arguments of the PixelCNN
    """

    TASK = "frames"  # the training run of this family (training/tasks)

    def __init__(
        self,
        codebook_sizes: Sequence[int],
        context: int = CONTEXT,
        actions: int = 0,
        embedded: int = 16,
        width: int = 96,
        blocks: int = 4,
        condition: int = 64,
        decoder: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.codebook_sizes = list(codebook_sizes)
        self.context, self.actions = context, actions
        self.offsets = [0, *accumulate(self.codebook_sizes)]
        self.embedding = nn.Embedding(self.offsets[-1] + 1, embedded)  # the last row is for a missing frame
        self.first = nn.Conv2d(context * embedded, width, 5, padding=2)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        # a row for each action at each place of the context; the last of a place is for an unknown action
        self.of_action = nn.Embedding(context * (actions + 1), blocks * 2 * width)
        nn.init.normal_(self.of_action.weight, std=0.1)
        self.last = nn.Conv2d(width, condition, 1)
        self.decoder = PixelCNN(self.codebook_sizes, condition=condition, **(decoder or {}))

    def condition(self, before: Tensor, actions: Tensor) -> Tensor:
        """The map [B, condition, H, W] of earlier frames and the actions after each of them.

        before   int64 [B, G, N, H, W], the last one last; MISSING where there is none
        actions  int64 [B, N]; UNKNOWN where it is not known
        """
        B, G, N, H, W = before.shape
        offsets = torch.tensor(self.offsets[:-1], device=before.device).view(1, G, 1, 1, 1)
        rows = torch.where(before == MISSING, self.offsets[-1], before + offsets)
        x = self.embedding(rows).sum(1)  # (B, N, H, W, embedded)
        x = self.first(x.permute(0, 1, 4, 2, 3).reshape(B, -1, H, W))
        known = torch.where(actions < 0, self.actions, actions)
        rows_of_place = torch.arange(N, device=before.device) * (self.actions + 1)
        film = self.of_action(known + rows_of_place).sum(1).unflatten(1, (len(self.blocks), -1))  # (B, blocks, 2 width)
        for n, block in enumerate(self.blocks):
            x = block(x, film[:, n])
        condition: Tensor = self.last(F.relu(x))
        return condition

    def nats(self, codes: Tensor, before: Tensor, actions: Tensor) -> Tensor:
        """-log p(codes of the next frame) of each item, [B], in nats."""
        return self.decoder.nats(codes, None, self.condition(before, actions))


FAMILY = FramePrior
