"""Codes in time under the entropy model (prior1d_net.py): the net predicts them one by one, the range coder writes or
reads them.

Encoder and decoder are one compiled loop in integers. It takes some microseconds a code, so a second of speech takes
a few milliseconds.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from vqcli.entropy import rangecoder
from vqcli.entropy.jit import compiled
from vqcli.entropy.prior2d_parts import CEILING
from vqcli.errors import BadFile


class Layer(NamedTuple):
    """A product as compiled code takes it: weight int16 [in, out], bias and shift int32 [out]."""

    weight: np.ndarray
    bias: np.ndarray
    shift: np.ndarray


class Prepared(NamedTuple):
    """A part as compiled code takes it.

    rows     int32 [all rows, hidden]: what each code at each place, or a position outside, adds to the first layer
    places   int64 [all places, 3]: group, offset in positions, and where its rows begin
    seen     int64 [groups]: those that it is predicted from, its own last
    tables   int32 [all their K + 1, channels], and begins int64 [groups]: their first rows
    means    int16 [groups, channels, hidden]: weights of the first layer
    """

    rows: np.ndarray
    places: np.ndarray
    seen: np.ndarray
    tables: np.ndarray
    begins: np.ndarray
    means: np.ndarray
    bias: np.ndarray
    shift: np.ndarray
    hidden: Layer
    out: Layer


class NetParts(Protocol):
    """The members of a net that coding needs, as in prior1d_net.SequenceNet."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]: ...

    def prepared(self, group: int) -> Prepared: ...

    @property
    def frequencies(self) -> np.ndarray: ...


def encode(codes: np.ndarray, net: NetParts, below: np.ndarray | None = None) -> bytes:
    """Bytes of codes [n, rows, T], each below its group's codebook size.

    They are the n groups of the net after those of `below`, [groups, rows, T], which the decoder has already. Rows, as
    the channels of a recording, are coded independently.
    """
    if codes.size == 0:
        return b""
    state, out = rangecoder.new_state(), np.zeros(5 * codes.size + 16, np.uint8)
    _code(_canvas(codes, below), 0 if below is None else len(below), net, state, out, reading=False)
    return out[: rangecoder.finish(state, out)].tobytes()


def decode(data: bytes, shape: tuple[int, int, int], net: NetParts, below: np.ndarray | None = None) -> np.ndarray:
    """Codes int32 of `shape` [n, rows, T]. Raises BadFile if the bytes are not exactly those of so many codes."""
    canvas = _canvas(np.zeros(shape, np.int32), below)
    start = len(canvas) - shape[0]
    if canvas[start:].size == 0:
        whole = not data
    else:
        state, stream = rangecoder.new_state(), np.array(bytearray(data), np.uint8)
        rangecoder.open_stream(state, stream)
        whole = _code(canvas, start, net, state, stream, reading=True) and bool(rangecoder.at_end(state, stream))
    if not whole:
        raise BadFile(f"{len(data)} bytes of codes end too early or too late")
    return canvas[start:]


def _canvas(codes: np.ndarray, below: np.ndarray | None) -> np.ndarray:
    """All groups, those of the context first, int32 [G, rows, T]."""
    parts = [codes] if below is None else [below, codes]
    return np.ascontiguousarray(np.concatenate(parts), np.int32)


def _code(canvas: np.ndarray, start: int, net: NetParts, state: np.ndarray, stream: np.ndarray, reading: bool) -> bool:
    """Write the groups from `start` on, or read them into the canvas; False if the stream ends too early."""
    if len(canvas) > len(net.codebook_sizes):
        raise BadFile(f"the prior has {len(net.codebook_sizes)} groups of codes, not {len(canvas)}")
    for group in range(start, len(canvas)):
        part = net.prepared(group)
        for row in range(canvas.shape[1]):
            if not _row(part, canvas, row, state, stream, net.frequencies, reading):
                return False
    return True


@compiled
def _row(
    net: Prepared,
    canvas: np.ndarray,
    row: int,
    state: np.ndarray,
    stream: np.ndarray,
    frequencies: np.ndarray,
    reading: bool,
) -> bool:
    """Write the row of the part's group, or read it."""
    own = len(net.seen) - 1
    group = net.seen[own]
    T, K = canvas.shape[2], len(net.out.bias)
    bias, first, second = net.bias.copy(), np.empty_like(net.bias), np.empty_like(net.bias)
    logits, shares = np.empty(K, np.int32), np.empty(K, np.int64)
    embedding_sum = np.zeros(net.tables.shape[1], np.int64)
    for n in range(own):
        embedding_sum[:] = 0
        for t in range(T):
            _observe(embedding_sum, net, n, canvas[net.seen[n], row, t])
        _add_mean(bias, embedding_sum, T, net.means[n])
    embedding_sum[:] = 0
    for t in range(T):
        for c in range(len(first)):
            first[c] = bias[c]
        _add_mean(first, embedding_sum, t, net.means[own])
        for n in range(len(net.places)):
            other, at = net.places[n, 0], t + net.places[n, 1]
            end = net.places[n + 1, 2] if n + 1 < len(net.places) else len(net.rows)
            row_sum = net.rows[net.places[n, 2] + canvas[other, row, at] if 0 <= at < T else end - 1]
            for c in range(len(first)):
                first[c] += row_sum[c]
        _activate(first, net.shift)
        _product(second, first, net.hidden)
        _activate(second, net.hidden.shift)
        _product(logits, second, net.out)
        largest = np.int32(-(1 << 30))
        for k in range(K):
            logits[k] >>= net.out.shift[k]
            largest = max(largest, logits[k])
        total = np.int64(0)
        for k in range(K):
            shares[k] = frequencies[min(largest - logits[k], len(frequencies) - 1)]
            total += shares[k]
        before = np.int64(0)
        symbol = 0
        if reading:
            target = rangecoder.peek(state, total)
            while before + shares[symbol] <= target:
                before += shares[symbol]
                symbol += 1
            if not rangecoder.advance(state, stream, before, shares[symbol], total):
                return False
            canvas[group, row, t] = symbol
        else:
            while symbol < canvas[group, row, t]:
                before += shares[symbol]
                symbol += 1
            rangecoder.put(state, stream, before, shares[symbol], total)
        _observe(embedding_sum, net, own, symbol)
    return True


@compiled
def _observe(total: np.ndarray, net: Prepared, n: int, code: int) -> None:
    """Add the embedding of a code of the n-th group that is seen."""
    embedding = net.tables[net.begins[n] + code]
    for c in range(len(total)):
        total[c] += embedding[c]


@compiled
def _add_mean(out: np.ndarray, total: np.ndarray, count: int, weight: np.ndarray) -> None:
    """Add the product of the mean of `count` embeddings."""
    if count:
        for i in range(len(total)):
            mean = np.int32((2 * total[i] + count) // (2 * count))
            row = weight[i]
            for c in range(len(out)):
                out[c] += np.int32(mean * row[c])


@compiled
def _activate(x: np.ndarray, shift: np.ndarray) -> None:
    for c in range(len(x)):
        x[c] = min(max(x[c] >> shift[c], 0), CEILING)


@compiled
def _product(out: np.ndarray, x: np.ndarray, layer: Layer) -> None:
    """out = bias + x . weight, before its shift; many x are 0."""
    for c in range(len(out)):  # an assignment of arrays compiles for seconds
        out[c] = layer.bias[c]
    for i in range(len(x)):
        factor = x[i]
        if factor:
            row = layer.weight[i]
            for c in range(len(out)):
                out[c] += np.int32(factor * row[c])
