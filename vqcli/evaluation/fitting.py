"""Training of the small classifiers that evaluate samples."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH = 64
WEIGHT_DECAY, WARMUP = 0.05, 0.15  # AdamW; the warm-up is a share of the run
SMOOTHING = 0.1  # of the labels


def fit(
    net: nn.Module,
    logits_of: Callable[[Tensor], Tensor],
    labels: np.ndarray,
    *,
    learning_rate: float,
    steps: int,
    seconds: float,
    progress: Callable[[float], None],
) -> int:
    """Train a classifier for `steps` or `seconds`, whichever ends first; the number of steps.

    It uses torch's random state.

    logits_of  logits [B, classes] of the items at int64 [B], with augmentation
    labels     int64 [N] of all items
    """
    device = next(net.parameters()).device
    targets = torch.from_numpy(labels).to(device)
    matrices = [weight for weight in net.parameters() if weight.dim() > 1]
    others = [weight for weight in net.parameters() if weight.dim() == 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate)
    order, step, share, begun = torch.empty(0, dtype=torch.int64), 0, 0.0, time.monotonic()
    while share < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * _one_cycle(share)
        if len(order) < min(BATCH, len(labels)):
            order = torch.randperm(len(labels))
        chosen, order = order[:BATCH].to(device), order[BATCH:]
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type in ("cpu", "cuda")):
            logits = logits_of(chosen)
        loss = F.cross_entropy(logits.float(), targets[chosen], label_smoothing=SMOOTHING)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        share = min(1.0, max(step / steps, (time.monotonic() - begun) / seconds))
        progress(share)
    return step


def _one_cycle(share: float) -> float:
    """The learning rate at a share of the run, as a share of its peak: linear warm-up, then a cosine."""
    if share < WARMUP:
        return (share + 0.01) / (WARMUP + 0.01)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (share - WARMUP) / (1 - WARMUP)))
