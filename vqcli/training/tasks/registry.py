"""Training tasks by the names of their files in this folder (base.py has the interface)."""

from __future__ import annotations

import importlib
import pkgutil

from vqcli.errors import UsageError, near_matches
from vqcli.recipe import Recipe
from vqcli.training import tasks
from vqcli.training.tasks.base import Task
from vqcli.zoo import registry

HELPERS = ("base", "registry")  # files here that are not tasks
DEFAULT = "codec"  # of families that name none


def names() -> list[str]:
    """Names of all tasks."""
    return sorted({found.name for found in pkgutil.iter_modules(tasks.__path__)} - {*HELPERS})


def find(name: str) -> type[Task]:
    """The task in the file of that name. Raises UsageError if there is none."""
    known = names()
    if name not in known:
        raise UsageError(f"no task {name}", near_matches(name, known))
    task: type[Task] = importlib.import_module(f"{tasks.__name__}.{name}").TASK
    return task


def task_of(recipe: Recipe) -> type[Task]:
    """The task of a recipe: the one that it names, else that of its family."""
    if recipe.task is not None:
        return find(recipe.task)
    name: str = getattr(registry.family_of(recipe.model.family), "TASK", DEFAULT)
    # older recipes have no task: those that finetune a speech model have an adversary instead
    return find("finetune" if name == "speech" and recipe.adversary is not None else name)
