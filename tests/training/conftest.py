"""Tiny runs: a recipe of each kind, and a run as the loop sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vqcli import recipe
from vqcli.data.dataset import Dataset
from vqcli.data.shapes import Shapes
from vqcli.recipe import Recipe
from vqcli.training import checkpoint, loop
from vqcli.training.log import RunLog
from vqcli.training.tasks import registry
from vqcli.training.tasks.base import Task
from vqcli.training.validation import Validation
from vqcli.zoo.loading import LoadedModel

CPU = torch.device("cpu")

VECTOR = b"""
description = "tiny"
modality = "image"
[model]
family = "vqvae2d"
[model.arguments]
widths = [16, 32]
dim = 8
blocks = 1
quantizer = { kind = "vector", K = 16 }
[data]
crop = 32
batch = 16
[optimization]
steps = 60
learning_rate = 1e-2
warmup = 5
average = 0.9
validate_every = 20
"""

SCALAR = (
    VECTOR.replace(b'{ kind = "vector", K = 16 }', b'{ kind = "scalar", limits = 20, qualities = 3 }') + b"[rate]\n"
)


def of(text: bytes, *settings: str) -> Recipe:
    return recipe.override(recipe.parse(text, "test"), settings)


def begin(chosen: Recipe, codec: LoadedModel | None, dataset: Any) -> Task:
    """The task of a recipe, as a run makes it."""
    return registry.task_of(chosen).build(chosen, codec, dataset)


def train(chosen: Recipe, folder: Path, **options: Any) -> tuple[Task, loop.State]:
    """A run of the loop over made shapes, on one thread."""
    folder.mkdir(exist_ok=True)
    shapes = Shapes(count=400)
    torch.manual_seed(chosen.optimization.seed)
    task = begin(chosen, None, Dataset(shapes, held_out=False))
    validation = Validation(Dataset(shapes, held_out=True), chosen.data, CPU)
    precision = chosen.optimization.precision
    state = loop.State(threads=1, precision="float32" if precision == "auto" else precision)
    resumed_at = checkpoint.metadata_of(folder)[1]["step"] if options.get("resume") else None
    with RunLog(folder, resumed_at) as journal:
        loop.train(task, Dataset(shapes, held_out=False), validation, folder, state, journal, device=CPU, **options)
    return task, state


@pytest.fixture
def stop_at() -> Callable[[int], Callable[[loop.Progress], None]]:
    """stop_at(step): a callback that interrupts the run at that step."""

    def make(step: int) -> Callable[[loop.Progress], None]:
        def at_step(progress: loop.Progress) -> None:
            if progress.step >= step:
                raise KeyboardInterrupt

        return at_step

    return make
