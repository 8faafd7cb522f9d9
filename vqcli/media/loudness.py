"""Loudness: RMS of the active part above 60 Hz, and by ITU-R BS.1770-4 of sound that comes block by block."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vqcli.files import release
from vqcli.media.audio import BLOCK

SILENCE_DB = -100.0  # the RMS given for silence
LEAST_DB = -70.0  # of silence by BS.1770, and the absolute threshold
_SHELF = (4.0, 2**-0.5, 1500.0)  # gain in dB, Q and frequency in Hz of the filter for the head,
_HIGH_PASS = (0.5, 38.0)  # and Q and frequency of that for low tones; as audiotools and pyloudnorm have them
_BUTTERWORTH = (0.5412, 1.3066)  # Q of the two halves of a filter of fourth order
_LOWEST_HZ = 60.0  # of sound that counts as loud: below are offsets, rumble and hum
_SHORTEST_FILTERED_S = 0.05  # shorter samples cannot tell what is that low
_SETTLED_S = 0.15  # after which all these filters have forgotten: e^-21 at least
_SHORTEST_S = 0.5  # shorter sound counts as followed by silence


def active_rms_db(samples: np.ndarray, rate_hz: int = 16_000) -> float:
    """Loudness of samples float [N] in dB of full scale: `active_db` of all blocks of 20 ms."""
    return active_db(block_powers(samples, rate_hz))


def active_db(power: np.ndarray) -> float:
    """RMS in dB over the blocks of that mean square [n] that are within 40 dB of the loudest.

    -100 for silence, and never below or beyond 100.
    """
    loud = power[power >= power.max(initial=0) * 1e-4]
    mean = float(loud.mean()) if loud.size else 0.0  # nothing is loud, too, in what is no number
    return float(np.clip(10 * np.log10(mean), SILENCE_DB, -SILENCE_DB)) if mean > 0 else SILENCE_DB


def block_powers(samples: np.ndarray, rate_hz: int = 16_000) -> np.ndarray:
    """Mean square [n] of each 20 ms of samples float [N], the last of which may be shorter, of what is above 60 Hz.

    A memory map is read in parts.
    """
    width = max(1, rate_hz // 50)
    above = _Filter(rate_hz, _above_lowest) if len(samples) >= _SHORTEST_FILTERED_S * rate_hz else None
    powers: list[np.ndarray] = []
    for at in range(0, len(samples), width * 1000):
        part = np.asarray(samples[at : at + width * 1000], np.float64)
        part = (part if above is None else above(part[None])[0]) ** 2
        whole = len(part) // width * width
        powers.append(part[:whole].reshape(-1, width).mean(1))
        if whole < len(part):
            powers.append(part[whole:].mean(keepdims=True))
        release(samples)
    return np.concatenate(powers) if powers else np.zeros(0)


class _Filter:
    """Channels that come part by part, filtered; before the first sample they were as it is."""

    def __init__(self, rate_hz: int, response: Callable[[np.ndarray, int], np.ndarray], still: bool = True) -> None:
        self._settled, self._still = int(_SETTLED_S * rate_hz) + 1, still
        self._fft = 1 << (4 * self._settled).bit_length()
        self._response = response(np.exp(-2j * np.pi * np.fft.rfftfreq(self._fft)), rate_hz)
        self._context: np.ndarray | None = None  # the samples before

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """The next samples float64 [channels, n], filtered."""
        most = self._fft - self._settled
        parts = [self._filtered(samples[:, at : at + most]) for at in range(0, samples.shape[1], most)]
        return np.concatenate([samples[:, :0], *parts], 1)

    def _filtered(self, samples: np.ndarray) -> np.ndarray:
        if self._context is None:
            self._context = np.repeat(samples[:, :1] * self._still, self._settled, 1)
        known = np.concatenate([self._context, samples], 1)
        n, self._context = samples.shape[1], known[:, samples.shape[1] :]
        return np.fft.irfft(np.fft.rfft(known, self._fft) * self._response, self._fft)[:, self._settled :][:, :n]


class Meter:
    """Loudness of each channel, as if it were alone."""

    def __init__(self, rate_hz: int, channels: int) -> None:
        self._rate_hz, self._weighted = rate_hz, _Filter(rate_hz, _weighting, still=False)
        self._size, self._step = int(0.4 * rate_hz), int(0.1 * rate_hz)  # of the blocks that are gated, in samples
        self._done, self._energy = 0, np.zeros((channels, 1))  # of all samples so far
        self._starts: list[np.ndarray] = []  # the energy before every step
        self._ends: list[np.ndarray] = []  # and that up to the end of a block that began so many steps before

    def add(self, samples: np.ndarray) -> None:
        """The next samples float [channels, n]."""
        for at in range(0, samples.shape[1], BLOCK):
            self._add(samples[:, at : at + BLOCK].astype(np.float64))

    def _add(self, samples: np.ndarray) -> None:
        n = samples.shape[1]
        energy = self._energy + np.cumsum(self._weighted(samples) ** 2, 1)
        energy = np.concatenate([self._energy, energy], 1)  # before each sample of the part, and after the last
        for marks, offset in ((self._starts, 0), (self._ends, self._size)):
            first = max(0, -(-(self._done - offset) // self._step)) if self._done else 0
            places = np.arange(first * self._step + offset, self._done + n, self._step) - self._done
            marks.append(energy[:, places])
        self._done, self._energy = self._done + n, energy[:, -1:]

    def loudness_db(self) -> np.ndarray:
        """Float [channels] of all that came, LEAST_DB at least; nothing can come after it."""
        if self._done < (shortest := int(_SHORTEST_S * self._rate_hz)):
            self.add(np.zeros((len(self._energy), shortest - self._done)))
        blocks = max(0, -(-(self._done - self._size) // self._step)) + 1  # the last one may lack its end
        starts, ends = (np.concatenate([*marks, self._energy[:, :0]], 1) for marks in (self._starts, self._ends))

        def filled(marks: np.ndarray) -> np.ndarray:
            return np.concatenate([marks, np.repeat(self._energy, max(0, blocks - marks.shape[1]), 1)], 1)[:, :blocks]

        power = (filled(ends) - filled(starts)) / (0.4 * self._rate_hz)
        return np.array([_gated(row) for row in power])


def _gated(power: np.ndarray) -> float:
    """The loudness of blocks of that power, of those above an absolute and then a relative threshold."""
    loud = power[_decibels(power) > LEAST_DB]
    if loud.size:
        loud = loud[_decibels(loud) > _decibels(loud.mean()) - 10]
    return max(float(_decibels(loud.mean())), LEAST_DB) if loud.size else LEAST_DB


def _decibels(power: np.ndarray) -> np.ndarray:
    return -0.691 + 10 * np.log10(np.maximum(power, 1e-30))


def _weighting(z: np.ndarray, rate_hz: int) -> np.ndarray:
    """K-weighting where a delay by one sample is `z`, complex [n]."""
    gain_db, q, hz = _SHELF
    w = 2 * np.pi * min(hz / rate_hz, 0.49)
    a, cos = 10 ** (gain_db / 40), np.cos(w)
    up, down, slope = a + 1, a - 1, np.sqrt(a) * np.sin(w) / q
    shelf = a * _quadratic(z, up + down * cos + slope, -2 * (down + up * cos), up + down * cos - slope)
    shelf /= _quadratic(z, up - down * cos + slope, 2 * (down - up * cos), up - down * cos - slope)
    weighting: np.ndarray = shelf * _high_pass(z, *_HIGH_PASS, rate_hz)
    return weighting


def _above_lowest(z: np.ndarray, rate_hz: int) -> np.ndarray:
    """A Butterworth high-pass of fourth order at _LOWEST_HZ."""
    first, second = (_high_pass(z, q, _LOWEST_HZ, rate_hz) for q in _BUTTERWORTH)
    return first * second


def _high_pass(z: np.ndarray, q: float, hz: float, rate_hz: int) -> np.ndarray:
    w = 2 * np.pi * hz / rate_hz
    alpha, cos = np.sin(w) / (2 * q), np.cos(w)
    response: np.ndarray = (1 + cos) / 2 * (1 - z) ** 2 / _quadratic(z, 1 + alpha, -2 * cos, 1 - alpha)
    return response


def _quadratic(z: np.ndarray, constant: float, linear: float, square: float) -> np.ndarray:
    return constant + linear * z + square * z**2
