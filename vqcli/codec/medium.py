"""What a medium is to vq: a file of this folder, by the name that headers have for it.

A medium has a name in `vqcli.container.header.MODALITIES`, whose place is its number in files, and a file of that name
here, with

    WHAT, PLURAL                   what it is called in messages: "an image", "images"
    MODEL                          modality of its models: clips are coded by models of images
    recognises(source)             whether a file, stream or array is of this medium
    encode(source, model, ...)     to a result with header, payloads, notes and save()
    decode(file, model, ...)       to a result with lost and save()

Both take `progress`, and `limits` of what comes from strangers (container/bounds.py). The other keyword arguments are
the options that the medium has, with the fields of a dataclass `EncodeOptions` or `DecodeOptions` beside them if there
are many. What commands ask and say of it is in vqcli/cli/media.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from vqcli.container.header import MODALITIES
from vqcli.errors import ForeignOption

Source = Path | BinaryIO | np.ndarray


class Medium(Protocol):
    """The module of a medium."""

    WHAT: str
    PLURAL: str
    MODEL: str

    def recognises(self, source: Source) -> bool: ...

    encode: Callable[..., Any]
    decode: Callable[..., Any]


def of(modality: str) -> Medium:
    """The medium of that name."""
    found: Any = import_module(f"vqcli.codec.{modality}")
    return found


def recognise(source: Source, default: str) -> str:
    """The name of the medium that a source is of, else `default`. A stream is left at its beginning."""
    for name in reversed(MODALITIES):  # what moves or sounds says so; images may look like anything
        if of(name).recognises(source):
            return name
    return default


def parameters(task: str) -> dict[str, dict[str, Any]]:
    """The options of `encode` or `decode`, the task, by medium: names with their defaults."""
    return {name: _parameters(of(name), task) for name in MODALITIES}


def _parameters(medium: Medium, task: str) -> dict[str, Any]:
    taken = inspect.signature(getattr(medium, task)).parameters.values()
    found = {each.name: each.default for each in taken if each.kind is each.KEYWORD_ONLY}
    options = getattr(medium, f"{task.capitalize()}Options", None)
    return found | {each.name: each.default for each in dataclasses.fields(options)} if options else found


def own_options(
    medium: str, options: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]], here: str
) -> dict[str, Any]:
    """Those of `options` that are set and that the medium has.

    tables  options of each medium, names with their defaults: `parameters`, or those of a command
    here    what the medium is of: "this is an image"

    Raises ForeignOption for one that is set and that only other media have.
    """
    for name, value in options.items():
        others = [other for other, table in tables.items() if name in table]
        if not others:
            raise TypeError(f"there is no option {name}")
        if medium not in others and value is not None and value != tables[others[0]][name]:
            raise ForeignOption(name, " or ".join(of(other).PLURAL for other in others), here)
    return {name: value for name, value in options.items() if name in tables[medium] and value is not None}
