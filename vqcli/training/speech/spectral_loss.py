"""Multi-resolution spectral distance as a loss.

Output with noise in it is trained by the energy distance (Gritsenko et al. 2020) of two renderings y, y' with
independent noise: 2 d(x, y) - d(y, y'). Its minimum is the distribution of x; d alone would make the noise too weak.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.media import mel
from vqcli.nets.layers.spectra import short_time_spectra

SIZES = (128, 256, 512, 1024, 2048)
FLOOR = 1e-3


@dataclass(frozen=True)
class Spectra:
    """Of one batch of audio, for each resolution: magnitudes [B, bins, T] and log-mel spectra [B, bands, T]."""

    magnitudes: list[Tensor]
    log_mels: list[Tensor]


class SpectralDistance(nn.Module):
    """Mean over windows of 128 to 2,048 samples of |S(x) - S(y)| and the frames' Euclidean distance of log-mel."""

    def __init__(self, sizes: tuple[int, ...] = SIZES, rate_hz: int = mel.RATE_HZ) -> None:
        super().__init__()
        self.sizes = sizes
        for n in sizes:
            self.register_buffer(f"window{n}", torch.hann_window(n), persistent=False)
            bands = min(mel.BANDS, n // 8)
            self.register_buffer(f"filters{n}", torch.from_numpy(mel.filters(bands, n, rate_hz)), persistent=False)

    def spectra(self, x: Tensor) -> Spectra:
        """Of audio x [B, N]."""
        magnitudes, log_mels = [], []
        for n in self.sizes:
            window, filters = getattr(self, f"window{n}"), getattr(self, f"filters{n}")
            spectrum = short_time_spectra(x, window, n // 4)
            power = torch.view_as_real(spectrum).square().sum(-1)
            magnitude = (power + 1e-10).sqrt() / n**0.5  # noise has the same magnitude at all sizes
            magnitudes.append(magnitude)
            log_mels.append(torch.log((filters @ magnitude).clamp(min=FLOOR)))
        return Spectra(magnitudes, log_mels)

    def forward(self, a: Spectra, b: Spectra) -> Tensor:
        total = a.magnitudes[0].new_zeros(())
        for size_a, size_b, mel_a, mel_b in zip(a.magnitudes, b.magnitudes, a.log_mels, b.log_mels, strict=True):
            total = total + 20 * F.l1_loss(size_a, size_b)
            total = total + ((mel_a - mel_b).square().mean(1) + 1e-4).sqrt().mean()
        return total / len(self.sizes)
