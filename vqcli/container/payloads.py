"""The coded bytes of a file's chunks, in memory or, if they are many, on disk: those of a large image without loss are
as large as the image."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from threading import Lock
from typing import overload

from vqcli.files import no_room
from vqcli.files.streams import IN_MEMORY

Place = tuple[int, int] | None  # offset and length in bytes; None is a damaged payload


class _Store(tempfile.SpooledTemporaryFile[bytes]):
    """A file that goes when nothing refers to it, as memory does."""

    def __del__(self) -> None:
        self.close()


class Payloads(Sequence[bytes | None]):
    """Payloads in the order that they were given; None for those that are damaged.

    Beyond IN_MEMORY bytes in all they lie in a temporary file, which lives as long as they do, and each is read when it
    is asked for, in any thread. Slices share that file. Raises OutputError if there is no room for it.
    """

    def __init__(self, payloads: Iterable[bytes | None] = ()) -> None:
        self._store = _Store(max_size=IN_MEMORY)
        self._lock = Lock()  # of the store's position
        self._places: list[Place] = [self._kept(payload) for payload in payloads]

    def _kept(self, payload: bytes | None) -> Place:
        if payload is None:
            return None
        try:
            place = self._store.tell(), len(payload)
            self._store.write(payload)
        except OSError as error:
            raise no_room("coded chunks", error) from error
        return place

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> bytes | None: ...
    @overload
    def __getitem__(self, index: slice) -> Payloads: ...
    def __getitem__(self, index: int | slice) -> bytes | Payloads | None:
        if isinstance(index, slice):
            part = Payloads.__new__(Payloads)
            part._store, part._lock, part._places = self._store, self._lock, self._places[index]
            return part
        place = self._places[index]
        if place is None:
            return None
        with self._lock:
            self._store.seek(place[0])
            return self._store.read(place[1])

    def __iter__(self) -> Iterator[bytes | None]:
        return (self[number] for number in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @property
    def size_bytes(self) -> int:
        """Of all together."""
        return sum(place[1] for place in self._places if place)
