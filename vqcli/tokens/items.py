"""An item: one image or recording of a data set, as the plan of a run names it and as the worker reads it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np

from vqcli.errors import UsageError
from vqcli.files import files_below, remote
from vqcli.files.remote import Remote

Value = str | int | float | None  # of a label or a text; bool counts as int
ACTION = "action"  # the column of what was done after a frame of a recording


class Root:
    """What the user named: a file or a folder, of this machine or of a store, which is listed once."""

    def __init__(self, name: str | Path) -> None:
        """Raises UsageError if there is nothing, Unreachable."""
        self.path = remote.place(name)
        kind = self.path.kind() if isinstance(self.path, Remote) else ""
        if not kind and not (isinstance(self.path, Path) and self.path.exists()):
            raise UsageError(f"no file or folder {self.path}")
        self.is_file = self.path.is_file() if isinstance(self.path, Path) else kind == "file"
        self.suffix = self.path.suffix.lower() if self.is_file else ""

    @cached_property
    def files(self) -> dict[str, Path | Remote]:
        """The files below a folder, or the file that it is, by their names, in order. Raises BadFile, Unreachable."""
        if self.is_file:
            return {self.path.name: self.path}
        if isinstance(self.path, Remote):
            return dict(self.path.below())
        return {file.relative_to(self.path).as_posix(): file for file in files_below(self.path)}

    def ending(self, *suffixes: str) -> dict[str, Path | Remote]:
        """Those files whose names end so, in whatever case."""
        return {name: file for name, file in self.files.items() if file.suffix.lower() in suffixes}


def url_of(place: Path | Remote) -> str:
    """As an Item has it: remote.place makes the place of it again."""
    return place.url if isinstance(place, Remote) else str(place)


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
    path    or URL of the file that it is, or lies in
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
    """What changes when a file is replaced: part of the key of what is kept of it in memory.

    A store is not asked for each item: what is kept of a file there is a minute old at most.
    """
    if remote.is_url(path):
        return _size_of(path, int(time.monotonic() // 60))
    try:
        status = Path(path).stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=64)
def _size_of(url: str, minute: int) -> tuple[int, ...]:
    found = remote.place(url)
    size = found.length() if isinstance(found, Remote) else None
    return () if size is None else (size, minute)


class Named(BytesIO):
    """Bytes of a file within another, which messages call by `name`."""

    name: str

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name
