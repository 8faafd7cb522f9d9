"""Pixels under a distribution for each of them, as a decoder outputs it: exact, and at its cross-entropy.

A mixture gives a value v the mass of each component between v - 1/2 and v + 1/2:

    weight    w_i = 2^(log_weight / 32) over the sum of these, in 1/65536
    centre    c_i = mean_i + sum over earlier channels of coefficient * (their value - their mean), in 1/32 grey value
    below     F(b) = sum of w_i S((b - c_i) / scale_i), in 2^-24, with S the sigmoid or the normal distribution
    before    F(v - 1/2) + v, and 0 for v = 0; the total is 2^24 + 256, so that no value is impossible

The first and last value take the tails. A channel's mean is the sum of w_i mean_i; channels of a pixel are coded in
order. Categories have 256 logits in 1/16 bit for each value, and a table maps the difference of each from the largest
to its frequency, at least 1.

All arithmetic is in integers. The tables come from `decimal`, whose exp and ln are correctly rounded by definition, so
they are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import cache

import numpy as np
from numba import int64

from vqcli.entropy import rangecoder
from vqcli.entropy.jit import compiled
from vqcli.errors import BadFile

VALUES = 256
GREY_VALUE = 32  # means are in 1/32 grey value
OCTAVE = 64  # log scales are in 1/64 octave, 0 for a scale of one grey value
WEIGHT = 32  # log weights are in 1/32 bit
COEFFICIENT = 256  # coefficients are in 1/256
LOGIT = 16  # logits are in 1/16 bit
LOG_SCALES = (-8 * OCTAVE, 12 * OCTAVE)  # values beyond are clipped

_TOTAL_BITS, _WEIGHT_BITS, _SHARE_BITS, _STEP_BITS = 24, 16, 30, 20
_TOTAL = (1 << _TOTAL_BITS) + VALUES
_LARGEST_FREQUENCY = 1 << 22  # of a category: their sum stays far below the range coder's largest total
_STEP, _REACH = (
    32,
    20,
)  # S is tabulated in steps of 1/32 scale up to 20 scales from the centre, and linear between steps
_FARTHEST = 1 << 24  # in 1/32 grey value: distances are clipped to this

Parameters = tuple[np.ndarray, ...]  # a mixture's arrays in their order, then powers, reciprocals, distribution
Shares = tuple[np.ndarray, np.ndarray, np.ndarray]  # int64 [symbols] each: count before, frequency, total


@dataclass(frozen=True)
class Mixture:
    """Distributions of pixels [C, H, W], with n components for each; int32 arrays of any values.

    kind          'logistic' or 'normal'
    log_weights   [C, n, H, W] in 1/32 bit; only differences count
    means         [C, n, H, W] in 1/32 grey value
    log_scales    [C, n, H, W] in 1/64 octave
    coefficients  [C (C - 1) / 2, H, W] in 1/256, of channel and earlier channel (1, 0), (2, 0), (2, 1) ...
    """

    kind: str
    log_weights: np.ndarray
    means: np.ndarray
    log_scales: np.ndarray
    coefficients: np.ndarray

    def __post_init__(self) -> None:
        C, n, H, W = self.means.shape
        _check("log weights", self.log_weights, (C, n, H, W))
        _check("means", self.means, (C, max(n, 1), H, W))
        _check("log scales", self.log_scales, (C, n, H, W))
        _check("coefficients", self.coefficients, (C * (C - 1) // 2, H, W))
        if self.kind not in _DISTRIBUTIONS:
            raise ValueError(f"unknown kind of mixture {self.kind!r}")

    @property
    def shape(self) -> tuple[int, int, int]:
        C, _, H, W = self.means.shape
        return C, H, W

    @property
    def _parameters(self) -> Parameters:
        arrays = (self.log_weights, self.means, self.log_scales, self.coefficients)
        return *arrays, _powers(WEIGHT, 1 << 20), _reciprocals(), _DISTRIBUTIONS[self.kind]()

    def shares(self, pixels: np.ndarray) -> Shares:
        before, frequencies = _mixture_shares(pixels, self._parameters)
        return before, frequencies, np.full_like(before, _TOTAL)

    def read(self, data: np.ndarray) -> tuple[np.ndarray, bool]:
        return _read_mixture(data, self.shape, self._parameters)


@dataclass(frozen=True)
class Categories:
    """Distributions of pixels [C, H, W]: logits int32 [C, H, W, 256] in 1/16 bit; only differences count."""

    logits: np.ndarray

    def __post_init__(self) -> None:
        _check("logits", self.logits, (*self.logits.shape[:3], VALUES))

    @property
    def shape(self) -> tuple[int, int, int]:
        C, H, W, _ = self.logits.shape
        return C, H, W

    def shares(self, pixels: np.ndarray) -> Shares:
        return _category_shares(pixels, self.logits, np.maximum(_powers(LOGIT, _LARGEST_FREQUENCY), 1))

    def read(self, data: np.ndarray) -> tuple[np.ndarray, bool]:
        return _read_categories(data, self.logits, np.maximum(_powers(LOGIT, _LARGEST_FREQUENCY), 1))


def encode(pixels: np.ndarray, parameters: Mixture | Categories) -> bytes:
    """Bytes of pixels uint8 [C, H, W]. Raises ValueError if the parameters are those of another shape."""
    _check("pixels", pixels, parameters.shape, np.uint8)
    if pixels.size == 0:
        return b""
    return _put(*parameters.shares(pixels)).tobytes()


def decode(data: bytes, shape: tuple[int, int, int], parameters: Mixture | Categories) -> np.ndarray:
    """Pixels uint8 of `shape` [C, H, W]. Raises BadFile if the bytes are not exactly those of so many pixels."""
    if shape != parameters.shape:
        raise ValueError(f"parameters of pixels {parameters.shape}, not {shape}")
    if 0 in shape:
        pixels, whole = np.zeros(shape, np.uint8), not data
    else:
        pixels, whole = parameters.read(np.frombuffer(data, np.uint8))
    if not whole:
        raise BadFile(f"{len(data)} bytes of pixels end too early or too late")
    return pixels


def bits(pixels: np.ndarray, parameters: Mixture | Categories) -> float:
    """The cross-entropy of pixels uint8 [C, H, W] in bits; `encode` writes at most a byte more."""
    _check("pixels", pixels, parameters.shape, np.uint8)
    _, frequencies, totals = parameters.shares(pixels)
    return float(np.log2(totals / frequencies).sum())


def _check(name: str, array: np.ndarray, shape: tuple[int, ...], kind: type = np.int32) -> None:
    """The coders are compiled without bounds checks."""
    if array.dtype != kind or array.shape != shape:
        raise ValueError(f"{name} are {array.dtype} {array.shape}, not {np.dtype(kind)} {shape}")


@contextmanager
def _exact_decimals() -> Iterator[None]:
    with localcontext(Context(prec=40, rounding=ROUND_HALF_EVEN)):
        yield


@cache
def _powers(steps: int, top: int) -> np.ndarray:
    """top * 2^(-k / steps) for k = 0, 1 ... until it rounds to 0: int64."""
    with _exact_decimals():
        return _integers(_exponential(Decimal(top), steps, 0, steps * (top.bit_length() + 1)))


@cache
def _reciprocals() -> np.ndarray:
    """Steps of S in 1/32 grey value for each log scale, in 2^-20: int64."""
    with _exact_decimals():
        return _integers(_exponential(Decimal(_STEP << _STEP_BITS) / GREY_VALUE, OCTAVE, *LOG_SCALES))


def _exponential(top: Decimal, steps: int, first: int, last: int) -> list[Decimal]:
    """top * 2^(-k / steps) for k = first .. last."""
    octave = [top * (-k * Decimal(2).ln() / steps).exp() for k in range(steps)]
    return [octave[k % steps] / Decimal(2) ** (k // steps) for k in range(first, last + 1)]


@cache
def _logistic() -> np.ndarray:
    with _exact_decimals():
        return _distribution([1 / (1 + (Decimal(j) / _STEP).exp()) for j in range(_STEP * _REACH + 1)])


@cache
def _normal() -> np.ndarray:
    with _exact_decimals():
        return _distribution([_normal_tail(Decimal(j) / _STEP) for j in range(_STEP * _REACH + 1)])


def _normal_tail(x: Decimal) -> Decimal:
    """1 - Phi(x) of x >= 0, by Phi(x) = 1/2 + phi(x) (x + x^3 / 3 + x^5 / (3 * 5) + ...)."""
    if x > 8:
        return Decimal(0)  # less than 2^-49
    pi = Decimal("3.14159265358979323846264338327950288419716939937510582")
    term, total, n = x, x, 1
    while term > Decimal("1e-30"):
        n += 2
        term *= x * x / n
        total += term
    return Decimal("0.5") - total * (-x * x / 2).exp() / (2 * pi).sqrt()


def _distribution(tail: list[Decimal]) -> np.ndarray:
    """S from -20 to 20 scales in 2^-30, int64, of 1 - S from 0 to 20; one more at the end, for interpolation."""
    upper = _integers([(1 << _SHARE_BITS) * share for share in tail])
    return np.concatenate([upper[::-1], (1 << _SHARE_BITS) - upper[1:], (1 << _SHARE_BITS) - upper[-1:]])


def _integers(numbers: list[Decimal]) -> np.ndarray:
    return np.array([int(number.to_integral_value()) for number in numbers], np.int64)


_DISTRIBUTIONS: dict[str, Callable[[], np.ndarray]] = {"logistic": _logistic, "normal": _normal}


@compiled
def _mixture_at(
    c: int, y: int, x: int, deviations: np.ndarray, parameters: Parameters, components: np.ndarray
) -> np.int64:
    """Weights, centres and reciprocals of one value's components, into [3, n]; returns its mean, in 1/32 grey value.

    aside  int64 [C], of earlier channels from their means, in 1/32 grey value
    """
    log_weights, means, log_scales, coefficients, powers, reciprocals, _ = parameters
    n = means.shape[1]
    largest = int64(log_weights[c, 0, y, x])
    for i in range(1, n):
        largest = max(largest, int64(log_weights[c, i, y, x]))
    total = int64(0)
    for i in range(n):
        components[0, i] = powers[min(largest - int64(log_weights[c, i, y, x]), len(powers) - 1)]
        total += components[0, i]
    remaining, most = int64(1 << _WEIGHT_BITS), 0
    for i in range(n):
        components[0, i] = (components[0, i] << _WEIGHT_BITS) // total
        remaining -= components[0, i]
        if components[0, i] > components[0, most]:
            most = i
    components[0, most] += remaining  # the rounding error of the division
    shift = int64(COEFFICIENT // 2)
    for earlier in range(c):
        shift += coefficients[c * (c - 1) // 2 + earlier, y, x] * deviations[earlier]
    shift //= COEFFICIENT
    mean = int64(1 << (_WEIGHT_BITS - 1))
    for i in range(n):
        mean += components[0, i] * means[c, i, y, x]
        components[1, i] = means[c, i, y, x] + shift
        scale = min(max(log_scales[c, i, y, x], LOG_SCALES[0]), LOG_SCALES[1])
        components[2, i] = reciprocals[scale - LOG_SCALES[0]]
    return mean >> _WEIGHT_BITS


@compiled
def _cumulative(value: int, components: np.ndarray, distribution: np.ndarray) -> np.int64:
    """The cumulative frequency below a value 0 .. 256; it grows with each by at least 1."""
    if value == 0:
        return int64(0)
    if value == VALUES:
        return int64(_TOTAL)
    boundary = int64(GREY_VALUE * value - GREY_VALUE // 2)
    last = int64((len(distribution) - 2) << _STEP_BITS)
    total = int64(0)
    for i in range(components.shape[1]):
        distance = min(max(boundary - components[1, i], -_FARTHEST), _FARTHEST)
        at = min(max(distance * components[2, i] + (int64(_STEP * _REACH) << _STEP_BITS), 0), last)
        step = at >> _STEP_BITS
        fraction = at & ((1 << _STEP_BITS) - 1)
        share = distribution[step] + ((distribution[step + 1] - distribution[step]) * fraction >> _STEP_BITS)
        total += components[0, i] * share
    return (total >> (_WEIGHT_BITS + _SHARE_BITS - _TOTAL_BITS)) + value


@compiled
def _mixture_shares(pixels: np.ndarray, parameters: Parameters) -> tuple[np.ndarray, np.ndarray]:
    C, H, W = pixels.shape
    before, frequencies = np.empty(C * H * W, np.int64), np.empty(C * H * W, np.int64)
    deviations, components = np.zeros(C, np.int64), np.empty((3, parameters[1].shape[1]), np.int64)
    at = 0
    for y in range(H):
        for x in range(W):
            for c in range(C):
                mean = _mixture_at(c, y, x, deviations, parameters, components)
                value = int64(pixels[c, y, x])
                before[at] = _cumulative(value, components, parameters[-1])
                frequencies[at] = _cumulative(value + 1, components, parameters[-1]) - before[at]
                deviations[c] = GREY_VALUE * value - mean
                at += 1
    return before, frequencies


@compiled
def _read_mixture(data: np.ndarray, shape: tuple[int, int, int], parameters: Parameters) -> tuple[np.ndarray, bool]:
    C, H, W = shape
    pixels = np.zeros(shape, np.uint8)
    deviations, components = np.zeros(C, np.int64), np.empty((3, parameters[1].shape[1]), np.int64)
    state = rangecoder.new_state()
    rangecoder.open_stream(state, data)
    for y in range(H):
        for x in range(W):
            for c in range(C):
                mean = _mixture_at(c, y, x, deviations, parameters, components)
                target = rangecoder.peek(state, _TOTAL)
                low, high = int64(0), int64(VALUES)
                before, after = (
                    int64(0),
                    int64(_TOTAL),
                )  # cumulative frequencies of low, at most the target, and of high
                while high - low > 1:
                    middle = (low + high) >> 1
                    count = _cumulative(middle, components, parameters[-1])
                    if count <= target:
                        low, before = middle, count
                    else:
                        high, after = middle, count
                if not rangecoder.advance(state, data, before, after - before, _TOTAL):
                    return pixels, False
                pixels[c, y, x] = low
                deviations[c] = GREY_VALUE * low - mean
    return pixels, rangecoder.at_end(state, data)


@compiled
def _category_shares(
    pixels: np.ndarray, logits: np.ndarray, table: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    C, H, W = pixels.shape
    before, frequencies = np.zeros(C * H * W, np.int64), np.zeros(C * H * W, np.int64)
    totals = np.zeros(C * H * W, np.int64)
    row = np.empty(VALUES, np.int64)
    at = 0
    for y in range(H):
        for x in range(W):
            for c in range(C):
                totals[at] = _frequencies(logits[c, y, x], table, row)
                value = pixels[c, y, x]
                for v in range(value):
                    before[at] += row[v]
                frequencies[at] = row[value]
                at += 1
    return before, frequencies, totals


@compiled
def _read_categories(data: np.ndarray, logits: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, bool]:
    C, H, W, _ = logits.shape
    pixels = np.zeros((C, H, W), np.uint8)
    row = np.empty(VALUES, np.int64)
    state = rangecoder.new_state()
    rangecoder.open_stream(state, data)
    for y in range(H):
        for x in range(W):
            for c in range(C):
                total = _frequencies(logits[c, y, x], table, row)
                target = rangecoder.peek(state, total)
                value = before = int64(0)
                while before + row[value] <= target:
                    before += row[value]
                    value += 1
                if not rangecoder.advance(state, data, before, row[value], total):
                    return pixels, False
                pixels[c, y, x] = value
    return pixels, rangecoder.at_end(state, data)


@compiled
def _frequencies(logits: np.ndarray, table: np.ndarray, row: np.ndarray) -> np.int64:
    """Frequencies of 256 logits, into `row`; returns their sum."""
    largest = int64(logits.max())
    total = int64(0)
    for v in range(VALUES):
        row[v] = table[min(largest - int64(logits[v]), len(table) - 1)]
        total += row[v]
    return total


@compiled
def _put(before: np.ndarray, frequencies: np.ndarray, totals: np.ndarray) -> np.ndarray:
    out = np.zeros(5 * len(before) + 16, np.uint8)
    state = rangecoder.new_state()
    for i in range(len(before)):
        rangecoder.put(state, out, before[i], frequencies[i], totals[i])
    return out[: rangecoder.finish(state, out)]
