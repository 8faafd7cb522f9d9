"""Results computed by threads before they are needed: batches above all."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from vqcli.recipe import Data

Result = TypeVar("Result")


class Batches(Generic[Result]):
    """Base class of data whose items are numbered draws: `batch` returns draws first .. first + count."""

    def batch(self, data: Data, seed: int, first: int, count: int) -> Result:
        raise NotImplementedError

    def batches(
        self,
        data: Data,
        seed: int,
        first_step: int,
        *,
        rank: int = 0,
        world: int = 1,
        workers: int | None = None,
        prefetch: int = 4,
    ) -> Generator[Result, None, None]:
        """The batches of one rank from `first_step` on, without end, computed by `workers` threads.

        Step s of rank r holds `data.batch` draws from (s * world + r) * data.batch on.
        """
        workers = workers or max(1, min(8, (os.cpu_count() or 1) // (2 * world)))

        def make(step: int) -> Result:
            return self.batch(data, seed, (step * world + rank) * data.batch, data.batch)

        return in_order(make, itertools.count(first_step), workers=workers, prefetch=max(prefetch, workers))


def in_order(
    make: Callable[[int], Result],
    numbers: Iterable[int],
    *,
    workers: int,
    prefetch: int,
    size: Callable[[Result], int] | None = None,
    most: int = 0,
) -> Generator[Result, None, None]:
    """make(n) for each number, in order, up to `prefetch` of them computed in advance.

    With `size`, none is begun while results of more than `most` bytes wait, except the one that is next: there are
    those that wait and one a worker at most. An error of `make` is raised in order. Closing the generator cancels what
    has not begun and waits for the rest.
    """
    waiting: deque[Future[Result]] = deque()
    room = _Room(size, most)
    with ThreadPoolExecutor(workers) as pool:
        try:
            for place, number in enumerate(numbers):
                waiting.append(pool.submit(room.made, make, place, number) if size else pool.submit(make, number))
                if len(waiting) > prefetch:
                    yield room.taken(waiting.popleft().result())
            while waiting:
                yield room.taken(waiting.popleft().result())
        finally:
            room.close()
            for future in waiting:
                future.cancel()


class _Room:
    """The bytes of results that wait; who would begin another one waits here until there is room, or it is next."""

    def __init__(self, size: Callable[[Any], int] | None, most: int) -> None:
        self._size, self._most = size, most
        self._held = self._next = 0
        self._change = threading.Condition()

    def made(self, make: Callable[[int], Result], place: int, number: int) -> Result:
        assert self._size is not None
        with self._change:
            self._change.wait_for(lambda: self._held <= self._most or self._next >= place)
        found = make(number)
        with self._change:
            self._held += self._size(found)
        return found

    def taken(self, found: Result) -> Result:
        if self._size is not None:
            with self._change:
                self._held -= self._size(found)
                self._next += 1
                self._change.notify_all()
        return found

    def close(self) -> None:
        """Let all begin that wait."""
        with self._change:
            self._most = sys.maxsize
            self._change.notify_all()
