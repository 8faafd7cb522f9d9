"""Synthetic images for a first try: discs, squares and triangles on shaded backgrounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vqcli.data import split

KINDS = ("disc", "square", "triangle")


class Shapes:
    """A source of `count` images of `size` x `size` pixels, each labelled by its shape; rendered at each reading."""

    decoded, stride = False, 1

    def __init__(self, count: int = 512, size: int = 32, seed: int = 0) -> None:
        self._size, self._seed = size, seed
        self.labels: Sequence[str | None] = [KINDS[index % len(KINDS)] for index in range(count)]
        self.names: Sequence[str] = [f"{label}/{index:06d}" for index, label in enumerate(self.labels)]
        self.held_out: Sequence[bool] = split.held_out(self.names)

    def read(self, index: int) -> np.ndarray:
        """uint8 [size, size, 3], determined by seed and index."""
        rng = np.random.default_rng([self._seed, index])
        unit = (np.arange(self._size) + 0.5) / self._size - 0.5  # -0.5 .. 0.5
        centre, radius, turn = rng.uniform(-0.2, 0.2, 2), rng.uniform(0.15, 0.3), rng.uniform(0, 2 * np.pi)
        x, y = np.meshgrid(unit - centre[0], unit - centre[1])
        outside = _distance(str(self.labels[index]), x, y, radius, turn)
        cover = np.clip(0.5 - outside * self._size, 0, 1)[..., None]  # edges are a pixel wide
        colours = rng.uniform(0, 255, (3, 3))
        colours[0] = (colours[1] + colours[2]) / 2 + 127.5  # the shape is far from the middle of its background
        colours[0] %= 255
        slope = (unit + 0.5)[:, None, None]
        ground = colours[1] * (1 - slope) + (0.7 * colours[1] + 0.3 * colours[2]) * slope  # (H, 1, 3)
        return np.rint(cover * colours[0] + (1 - cover) * ground).astype(np.uint8)


def _distance(kind: str, x: np.ndarray, y: np.ndarray, radius: float, turn: float) -> np.ndarray:
    """How far each point lies outside the shape, negative inside."""
    if kind == "disc":
        return np.hypot(x, y) - radius
    sides = 4 if kind == "square" else 3
    angles = turn + 2 * np.pi * np.arange(sides) / sides
    reach = radius * np.cos(np.pi / sides)  # of the sides of a polygon whose corners lie at the radius
    return np.max([x * np.cos(angle) + y * np.sin(angle) for angle in angles], axis=0) - reach
