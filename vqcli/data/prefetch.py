"""Work done by threads ahead of the one who waits for it: batches above all."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from vqcli.recipe import Data

Made = TypeVar("Made")


class Batches(Generic[Made]):
    """What all data have from which batches are drawn by number: `batch` makes draws first .. first + count."""

    def batch(self, data: Data, seed: int, first: int, count: int) -> Made:
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
        ahead: int = 4,
    ) -> Generator[Made, None, None]:
        """The batches of one rank from `first_step` on, without end, made by `workers` threads.

        Step s of rank r holds `data.batch` draws from (s * world + r) * data.batch on.
        """
        workers = workers or max(1, min(8, (os.cpu_count() or 1) // (2 * world)))

        def make(step: int) -> Made:
            return self.batch(data, seed, (step * world + rank) * data.batch, data.batch)

        return in_order(make, itertools.count(first_step), workers=workers, ahead=max(ahead, workers))


def in_order(
    make: Callable[[int], Made], numbers: Iterable[int], *, workers: int, ahead: int
) -> Generator[Made, None, None]:
    """make(n) for each number, in order, up to `ahead` of them made or begun before they are asked for.

    An error of `make` is raised in its turn. Closing the generator drops what has not begun and waits for the rest.
    """
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for number in numbers:
                waiting.append(pool.submit(make, number))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
