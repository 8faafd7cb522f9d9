"""The entropy model of codes in time, as of speech: a net in integers. prior1d.py codes with it.

The net is that of nets/priors/exact1d.py after rounding. Codes [G, T] are coded group by group, each from its first
position to its last. A code is predicted from the `past` codes of its own group, and from `earlier` groups before it,
the first one and the nearest others: `around` codes to each side, and the one at its own position. Further features are
the mean of the embeddings of all earlier codes of its group, and of all codes of each of these groups: they
characterise speaker and room. So levels can be coded one after another, each given those below.

    first    sum of a row for each code of the context, and a product of the means; floor(sum / 2^shift), clipped to
             0 .. CEILING
    hidden   a product, likewise
    out      logits in 1/16 bit; frequency = table[largest logit - logit]

A mean is floor((2 sum + count) / (2 count)), 0 of nothing. All numbers are integers of at most 25 bits with their sign,
and only such shifts and means round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from vqcli.entropy import prior1d
from vqcli.entropy.grids import as_plane
from vqcli.entropy.integer_layers import Dense
from vqcli.entropy.prior1d import Layer, Prepared
from vqcli.entropy.prior2d_parts import CEILING
from vqcli.entropy.rangecoder import MAX_TOTAL

REACH = 32  # the largest `past` and `around`
LARGEST_WIDTH = 4096
KEPT_BYTES = 2**28  # of parts that are prepared for coding


def groups_seen(group: int, earlier: int) -> list[int]:
    """The groups that a code is predicted from, its own last: the first tells most, the nearest what they left over."""
    return [other for other in range(group) if other == 0 or other > group - earlier] + [group]


def places(group: int, past: int, around: int, earlier: int) -> list[tuple[int, int]]:
    """The context of a code: (group, offset in positions), its own group first."""
    own = [(group, -away) for away in range(1, past + 1)]
    others = groups_seen(group, earlier)[:-1]
    return own + [(other, away) for other in others for away in range(-around, around + 1)]


@dataclass(frozen=True)
class SequencePart:
    """One group; tables int8 [K + 1, channels] of `groups_seen`, the last row for positions outside.

    `first` takes the embeddings of all `places`, then the means of the groups in their order.
    """

    tables: tuple[np.ndarray, ...]
    first: Dense
    hidden: Dense
    out: Dense

    def arrays(self, seen: Sequence[int]) -> Iterator[tuple[str, np.ndarray]]:
        yield from ((f"tables.{other}", table) for other, table in zip(seen, self.tables, strict=True))
        for name, layer in (("first", self.first), ("hidden", self.hidden), ("out", self.out)):
            yield from ((f"{name}.{inner}", array) for inner, array in layer.arrays())

    def check(self, sizes: Sequence[int], context: int) -> None:
        """Raise ValueError unless all fits together and no sum can reach 2^24; `sizes` are those of `groups_seen`."""
        channels, width = self.tables[-1].shape[-1], self.hidden.weight.shape[-1]
        if not (1 <= channels <= LARGEST_WIDTH and 1 <= width <= LARGEST_WIDTH):
            raise ValueError(f"{channels} channels and {width} hidden ones are out of range")
        for table, size in zip(self.tables, sizes, strict=True):
            if table.dtype != np.int8 or table.shape != (size + 1, channels):
                raise ValueError(f"an embedding is {table.dtype} {table.shape}")
        self.first.check(1, channels * (context + len(sizes)), width, 128)
        self.hidden.check(1, width, width, CEILING)
        self.out.check(1, width, sizes[-1], CEILING)


@dataclass(frozen=True)
class SequenceNet:
    """An entropy model in integers, for codes [G, T] with these codebooks.

    past, around   positions of the context: earlier ones of the own group, those to each side in earlier groups
    earlier        how many earlier groups
    frequencies    int32 [n], by the difference of a logit from the largest
    """

    codebook_sizes: tuple[int, ...]
    past: int
    around: int
    earlier: int
    parts: tuple[SequencePart, ...]
    frequencies: np.ndarray
    covers_levels: ClassVar[bool] = True

    def encode(self, codes: np.ndarray, quality: int, below: np.ndarray | None) -> bytes:
        """Bytes of codes [n, *grid], the n groups after those of `below` [groups, *grid]; it has no qualities."""
        return prior1d.encode(codes.reshape(as_plane(codes.shape)), self, _plane(below))

    def decode(self, data: bytes, shape: tuple[int, ...], quality: int, below: np.ndarray | None) -> np.ndarray:
        """Codes int32 of `shape` [n, *grid], the mirror of `encode`. Raises BadFile for bytes of anything else."""
        return prior1d.decode(data, as_plane(shape), self, _plane(below)).reshape(shape)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything as named arrays; `from_arrays` is the mirror."""
        named = {"reach": np.array([self.past, self.around, self.earlier], np.int32), "frequencies": self.frequencies}
        if self.earlier >= len(self.parts) - 1:
            named["reach"] = named["reach"][:2]  # as in nets of older versions, which see all groups
        for group, part in enumerate(self.parts):
            named |= {f"{group}.{name}": array for name, array in part.arrays(groups_seen(group, self.earlier))}
        return named

    def context(self, group: int) -> list[tuple[int, int]]:
        """The context of a code of that group, as `places`."""
        return places(group, self.past, self.around, self.earlier)

    def check(self) -> None:
        """Raise ValueError unless all fits together and no sum can reach 2^24."""
        table = self.frequencies
        if table.dtype != np.int32 or table.ndim != 1 or not 1 <= table.size <= 1 << 14 or table.min() < 1:
            raise ValueError("its frequencies are no table, or out of range")
        if int(table.max()) * max(self.codebook_sizes) >= MAX_TOTAL:
            raise ValueError("its frequencies are too large")
        for group, part in enumerate(self.parts):
            sizes = [self.codebook_sizes[other] for other in groups_seen(group, self.earlier)]
            part.check(sizes, len(self.context(group)))

    def prepared(self, group: int) -> Prepared:
        """A part as compiled code takes it, which is a hundred times as large: kept only where all parts take little
        memory."""
        if group in self._kept:
            return self._kept[group]
        prepared = self._prepare(group, self.parts[group])
        if self._prepared_bytes <= KEPT_BYTES:
            self._kept[group] = prepared
        return prepared

    @cached_property
    def _kept(self) -> dict[int, Prepared]:
        return {}

    @cached_property
    def _prepared_bytes(self) -> int:
        """What the rows of all parts take."""
        rows = (
            part.first.weight.shape[-1] * sum(self.codebook_sizes[other] + 1 for other, _ in self.context(group))
            for group, part in enumerate(self.parts)
        )
        return 4 * sum(rows)

    def _prepare(self, group: int, part: SequencePart) -> Prepared:
        context, seen = self.context(group), groups_seen(group, self.earlier)
        weight = part.first.weight[0].reshape(len(context) + len(seen), -1, part.first.weight.shape[-1])
        weights, means = np.split(weight, [len(context)])
        tables = dict(zip(seen, part.tables, strict=True))
        # products of integers that stay below 2^24: exact in float32, and much faster there
        rows = [
            tables[other].astype(np.float32) @ weight.astype(np.float32)
            for (other, _), weight in zip(context, weights, strict=True)
        ]
        return Prepared(
            np.concatenate(rows).astype(np.int32),
            np.array([(*place, begin) for place, begin in zip(context, _begins(rows), strict=True)], np.int64),
            np.array(seen, np.int64),
            np.concatenate(part.tables).astype(np.int32),
            np.array(_begins(part.tables), np.int64),
            np.ascontiguousarray(means),
            part.first.bias[0],
            part.first.shift[0].astype(np.int32),
            _layer(part.hidden),
            _layer(part.out),
        )


