"""Results computed by threads before they are needed: batches above all."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

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
    make: Callable[[int], Result], numbers: Iterable[int], *, workers: int, prefetch: int
) -> Generator[Result, None, None]:
    """make(n) for each number, in order, up to `prefetch` of them computed in advance.

    An error of `make` is raised in order. Closing the generator cancels what has not begun and waits for the rest.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for number in numbers:
                waiting.append(pool.submit(make, number))
                if len(waiting) > prefetch:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
