"""A range coder on integers: symbols with integer frequencies to bytes and back, exactly, on every machine.

The interval [low, low + range) lives in 56 bits. Coding a symbol of frequency f out of a total t, with c counted
before it, narrows the interval to its share; whole bytes leave at the top as soon as range falls below 2^48.
As range stays at or above 2^48 and totals at or below 2^32, rounding costs less than 2^-16 of a bit a symbol.
Carries run back through the bytes already written.

A stream ends with one byte: an interval of 2^48 or more always contains a number whose lower 48 bits are zero.
So its length follows from its symbols, and a decoder that tracks its position detects a buffer that is too
short or too long; range decoding itself never fails.

The functions are compiled; `state` is uint64 [3]: low (decoder: the value within the interval), range, position.
"""

from __future__ import annotations

import numpy as np
from numba import uint64

from vqcli.entropy.jit import compiled

MAX_TOTAL = 1 << 32
_TOP, _BOTTOM = uint64(1 << 56), uint64(1 << 48)
_LOW_MASK = uint64((1 << 48) - 1)
_LEAD = 7  # bytes the decoder reads ahead, 6 of them beyond the end


@compiled
def new_state() -> np.ndarray:
    state = np.zeros(3, np.uint64)
    state[1] = _TOP
    return state


@compiled
def put(state: np.ndarray, out: np.ndarray, before: int, frequency: int, total: int) -> None:
    """Append one symbol; `out` must have room for 5 more bytes."""
    step = state[1] // uint64(total)
    state[0] += step * uint64(before)
    # the last symbol takes the remainder of the division
    state[1] = state[1] - step * uint64(before) if before + frequency == total else step * uint64(frequency)
    if state[0] >= _TOP:
        state[0] -= _TOP
        _carry(out, state[2])
    while state[1] < _BOTTOM:
        out[state[2]] = state[0] >> uint64(48)
        state[2] += uint64(1)
        state[0] = (state[0] & _LOW_MASK) << uint64(8)
        state[1] <<= uint64(8)


@compiled
def finish(state: np.ndarray, out: np.ndarray) -> np.int64:
    """Write the last byte and return the number of bytes."""
    last = (state[0] + _LOW_MASK) >> uint64(48)
    if last == uint64(256):
        last = uint64(0)
        _carry(out, state[2])
    out[state[2]] = last
    return np.int64(state[2]) + 1


@compiled
def _carry(out: np.ndarray, position: int) -> None:
    i = np.int64(position) - 1
    while out[i] == 255:
        out[i] = 0
        i -= 1
    out[i] += 1


@compiled
def open_stream(state: np.ndarray, data: np.ndarray) -> None:
    for i in range(_LEAD):
        state[0] = (state[0] << uint64(8)) | uint64(data[i] if i < len(data) else 0)
    state[2] = _LEAD


@compiled
def peek(state: np.ndarray, total: int) -> np.int64:
    """A cumulative frequency, in 0 .. total - 1, within the next symbol's interval."""
    return min(np.int64(state[0] // (state[1] // uint64(total))), np.int64(total) - 1)


@compiled
def advance(state: np.ndarray, data: np.ndarray, before: int, frequency: int, total: int) -> bool:
    """Consume the symbol that `peek` points to; False if the data end before it."""
    step = state[1] // uint64(total)
    state[0] -= step * uint64(before)
    state[1] = state[1] - step * uint64(before) if before + frequency == total else step * uint64(frequency)
    while state[1] < _BOTTOM:
        position = np.int64(state[2])
        if position >= len(data) + _LEAD - 1:
            return False
        state[0] = (state[0] << uint64(8)) | uint64(data[position] if position < len(data) else 0)
        state[1] <<= uint64(8)
        state[2] += uint64(1)
    return True


@compiled
def at_end(state: np.ndarray, data: np.ndarray) -> bool:
    """Whether the symbols read so far are exactly all of the data."""
    return np.int64(state[2]) == len(data) + _LEAD - 1
