"""Parts of the entropy model of codes on a grid: layers, tables of frequencies, units of its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vqcli.entropy.integer_layers import Dense, Stencil

CEILING = 256  # of activations, in units of 1/32
OCTAVE = 128  # steps of a logarithm
CLASS = 8  # such steps in a class of scales
LARGEST_VALUE = 255  # values beyond are clipped
LARGEST_SHIFT = 1024  # of a mean, in 1/64 of the scale
FRACTION = 32  # steps of a mean
SCALE = 1 << 12  # steps of a scale
SHAPE = 64  # entries of the shape for each scale of distance from the mean
SHARE = 1 << 30  # total mass of the shape
TOTAL = 1 << 24  # approximate sum of the frequencies of a row
LARGEST_TABLE = 1 << 22  # frequencies in all rows
LOGIT = 16  # steps of a bit


@dataclass(frozen=True)
class ScalarPart:
    """One slice of scalar groups."""

    first: Stencil
    hidden: Dense
    out: Dense
    mean: Stencil
    energy: Stencil


@dataclass(frozen=True)
class VectorPart:
    """One group of a vector quantizer; tables int8 [K + 1, channels], the last row for positions outside.

    `lent`, the embeddings of earlier groups, is part of the names of arrays in files.
    """

    first: Stencil
    hidden: Dense
    out: Dense
    embedding: np.ndarray
    lent: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class ScalarTables:
    """Tables from outputs of the net to frequencies.

    features     int16 [256]: of values 0 .. 255
    thresholds   int32 [n], ascending: the logarithm of an energy is the number of those at or below it
    lowest       int32 [1]: logarithm of the smallest scale
    scales       int32 [8 classes - 7]: scales in 1/4096, from the smallest
    shape        int32 [n]: tail mass beyond 0, 1/64, 2/64 .. scales from the mean, of 2^30; a logistic
    """

    features: np.ndarray
    thresholds: np.ndarray
    lowest: np.ndarray
    scales: np.ndarray
    shape: np.ndarray

    def check(self, codebook_sizes: Sequence[int]) -> None:
        """Raise ValueError for tables that compiled code, which checks no bounds, could not take."""
        kinds = {
            "features": np.int16,
            "thresholds": np.int32,
            "lowest": np.int32,
            "scales": np.int32,
            "shape": np.int32,
        }
        for name, kind in kinds.items():
            table = getattr(self, name)
            if table.dtype != kind or table.ndim != 1 or not 1 <= table.size <= 1 << 14:
                raise ValueError(f"its {name} are {table.dtype} {table.shape}")
        classes = self.scales.size // CLASS + 1
        if self.features.size != LARGEST_VALUE + 1 or self.lowest.size != 1 or self.scales.size % CLASS != 1:
            raise ValueError("its tables have the wrong lengths")
        if classes * (FRACTION // 2 + 1) * (2 * (max(codebook_sizes) // 2) + 1) > LARGEST_TABLE:
            raise ValueError("its codebooks are too large for it")
        if self.scales.min() < 1 or self.scales.max() > 1 << 20 or (np.diff(self.thresholds) < 0).any():
            raise ValueError("its scales or thresholds are out of range")
        if abs(int(self.lowest[0])) > 1 << 20 or self.features.min() < 0:
            raise ValueError("its logarithms are out of range")
        if self.shape.min() < 0 or self.shape.max() > SHARE // 2 or (np.diff(self.shape) > 0).any():
            raise ValueError("its shape is invalid")

    def cumulative(self, half: int) -> np.ndarray:
        """Sums of frequencies, int32 [classes, 17, 2 half + 2], for differences -half .. half from the rounded mean.

        Rows are by scale class and fraction of the mean in 1/32. Integers throughout, so the same everywhere.
        """
        scales = self.scales[::CLASS].astype(np.int64)[:, None, None]
        edges = FRACTION * np.arange(-half, half + 2) - FRACTION // 2 - np.arange(FRACTION // 2 + 1)[:, None]  # in 1/32
        place = (np.abs(edges) << 16) * (SCALE * SHAPE // FRACTION) // scales  # along the shape, in 1/65536 of an entry
        last = self.shape.size - 1
        entry = np.minimum(place >> 16, last)
        ends = self.shape.astype(np.int64)
        beyond = ends[entry] - ((ends[entry] - ends[np.minimum(entry + 1, last)]) * (place & 65535) >> 16)
        below = np.where(edges < 0, beyond, SHARE - beyond)
        frequencies = np.maximum(1, np.diff(below, axis=2) // (SHARE // TOTAL))
        return np.concatenate(
            [np.zeros_like(frequencies[..., :1]), np.cumsum(frequencies, axis=2)], axis=2, dtype=np.int32
        )


class NetParts(Protocol):
    """The members of a net that coding needs, as in prior2d_net.Net."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]: ...

    @property
    def slices(self) -> tuple[range, ...]: ...

    @property
    def levels(self) -> tuple[int, ...]: ...

    @property
    def qualities(self) -> int: ...

    @property
    def parts(self) -> tuple[ScalarPart | VectorPart, ...]: ...

    @property
    def tables(self) -> ScalarTables | np.ndarray: ...

    @property
    def cumulative(self) -> np.ndarray: ...
