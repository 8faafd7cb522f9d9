"""Training for callers in Python: a recipe by its name, data by their paths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vqcli import recipe as recipes
from vqcli.recipe import Recipe
from vqcli.training import run
from vqcli.zoo.store import ModelInfo


def train(
    recipe: str | Path | Recipe,
    data: Sequence[str | Path] | str | Path,
    output: str | Path,
    *,
    settings: Iterable[str] = (),
    **options: Any,
) -> ModelInfo | None:
    """Train a model and write it to the folder `output`, as `vq train` does.

    recipe    the name of a shipped recipe, the path of a TOML file, or a recipe
    data      folders of images or clips, recordings, archives or packs
    settings  changes to the recipe: "optimization.steps=1000"

    Other options and errors are those of `vqcli.training.run.run`: device, budget, resume, start, threads, workers,
    progress, say. Under torchrun only the first process returns the model.
    """
    chosen = recipe if isinstance(recipe, Recipe) else recipes.load(str(recipe))
    places = [data] if isinstance(data, str | Path) else data
    return run.run(recipes.override(chosen, settings), [Path(place) for place in places], Path(output), **options)
