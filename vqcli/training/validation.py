"""How a run is judged: the loss on held-out pictures, always the same ones with the same noise."""

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


class Judged(Protocol):
    """What is judged: a task (tasks/base.py)."""

    def __call__(self, *batch: Any) -> Loss: ...

    def as_input(self, batch: Any, device: torch.device) -> tuple[torch.Tensor, ...]: ...

    def show(self, *batch: Any) -> tuple[np.ndarray, np.ndarray] | None: ...

    def train(self) -> Any: ...

    def eval(self) -> Any: ...


class Validation:
    """Held-out pictures or clips, cut from the middle, in batches as large as those of training."""

    def __init__(self, held_out: DataSet, data: Data, device: torch.device, items: int = ITEMS) -> None:
        self.batch = held_out.held_out_batch(data, min(items, len(held_out)))
        self.size, self.device = data.batch, device
        self._seconds: float | None = None

    def seconds_of(self, step_s: float) -> float:
        """How long `measure` takes: as it took before, else half as long as training steps of so many seconds."""
        return 0.5 * step_s * math.ceil(len(self.batch) / self.size) if self._seconds is None else self._seconds

    @torch.no_grad()
    def measure(self, task: Judged) -> dict[str, float]:
        """Mean of the loss and its terms, by name."""
        begun = time.monotonic()
        sums: dict[str, float] = {}
        with _judging(task, self.device):
            for start in range(0, len(self.batch), self.size):
                part = self.batch.part(start, start + self.size)
                loss = task(*task.as_input(part, self.device))
                for name, value in {"loss": loss.value, **loss.terms}.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(part)
        self._seconds = time.monotonic() - begun
        return {name: value / len(self.batch) for name, value in sums.items()}

    @torch.no_grad()
    def show(self, task: Judged) -> tuple[np.ndarray, np.ndarray] | None:
        """Some pictures and what the model makes of them, uint8 [B, H, W, 3] each; None if the task shows nothing."""
        with _judging(task, self.device):
            return task.show(*task.as_input(self.batch.part(0, SHOWN), self.device))


class _judging:
    """Evaluation mode with noise of its own: neither weights nor the random state of training notice."""

    def __init__(self, task: Judged, device: torch.device) -> None:
        self._task = task
        self._random = torch.random.fork_rng([device] if device.type == "cuda" else [])

    def __enter__(self) -> None:
        self._random.__enter__()
        torch.manual_seed(0)
        self._task.eval()

    def __exit__(self, *error: object) -> None:
        self._task.train()
        self._random.__exit__(None, None, None)
