"""Files of a folder, by name: engines and formats."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType
from typing import Any

from vqcli.errors import UsageError, near_matches


def names(package: ModuleType) -> list[str]:
    """Of the files of a folder."""
    return sorted(each.name for each in pkgutil.iter_modules(package.__path__))


def find(package: ModuleType, name: str) -> Any:
    """The module of that name. Raises UsageError, with near matches, for one that there is not."""
    known = names(package)
    if name not in known:
        kind = package.__name__.rpartition(".")[2].removesuffix("s")
        raise UsageError(f"no {kind} {name}", near_matches(name, known))
    return import_module(f"{package.__name__}.{name}")
