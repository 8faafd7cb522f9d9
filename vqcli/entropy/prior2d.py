"""Codes under the entropy model (prior2d_net.py): stage by stage, the net predicts and the range coder writes or reads.

Encoder and decoder run the same steps on the same numbers: the context of a stage was coded before it, so the decoder
has it too. Positions of a stage are predicted in blocks of rows, which bounds memory and changes no result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from vqcli.entropy import prior2d_stages, rangecoder
from vqcli.entropy.integer_layers import Number
from vqcli.entropy.jit import compiled
from vqcli.entropy.prior2d_parts import (
    CEILING,
    CLASS,
    FRACTION,
    LARGEST_SHIFT,
    LARGEST_VALUE,
    NetParts,
    ScalarPart,
    ScalarTables,
    VectorPart,
)
from vqcli.errors import BadFile

BLOCK = 4096  # positions predicted at once

Block = tuple[slice, slice]
Inputs = tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]  # for mean, energy and perceptron


def encode(codes: np.ndarray, quality: int, net: NetParts, number: Number = np.float32) -> bytes:
    """Bytes of codes [G, H, W], each below its group's codebook size; `quality` in tenths, any for vector codes.

    `number` may also be float64 or int64: the bytes are the same.
    """
    if codes.size == 0:
        return b""
    writer = _Writer(codes.size, net)
    _code(np.ascontiguousarray(np.moveaxis(codes, 0, -1), np.int32), quality, net, writer, number)
    return writer.finish()


def decode(
    data: bytes, shape: tuple[int, int, int], quality: int, net: NetParts, number: Number = np.float32
) -> np.ndarray:
    """Codes int32 of `shape` [G, H, W]. Raises BadFile if the bytes are not exactly those of so many codes."""
    if net.qualities and not 10 <= quality <= 10 * net.qualities:
        raise BadFile(f"quality {quality / 10:g} is not within 1 to {net.qualities}")
    G, H, W = shape
    codes = np.zeros((H, W, G), np.int32)
    if codes.size == 0:
        whole = not data
    else:
        reader = _Reader(data, net)
        _code(codes, quality, net, reader, number)
        whole = reader.at_end()
    if not whole:
        raise _wrong_length(len(data))
    return np.ascontiguousarray(np.moveaxis(codes, -1, 0))


def _wrong_length(size_bytes: int) -> BadFile:
    return BadFile(f"{size_bytes} bytes of codes end too early or too late")


class _Coder(Protocol):
    """Writes codes int32 [rows, columns, groups] under their prediction, or reads them into the array."""

    def code(self, codes: np.ndarray, predicted: np.ndarray, sizes: np.ndarray) -> None: ...


def _code(codes: np.ndarray, quality: int, net: NetParts, coder: _Coder, number: Number) -> None:
    """Code the stages of codes [H, W, G], which a reader fills in."""
    for block, own, predicted, sizes in _predictions(codes, quality, net, number):
        coder.code(codes[block][..., own], predicted, sizes)


def bits(codes: np.ndarray, net: NetParts) -> np.ndarray:
    """Bits of each code that could stand at a position, the others as they are: [G, H, W] -> float32 [G, H, W, K].

    Of codes of a vector quantizer, with equal codebook sizes K; what a code costs its later neighbours is left out.
    """
    assert isinstance(net.tables, np.ndarray)
    given = np.ascontiguousarray(np.moveaxis(codes, 0, -1), np.int32)
    costs = np.empty((*codes.shape, net.codebook_sizes[0]), np.float32)
    for block, own, logits, _ in _predictions(given, 0, net, np.float32):
        below = np.minimum(logits.max(1, keepdims=True) - logits, len(net.tables) - 1)
        frequencies = net.tables[below].astype(np.float32)
        cost = np.log2(frequencies.sum(1, keepdims=True)) - np.log2(frequencies)
        there = costs[own.start][block]
        there[...] = cost.reshape(there.shape)
    return costs


def _predictions(
    codes: np.ndarray, quality: int, net: NetParts, number: Number
) -> Iterator[tuple[Block, slice, np.ndarray, np.ndarray]]:
    """Stage by stage: positions, groups, what the net predicts of them, and sizes of their codebooks.

    Codes [H, W, G] at these positions must be there when the next are asked for.
    """
    canvas = _Canvas(codes, net, number) if net.qualities else None
    for groups, levels, part in zip(net.slices, net.levels, net.parts, strict=True):
        own = slice(groups.start, groups.stop)
        predict: _Scalars | _Vectors
        if isinstance(part, ScalarPart):
            assert canvas is not None
            predict = _Scalars(part, canvas, own, quality, number)
        else:
            predict = _Vectors(part, codes, own.start, prior2d_stages.margin(levels), number)
        sizes = np.array(net.codebook_sizes[own], np.int64)
        for p, phase in enumerate(prior2d_stages.phases(levels)):
            for lattice in phase.lattices:
                for block in _blocks(codes.shape[:2], lattice):
                    yield block, own, predict(p, phase, block), sizes
                    predict.update(block, codes[block][..., own])


def _blocks(shape: tuple[int, ...], lattice: prior2d_stages.Lattice) -> Iterator[Block]:
    """Rows and columns of a lattice on a grid, in blocks of whole rows."""
    (H, W), (top, left, step) = shape, lattice
    columns = len(range(left, W, step))
    if columns:
        rows = step * max(1, BLOCK // columns)
        yield from ((slice(start, min(start + rows, H), step), slice(left, W, step)) for start in range(top, H, rows))


def _moved(block: Block, rows: int, columns: int | None = None) -> Block:
    """The block so many rows and columns on; as many columns as rows if they are not given."""
    y, x = block
    columns = rows if columns is None else columns
    return slice(y.start + rows, y.stop + rows, y.step), slice(x.start + columns, x.stop + columns, x.step)


def _size(block: Block) -> int:
    """Positions in a block."""
    y, x = (len(range(s.start, s.stop, s.step)) for s in block)
    return y * x


def _around(plane: np.ndarray, offsets: prior2d_stages.Offsets, spacing: int, block: Block, margin: int) -> np.ndarray:
    """Neighbours of a block: plane [H + 2 margin, W + 2 margin, ...] -> [positions, offsets, ...]."""
    near = [plane[_moved(block, margin + y * spacing, margin + x * spacing)] for y, x in offsets]
    return np.stack(near, 2).reshape(_size(block), len(offsets), *plane.shape[2:])


def _flat(near: np.ndarray) -> np.ndarray:
    return near.reshape(len(near), -1)


class _Canvas:
    """Known scalar codes: values, signed and unsigned features, [H + 2 margin, W + 2 margin, 3, G]."""

    def __init__(self, codes: np.ndarray, net: NetParts, number: Number) -> None:
        assert isinstance(net.tables, ScalarTables)
        self.margin = max(prior2d_stages.margin(levels) for levels in net.levels)
        self.table = net.tables.features.astype(number)
        self.middles = (np.array(net.codebook_sizes) - 1) // 2
        H, W, G = codes.shape
        self.plane = np.zeros((H + 2 * self.margin, W + 2 * self.margin, 3, G), number)
        rows = max(1, BLOCK // W)
        for top in range(0, H, rows):  # what lies between codes and features takes several times as much
            block = slice(top, min(top + rows, H), 1), slice(0, W, 1)
            self.write(block, slice(G), codes[block])

    def write(self, block: Block, groups: slice, codes: np.ndarray) -> None:
        values = np.clip(codes - self.middles[groups], -LARGEST_VALUE, LARGEST_VALUE)
        features = self.table[np.abs(values)]
        place = self.plane[_moved(block, self.margin)][..., groups]
        place[..., 0, :], place[..., 1, :], place[..., 2, :] = values, features * np.sign(values), features

    def around(self, groups: slice, offsets: prior2d_stages.Offsets, spacing: int, block: Block) -> Inputs:
        """Inputs [positions, offsets x ...] for mean, energy and perceptron."""
        near = _around(self.plane[..., groups], offsets, spacing, block, self.margin)
        values = near[:, :, 0].reshape(len(near), -1)
        return values, np.abs(values), near[:, :, 1:].reshape(len(near), -1)


class _Scalars:
    """The net's prediction of a slice of scalar groups: int32 [positions, 4 groups], mean, energy, shift, stretch."""

    def __init__(self, part: ScalarPart, canvas: _Canvas, own: slice, quality: int, number: Number) -> None:
        self.canvas, self.own = canvas, own
        self.stencils = [stencil.prepared(number, quality) for stencil in (part.mean, part.energy, part.first)]
        self.hidden, self.out = part.hidden.prepared(number), part.out.prepared(number)

    def update(self, block: Block, codes: np.ndarray) -> None:
        """Add codes [rows, columns, groups] of a block to the known ones."""
        self.canvas.write(block, self.own, codes)

    def __call__(self, p: int, phase: prior2d_stages.Phase, block: Block) -> np.ndarray:
        earlier: Inputs = (None,) * 3
        own: Inputs = (None,) * 3
        if self.own.start:
            earlier = self.canvas.around(slice(self.own.start), prior2d_stages.WINDOW, 1, block)
        if p:
            own = self.canvas.around(self.own, prior2d_stages.taps(phase.kind, 2), phase.spacing, block)
        mean, energy, first = (
            stencil(p, a, b, _size(block)) for stencil, a, b in zip(self.stencils, earlier, own, strict=True)
        )
        hidden = np.clip(self.hidden(p, np.clip(first, 0, CEILING)), 0, CEILING)
        return np.concatenate([mean, energy, self.out(p, hidden)], 1).astype(np.int32)


