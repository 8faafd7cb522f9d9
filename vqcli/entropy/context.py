"""The context coder: codes under counts by context, static ones of the model or adaptive ones.

Both are one algorithm: static counts have an increment of 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vqcli.entropy import rangecoder
from vqcli.entropy.grids import as_plane
from vqcli.entropy.jit import compiled
from vqcli.entropy.statistics import Statistics, add_activity, observe, predict, skew_of
from vqcli.errors import BadFile

INCREMENT = 300  # what a symbol adds to its adaptive count: the model's counts weigh as much as 200 symbols
LARGEST_TOTAL = 1 << 17  # counts are halved beyond this, or 256 a code, so that old symbols lose weight


def encode(codes: np.ndarray, codebook_sizes: Sequence[int], statistics: Statistics, *, adaptive: bool) -> bytes:
    """Bytes of codes [G, *grid], each below its group's codebook size."""
    codes = np.ascontiguousarray(codes.reshape(as_plane(codes.shape)), np.int32)
    sizes = np.array(codebook_sizes, np.int64)
    if codes.size == 0:
        return b""
    s = statistics
    symbols, energies, skews = observe(codes, sizes, s.mean, s.own, s.earlier)
    counts, increment = _start(s, adaptive)
    return _encode(symbols, energies, skews, s.thresholds, counts, increment).tobytes()


def decode(
    data: bytes, shape: tuple[int, ...], codebook_sizes: Sequence[int], statistics: Statistics, *, adaptive: bool
) -> np.ndarray:
    """Codes int32 of `shape` [G, *grid]. Raises BadFile if the bytes are not exactly those of so many codes."""
    if 0 in shape:
        codes, whole = np.zeros(shape, np.int32), not data
    else:
        sizes = np.array(codebook_sizes, np.int64)
        counts, increment = _start(statistics, adaptive)
        s = statistics
        codes, whole = _decode(
            np.frombuffer(data, np.uint8),
            as_plane(shape),
            sizes,
            s.mean,
            s.own,
            s.earlier,
            s.thresholds,
            counts,
            increment,
        )
    if not whole:
        raise BadFile(f"{len(data)} bytes of codes end too early or too late")
    return codes.reshape(shape)


def _start(statistics: Statistics, adaptive: bool) -> tuple[np.ndarray, int]:
    counts = statistics.counts.astype(np.int32)  # a copy: the coder changes it
    return counts, (INCREMENT if adaptive else 0)


@compiled
def _encode(
    symbols: np.ndarray,
    energies: np.ndarray,
    skews: np.ndarray,
    thresholds: np.ndarray,
    counts: np.ndarray,
    increment: int,
) -> np.ndarray:
    G, H, W = symbols.shape
    skew_classes = counts.shape[1] // (thresholds.shape[1] + 1)  # that the model distinguishes
    out = np.zeros(symbols.size * 4 + 16, np.uint8)  # a symbol costs at most log2(256 K) bits, 26 of K = 2^18
    state = rangecoder.new_state()
    totals = _totals(counts)
    for g in range(G):
        for y in range(H):
            for x in range(W):
                context = np.searchsorted(thresholds[g], energies[g, y, x], side="right") * skew_classes
                context += min(skews[g, y, x], skew_classes - 1)
                row, symbol = counts[g, context], symbols[g, y, x]
                before = 0
                for k in range(symbol):
                    before += row[k]
                rangecoder.put(state, out, before, row[symbol], totals[g, context])
                if increment:
                    totals[g, context] = _update(row, symbol, increment, totals[g, context])
    return out[: rangecoder.finish(state, out)]


@compiled
def _decode(
    data: np.ndarray,
    shape: tuple[int, int, int],
    sizes: np.ndarray,
    mean: np.ndarray,
    own: np.ndarray,
    earlier: np.ndarray,
    thresholds: np.ndarray,
    counts: np.ndarray,
    increment: int,
) -> tuple[np.ndarray, bool]:
    G, H, W = shape
    skew_classes = counts.shape[1] // (thresholds.shape[1] + 1)  # that the model distinguishes
    codes, values = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    state = rangecoder.new_state()
    rangecoder.open_stream(state, data)
    totals = _totals(counts)
    for g in range(G):
        K = np.int32(sizes[g])
        middle = (K - 1) // 2
        activity = np.zeros((H, W), np.int32)
        add_activity(activity, values, earlier, g)
        for y in range(H):
            for x in range(W):
                rounded, fraction, energy = predict(values[g], activity, y, x, mean[g], own[g])
                context = np.searchsorted(thresholds[g], energy, side="right") * skew_classes
                context += min(skew_of(fraction), skew_classes - 1)
                row, total = counts[g, context], totals[g, context]
                target = rangecoder.peek(state, total)
                symbol = before = 0
                while before + row[symbol] <= target:
                    before += row[symbol]
                    symbol += 1
                if not rangecoder.advance(state, data, before, row[symbol], total):
                    return codes, False
                difference = symbol - middle if fraction >= 0 else middle - symbol
                code = (middle + rounded + difference) % K
                codes[g, y, x], values[g, y, x] = code, code - middle
                if increment:
                    totals[g, context] = _update(row, symbol, increment, total)
    return codes, rangecoder.at_end(state, data)


@compiled
def _totals(counts: np.ndarray) -> np.ndarray:
    G, X, K = counts.shape
    totals = np.zeros((G, X), np.int64)
    for g in range(G):
        for context in range(X):
            for k in range(K):
                totals[g, context] += counts[g, context, k]
    return totals


@compiled
def _update(row: np.ndarray, symbol: int, increment: int, total: int) -> int:
    """Count a symbol and return the new total."""
    row[symbol] += increment
    total += increment
    if total > max(LARGEST_TOTAL, 256 * len(row)):
        total = 0
        for k in range(len(row)):
            row[k] = (row[k] + 1) >> 1  # positive counts stay positive, 0 stays 0
            total += row[k]
    return total
