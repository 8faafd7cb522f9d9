"""The entropy model of codes on a grid: a net in integers, the same on every machine. prior2d.py codes with it.

The net is that of nets/priors/exact.py after rounding. Stage by stage (prior2d_stages.py) it predicts integer
frequencies of the values of each code, and the range coder writes or reads the codes of the stage:

    scalar codes   mean in 1/256 and energy from two stencils; a perceptron adds a shift, in 1/64 of the scale, to the
                   one and a stretch, in 1/128 of an octave, to the logarithm of the other. Scale class and fraction of
                   the mean choose a row of frequencies for the difference from the rounded mean, modulo K
    vector codes   logits in 1/16 bit; frequency = table[largest logit - logit]

Rows are mirrored where the fraction is negative. No floats are rounded or compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from vqcli.container.fields import Reader, require, varint
from vqcli.entropy import prior2d, prior2d_stages
from vqcli.entropy.grids import as_plane
from vqcli.entropy.integer_layers import Dense, Stencil
from vqcli.entropy.prior2d_parts import CEILING, LARGEST_VALUE, ScalarPart, ScalarTables, VectorPart
from vqcli.entropy.rangecoder import MAX_TOTAL


@dataclass(frozen=True)
class Net:
    """An entropy model in integers, for codes [G, H, W] with these codebooks.

    slices      groups in each part
    levels      halvings of the lattice, for each part
    qualities   0 for codes of a vector quantizer
    tables      ScalarTables, or frequencies int32 [n] by the difference of a logit from the largest
    """

    codebook_sizes: tuple[int, ...]
    slices: tuple[range, ...]
    levels: tuple[int, ...]
    qualities: int
    parts: tuple[ScalarPart | VectorPart, ...]
    tables: ScalarTables | np.ndarray
    covers_levels: ClassVar[bool] = False

    def encode(self, codes: np.ndarray, quality: int, below: np.ndarray | None) -> bytes:
        """Bytes of codes [G, *grid]; each frame of a clip [G, T, H, W] is coded by itself, behind its number of bytes.

        `quality` is in tenths; the net does not use levels below.
        """
        if codes.ndim < 4:
            return prior2d.encode(codes.reshape(as_plane(codes.shape)), quality, self)
        frames = (prior2d.encode(frame, quality, self) for frame in codes.swapaxes(0, 1))
        return b"".join(varint(len(frame)) + frame for frame in frames)

    def decode(self, data: bytes, shape: tuple[int, ...], quality: int, below: np.ndarray | None) -> np.ndarray:
        """Codes int32 of `shape` [G, *grid], the mirror of `encode`. Raises BadFile for bytes of anything else."""
        if len(shape) < 4:
            return prior2d.decode(data, as_plane(shape), quality, self).reshape(shape)
        G, frames, rows, columns = shape
        reader = Reader(data, "a chunk of video")
        codes = [prior2d.decode(reader.take(reader.varint()), (G, rows, columns), quality, self) for _ in range(frames)]
        require(not len(reader), "a chunk of video goes on after its last frame")
        return np.stack(codes, axis=1)

    @cached_property
    def cumulative(self) -> np.ndarray:
        """Frequencies of scalar codes, summed (ScalarTables.cumulative)."""
        assert isinstance(self.tables, ScalarTables)
        return self.tables.cumulative(max(self.codebook_sizes) // 2)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything as named arrays; `from_arrays` is the mirror."""
        named = {
            "slices": np.array([len(part) for part in self.slices], np.int32),
            "levels": np.array(self.levels, np.int32),
            "qualities": np.array([self.qualities], np.int32),
        }
        if isinstance(self.tables, ScalarTables):
            named |= {f"tables.{name}": table for name, table in vars(self.tables).items()}
        else:
            named["tables.frequencies"] = self.tables
        for n, part in enumerate(self.parts):
            for name, member in vars(part).items():
                if isinstance(member, Stencil | Dense):
                    named |= {f"{n}.{name}.{inner}": array for inner, array in member.arrays()}
                elif isinstance(member, tuple):
                    named |= {f"{n}.{name}.{inner}": array for inner, array in enumerate(member)}
                else:
                    named[f"{n}.{name}"] = member
        return named

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
                    raise ValueError("codes of a vector quantizer are coded group by group")
                for table, size in zip(tables, sizes, strict=True):
                    if table.dtype != np.int8 or table.shape != (size + 1, channels):
                        raise ValueError(f"an embedding is {table.dtype} {table.shape}")
                taps = [len(prior2d_stages.taps(phase.kind, 3)) * channels for phase in phases[1:]]
                part.first.check(window * channels * groups.start, taps, 1, width, (128, 128))
                part.out.check(len(phases), width, K, CEILING)


def from_arrays(arrays: Mapping[str, np.ndarray], codebook_sizes: Sequence[int]) -> Net:
    """The net of `Net.arrays`, checked. Raises ValueError for arrays that are not those of a valid net."""
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
        numbers = [int(value) for value in arrays[name].ravel()]
        if not all(low <= value <= high for value in numbers):
            raise ValueError(f"its {name} are not within {low} to {high}")
        return numbers

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
            earlier_tables = tuple(arrays[f"{n}.lent.{group}"] for group in range(groups.start))
            parts.append(VectorPart(*both, arrays[f"{n}.embedding"], earlier_tables))
    tables: ScalarTables | np.ndarray
    if qualities:
        tables = ScalarTables(**{name: arrays[f"tables.{name}"] for name in ScalarTables.__dataclass_fields__})
    else:
        tables = arrays["tables.frequencies"]
    return Net(sizes, tuple(slices), tuple(levels), qualities, tuple(parts), tables)
