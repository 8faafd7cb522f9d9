"""A finished run, for the exports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from vqcli.training.budget import Budget
from vqcli.training.datasets.base import DataSet
from vqcli.training.validation import TaskLike, Validation

Data = TypeVar("Data", bound=DataSet)


@dataclass(frozen=True)
class FinishedRun(Generic[Data]):
    """Everything but the weights that an export needs.

    held_out, validation  None if there are too few data to hold any out
    folder                of model or prior, and card
    description           for the header: family, arguments, modality, recipe, name, steps, time, machine; an export
                          extends it
    budget                limits how many items are counted and measured, at least one of each
    say                   takes lines for the terminal: what came out
    """

    dataset: Data
    held_out: Data | None
    validation: Validation | None
    folder: Path
    description: dict[str, Any]
    budget: Budget
    say: Callable[[str], None] = lambda line: None

    def examples(self, task: TaskLike) -> tuple[np.ndarray, np.ndarray] | None:
        """Images of held-out items and their reconstructions, as `Validation.show`."""
        return None if self.validation is None else self.validation.show(task)