class _Vectors:
    """The net's prediction of one group of vector codes: logits int32 [positions, K]."""

    def __init__(self, part: VectorPart, codes: np.ndarray, group: int, margin: int, number: Number) -> None:
        self.margin = margin
        self.first = part.first.prepared(number, 0)
        self.hidden, self.out = part.hidden.prepared(number), part.out.prepared(number)
        self.table = part.embedding.astype(number)
        self.own = self._plane(self.table, codes[..., group], margin)
        planes = [self._plane(table.astype(number), codes[..., g], 1) for g, table in enumerate(part.lent)]
        self.earlier = np.concatenate(planes, -1) if planes else None

    @staticmethod
    def _plane(table: np.ndarray, codes: np.ndarray, margin: int) -> np.ndarray:
        """Embeddings of codes [H, W] with a margin: [H + 2 margin, W + 2 margin, channels]."""
        return table[np.pad(codes, margin, constant_values=len(table) - 1)]

    def update(self, block: Block, codes: np.ndarray) -> None:
        self.own[_moved(block, self.margin)] = self.table[codes[..., 0]]

    def __call__(self, p: int, phase: prior2d_stages.Phase, block: Block) -> np.ndarray:
        earlier = None if self.earlier is None else _flat(_around(self.earlier, prior2d_stages.WINDOW, 1, block, 1))
        own = (
            _flat(_around(self.own, prior2d_stages.taps(phase.kind, 3), phase.spacing, block, self.margin))
            if p
            else None
        )
        first = self.first(p, earlier, own, _size(block))
        hidden = np.clip(self.hidden(p, np.clip(first, 0, CEILING)), 0, CEILING)
        return self.out(p, hidden).astype(np.int32)


