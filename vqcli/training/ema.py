"""The exponential moving average of the weights, which becomes the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class EMA:
    """Averages of the trainable parameters of a module, with a decay that grows up to `decay`."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.learned = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.tensors = {name: parameter.detach().clone() for name, parameter in self.learned.items()}
        self.decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update after step `step` (from 1): over few steps early on, later over 1 / (1 - decay) steps."""
        decay = min(self.decay, step / (step + 10))
        torch._foreach_lerp_(list(self.tensors.values()), list(self.learned.values()), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Swap the averages into the module within the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self.learned.items():
            kept = parameter.clone()
            parameter.copy_(self.tensors[name])
            self.tensors[name].copy_(kept)
