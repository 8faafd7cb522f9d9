"""A run that is over, as exports see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from vqcli.training.budget import Budget
from vqcli.training.datasets.base import DataSet
from vqcli.training.validation import Judged, Validation

Data = TypeVar("Data", bound=DataSet)


@dataclass(frozen=True)
class Finished(Generic[Data]):
    """What becomes a model, beside the weights.

    held_out, validation  None if the data are too few for any to be held out
    folder                where model or prior, and card, go
    description           for the header: family, arguments, modality, recipe, name, steps, time, machine; an export
                          makes its own of it
    budget                as much is counted and measured as there is time for, and at least something of each
    """

    dataset: Data
    held_out: Data | None
    validation: Validation | None
    folder: Path
    description: dict[str, Any]
    budget: Budget

    def shown(self, task: Judged) -> tuple[np.ndarray, np.ndarray] | None:
        """Held-out items and what the task makes of them, as `Validation.show`."""
        return None if self.validation is None else self.validation.show(task)
