"""Similarity of two recordings of speech: spectra, pitch, intelligibility, quality.

All take mono float [N] at 16 kHz, the source first, and normalise both to one loudness. Lengths may differ by less than
a frame of 10 ms; the longer one is cut.
"""

from __future__ import annotations

import math
import warnings
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from vqcli.errors import UsageError
from vqcli.media import loudness, mel, pitch, voice

RATE_HZ = mel.RATE_HZ
DB = 20 / math.log(10)  # for each unit of a natural logarithm of magnitudes
FEWEST = 10  # positions voiced in both, 0.2 s; with fewer a correlation of pitch is meaningless


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Log-mel spectrum float32 [80, N // 160] in dB, of samples normalised to -26 dB RMS of their active part.

    Magnitudes of windows of 32 ms every 10 ms; clipped at mel.FLOOR (some 75 dB below speech).
    """
    return DB * mel.log_mel(_normalised(samples))


def log_mel_distance(source: np.ndarray, other: np.ndarray) -> float:
    """Log-spectral distance in dB: RMS difference of `log_mel` over the 80 bands of a frame, mean over frames.

    nan for less than a frame.
    """
    a, b = map(log_mel, _pair(source, other))
    return float(np.sqrt(np.square(a - b).mean(0)).mean()) if a.size else math.nan


def log_mel_correlation(source: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of `log_mel` over all points of time and frequency together, -1 .. 1.

    The mean is of the whole, not of each band, so the average spectrum of speech counts: unrelated clips reach
    some 0.3. nan if one of them is silent throughout.
    """
    a, b = map(log_mel, _pair(source, other))
    return correlation(a.ravel(), b.ravel())


class Melody(NamedTuple):
    correlation: float  # Pearson's of log Hz where both are voiced; nan with fewer than FEWEST such positions
    voicing_error: float  # share of the positions where one is voiced and the other is not, 0 .. 1


def melody(source: np.ndarray, other: np.ndarray) -> Melody:
    """Agreement of the pitch, at 50 positions per second. A shift by semitones leaves the correlation as it is."""
    a, b = (pitch.track(_normalised(part)) for part in _pair(source, other))
    both = (a > 0) & (b > 0)
    error = float(((a > 0) != (b > 0)).mean()) if len(a) else math.nan
    if both.sum() < FEWEST:
        return Melody(math.nan, error)
    return Melody(correlation(np.log(a[both]), np.log(b[both])), error)


def pitch_hz(samples: np.ndarray) -> float:
    """Geometric mean of the pitch in Hz over voiced positions; nan if there are none."""
    hz = pitch.track(_normalised(samples))
    return float(np.exp(np.log(hz[hz > 0]).mean())) if (hz > 0).any() else math.nan


def has_stoi() -> bool:
    """Whether pystoi is installed, of the extra `evaluators`; without importing it."""
    return find_spec("pystoi") is not None


def stoi(source: np.ndarray, other: np.ndarray) -> float:
    """Short-time objective intelligibility (Taal et al. 2011), about 0 .. 1. Raises UsageError without pystoi.

    nan for less than 0.4 s of audio: the measure compares segments of that length.
    """
    try:
        from pystoi import stoi as measured
    except ImportError:
        raise UsageError("STOI needs an extra that is not installed", "pip install 'vqcli[evaluators]'") from None
    a, b = _pair(source, other)
    if len(a) < 0.4 * RATE_HZ or not a.any() or not b.any():
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # raised if too little is left without pauses
        try:
            return float(measured(a.astype(np.float64), b.astype(np.float64), RATE_HZ))
        except RuntimeWarning:
            return math.nan


def has_visqol() -> bool:
    """Whether ViSQOL and its lattice are installed, of the extra `evaluators`; without importing them."""
    return all(find_spec(name) is not None for name in ("visqol", "ai_edge_litert"))


def visqol(source: np.ndarray, other: np.ndarray) -> float:
    """Quality by ViSQOL v3 in its mode for speech (Chinen et al. 2020), 1 .. 5. Raises UsageError without the package.

    nan for less than a second of audio, of which it compares patches, and for silence. The lattice maps similarities to
    opinions, as in the reference's default; the polynomial that the package falls back to is up to 2 higher.
    """
    api = _visqol()
    a, b = _pair(source, other)
    if len(a) < RATE_HZ or not a.any() or not b.any():
        return math.nan
    return float(api.measure_from_arrays(a.astype(np.float64), b.astype(np.float64), RATE_HZ).moslqo)


@cache
def _visqol() -> Any:
    if not has_visqol():
        raise UsageError("ViSQOL needs an extra that is not installed", "pip install 'vqcli[evaluators]'")
    from visqol.api import VisqolApi

    api = VisqolApi()
    api.create(mode="speech", use_lattice_model=True)
    return api


def kbit_per_s(size_bytes: int, samples: int, rate_hz: int = RATE_HZ) -> float:
    """Kilobits (1000) of the whole file per second of audio."""
    return 8 * size_bytes * rate_hz / samples / 1000


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's of two arrays [N]; nan if one does not vary."""
    a, b = a - a.mean(dtype=np.float64) if a.size else a, b - b.mean(dtype=np.float64) if b.size else b
    scale = math.sqrt(float(np.dot(a, a)) * float(np.dot(b, b)))
    return float(np.dot(a, b)) / scale if scale > 0 else math.nan


def _normalised(samples: np.ndarray) -> np.ndarray:
    return np.asarray(samples * voice.gain(loudness.active_rms_db(samples)), np.float32)


def _pair(source: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if source.ndim != 1 or other.ndim != 1 or abs(len(source) - len(other)) >= mel.HOP:
        raise UsageError(f"cannot compare audio of {list(source.shape)} and {list(other.shape)} samples")
    length = min(len(source), len(other))
    return source[:length], other[:length]
