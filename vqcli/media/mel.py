"""Mel spectra: triangular filters on a perceptual scale of frequency, for nets, metrics and cepstra.

Frame j of a signal is centred on sample (j + 1/2) * HOP, so N samples have N / HOP frames and frames divide the signal
as codes do. Nets multiply by the same filter matrix.
"""

from __future__ import annotations

import numpy as np

RATE_HZ = 16_000
HOP = 160  # samples: 10 ms
WINDOW = 512  # samples: 32 ms
BANDS = 80
FLOOR = 1e-4  # of a magnitude at -26 dB RMS, below any speech; keeps logarithms finite


def filters(
    bands: int = BANDS, n_fft: int = WINDOW, rate_hz: int = RATE_HZ, low_hz: float = 40.0, warp: float = 1.0
) -> np.ndarray:
    """float32 [bands, n_fft // 2 + 1]: triangles that overlap by half, each with weights that sum to 1.

    `warp` multiplies the frequency that each filter looks at, as another length of the vocal tract would (Jaitly and
    Hinton 2013): 1.1 reads a voice as if all its resonances were lower by a tenth.
    """
    edges = _hz(np.linspace(_mel(low_hz), _mel(rate_hz / 2), bands + 2))
    edges = np.minimum(edges * warp, rate_hz / 2)
    bins = np.linspace(0, rate_hz / 2, n_fft // 2 + 1)
    step = bins[1]
    centres = edges[1:-1]
    rise = (bins - edges[:-2, None]) / np.maximum(centres - edges[:-2], step)[:, None]
    fall = (edges[2:, None] - bins) / np.maximum(edges[2:] - centres, step)[:, None]
    weights = np.maximum(0, np.minimum(rise, fall))
    # narrow filters can fall between two bins: they read the nearest one
    empty = weights.sum(1) < 1e-3
    weights[empty, np.rint(centres[empty] / step).astype(int)] = 1
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def bands_to_bins(bands: int, n_fft: int, rate_hz: int = RATE_HZ, low_hz: float = 40.0) -> np.ndarray:
    """float32 [n_fft // 2 + 1, bands]: linear interpolation, on the mel scale, from the bands' centres to all bins."""
    centres = np.linspace(_mel(low_hz), _mel(rate_hz / 2), bands + 2)[1:-1]
    place = np.interp(_mel(np.linspace(0, rate_hz / 2, n_fft // 2 + 1)), centres, np.arange(bands))
    distance = np.abs(place[:, None] - np.arange(bands))
    return np.maximum(0, 1 - distance).astype(np.float32)


def log_mel(samples: np.ndarray, bands: int = BANDS) -> np.ndarray:
    """float32 [bands, N // HOP], natural logarithm of mel magnitudes, of samples float32 [N] at RATE_HZ."""
    frames = len(samples) // HOP
    margin = (WINDOW - HOP) // 2
    padded = np.pad(np.asarray(samples[: frames * HOP], np.float32), margin)
    window = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    matrix = filters(bands)
    result = np.empty((bands, frames), np.float32)
    for first in range(0, frames, 3000):  # half a minute at a time, so that memory stays small
        last = min(first + 3000, frames)
        part = padded[first * HOP : last * HOP + 2 * margin]
        cut = np.lib.stride_tricks.sliding_window_view(part, WINDOW)[::HOP]
        magnitudes = np.abs(np.fft.rfft(cut * window, axis=1)).astype(np.float32)
        result[:, first:last] = np.log(np.maximum(matrix @ magnitudes.T, FLOOR))
    return result


def cepstra(log_mels: np.ndarray, count: int = 13) -> np.ndarray:
    """Mel cepstra float32 [count, T] of log-mel spectra [bands, T]: the first terms of their orthonormal cosine sum."""
    bands = log_mels.shape[0]
    basis = np.cos(np.pi / bands * np.outer(np.arange(count), np.arange(bands) + 0.5)) * np.sqrt(2 / bands)
    basis[0] /= np.sqrt(2)
    return (basis @ log_mels).astype(np.float32)


def _mel(hz: np.ndarray | float) -> np.ndarray:
    return np.asarray(2595 * np.log10(1 + np.asarray(hz) / 700))


def _hz(mel: np.ndarray) -> np.ndarray:
    return 700 * (10 ** (mel / 2595) - 1)
