"""Statistics of a model's codes, in integers: weights that predict a code from its causal neighbours, and counts.

A code is coded as its difference from a predicted mean, modulo K, with counts that depend on a context:

    mean     = (m . neighbours + 32) >> 6                  four neighbours of its own group: W, N, NW, NE
    fraction = m . neighbours - 64 mean                   the rounding error, -32 to 31
    symbol   = middle + (value - mean) mod K               if the fraction is negative: middle - (value - mean) mod K
    energy   = w . |neighbours| + sum over earlier groups g' of v[g'] |value of g' at this position|
    context  = (number of thresholds at or below the energy) * skews + skew
    skew     = number of SKEW_THRESHOLDS at or below |fraction|    0 if the model has one skew class

Values are codes counted from the middle of the codebook, (K - 1) // 2, and 0 outside of the chunk. Weights are in
units of 1/64. Mirroring makes use of the fraction: symbols are always skewed upwards, by a degree that depends on it.
Codes of a vector quantizer have no such order: their weights are zero, which leaves one context and the plain
histogram of each group. Everything is integer arithmetic, so encoder and decoder agree on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from vqcli.entropy.jit import compiled

COUNT_TOTAL = 60_000  # about what the counts of one context add up to; the floor of 1 a code is then cheap
FLAT_COUNT = 150  # of each code when nothing is known: half of what an observed one adds (Krichevsky and Trofimov)
UNIT = 64  # weights are in units of 1/64
SKEW_THRESHOLDS = (6, 18)


@dataclass(frozen=True)
class Statistics:
    """Integer tables for G groups and X contexts (E classes of energy times 1 or 3 skew classes), of the model.

    mean, own    int32 [G, 4], weights of the neighbours W, N, NW, NE for mean and energy
    earlier      int32 [G, G], weights of earlier groups for the energy; lower triangular
    thresholds   int32 [G, E - 1], ascending
    counts       uint16 [G, X, largest K], at least 1 for each code below the group's K, 0 beyond
    """

    mean: np.ndarray
    own: np.ndarray
    earlier: np.ndarray
    thresholds: np.ndarray
    counts: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def check(self, codebook_sizes: Sequence[int]) -> None:
        """Raise ValueError unless the tables fit these codebooks: the coders are compiled without bounds checks."""
        if self.thresholds.ndim != 2 or not codebook_sizes:
            raise ValueError("its statistics are not those of codebooks")
        G, K, E = len(codebook_sizes), max(codebook_sizes), self.thresholds.shape[-1] + 1
        X = E * (len(SKEW_THRESHOLDS) + 1) if self.counts.shape[1:2] == (E * (len(SKEW_THRESHOLDS) + 1),) else E
        shapes = {"mean": (G, 4), "own": (G, 4), "earlier": (G, G), "thresholds": (G, E - 1), "counts": (G, X, K)}
        for name, table in self.arrays().items():
            if table.shape != shapes[name] or table.dtype != (np.uint16 if name == "counts" else np.int32):
                raise ValueError(f"its {name} are {table.dtype} {table.shape}, not {shapes[name]}")
        possible = np.arange(K) < np.array(codebook_sizes)[:, None, None]
        if ((self.counts > 0) != possible).any():
            raise ValueError("its counts do not fit its codebooks")

    def of_groups(self, first: int, last: int) -> Statistics:
        """The part for groups first .. last - 1, on their own."""
        part = slice(first, last)
        return Statistics(
            self.mean[part], self.own[part], self.earlier[part, part], self.thresholds[part], self.counts[part]
        )


def flat(codebook_sizes: Sequence[int]) -> Statistics:
    """No knowledge: one context, all codes alike."""
    G = len(codebook_sizes)
    counts = (np.arange(max(codebook_sizes)) < np.array(codebook_sizes)[:, None, None]) * np.uint16(FLAT_COUNT)
    zeros = np.zeros((G, 4), np.int32)
    return Statistics(zeros, zeros, np.zeros((G, G), np.int32), np.zeros((G, 0), np.int32), counts)


def fit(
    samples: Iterable[np.ndarray],
    codebook_sizes: Sequence[int],
    *,
    weights: dict[str, np.ndarray] | None = None,
    energies: int = 1,
) -> Statistics:
    """Count the codes of `samples` (each [G, H, W]) by context.

    `weights` (mean, own, earlier) come from the rate model of training; `energies` is the number of classes, split
    so that each carries about the same number of bits.
    """
    start = flat(codebook_sizes)
    if weights:
        start = Statistics(
            **{name: weights[name].astype(np.int32) for name in ("mean", "own", "earlier")},
            thresholds=start.thresholds,
            counts=start.counts,
        )
    sizes = np.array(codebook_sizes, np.int64)
    observed = [
        observe(np.ascontiguousarray(codes, np.int32), sizes, start.mean, start.own, start.earlier) for codes in samples
    ]
    G, K, skews = len(sizes), int(sizes.max()), len(SKEW_THRESHOLDS) + 1 if weights else 1
    thresholds = np.zeros((G, energies - 1), np.int32)
    counts = np.zeros((G, energies * skews, K), np.uint16)
    for g in range(G):
        symbols, energy, skew = (
            np.concatenate([observation[k][g].ravel() for observation in observed]) for k in range(3)
        )
        thresholds[g] = _even_bits(energy, energies)
        context = np.searchsorted(thresholds[g], energy, side="right") * skews + np.minimum(skew, skews - 1)
        occurrences = np.bincount(context * K + symbols, minlength=counts[g].size).reshape(counts[g].shape)
        counts[g] = _scaled(occurrences, codebook_sizes[g])
    return Statistics(start.mean, start.own, start.earlier, thresholds, counts)


def _even_bits(energies: np.ndarray, classes: int) -> np.ndarray:
    """Thresholds between classes: quantiles of energy weighted by the bits that such an energy costs, about."""
    order = np.sort(energies)
    cost = np.cumsum(0.05 + np.log2(1 + order / UNIT))
    cuts = np.searchsorted(cost, cost[-1] * np.arange(1, classes) / classes)
    return order[np.minimum(cuts, len(order) - 1)] + 1


def _scaled(occurrences: np.ndarray, K: int) -> np.ndarray:
    """Counts [X, K'] scaled to COUNT_TOTAL or so for each context, at least 1 for each of the K codes."""
    # rare contexts are smoothed by the counts of all contexts
    pooled = (occurrences.sum(0) + 0.1) / (occurrences.sum() + 0.1 * K)
    share = (occurrences + 20 * pooled) / (occurrences.sum(1, keepdims=True) + 20)
    scaled = np.maximum(1, np.round(share * COUNT_TOTAL)).astype(np.uint16)
    scaled[:, K:] = 0
    return scaled


@compiled
def predict(
    values: np.ndarray, activity: np.ndarray, y: int, x: int, mean: np.ndarray, own: np.ndarray
) -> tuple[int, int, int]:
    """Mean, fraction and energy at (y, x) of one group: values [H, W] before it, activity [H, W] of earlier groups."""
    W = values.shape[1]
    west = values[y, x - 1] if x > 0 else 0
    north = values[y - 1, x] if y > 0 else 0
    north_west = values[y - 1, x - 1] if y > 0 and x > 0 else 0
    north_east = values[y - 1, x + 1] if y > 0 and x + 1 < W else 0
    exact = mean[0] * west + mean[1] * north + mean[2] * north_west + mean[3] * north_east
    rounded = (exact + 32) >> 6
    energy = own[0] * abs(west) + own[1] * abs(north) + own[2] * abs(north_west) + own[3] * abs(north_east)
    return rounded, exact - (rounded << 6), energy + activity[y, x]


@compiled
def skew_of(fraction: int) -> int:
    return (abs(fraction) >= SKEW_THRESHOLDS[0]) + (abs(fraction) >= SKEW_THRESHOLDS[1])


@compiled
def add_activity(activity: np.ndarray, values: np.ndarray, earlier: np.ndarray, g: int) -> None:
    """Add the energy [H, W] of the groups before g: values [G, H, W]."""
    for other in range(g):
        weight = earlier[g, other]
        if weight:
            for y in range(activity.shape[0]):
                for x in range(activity.shape[1]):
                    activity[y, x] += weight * abs(values[other, y, x])


@compiled
def observe(
    codes: np.ndarray, sizes: np.ndarray, mean: np.ndarray, own: np.ndarray, earlier: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Symbols, energies and skew classes of codes int32 [G, H, W], all of the same type and shape."""
    G, H, W = codes.shape
    symbols, energies, skews = np.empty_like(codes), np.empty_like(codes), np.empty_like(codes)
    values = np.empty_like(codes)
    for g in range(G):
        K = np.int32(sizes[g])
        middle = (K - 1) // 2
        for y in range(H):  # an assignment of arrays compiles for seconds: numba adds a message for unequal shapes
            for x in range(W):
                values[g, y, x] = codes[g, y, x] - middle
        activity = np.zeros((H, W), np.int32)
        add_activity(activity, values, earlier, g)
        for y in range(H):
            for x in range(W):
                rounded, fraction, energy = predict(values[g], activity, y, x, mean[g], own[g])
                difference = values[g, y, x] - rounded
                symbols[g, y, x] = (middle + (difference if fraction >= 0 else -difference)) % K
                energies[g, y, x], skews[g, y, x] = energy, skew_of(fraction)
    return symbols, energies, skews
