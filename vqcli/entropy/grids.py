"""Codes are on grids of one to three dimensions; most coders take them as planes."""

from __future__ import annotations

import math


def as_plane(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape [G, rows, columns] of codes [G, *grid]: all dimensions but the last become rows."""
    return shape[0], math.prod(shape[1:-1]), shape[-1]
