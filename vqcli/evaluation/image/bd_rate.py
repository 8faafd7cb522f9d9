"""Bjøntegaard delta rate: by how many per cent one codec's files are larger than another's at equal quality.

The logarithm of the rate is interpolated over the quality by monotone cubics (Fritsch and Carlson 1980, as revised by
Fritsch and Butland 1984) and averaged over the qualities that both reach: -20 means a fifth fewer bytes. It is taken
image by image, since images differ more than codecs do, and then averaged (Barman, Martini and Reznik 2024 compare the
ways).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vqcli.evaluation.image.rate_distortion import Point

LEAST_POINTS = 2  # of a curve
DENSE = 1001  # qualities at which the difference of two curves is taken

Curve = Sequence[tuple[float, float]]  # (bits per pixel, quality)


@dataclass(frozen=True)
class DeltaRate:
    """The first codec of a measurement against one baseline.

    measure    'PSNR' or 'MS-SSIM'
    percent    mean over images; below 0: fewer bytes than the baseline
    low, high  bits per pixel of the baseline between which it was taken, means over images
    images     how many have curves that overlap
    """

    codec: str
    measure: str
    percent: float
    low: float
    high: float
    images: int


def ms_ssim_db(value: float) -> float:
    """MS-SSIM of 0 .. 1 in dB: -10 log10(1 - MS-SSIM), inf for 1."""
    return -10 * math.log10(1 - value) if value < 1 else math.inf


MEASURES: dict[str, Callable[[Point], float]] = {
    "PSNR": lambda point: point.psnr_db,
    "MS-SSIM": lambda point: ms_ssim_db(point.ms_ssim),
}


def delta_rates(points: Sequence[Point], rates: tuple[float, float] = (0.0, math.inf)) -> list[DeltaRate]:
    """The codec of the first point against each other one, for both measures, within these rates of the baseline.

    Baselines whose curves overlap for no image are left out.
    """
    curves: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        curves.setdefault((point.codec, point.picture), []).append(point)
    own = points[0].codec if points else ""
    codecs = dict.fromkeys(codec for codec, _ in curves if codec != own)
    pictures = [picture for codec, picture in curves if codec == own]
    found = []
    for codec in codecs:
        for name, quality in MEASURES.items():
            results = []
            for picture in pictures:
                one, other = (_curve(curves.get((each, picture), []), quality) for each in (own, codec))
                result = delta_rate(one, other, rates)
                if result is not None:
                    results.append(result)
            if results:
                percent, low, high = np.mean(results, axis=0).tolist()
                found.append(DeltaRate(codec, name, percent, low, high, len(results)))
    return found


def delta_rate(
    own: Curve, baseline: Curve, rates: tuple[float, float] = (0.0, math.inf)
) -> tuple[float, float, float] | None:
    """Per cent of bytes more or fewer than the baseline, and the baseline's rates between which that was taken.

    None if the curves have no qualities in common within these rates of the baseline, or have fewer than two points.
    """
    first, second = (_by_quality(curve) for curve in (own, baseline))
    if first is None or second is None:
        return None
    low, high = (max(first[0][0], second[0][0]), min(first[0][-1], second[0][-1]))
    at = np.linspace(low, high, DENSE)
    if low >= high:
        return None
    log_rates = monotone_cubic(*second, at)
    within = (log_rates >= math.log(max(rates[0], 1e-9))) & (log_rates <= math.log(min(rates[1], 1e9)))
    if within.sum() < 2:
        return None
    at, log_rates = at[within], log_rates[within]
    difference = np.trapezoid(monotone_cubic(*first, at) - log_rates, at) / (at[-1] - at[0])
    return 100 * math.expm1(difference), float(np.exp(log_rates[0])), float(np.exp(log_rates[-1]))


def monotone_cubic(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The piecewise cubic Hermite curve through (x, y), x ascending, that never overshoots, at places within x."""
    step, slope = np.diff(x), np.diff(y) / np.diff(x)
    inner = np.zeros(len(x))
    if len(x) > 2:
        before, after = slope[:-1], slope[1:]
        left, right = step[1:] + step[:-1] * 2, step[1:] * 2 + step[:-1]
        same = before * after > 0
        a, b = np.where(same, before, 1.0), np.where(same, after, 1.0)
        # the harmonic mean of the slopes, weighted by the lengths of the pieces; flat at a turning point
        inner[1:-1] = np.where(same, (left + right) / (right / a + left / b), 0.0)
    inner[0], inner[-1] = _end(step, slope), _end(step[::-1], slope[::-1])
    piece = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(step) - 1)
    h, t = step[piece], (at - x[piece]) / step[piece]
    return (
        y[piece] * (1 + 2 * t) * (1 - t) ** 2
        + y[piece + 1] * t**2 * (3 - 2 * t)
        + h * (inner[piece] * t * (1 - t) ** 2 + inner[piece + 1] * t**2 * (t - 1))
    )


def _end(step: np.ndarray, slope: np.ndarray) -> float:
    """The slope at an end, from the three points nearest to it."""
    if len(slope) < 2:
        return float(slope[0])
    value = ((2 * step[0] + step[1]) * slope[0] - step[0] * slope[1]) / (step[0] + step[1])
    if value * slope[0] <= 0:
        return 0.0
    return float(3 * slope[0] if slope[0] * slope[1] < 0 and abs(value) > abs(3 * slope[0]) else value)


def _curve(points: Sequence[Point], quality: Callable[[Point], float]) -> Curve:
    return [(point.bits_per_pixel, quality(point)) for point in points]


def _by_quality(curve: Curve) -> tuple[np.ndarray, np.ndarray] | None:
    """Qualities ascending and logarithms of their rates, each quality once, at its lowest rate; None for too few."""
    cheapest: dict[float, float] = {}
    for rate, quality in sorted(curve):
        if math.isfinite(quality) and quality > max(cheapest, default=-math.inf):
            cheapest[quality] = rate
    if len(cheapest) < LEAST_POINTS:
        return None
    return np.array(list(cheapest)), np.log(list(cheapest.values()))
