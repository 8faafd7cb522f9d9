"""The pitch of a voice as integers: one code every 20 ms, 0 where unvoiced.

Tracked by swift-f0, a small net. The codes are steps of 0.62 semitones from 55 to 500 Hz.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from swift_f0 import SwiftF0

RATE_HZ = 16_000
STEP = 320  # samples for each code
PITCHES = 64
LOWEST_HZ, HIGHEST_HZ = 55.0, 500.0
_WINDOW = 20 * RATE_HZ  # analysed at a time; a multiple of both hops
_MARGIN = 4 * 1280  # samples beyond which the detector does not look


class Waveform(Protocol):
    """Samples float32 [N]: an array, or anything with a length that can be sliced like one."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> np.ndarray: ...


def track(samples: Waveform) -> np.ndarray:
    """Pitch in Hz, float64 [N // STEP], 0 where unvoiced, of samples float32 [N] at RATE_HZ."""
    positions = len(samples) // STEP
    result = np.zeros(positions)
    for first in range(0, positions * STEP, _WINDOW):
        last = min(first + _WINDOW, positions * STEP)
        begin = max(first - _MARGIN, 0)
        hz, confidence = _detect(np.asarray(samples[begin : last + _MARGIN], np.float32))
        resampled = _at_positions(hz, confidence >= 0.5, (last - begin) // STEP)
        result[first // STEP : last // STEP] = resampled[(first - begin) // STEP :]
    return result


def to_codes(hz: np.ndarray) -> np.ndarray:
    """uint8 codes 0 .. PITCHES - 1 of pitches in Hz, 0 for unvoiced; clipped to LOWEST_HZ .. HIGHEST_HZ."""
    steps = np.log(np.clip(hz, LOWEST_HZ, HIGHEST_HZ) / LOWEST_HZ) / _STEP_LOG
    return np.where(hz > 0, 1 + np.rint(steps), 0).astype(np.uint8)


def from_codes(codes: np.ndarray) -> np.ndarray:
    """Pitches in Hz, float64, of codes."""
    return np.where(codes > 0, LOWEST_HZ * np.exp((codes.astype(np.float64) - 1) * _STEP_LOG), 0.0)


def transposed(codes: np.ndarray, semitones: float) -> np.ndarray:
    """The codes of the same melody so many semitones higher; what leaves their range moves by an octave."""
    hz = from_codes(codes) * 2 ** (semitones / 12)
    hz = np.where(hz > 1.01 * HIGHEST_HZ, hz / 2, hz)
    hz = np.where((hz > 0) & (hz < 0.99 * LOWEST_HZ), hz * 2, hz)
    return to_codes(hz)


_STEP_LOG = np.log(HIGHEST_HZ / LOWEST_HZ) / (PITCHES - 2)


def _at_positions(hz: np.ndarray, voiced: np.ndarray, positions: int) -> np.ndarray:
    """From the detector's frames, one every 256 samples from 0 on, to the middles of the code positions."""
    from swift_f0.core import HOP

    at = (np.arange(positions) + 0.5) * STEP / HOP
    nearest = np.minimum(np.rint(at).astype(int), len(hz) - 1)
    below = np.minimum(at.astype(int), len(hz) - 1)
    above = np.minimum(below + 1, len(hz) - 1)
    log_hz = np.log(np.maximum(hz, 1))
    between = np.exp(log_hz[below] + (at - below) * (log_hz[above] - log_hz[below]))
    return np.where(voiced[nearest], np.where(voiced[below] & voiced[above], between, hz[nearest]), 0.0)


def _detect(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not len(samples):
        return np.zeros(1), np.zeros(1)
    result = _detector().detect(samples, RATE_HZ, fmin=LOWEST_HZ, fmax=HIGHEST_HZ)
    return result.pitch_hz, result.confidence


@lru_cache(maxsize=1)
def _detector() -> SwiftF0:
    from swift_f0 import SwiftF0

    return SwiftF0(threads=1, spin=False)
