"""The windows of an image that a net sees one by one, and how what it makes of them is joined.

A net whose values depend on a neighbourhood sees tiles with a margin as wide as its reach; what it makes of a tile is
what it makes of the whole, and the margin is cut off (`exact`). A net with attention or normalisation over the image
has no such reach: what it makes of a tile is only near to what it makes of the whole, and differs from tile to tile.
Its tiles overlap, and in the overlaps their values are blended linearly (`cuts`, `blended`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from vqcli.progress import ProgressCallback

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Tiles:
    """The tiles of an image that is too large for its net as a whole, in positions of the codes.

    side    of a tile at most, 4 at least
    margin  that a tile has beyond its border where another one follows; at most a fourth of the side
    """

    side: int
    margin: int

    def __post_init__(self) -> None:
        if not 1 <= self.margin <= self.side // 4:
            raise ValueError(f"tiles of {self.side} positions cannot have a margin of {self.margin}")

    @property
    def largest(self) -> int:
        """Positions of a tile with its margin, at most."""
        return (self.side + 2 * self.margin) ** 2


def exact(
    grid: tuple[int, ...], window: Window, side: int, margin: int | None
) -> Iterator[tuple[Window, Window, float]]:
    """Windows that part a window of a grid: (inner, outer with its margin, share of the work done after it).

    Without a margin the net sees the whole grid at once.

    The outer window ends at the border of the grid, where the net pads tile and whole image alike.
    """
    rows, columns = grid
    if margin is None:
        margin = side = max(rows, columns)
    tops, lefts = (range(s.start, s.stop, side) for s in window)
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            bottom, right = min(top + side, window[0].stop), min(left + side, window[1].stop)
            outer = (
                slice(max(top - margin, 0), min(bottom + margin, rows)),
                slice(max(left - margin, 0), min(right + margin, columns)),
            )
            yield (slice(top, bottom), slice(left, right)), outer, (i * len(lefts) + j + 1) / (len(tops) * len(lefts))


def within(inner: Window, outer: Window) -> Window:
    """The inner window in coordinates of the outer one."""
    y, x = (slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
    return y, x


def cuts(length: int, tiles: Tiles) -> list[slice]:
    """The tiles along one axis, each with its margins: as few as can be, and all of nearly the same side."""
    count = -(-length // tiles.side)
    borders = [length * number // count for number in range(count + 1)]
    return [slice(max(a - tiles.margin, 0), min(b + tiles.margin, length)) for a, b in pairwise(borders)]


def blended(
    grid: tuple[int, ...],
    tiles: Tiles,
    scale: int,
    see: Callable[[Window], Tensor],
    progress: ProgressCallback,
) -> Iterator[tuple[slice, Tensor]]:
    """What a net makes of a whole grid, in bands from top to bottom: (rows, values [C, rows * scale, columns * scale]).

    `see` gives what it makes of a window, [C, h * scale, w * scale]. Where two tiles overlap, the weight of the one
    falls linearly from 1 to 0 as that of the other rises. No more than the tiles of one row are in memory.
    """
    downwards, across = (cuts(length, tiles) for length in grid)
    ends = [*(following.start for following in downwards[1:]), grid[0]]
    begun: Tensor | None = None  # rows that the row of tiles before has already added to
    for i, (y, end) in enumerate(zip(downwards, ends, strict=True)):
        band: Tensor | None = None
        for j, x in enumerate(across):
            values = see((y, x))
            if band is None:
                band = values.new_zeros(len(values), (y.stop - y.start) * scale, grid[1] * scale)
            weight_y, weight_x = (_weight(*at, tiles.margin, scale).to(values) for at in ((y, grid[0]), (x, grid[1])))
            band[:, :, x.start * scale : x.stop * scale] += values * weight_y[:, None] * weight_x
            progress((i * len(across) + j + 1) / (len(downwards) * len(across)))
        assert band is not None
        if begun is not None:
            band[:, : begun.shape[1]] += begun
        height = (end - y.start) * scale
        begun = band[:, height:].clone()
        yield slice(y.start, end), band[:, :height]


def _weight(part: slice, length: int, margin: int, scale: int) -> Tensor:
    """Of each value of a tile along one axis: rising over the overlap with a tile before, falling over one after."""
    at = torch.arange(part.start * scale, part.stop * scale) + 0.5
    ramp = 2 * margin * scale
    rising = (at - part.start * scale) / ramp if part.start else torch.ones_like(at)
    falling = (part.stop * scale - at) / ramp if part.stop < length else torch.ones_like(at)
    return torch.minimum(rising, falling).clamp(max=1)
