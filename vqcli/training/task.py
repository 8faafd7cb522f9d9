"""What all runs share: something with weights that tells the loss of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqcli.recipe import Recipe
from vqcli.training.losses import Loss


class Task(nn.Module):
    """Everything of a run with weights. `codebook_sizes` are those whose use is watched, () if none is."""

    usage: Tensor

    def __init__(self, recipe: Recipe, codebook_sizes: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.recipe, self.codebook_sizes = recipe, codebook_sizes
        counts = torch.zeros(len(codebook_sizes), max(codebook_sizes, default=0), dtype=torch.int64)
        self.register_buffer("usage", counts, persistent=False)  # of each code of each group, in this epoch

    def forward(self, *batch: Any, **_: Any) -> Loss:
        """The loss of a batch as `as_input` (tasks.py) makes it."""
        raise NotImplementedError

    def show(self, *batch: Any, **_: Any) -> tuple[np.ndarray, np.ndarray] | None:
        """Pictures of items and of what the model makes of them, uint8 [B, H, W, 3] each; None if it shows none."""
        return None

    @torch.no_grad()
    def count(self, codes: Tensor) -> None:
        """Add codes [B, groups, *grid] to the usage of the epoch."""
        groups, K = self.usage.shape
        shifted = codes + K * torch.arange(groups, device=codes.device).view(1, -1, *(1,) * (codes.dim() - 2))
        self.usage += torch.bincount(shifted.flatten(), minlength=groups * K).view(groups, K)