def _plane(below: np.ndarray | None) -> np.ndarray | None:
    return None if below is None else below.reshape(as_plane(below.shape))


def _begins(blocks: Sequence[np.ndarray]) -> list[int]:
    """Where each block begins when they are joined."""
    return [sum(len(block) for block in blocks[:n]) for n in range(len(blocks))]


def _layer(dense: Dense) -> Layer:
    return Layer(dense.weight[0], dense.bias[0], dense.shift[0].astype(np.int32))


def from_arrays(arrays: Mapping[str, np.ndarray], codebook_sizes: Sequence[int]) -> SequenceNet:
    """The net of `SequenceNet.arrays`, checked. Raises ValueError for arrays that are not those of a valid net."""
    try:
        reach = arrays["reach"]
        past, around, *limit = (int(number) for number in reach)
        earlier = limit[0] if limit else len(codebook_sizes)
        if (
            reach.dtype != np.int32
            or len(limit) > 1
            or not (1 <= past <= REACH and 0 <= around <= REACH and earlier > 0)
        ):
            raise ValueError(f"its reach of {reach.tolist()} is out of range")

        def dense(name: str) -> Dense:
            return Dense(*(arrays[f"{name}.{inner}"] for inner in ("weight", "bias", "shift")))

        parts = tuple(
            SequencePart(
                tuple(arrays[f"{group}.tables.{other}"] for other in groups_seen(group, earlier)),
                *(dense(f"{group}.{name}") for name in ("first", "hidden", "out")),
            )
            for group in range(len(codebook_sizes))
        )
        net = SequenceNet(tuple(codebook_sizes), past, around, earlier, parts, arrays["frequencies"])
        net.check()
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"an array is missing or of another kind: {error}") from None
    if set(net.arrays()) != set(arrays):
        raise ValueError("it holds other arrays too")
    return net
