"""The context coder with static counts, those of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vqcli.entropy.coders import Given
from vqcli.errors import UsageError

if TYPE_CHECKING:
    from vqcli.entropy.statistics import Statistics

ID = 1
USES_NET = False
NEEDS_STATISTICS = True


def usable(given: Given) -> bool:
    return given.statistics is not None


def encode(codes: np.ndarray, given: Given) -> bytes:
    """Bytes of codes [G, *grid]. Raises UsageError without statistics."""
    from vqcli.entropy import context

    return context.encode(codes, given.codebook_sizes, _statistics(given), adaptive=False)


def decode(data: bytes, shape: tuple[int, ...], given: Given) -> np.ndarray:
    """Codes int32 of `shape` [G, *grid]. Raises BadFile for bytes of anything else, UsageError without statistics."""
    from vqcli.entropy import context

    return context.decode(data, shape, given.codebook_sizes, _statistics(given), adaptive=False)


def _statistics(given: Given) -> Statistics:
    if given.statistics is None:
        raise UsageError("the histogram coder needs counts, and this model has none", "use adaptive or packed")
    return given.statistics
