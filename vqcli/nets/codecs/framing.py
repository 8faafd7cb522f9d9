"""Where the positions of codes lie in time.

Most nets code a signal as one run of positions. Some cut it into segments that overlap, each coded on its own:

    samples    |---- hop ----|---- hop ----|--- rest
    segments   [ 0 .. segment - 1 ]
                             [ segment .. 2 * segment - 1 ]
                                           [ ...

A file has the positions of all segments one after the other. A segment that reaches beyond the end of the signal has as
many positions as its samples take, so the number of all tells how many each has.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Framing:
    """stride   samples of a position
    segment  positions of a whole segment
    hop      samples from the beginning of a segment to that of the next, at most those of a segment
    """

    stride: int
    segment: int = 1
    hop: int = 0  # that of segments which do not overlap

    def __post_init__(self) -> None:
        object.__setattr__(self, "hop", self.hop or self.segment * self.stride)
        if not (self.stride > 0 and self.segment * self.stride // 2 <= self.hop <= self.segment * self.stride):
            raise ValueError(f"segments of {self.segment} x {self.stride} samples cannot follow every {self.hop}")

    @property
    def alone(self) -> bool:
        """Whether segments do not overlap, so that each stands for `hop` samples."""
        return self.hop == self.segment * self.stride

    def positions_per_s(self, rate_hz: int) -> float:
        return rate_hz * self.segment / self.hop

    def positions(self, samples: int) -> int:
        """How many positions so many samples take, 1 or more of them."""
        segments = -(-samples // self.hop)
        # only the last two can reach beyond the end
        tail = range(max(segments - 2, 0), segments)
        return tail.start * self.segment + sum(self._within(samples, number) for number in tail)

    def segments(self, positions: int) -> np.ndarray:
        """The position that each segment begins at, int64 [segments + 1] with `positions` as the last.

        Raises ValueError if no signal takes so many.
        """
        samples = bisect_left(range(positions * self.stride + 1), positions, lo=1, key=self.positions)
        if self.positions(samples) != positions:
            raise ValueError(f"{positions} positions do not divide into segments")
        begins = np.arange(-(-samples // self.hop) + 1) * self.segment
        begins[-1] = positions
        if len(begins) > 2:
            begins[-2] = positions - self._within(samples, len(begins) - 2)
        return begins

    def samples(self, positions: int) -> np.ndarray:
        """The sample at which each position begins to be what is heard, int64 [positions + 1], the end as the last.

        Where segments overlap, the later one is heard.
        """
        if self.segment == 1:
            return np.arange(positions + 1) * self.hop
        begins = self.segments(positions)
        number = np.minimum(np.searchsorted(begins, np.arange(positions + 1), "right") - 1, len(begins) - 2)
        within = (np.arange(positions + 1) - begins[number]) * self.stride
        return number * self.hop + np.minimum(within, self.hop)

    def _within(self, samples: int, number: int) -> int:
        """Positions of one segment."""
        return -(-min(samples - number * self.hop, self.segment * self.stride) // self.stride)


@dataclass(frozen=True)
class Alone(Framing):
    """Segments that are decoded one by one, each, and the last too, to `hop` samples, whatever they looked at."""

    def __post_init__(self) -> None:
        if min(self.stride, self.segment, self.hop) < 1:
            raise ValueError(f"segments of {self.segment} positions that make {self.hop} samples")

    @property
    def alone(self) -> bool:
        return True

    def positions(self, samples: int) -> int:
        return -(-samples // self.hop) * self.segment

    def segments(self, positions: int) -> np.ndarray:
        if positions % self.segment:
            raise ValueError(f"{positions} positions do not divide into segments of {self.segment}")
        return np.arange(0, positions + 1, self.segment)

    def samples(self, positions: int) -> np.ndarray:
        """As if the positions of a segment followed one another in time."""
        at = np.arange(positions + 1)
        return at // self.segment * self.hop + at % self.segment * self.hop // self.segment
