"""An item: one image or recording of a data set, as the plan of a run names it and as the worker reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np

Value = str | int | float | None  # of a label or a text; bool counts as int
ACTION = "action"  # the column of what was done after a frame of a recording


@dataclass(frozen=True)
class Beside:
    """A label or text that lies in a file of its own: its column, and where it lies."""

    column: str
    path: str
    at: tuple[int, int] | None = None  # offset and bytes; None: the whole file


@dataclass(frozen=True)
class Item:
    """Where an image or a recording lies. Small, as an engine sends it to its workers.

    key     its name in the set; distinct
    kind    the file of tokens/sources that reads it
    path    of the file that it is, or lies in
    at      what the kind makes of it: offset and bytes, or a row
    size    bytes of the medium, 0 if that is not known without reading it; a change of it is a change of the set
    labels  known already
    beside  labels and texts to be read with it
    """

    key: str
    kind: str
    path: str
    at: tuple[int, int] = (0, 0)
    size: int = 0
    labels: tuple[tuple[str, Value], ...] = ()
    beside: tuple[Beside, ...] = ()


@dataclass(frozen=True)
class Medium:
    """What a worker has read of an item: a file, its bytes, or pixels uint8 [H, W, C], and its labels by column."""

    source: Path | BytesIO | np.ndarray
    labels: dict[str, Value] = field(default_factory=dict)


def stamp(path: str) -> tuple[int, ...]:
    """What changes when a file is replaced: part of the key of what is kept of it in memory."""
    try:
        status = Path(path).stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class Named(BytesIO):
    """Bytes of a file within another, which messages call by `name`."""

    name: str

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name
