"""Image similarity, codebook usage, and rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vqcli.errors import UsageError

# ---------------------------------------------------------------- images


def mse(a: np.ndarray, b: np.ndarray) -> float:
    """Mean of the squared difference of two uint8 arrays of one shape, exact: 0 to 65025."""
    _check_pair(a, b)
    difference = a.astype(np.int32).ravel() - b.astype(np.int32).ravel()
    return float(np.dot(difference, difference.astype(np.int64))) / difference.size


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(255^2 / MSE), MSE over all pixels and channels; inf if equal."""
    error = mse(a, b)
    return 10 * math.log10(255**2 / error) if error else math.inf


MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # from the full size to a sixteenth
WINDOW = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2)).astype(np.float32)
WINDOW /= WINDOW.sum()
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003) of two uint8 [H, W, C], 0 to 1.

    Mean over the channels as they are (RGB, not luma) of prod_j cs_j^w_j * ssim_M^w_M: Gaussian window 11 x 11,
    sigma 1.5, where it fits whole; K1 = 0.01, K2 = 0.03; means of 2 x 2 pixels from scale to scale, an odd last
    row or column repeated; a negative mean counts as 0. Five scales need sides of at least 161. Smaller images
    use those scales that hold a window, their weights divided by their sum; nan if a side is below 11.
    """
    _check_pair(a, b)
    side, scales = min(a.shape[:2]), 0
    while side >= len(WINDOW) and scales < len(MS_SSIM_WEIGHTS):
        side, scales = (side + 1) // 2, scales + 1
    if scales == 0:
        return math.nan
    weights = np.array(MS_SSIM_WEIGHTS[:scales]) / sum(MS_SSIM_WEIGHTS[:scales])
    return float(np.mean([_ms_ssim_channel(a[..., c], b[..., c], weights) for c in range(a.shape[2])]))


def _ms_ssim_channel(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> float:
    # variances are differences of squares: values centred at 0 keep them far from float32's last digit
    x, y = a.astype(np.float32) - 128, b.astype(np.float32) - 128  # (H, W)
    means = []
    for scale in range(len(weights)):
        if scale:
            x, y = _halve(x), _halve(y)
        mu_x, mu_y = _blur(x), _blur(y)  # (H - 10, W - 10)
        mu_xy, mu_squares = mu_x * mu_y, mu_x * mu_x + mu_y * mu_y
        ratio = (2 * (_blur(x * y) - mu_xy) + C2) / (_blur(x * x + y * y) - mu_squares + C2)  # contrast * structure
        if scale == len(weights) - 1:
            # the luminance term wants the true means: (mu_x + 128)(mu_y + 128), and the same for the squares
            shift = 128 * (mu_x + mu_y + 128)
            ratio *= (2 * (mu_xy + shift) + C1) / (mu_squares + 2 * shift + C1)
        means.append(max(float(ratio.mean(dtype=np.float64)), 0.0))
    return float(np.prod(np.array(means) ** weights))


def _blur(x: np.ndarray) -> np.ndarray:
    """The Gaussian window over (H, W), where it fits whole: (H - 10, W - 10). Rows in blocks that stay in cache."""
    height, width = x.shape
    out = np.empty((height - 10, width - 10), np.float32)
    for top in range(0, height - 10, 64):
        rows = x[top : top + 64 + 10]
        _slide(_slide(rows).T, out[top : top + 64].T)
    return out


def _slide(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """The window along the first axis, (N, M) -> (N - 10, M); it is symmetric, so pairs are added before scaling."""
    n = len(x) - 10
    total = np.multiply(x[5 : 5 + n], WINDOW[5], out=out)
    for tap in range(5):
        pair = x[tap : tap + n] + x[10 - tap : 10 - tap + n]
        pair *= WINDOW[tap]
        total += pair
    return total


def _halve(x: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels, (H, W) -> (ceil(H / 2), ceil(W / 2))."""
    height, width = x.shape
    if height % 2 or width % 2:
        x = np.pad(x, ((0, height % 2), (0, width % 2)), mode="edge")
    return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4


