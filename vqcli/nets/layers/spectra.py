"""Short-time spectra. torch.stft gives the same, but its gradient goes through complex transforms of twice the size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def short_time_spectra(x: Tensor, window: Tensor, hop: int) -> Tensor:
    """Complex [B, len(window) // 2 + 1, T] of x [B, N]; frame j begins at sample j * hop, and all lie within x."""
    frames = x.unfold(-1, len(window), hop) * window  # (B, T, n)
    return _RealTransform.apply(frames).transpose(1, 2)  # type: ignore[no-untyped-call]


class _RealTransform(torch.autograd.Function):
    """The discrete Fourier transform of real frames [..., n], n even: [..., n / 2 + 1]."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor) -> Tensor:
        ctx.n = frames.shape[-1]
        return torch.fft.rfft(frames)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # the inverse transform counts each bin between the first and the last twice, the gradient once
        halved = gradient.clone()
        halved[..., 1:-1] *= 0.5
        return torch.fft.irfft(halved, ctx.n, norm="forward")
