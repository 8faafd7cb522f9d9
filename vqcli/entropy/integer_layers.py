"""Layers in integers, the same on every machine: y = floor((x . weight + bias) / 2^shift).

All numbers are integers stored in floats. A layer is valid if for each output sum |weight| * largest |x| + |bias| stays
below 2^24: then every partial sum, in any order, is an integer that float32 represents exactly, and so is its quotient
by a power of two before it is rounded down. float32, float64 and int64 give the
same numbers, with any vector instructions, threads and batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

LIMIT = 1 << 24

Number = type[np.float32] | type[np.float64] | type[np.int64]


@dataclass(frozen=True)
class Stencil:
    """The first layer of a stage, on known codes of earlier slices and of its own.

    earlier  int16 [window x channels, out]
    own      int16 [taps x channels, out] for each phase after the first
    bias     int32 [phases, qualities, out]; one quality for nets that have none
    shift    int8 [out]
    """

    earlier: np.ndarray
    own: tuple[np.ndarray, ...]
    bias: np.ndarray
    shift: np.ndarray

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        yield from (("earlier", self.earlier), ("bias", self.bias), ("shift", self.shift))
        yield from ((f"own.{phase}", weight) for phase, weight in enumerate(self.own, 1))

    def check(self, earlier: int, own: Sequence[int], qualities: int, out: int, largest: tuple[int, int]) -> None:
        """Raise ValueError unless it takes so many inputs, none above `largest` (earlier, own), without rounding."""
        _fits(self.earlier, np.int16, (earlier, out))
        _fits(self.bias, np.int32, (len(own) + 1, qualities, out))
        _fits(self.shift, np.int8, (out,))
        if len(self.own) != len(own):
            raise ValueError(f"{len(self.own)} phases are not {len(own)}")
        for weight, inputs in zip(self.own, own, strict=True):
            _fits(weight, np.int16, (inputs, out))
        bias = np.abs(self.bias.astype(np.int64)).max(1)  # (phases, out)
        masses = np.stack([np.zeros(out, np.int64), *(mass(weight, largest[1]) for weight in self.own)])
        _check_bound(mass(self.earlier, largest[0]) + (masses + bias).max(0), self.shift)

    def prepared(self, number: Number, tenths: int) -> PreparedStencil:
        """In `number`, at a quality in tenths."""
        whole, part = divmod(max(tenths, 10) - 10, 10)
        low = self.bias[:, whole].astype(np.int64)
        high = self.bias[:, min(whole + 1, self.bias.shape[1] - 1)].astype(np.int64)
        bias = (low * (10 - part) + high * part) // 10
        return PreparedStencil(
            self.earlier.astype(number),
            [weight.astype(number) for weight in self.own],
            bias.astype(number),
            _divisor(self.shift, number),
        )


@dataclass(frozen=True)
class PreparedStencil:
    earlier: np.ndarray
    own: list[np.ndarray]
    bias: np.ndarray
    divisor: np.ndarray

    def __call__(self, phase: int, earlier: np.ndarray | None, own: np.ndarray | None, count: int) -> np.ndarray:
        """Outputs [count, out] of gathered inputs, [count, inputs] each or None."""
        total = np.broadcast_to(self.bias[phase], (count, self.bias.shape[1]))
        if earlier is not None:
            total = earlier @ self.earlier + total
        if own is not None:
            total = own @ self.own[phase - 1] + total
        return _divided(total, self.divisor)


@dataclass(frozen=True)
class Dense:
    """One layer for all phases, or one for each: weight int16 [n, in, out], bias int32 and shift int8 [n, out]."""

    weight: np.ndarray
    bias: np.ndarray
    shift: np.ndarray

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        yield from (("weight", self.weight), ("bias", self.bias), ("shift", self.shift))

    def check(self, phases: int, inputs: int, out: int, largest: int) -> None:
        """Raise ValueError unless it takes so many inputs, none above `largest`, without rounding."""
        n = len(self.weight)
        if n not in (1, phases):
            raise ValueError(f"layers for {n} phases, not for {phases}")
        _fits(self.weight, np.int16, (n, inputs, out))
        _fits(self.bias, np.int32, (n, out))
        _fits(self.shift, np.int8, (n, out))
        for weight, bias, shift in zip(self.weight, self.bias, self.shift, strict=True):
            _check_bound(mass(weight, largest) + np.abs(bias.astype(np.int64)), shift)

    def prepared(self, number: Number) -> PreparedDense:
        return PreparedDense(self.weight.astype(number), self.bias.astype(number), _divisor(self.shift, number))


@dataclass(frozen=True)
class PreparedDense:
    weight: np.ndarray
    bias: np.ndarray
    divisor: np.ndarray

    def __call__(self, phase: int, x: np.ndarray) -> np.ndarray:
        """x [count, in] -> [count, out]."""
        n = min(phase, len(self.weight) - 1)
        return _divided(x @ self.weight[n] + self.bias[n], self.divisor[n])


def mass(weight: np.ndarray, largest: int) -> np.ndarray:
    """The largest sum of inputs up to `largest` for each output: weight [in, out] -> int64 [out]."""
    return np.abs(weight.astype(np.int64)).sum(0) * largest


def _check_bound(masses: np.ndarray, shift: np.ndarray) -> None:
    if masses.max(initial=0) >= LIMIT:
        raise ValueError("its sums can reach 2^24, where floats begin to round")
    if shift.min(initial=0) < 0 or shift.max(initial=0) > 24:
        raise ValueError("its shifts are not within 0 to 24")


def _fits(array: np.ndarray, number: type[np.generic], shape: tuple[int, ...]) -> None:
    if array.dtype != number or array.shape != shape:
        raise ValueError(f"an array is {array.dtype} {array.shape}, not {np.dtype(number)} {shape}")


def _divisor(shift: np.ndarray, number: Number) -> np.ndarray:
    """The argument of `_divided`: shifts for integers, powers of two for floats."""
    return shift.astype(number) if number is np.int64 else np.ldexp(number(1), -shift.astype(np.int32)).astype(number)


def _divided(total: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    return total >> divisor if total.dtype == np.int64 else np.floor(total * divisor)
