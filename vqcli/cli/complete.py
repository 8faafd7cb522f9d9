"""Values that a shell offers for options and arguments, from names of files and headers alone: torch takes too long."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from vqcli.zoo.store import ModelInfo

Values = Callable[[str], list[str]]


def beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})


def among(*names: str) -> Values:
    """One of a few words."""
    return lambda incomplete: beginning(names, incomplete)


def models(incomplete: str) -> list[str]:
    """Models on the search path, and folders of models."""
    from vqcli.zoo import store

    names = (path.parent.name for base in store.search_path() for path in base.glob(f"*/{store.FILE}"))
    return beginning(names, incomplete) + _folders(incomplete, store.FILE)


def _folders(incomplete: str, holding: str) -> list[str]:
    """Folders that begin so, with a slash at the end of those that do not hold a file of that name."""
    before, slash, _ = incomplete.rpartition("/")
    with suppress(OSError):
        below = [path for path in Path(before + slash).iterdir() if path.is_dir() and not path.name.startswith(".")]
        found = (before + slash + path.name + "/" * (not (path / holding).is_file()) for path in below)
        return beginning(found, incomplete) if incomplete else []
    return []


def known_models(incomplete: str) -> list[str]:
    """Models of other people that can be fetched."""
    from vqcli.zoo import store

    return beginning(store.known(), incomplete)


def recipes(incomplete: str) -> list[str]:
    """Recipes, and files of them."""
    from vqcli import recipe

    with suppress(OSError, ValueError):
        files = [str(path) for path in Path().glob(f"{incomplete}*") if path.is_dir() or path.suffix == ".toml"]
        return beginning([*recipe.names(), *files], incomplete)
    return beginning(recipe.names(), incomplete)


def coders(incomplete: str) -> list[str]:
    from vqcli.entropy import coders as package

    return beginning([package.AUTO, *(name for _, name, _ in pkgutil.iter_modules(package.__path__))], incomplete)


def classes(context: typer.Context, incomplete: str) -> list[str]:
    """Classes of the prior over images of the model that is named, or of all models."""
    from vqcli.errors import VqError
    from vqcli.zoo import priors

    found: list[str] = []
    for info in _named(context):
        with suppress(VqError):
            path = priors.path_of(info.folder, "pixelcnn")
            prior = priors.describe(path) if path.is_file() else None
            found += [*prior.classes, *prior.aliases] if prior else []
    return beginning(found, incomplete)


def speakers(context: typer.Context, incomplete: str) -> list[str]:
    """Voices of the model that is named, or of all models, and those that were fitted later."""
    found: list[str] = []
    for info in _named(context):
        known: list[dict[str, Any]] = info.description.get("speakers") or []
        found += [speaker["name"] for speaker in known]
        found += [path.stem for path in info.folder.glob("voices/*.safetensors")]
    return beginning(found, incomplete)


def _named(context: typer.Context) -> list[ModelInfo]:
    from vqcli.errors import VqError
    from vqcli.zoo import store

    name = context.params.get("model")
    try:
        return [store.find(name)] if name else store.list_models()
    except VqError:
        return []
