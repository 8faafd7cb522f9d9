"""Samples of more than 8 bits, signed or floating point, to 8 bits: what is black, what is white, what is clipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

_AT_ONCE = 2**22  # samples that are converted at once
_SAMPLED = 2**20  # values at most that decide what is white
_MOST_BELOW_WHITE = 0.99  # share of positive floating-point values
_MOST_NEGATIVE = 0.1  # share of negative values up to which they are overshoot, and 0 is black


def to_8_bits(values: np.ndarray, notes: list[str], bits: int | None = None) -> np.ndarray:
    """Samples [H, ...] of any real type as uint8; `notes` gets what was done. `bits` of integers: those of the type.

    Unsigned integers of up to 16 bits keep their scale, and so do signed and longer ones that fill half of it; others
    are stretched from the lowest to the highest value. Of floating point white is 1 if it holds half of the positive
    values (of whole numbers: all), or else 255 or 65535 if they hold 99 of 100, and what is beyond is clipped; values
    of which more than a tenth are negative are stretched. What is not a number becomes black.
    """
    low, high = _extremes(values)
    if values.dtype.kind == "f":
        return scaled(values, *_floating(values, low, high, notes))
    return scaled(values, *_integers(values, low, high, bits or 8 * values.itemsize, notes))


def full_range(kind: np.dtype[Any], bits: int | None = None) -> tuple[float, float]:
    """What is none and what is all of such samples: 0 and 1 of floating point, else the lowest and the highest."""
    if kind.kind == "f":
        return 0.0, 1.0
    bits = bits or 8 * kind.itemsize
    lowest = -(2.0 ** (bits - 1)) if kind.kind == "i" else 0.0
    return lowest, lowest + 2.0**bits - 1


def scaled(values: np.ndarray, black: float, white: float) -> np.ndarray:
    """Samples [H, ...] from `black` to `white` as uint8, others clipped."""
    precise = np.dtype("f8" if values.itemsize > 2 and values.dtype.kind != "f" else "f4")
    scale, reduced = 255 / max(white - black, 1e-30), np.empty(values.shape, np.uint8)
    for part in _parts(values):
        levels = (values[part].astype(precise) - black) * scale  # Python floats keep the type of the array
        reduced[part] = np.rint(np.nan_to_num(levels, nan=0, posinf=255, neginf=0).clip(0, 255))
    return reduced


def _parts(values: np.ndarray) -> Iterator[slice]:
    rows = max(1, _AT_ONCE // max(1, values[:1].size))
    return (slice(at, at + rows) for at in range(0, len(values), rows))


def _extremes(values: np.ndarray) -> tuple[float, float]:
    """The lowest and the highest finite value; zeros if there is none."""
    low, high = np.inf, -np.inf
    for part in _parts(values):
        finite = values[part][np.isfinite(values[part])] if values.dtype.kind == "f" else values[part]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def _integers(values: np.ndarray, low: float, high: float, bits: int, notes: list[str]) -> tuple[float, float]:
    lowest, highest = full_range(values.dtype, bits)
    if (bits > 16 or lowest) and 0 < high - low < (highest - lowest) / 2:
        return _stretched(low, high, notes)
    if bits > 8:
        notes.append(f"{bits} bits reduced to 8")
    if lowest:
        notes.append(f"signed samples: {lowest:.0f} is black")
    if bits == 16 and not lowest and 0 < high < 2**12:
        notes.append(f"no value above {high:.0f}: perhaps {int(high).bit_length()} bits in 16, which look dark")
    return lowest, highest


def _floating(values: np.ndarray, low: float, high: float, notes: list[str]) -> tuple[float, float]:
    sample = values.reshape(-1)[:: max(1, values.size // _SAMPLED)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    positive = sample[sample > 0] if high > 0 else np.zeros(1)
    whole = np.array_equal(positive, np.rint(positive))
    typical, most = np.quantile(positive, [0.5, _MOST_BELOW_WHITE]) if positive.size else (0.0, 0.0)
    if high <= 1 or (typical <= 1 and not whole):
        white: float | None = 1.0
    else:
        white = next((white for white in (255.0, 65535.0) if most <= white), None)
    if white is None or (low < 0 and (sample < 0).mean() > _MOST_NEGATIVE):
        return _stretched(low, high, notes)
    notes.append(f"floating point reduced to 8 bits, {white:g} as white")
    if low < 0 or high > white:
        beyond = sum(int(np.count_nonzero((values[part] < 0) | (values[part] > white))) for part in _parts(values))
        notes.append(f"values from {low:g} to {high:g}: {beyond:,} of {values.size:,} clipped to 0 to {white:g}")
    return 0.0, white


def _stretched(low: float, high: float, notes: list[str]) -> tuple[float, float]:
    notes.append(f"values from {low:g} to {high:g} stretched to 0 to 255")
    return low, high
