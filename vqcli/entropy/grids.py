"""Codes lie on grids of one to three dimensions; most coders take them as planes."""

from __future__ import annotations

import math


def as_plane(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape [G, rows, columns] of codes [G, *grid]: each run along the last dimension is a row."""
    return shape[0], math.prod(shape[1:-1]), shape[-1]
