"""Files that came or were made: bytes in memory under random names, no more of them than a bound.

Nothing here is a path. What a browser calls a file never reaches the server; what the server calls one is random, so
that only who has been told a name can ask for it.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Annotated

import msgspec

from vqcli.errors import VqError

MOST_FILES = 2048  # however small they are: each takes some memory beside its bytes
Id = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]{16}$", description="Id of a file or a job.")]


class Gone(VqError):
    """There is no such file or job, or no more."""


class Facts(msgspec.Struct, frozen=True):
    """A file that the server holds.

    id          where it is: /api/files/ID
    name        a name by its content, "decoded.png"
    type        its media type
    medium      of what it is, "image", "audio" or "video"
    coded       whether it is a .vqz file of that medium
    size_bytes  of it
    """

    id: str
    name: str
    type: str
    medium: str
    coded: bool
    size_bytes: int


@dataclass(frozen=True)
class Stored:
    """Facts and content of a file."""

    facts: Facts
    data: bytes = field(repr=False)

    def open(self) -> BytesIO:
        return BytesIO(self.data)


class Files:
    """The files of a server: the least recently used go when they have more than `most_bytes` together, or are more
    than MOST_FILES."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._files: OrderedDict[str, Stored] = OrderedDict()
        self._made: dict[tuple[str, ...], str] = {}
        self._lock = threading.Lock()

    def add(self, data: bytes, name: str, type: str, medium: str, *, coded: bool = False) -> Facts:
        """Keep a file. One that is larger than all room there is stays alone until the next comes."""
        facts = Facts(secrets.token_urlsafe(12), name, type, medium, coded, len(data))
        with self._lock:
            self._files[facts.id] = Stored(facts, data)
            size_bytes = self.size_bytes
            while len(self._files) > 1 and (size_bytes > self.most_bytes or len(self._files) > MOST_FILES):
                _, gone = self._files.popitem(last=False)
                size_bytes -= len(gone.data)
        return facts

    def get(self, id: str) -> Stored:
        """Raises Gone."""
        with self._lock:
            if id not in self._files:
                raise Gone(f"there is no file {id}", "send it again: the oldest files go when there is no more room")
            self._files.move_to_end(id)
            return self._files[id]

    def once(self, key: tuple[str, ...], make: Callable[[], Facts]) -> Facts:
        """What `make` has added for this key before, if it is still there, else what it adds now."""
        with self._lock:
            id = self._made.get(key)
            if id is not None and id in self._files:
                self._files.move_to_end(id)
                return self._files[id].facts
        facts = make()
        with self._lock:
            self._made = {other: id for other, id in self._made.items() if id in self._files} | {key: facts.id}
        return facts

    def drop(self, id: str) -> None:
        """Raises Gone."""
        with self._lock:
            if self._files.pop(id, None) is None:
                raise Gone(f"there is no file {id}")

    @property
    def size_bytes(self) -> int:
        """Of all of them."""
        return sum(len(each.data) for each in self._files.values())

    def __len__(self) -> int:
        return len(self._files)