def _tables(net: NetParts) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
    """Tables as compiled code takes them: cumulative rows, thresholds, lowest and scales; of vector codes the first."""
    if not isinstance(net.tables, ScalarTables):
        nothing = np.zeros(0, np.int32)
        return net.tables, nothing, 0, nothing
    return net.cumulative, net.tables.thresholds, int(net.tables.lowest[0]), net.tables.scales


class _Writer:
    def __init__(self, count: int, net: NetParts) -> None:
        self.scalar, self.tables = net.qualities > 0, _tables(net)
        self.state, self.out = rangecoder.new_state(), np.zeros(5 * count + 16, np.uint8)

    def code(self, codes: np.ndarray, predicted: np.ndarray, sizes: np.ndarray) -> None:
        block = np.ascontiguousarray(codes).reshape(-1, len(sizes))
        if self.scalar:
            _put_scalars(self.state, self.out, block, sizes, predicted, *self.tables)
        else:
            _put_vectors(self.state, self.out, block[:, 0], predicted, self.tables[0])

    def finish(self) -> bytes:
        return self.out[: rangecoder.finish(self.state, self.out)].tobytes()


class _Reader:
    def __init__(self, data: bytes, net: NetParts) -> None:
        self.scalar, self.tables = net.qualities > 0, _tables(net)
        self.state, self.data = rangecoder.new_state(), np.frombuffer(data, np.uint8)
        rangecoder.open_stream(self.state, self.data)

    def code(self, codes: np.ndarray, predicted: np.ndarray, sizes: np.ndarray) -> None:
        block = np.empty((len(predicted), len(sizes)), np.int32)
        if self.scalar:
            whole = _get_scalars(self.state, self.data, block, sizes, predicted, *self.tables)
        else:
            whole = _get_vectors(self.state, self.data, block[:, 0], predicted, self.tables[0])
        if not whole:
            raise _wrong_length(len(self.data))
        codes[...] = block.reshape(codes.shape)

    def at_end(self) -> bool:
        return bool(rangecoder.at_end(self.state, self.data))


