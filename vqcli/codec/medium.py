"""What a medium is to vq: a file of this folder, by the name that headers have for it.

A medium has a name in `vqcli.container.header.MODALITIES`, whose place is its number in files, and a file of that name
here, with

    WHAT, PLURAL                   what it is called in messages: "an image", "images"
    MODEL                          modality of its models: clips are coded by models of images
    recognises(source)             whether a file, stream or array is of this medium
    encode(source, model, ...)     to a result with header, payloads, notes and save()
    decode(file, model, ...)       to a result with lost and save()

The keyword arguments of the two functions are the options that the medium has. What commands ask and say of it is in
vqcli/cli/media.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from vqcli.container.header import MODALITIES
from vqcli.errors import UsageError

Source = Path | BinaryIO | np.ndarray

# how the command line spells options that have another name here
FLAGS = {
    "bits_per_pixel": "--bpp",
    "frames_per_s": "--fps",
    "mono": "--mono or --channels",
    "start_s": "--start",
    "end_s": "--end",
}


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


def only_its_own(medium: str, task: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options of `encode` or `decode`, the task, without those that are None.

    Raises UsageError for an option that was set and that other media have, not this one.
    """
    tables = {name: inspect.signature(getattr(of(name), task)).parameters for name in MODALITIES}
    own = tables[medium]
    for name, value in options.items():
        if name in own:
            continue
        others = [other for other, table in tables.items() if name in table]
        if not others:
            raise TypeError(f"{task}() has no option {name}")
        if value is not None and value != tables[others[0]][name].default:
            flag = FLAGS.get(name, f"--{name.replace('_', '-')}")
            kinds = " or ".join(of(other).PLURAL for other in others)
            raise UsageError(f"{flag} is for {kinds}, and this is {of(medium).WHAT}", f"leave {flag} out")
    return {name: value for name, value in options.items() if name in own and value is not None}
