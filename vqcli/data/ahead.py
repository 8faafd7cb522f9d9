"""Work done by threads ahead of the one who waits for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Made = TypeVar("Made")


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