@compiled
def _predicted_row(
    mean: int, energy: int, shift: int, stretch: int, thresholds: np.ndarray, lowest: int, scales: np.ndarray
) -> tuple[int, int, int]:
    """Rounded mean, its fraction in 1/32 and scale class of one code: they select a row of frequencies."""
    log_energy = int(np.searchsorted(thresholds, energy, side="right"))
    step: int = min(max(log_energy + stretch - lowest, 0), len(scales) - 1)
    correction = min(max(shift, -LARGEST_SHIFT), LARGEST_SHIFT) * np.int64(scales[step])  # in 1/(64 * 4096)
    fine = int((mean + ((correction + 512) >> 10) + 4) >> 3)  # 1/256 to 1/32
    rounded = (fine + FRACTION // 2) >> 5
    return rounded, fine - (rounded << 5), (step + CLASS // 2) // CLASS


@compiled
def _put_scalars(
    state: np.ndarray,
    out: np.ndarray,
    codes: np.ndarray,
    sizes: np.ndarray,
    predicted: np.ndarray,
    cumulative: np.ndarray,
    thresholds: np.ndarray,
    lowest: int,
    scales: np.ndarray,
) -> None:
    N, G = codes.shape
    half = (cumulative.shape[2] - 2) // 2
    for n in range(N):
        for g in range(G):
            a = predicted[n]
            rounded, fraction, scale = _predicted_row(
                a[g], a[G + g], a[2 * G + g], a[3 * G + g], thresholds, lowest, scales
            )
            row, K = cumulative[scale, abs(fraction)], sizes[g]
            middle = (K - 1) // 2
            difference = codes[n, g] - middle - rounded
            symbol = (middle + (difference if fraction >= 0 else -difference)) % K
            low = half - middle  # a smaller codebook uses the middle of the row
            before = row[low + symbol]
            rangecoder.put(state, out, before - row[low], row[low + symbol + 1] - before, row[low + K] - row[low])


@compiled
def _get_scalars(
    state: np.ndarray,
    data: np.ndarray,
    codes: np.ndarray,
    sizes: np.ndarray,
    predicted: np.ndarray,
    cumulative: np.ndarray,
    thresholds: np.ndarray,
    lowest: int,
    scales: np.ndarray,
) -> bool:
    N, G = codes.shape
    half = (cumulative.shape[2] - 2) // 2
    for n in range(N):
        for g in range(G):
            a = predicted[n]
            rounded, fraction, scale = _predicted_row(
                a[g], a[G + g], a[2 * G + g], a[3 * G + g], thresholds, lowest, scales
            )
            row, K = cumulative[scale, abs(fraction)], sizes[g]
            middle = (K - 1) // 2
            low = half - middle
            total = row[low + K] - row[low]
            target = rangecoder.peek(state, total) + row[low]
            symbol = np.searchsorted(row[low : low + K + 1], target, side="right") - 1
            before = row[low + symbol]
            if not rangecoder.advance(state, data, before - row[low], row[low + symbol + 1] - before, total):
                return False
            difference = symbol - middle if fraction >= 0 else middle - symbol
            codes[n, g] = (middle + rounded + difference) % K
    return True


@compiled
def _put_vectors(
    state: np.ndarray, out: np.ndarray, codes: np.ndarray, logits: np.ndarray, frequencies: np.ndarray
) -> None:
    N, K = logits.shape
    for n in range(N):
        row, symbol = logits[n], codes[n]
        largest = row.max()
        total = before = np.int64(0)
        for k in range(K):
            if k == symbol:
                before = total
            total += frequencies[min(largest - row[k], len(frequencies) - 1)]
        rangecoder.put(
            state, out, before, np.int64(frequencies[min(largest - row[symbol], len(frequencies) - 1)]), total
        )


@compiled
def _get_vectors(
    state: np.ndarray, data: np.ndarray, codes: np.ndarray, logits: np.ndarray, frequencies: np.ndarray
) -> bool:
    N, K = logits.shape
    row = np.empty(K, np.int64)
    for n in range(N):
        largest = logits[n].max()
        total = np.int64(0)
        for k in range(K):
            row[k] = frequencies[min(largest - logits[n, k], len(frequencies) - 1)]
            total += row[k]
        target = rangecoder.peek(state, total)
        symbol = before = np.int64(0)
        while before + row[symbol] <= target:
            before += row[symbol]
            symbol += 1
        if not rangecoder.advance(state, data, before, row[symbol], total):
            return False
        codes[n] = symbol
    return True
