"""Validation: the loss on held-out items, always the same ones with the same noise."""

from __future__ import annotations

import math
import time
from typing import Any, Protocol

import numpy as np
import torch

from vqcli.recipe import Data
from vqcli.training.datasets.base import DataSet
from vqcli.training.losses import Loss

ITEMS = 128  # enough to tell better from worse, few enough to cost little of the run
SHOWN = 8


class TaskLike(Protocol):
    """What is validated: a task (tasks/base.py)."""

    def __call__(self, *batch: Any) -> Loss: ...

    def as_input(self, batch: Any, device: torch.device) -> tuple[torch.Tensor, ...]: ...

    def show(self, *batch: Any) -> tuple[np.ndarray, np.ndarray] | None: ...

    def train(self) -> Any: ...

    def eval(self) -> Any: ...


class Validation:
    """Held-out images or clips, cropped at the centre, in batches of the training size."""

    def __init__(self, held_out: DataSet, data: Data, device: torch.device, items: int = ITEMS) -> None:
        self.batch = held_out.held_out_batch(data, min(items, len(held_out)))
        self.size, self.device = data.batch, device
        self._seconds: float | None = None

    def seconds_of(self, step_s: float) -> float:
        """The time that `measure` takes: as long as last time, else half as long as training steps of `step_s`."""
        return 0.5 * step_s * math.ceil(len(self.batch) / self.size) if self._seconds is None else self._seconds

    @torch.no_grad()
    def measure(self, task: TaskLike) -> dict[str, float]:
        """Mean of the loss and its terms, by name."""
        begun = time.monotonic()
        sums: dict[str, float] = {}
        with _evaluation_mode(task, self.device):
            for start in range(0, len(self.batch), self.size):
                part = self.batch.part(start, start + self.size)
                loss = task(*task.as_input(part, self.device))
                for name, value in {"loss": loss.value, **loss.terms}.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(part)
        self._seconds = time.monotonic() - begun
        return {name: value / len(self.batch) for name, value in sums.items()}

    @torch.no_grad()
    def show(self, task: TaskLike) -> tuple[np.ndarray, np.ndarray] | None:
        """Images of some items and of their reconstructions, uint8 [B, H, W, 3] each; None if the task has none."""
        with _evaluation_mode(task, self.device):
            return task.show(*task.as_input(self.batch.part(0, SHOWN), self.device))


class _evaluation_mode:
    """Evaluation mode with a fixed seed; the random state of training is restored afterwards."""

    def __init__(self, task: TaskLike, device: torch.device) -> None:
        self._task = task
        self._random = torch.random.fork_rng([device] if device.type == "cuda" else [])

    def __enter__(self) -> None:
        self._random.__enter__()
        torch.manual_seed(0)
        self._task.eval()

    def __exit__(self, *error: object) -> None:
        self._task.train()
        self._random.__exit__(None, None, None)
