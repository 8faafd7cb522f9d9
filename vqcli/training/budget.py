"""The wall time of a run, from the start of its command to the end of its export."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from vqcli.errors import UsageError

EXPORT_SHARE = 0.05  # of the budget is reserved for measuring and writing the model, ...
EXPORT_LEAST_S, EXPORT_MOST_S = 3, 180  # seconds: ... plus the first, at most the second
TRIAL_SHARE = 0.05  # of the budget at most goes to timing precisions and threads ...
TRIAL_SECONDS = 20  # ... and at most this

T = TypeVar("T")


class Budget:
    """A number of seconds, `math.inf` by default, from now or from `begun` of time.monotonic()."""

    def __init__(self, seconds: float = math.inf, begun: float | None = None) -> None:
        self.seconds, self._begun = seconds, time.monotonic() if begun is None else begun

    @property
    def left_s(self) -> float:
        """Seconds until the end, below zero after it."""
        return self.seconds - (time.monotonic() - self._begun)

    @property
    def training_left_s(self) -> float:
        """Seconds until training must end, so that there is time for the export."""
        return self.left_s - min(EXPORT_LEAST_S + EXPORT_SHARE * self.seconds, EXPORT_MOST_S)

    @property
    def trial_s(self) -> float:
        """Seconds that timing precisions and threads may take."""
        return min(TRIAL_SHARE * self.seconds, TRIAL_SECONDS)

    def without(self, seconds: float) -> Budget:
        """What is left of it for a run that took `seconds` in earlier sessions."""
        return Budget(self.seconds - seconds, self._begun)

    def part(self, share: float) -> Budget:
        """A new budget from now on: this share of what is left."""
        return Budget(max(0.0, share * self.left_s))

    def limit(self, items: Iterable[T], least: int = 1) -> Iterator[T]:
        """As many of the items as there is time for, but at least the first `least`."""
        items = iter(items)
        yield from islice(items, least)
        while self.left_s > 0:
            try:
                yield next(items)
            except StopIteration:
                return


def seconds(text: str) -> float:
    """A duration like 90s, 45m or 2h in seconds. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not match or not float(match[1]):
        raise UsageError(f"{text} is not a duration", "90s, 45m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
