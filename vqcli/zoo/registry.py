"""Architectures by the names that the headers of models and priors have for them.

A family is a file of vqcli/nets/codecs or vqcli/nets/priors, `FAMILY` in it is its class.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vqcli.errors import ModelError, VqError, near_matches, of_memory
from vqcli.nets import codecs, priors

if TYPE_CHECKING:
    from vqcli.nets.codecs.checkpoint import Checkpoint, Imported


def families() -> dict[str, Any]:
    """All classes by name. It imports every file of the two folders, which takes a while."""
    found = {name: getattr(import_module(place), "FAMILY", None) for name, place in _files().items()}
    return {name: family for name, family in found.items() if family is not None}


def family_of(name: str) -> Any:
    """The class of that name. Raises ModelError with near matches."""
    place = _files().get(name) if isinstance(name, str) else None
    family = getattr(import_module(place), "FAMILY", None) if place else None
    if family is None:
        raise ModelError(f"no family {name}", near_matches(str(name), families()))
    return family


def importers() -> dict[str, Callable[[Checkpoint], Imported | None]]:
    """The functions of families that know other people's checkpoints (nets/codecs/checkpoint.py), by family."""
    modules = {name: import_module(place) for name, place in _files().items()}
    return {name: module.from_checkpoint for name, module in modules.items() if hasattr(module, "from_checkpoint")}


def build(family: str, arguments: Mapping[str, Any]) -> Any:
    """A net with fresh weights. Raises ModelError for an unknown family or arguments that do not fit it."""
    made = family_of(family)
    try:
        return made(**arguments)
    except VqError:
        raise
    except Exception as error:  # whatever a constructor makes of the arguments of another's file
        if of_memory(error):  # which a file may ask for that says too much
            raise ModelError(f"not enough memory for a {family} of these arguments", "close other programs") from error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ModelError(f"these arguments do not make a {family}: {reason}") from error


def _files() -> dict[str, str]:
    """Modules by the names of their files. What a header asks for is looked up here, and never imported by name."""
    return {
        name: f"{package.__name__}.{name}"
        for package in (priors, codecs)
        for _, name, _ in pkgutil.iter_modules(package.__path__)
    }
