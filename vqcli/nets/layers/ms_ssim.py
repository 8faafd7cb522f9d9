"""Multi-scale structural similarity with a gradient, for training; `evaluation.metrics.ms_ssim` measures it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # from the full size to a sixteenth
WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2  # of values in a range of 1


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """MS-SSIM of images [B, C, H, W] in -0.5 .. 0.5, [B], in 0 .. 1 (Wang, Simoncelli and Bovik 2003).

    Means over the channels of prod_j cs_j^w_j * ssim_M^w_M, as evaluation/metrics.py defines it. Sides below 161 pixels
    have fewer scales than five. Raises ValueError if a side is shorter than the window.
    """
    scales = sum(min(x.shape[-2:]) >= (WINDOW - 1) * 2**j + 1 for j in range(len(WEIGHTS)))
    if not scales:
        raise ValueError(f"{tuple(x.shape[-2:])} holds no window of {WINDOW}")
    B, C = x.shape[:2]
    x, y = x.flatten(0, 1).float(), y.flatten(0, 1).float()  # (B C, H, W)
    total, weights = torch.ones(B * C, device=x.device), WEIGHTS[:scales]
    for scale, weight in enumerate(weights):
        if scale:
            x, y = (F.avg_pool2d(z, 2, ceil_mode=True) for z in (x, y))
        # sums and differences carry the covariances: four maps to blur instead of five
        mean_x, mean_y, squares, products = _blur(torch.stack([x, y, x * x + y * y, x * y]))
        mean_xy, mean_squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
        similar = (2 * (products - mean_xy) + C2) / (squares - mean_squares + C2)  # contrast * structure
        if scale == scales - 1:
            # the luminance term wants means of 0 .. 1
            shift = (mean_x + mean_y + 0.5) / 2
            similar = similar * (2 * (mean_xy + shift) + C1) / (mean_squares + 2 * shift + C1)
        total = total * similar.mean((1, 2)).clamp_min(1e-4) ** (weight / sum(weights))
    return total.view(B, C).mean(1)


def _blur(maps: Tensor) -> Tensor:
    """The Gaussian window over [..., H, W], where it fits whole: [..., H - 10, W - 10].

    As two products with a banded matrix: on a CPU faster than convolutions of one channel.
    """
    H, W = maps.shape[-2:]
    rows = _band(H, maps.device) @ maps
    return rows @ _band(W, maps.device).T


def _band(length: int, device: torch.device) -> Tensor:
    """Matrix [length - 10, length] whose rows are the window at each place."""
    at = torch.arange(WINDOW, device=device) - WINDOW // 2
    window = torch.exp(-(at**2) / (2 * SIGMA**2))
    window = window / window.sum()
    band = torch.zeros(length - WINDOW + 1, length, device=device)
    for offset, value in enumerate(window):
        band.diagonal(offset).fill_(float(value))
    return band