FLAT_BLOCK, FLAT_DEVIATION = 16, 4.0  # pixels of a side; standard deviation of luma, in 0 .. 255
TO_LUMA = np.array([0.299, 0.587, 0.114])  # of RGB, ITU-R BT.601, which JPEG uses
TO_COLOUR = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])  # Cb and Cr


def flat_colour_error(original: np.ndarray, decoded: np.ndarray) -> float:
    """How blotched flat areas are: root mean square error of low-pass Cb and Cr there, 0 .. 255, of uint8 [H, W, C].

    Over blocks of 16 x 16 pixels in which the luma of the original deviates by 4 at most; low-pass is a block's mean.
    nan for grey images and where nothing is flat.
    """
    _check_pair(original, decoded)
    height, width = (side // FLAT_BLOCK * FLAT_BLOCK for side in original.shape[:2])
    if original.shape[2] != 3 or not height or not width:
        return math.nan
    a, b = (x[:height, :width].astype(np.float32) for x in (original, decoded))
    shape = (height // FLAT_BLOCK, FLAT_BLOCK, width // FLAT_BLOCK, FLAT_BLOCK)
    flat = (a @ TO_LUMA).reshape(shape).std(axis=(1, 3)) <= FLAT_DEVIATION
    colours = ((b - a).reshape(*shape, 3).mean(axis=(1, 3)) @ TO_COLOUR.T)[flat]  # [blocks, 2]
    return float(np.sqrt((colours**2).sum(1).mean())) if len(colours) else math.nan


def _check_pair(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape or a.dtype != np.uint8 or b.dtype != np.uint8 or not a.size:
        raise UsageError(f"cannot compare {a.dtype} {list(a.shape)} with {b.dtype} {list(b.shape)}")


# ---------------------------------------------------------------- codebooks


class Usage(NamedTuple):
    used: float  # share of the codes that occur, 0 to 1
    perplexity: float  # exp(entropy of the codes): the size of an evenly used codebook of the same entropy


def usage_and_perplexity(counts: np.ndarray) -> Usage:
    """From the counts [K] of the codes; 0 and 0 if all counts are 0."""
    counts = np.asarray(counts, np.float64)
    used = counts[counts > 0]
    if not used.size:
        return Usage(0.0, 0.0)
    shares = used / used.sum()
    return Usage(used.size / counts.size, float(np.exp(-(shares * np.log(shares)).sum())))


class CodeCounts:
    """Counts of the codes of each codebook, over all images that are added."""

    def __init__(self, codebook_sizes: Sequence[int]) -> None:
        self._sizes = codebook_sizes
        self._counts = np.zeros((len(codebook_sizes), max(codebook_sizes)), np.int64)

    def add(self, codes: np.ndarray) -> None:
        """Count codes [n_codebooks, *grid]."""
        for grid, row in zip(codes, self._counts, strict=True):
            row += np.bincount(grid.ravel(), minlength=len(row))

    def usages(self) -> list[Usage]:
        """Usage of each codebook."""
        return [usage_and_perplexity(row[:K]) for row, K in zip(self._counts, self._sizes, strict=True)]


# ---------------------------------------------------------------- rates


def bits_per_pixel(size_bytes: int, width: int, height: int) -> float:
    """Bits of the whole file for each pixel (not for each sub-pixel: that would be bits/dim)."""
    return 8 * size_bytes / (width * height)


def interpolate(points: Sequence[tuple[float, float]], at: float) -> float | None:
    """The quality at rate `at` on a curve of (rate > 0, quality), linear in log(rate); None outside of it."""
    if not points:
        return None
    rates, qualities = np.array(sorted(points), np.float64).T
    if not rates[0] <= at <= rates[-1]:
        return None
    return float(np.interp(np.log(at), np.log(rates), qualities))
