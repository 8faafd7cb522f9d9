"""The exact prior: a net in integers, which predicts the same on every machine. prior.py codes with it.

The net is that of nets/exact.py after rounding. Stage by stage (stages.py) it says for each code how likely its values
are, in integer frequencies, and the range coder writes or reads the codes of the stage:

    scalar codes   mean in 1/256 and energy from two stencils; a perceptron adds a shift, in 1/64 of the scale, to the
                   one and a stretch, in 1/128 of an octave, to the logarithm of the other. Scale class and rest of the
                   mean choose a row of frequencies for the difference from the rounded mean, modulo K
    vector codes   logits in 1/16 bit; frequency = table[largest logit - logit]

Rows are mirrored where the rest is negative. There is no float that could be rounded, and none is compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vqcli.entropy import prior2d_stages
from vqcli.entropy.integer_layers import Dense, Stencil
from vqcli.entropy.rangecoder import MAX_TOTAL

CEILING = 256  # of activations, in units of 1/32
OCTAVE = 128  # steps of a logarithm
CLASS = 8  # such steps in a class of scales
LARGEST_VALUE = 255  # what lies beyond is seen as this
LARGEST_SHIFT = 1024  # of a mean, in 1/64 of the scale
REST = 32  # steps of a mean
SCALE = 1 << 12  # steps of a scale
SHAPE = 64  # entries of the shape for each scale from the mean
SHARE = 1 << 30  # what all of the shape adds up to
TOTAL = 1 << 24  # what the frequencies of a row add up to, about
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
    """One group of a vector quantizer; tables int8 [K + 1, channels], the last row for what lies outside."""

    first: Stencil
    hidden: Dense
    out: Dense
    embedding: np.ndarray
    lent: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class ScalarTables:
    """From numbers of the net to frequencies.

    features     int16 [256]: of values 0 .. 255
    thresholds   int32 [n], ascending: the logarithm of an energy is the number of those at or below it
    lowest       int32 [1]: logarithm of the smallest scale
    scales       int32 [8 classes - 7]: scales in 1/4096, from the smallest
    shape        int32 [n]: what lies beyond 0, 1/64, 2/64 .. scales from the mean, of 2^30; a logistic
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
        if classes * (REST // 2 + 1) * (2 * (max(codebook_sizes) // 2) + 1) > LARGEST_TABLE:
            raise ValueError("its codebooks are too large for it")
        if self.scales.min() < 1 or self.scales.max() > 1 << 20 or (np.diff(self.thresholds) < 0).any():
            raise ValueError("its scales or thresholds are out of range")
        if abs(int(self.lowest[0])) > 1 << 20 or self.features.min() < 0:
            raise ValueError("its logarithms are out of range")
        if self.shape.min() < 0 or self.shape.max() > SHARE // 2 or (np.diff(self.shape) > 0).any():
            raise ValueError("its shape is none")

    def cumulative(self, half: int) -> np.ndarray:
        """Sums of frequencies, int32 [classes, 17, 2 half + 2], for differences -half .. half from the rounded mean.

        Rows are by class of scales and rest of the mean in 1/32. Integers throughout, so the same everywhere.
        """
        scales = self.scales[::CLASS].astype(np.int64)[:, None, None]
        edges = REST * np.arange(-half, half + 2) - REST // 2 - np.arange(REST // 2 + 1)[:, None]  # in 1/32
        place = (np.abs(edges) << 16) * (SCALE * SHAPE // REST) // scales  # along the shape, in 1/65536 of an entry
        last = self.shape.size - 1
        entry = np.minimum(place >> 16, last)
        ends = self.shape.astype(np.int64)
        beyond = ends[entry] - ((ends[entry] - ends[np.minimum(entry + 1, last)]) * (place & 65535) >> 16)
        below = np.where(edges < 0, beyond, SHARE - beyond)
        frequencies = np.maximum(1, np.diff(below, axis=2) // (SHARE // TOTAL))
        return np.concatenate(
            [np.zeros_like(frequencies[..., :1]), np.cumsum(frequencies, axis=2)], axis=2, dtype=np.int32
        )


@dataclass(frozen=True)
class Net:
    """A prior in integers, for codes [G, H, W] with these codebooks.

    slices      groups in each part
    levels      of the lattice, for each part
    qualities   0 for codes of a vector quantizer
    tables      ScalarTables, or frequencies int32 [n] by what a logit lacks to the largest
    """

    codebook_sizes: tuple[int, ...]
    slices: tuple[range, ...]
    levels: tuple[int, ...]
    qualities: int
    parts: tuple[ScalarPart | VectorPart, ...]
    tables: ScalarTables | np.ndarray

    @cached_property
    def cumulative(self) -> np.ndarray:
        """Frequencies of scalar codes, summed (ScalarTables.cumulative)."""
        assert isinstance(self.tables, ScalarTables)
        return self.tables.cumulative(max(self.codebook_sizes) // 2)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything as named arrays; `from_arrays` is the mirror."""
        found = {
            "slices": np.array([len(part) for part in self.slices], np.int32),
            "levels": np.array(self.levels, np.int32),
            "qualities": np.array([self.qualities], np.int32),
        }
        if isinstance(self.tables, ScalarTables):
            found |= {f"tables.{name}": table for name, table in vars(self.tables).items()}
        else:
            found["tables.frequencies"] = self.tables
        for n, part in enumerate(self.parts):
            for name, member in vars(part).items():
                if isinstance(member, Stencil | Dense):
                    found |= {f"{n}.{name}.{inner}": array for inner, array in member.arrays()}
                elif isinstance(member, tuple):
                    found |= {f"{n}.{name}.{inner}": array for inner, array in enumerate(member)}
                else:
                    found[f"{n}.{name}"] = member
        return found

    def check(self) -> None:
        """Raise ValueError unless all fits together and no sum can reach 2^24."""
        qualities = max(1, self.qualities)
        if self.qualities:
            assert isinstance(self.tables, ScalarTables)
            self.tables.check(self.codebook_sizes)
            feature = int(self.tables.features.max())
            value = min(LARGEST_VALUE, max(self.codebook_sizes) // 2)
        elif not isinstance(self.tables, np.ndarray) or self.tables.dtype != np.int32 or self.tables.ndim != 1:
            raise ValueError("its frequencies are no table")
        elif len(self.tables) == 0 or self.tables.min() < 1:
            raise ValueError("its frequencies are out of range")
        elif int(self.tables.max()) * max(self.codebook_sizes) >= MAX_TOTAL:
            raise ValueError("its frequencies are too large")
        for groups, levels, part in zip(self.slices, self.levels, self.parts, strict=True):
            phases = prior2d_stages.phases(levels)
            window = len(prior2d_stages.WINDOW)
            width = part.first.bias.shape[-1]
            part.hidden.check(len(phases), width, width, CEILING)
            if isinstance(part, ScalarPart):
                taps = [len(prior2d_stages.taps(phase.kind, 2)) * len(groups) for phase in phases[1:]]
                earlier, n = window * groups.start, len(groups)
                part.first.check(2 * earlier, [2 * t for t in taps], qualities, width, (feature, feature))
                part.mean.check(earlier, taps, qualities, n, (value, value))
                part.energy.check(earlier, taps, qualities, n, (value, value))
                part.out.check(len(phases), width, 2 * n, CEILING)
            else:
                K, channels = self.codebook_sizes[groups.start], part.embedding.shape[-1]
                tables = (part.embedding, *part.lent)
                sizes = (K, *self.codebook_sizes[: groups.start])
                if len(groups) != 1 or len(tables) != len(sizes):
                    raise ValueError("codes of a vector quantizer are told group by group")
                for table, size in zip(tables, sizes, strict=True):
                    if table.dtype != np.int8 or table.shape != (size + 1, channels):
                        raise ValueError(f"an embedding is {table.dtype} {table.shape}")
                taps = [len(prior2d_stages.taps(phase.kind, 3)) * channels for phase in phases[1:]]
                part.first.check(window * channels * groups.start, taps, 1, width, (128, 128))
                part.out.check(len(phases), width, K, CEILING)


def from_arrays(arrays: Mapping[str, np.ndarray], codebook_sizes: Sequence[int]) -> Net:
    """The net of `Net.arrays`, checked. Raises ValueError for arrays that are not those of a sound net."""
    try:
        net = _assembled(arrays, tuple(codebook_sizes))
        net.check()
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"an array is missing or of another kind: {error}") from None
    if set(net.arrays()) != set(arrays):
        raise ValueError("it holds other arrays too")
    return net


def _assembled(arrays: Mapping[str, np.ndarray], sizes: tuple[int, ...]) -> Net:
    def small(name: str, low: int, high: int) -> list[int]:
        found = [int(value) for value in arrays[name].ravel()]
        if not all(low <= value <= high for value in found):
            raise ValueError(f"its {name} are not within {low} to {high}")
        return found

    slices = prior2d_stages.slices(len(sizes), tuple(small("slices", 1, len(sizes))))
    levels, (qualities,) = small("levels", 0, 6), small("qualities", 0, 25)
    if len(levels) != len(slices):
        raise ValueError(f"levels for {len(levels)} slices, not for {len(slices)}")

    def stencil(name: str, phases: int) -> Stencil:
        own = tuple(arrays[f"{name}.own.{phase}"] for phase in range(1, phases))
        return Stencil(arrays[f"{name}.earlier"], own, arrays[f"{name}.bias"], arrays[f"{name}.shift"])

    def dense(name: str) -> Dense:
        return Dense(arrays[f"{name}.weight"], arrays[f"{name}.bias"], arrays[f"{name}.shift"])

    parts: list[ScalarPart | VectorPart] = []
    for n, (groups, depth) in enumerate(zip(slices, levels, strict=True)):
        phases = 1 + 2 * depth
        both = stencil(f"{n}.first", phases), dense(f"{n}.hidden"), dense(f"{n}.out")
        if qualities:
            parts.append(ScalarPart(*both, stencil(f"{n}.mean", phases), stencil(f"{n}.energy", phases)))
        else:
            lent = tuple(arrays[f"{n}.lent.{group}"] for group in range(groups.start))
            parts.append(VectorPart(*both, arrays[f"{n}.embedding"], lent))
    tables: ScalarTables | np.ndarray
    if qualities:
        tables = ScalarTables(**{name: arrays[f"tables.{name}"] for name in ScalarTables.__dataclass_fields__})
    else:
        tables = arrays["tables.frequencies"]
    return Net(sizes, tuple(slices), tuple(levels), qualities, tuple(parts), tables)
