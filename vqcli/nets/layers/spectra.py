"""Short-time spectra. torch.stft gives the same, but its gradient goes through complex transforms of twice the size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vqcli.nets.layers import operators


def short_time_spectra(x: Tensor, window: Tensor, hop: int) -> Tensor:
    """Complex [B, len(window) // 2 + 1, T] of x [B, N]; frame j begins at sample j * hop, and all lie within x."""
    frames = x.unfold(-1, len(window), hop) * window  # (B, T, n)
    return _RealTransform.apply(frames).transpose(1, 2)  # type: ignore[no-untyped-call]


def waveforms(magnitude: Tensor, phase: Tensor, window: Tensor, hop: int) -> Tensor:
    """Waveforms [B, T * hop] of spectra [B, T, n / 2 + 1]; frame j is centred on samples j * hop .. + hop.

    The inverse of least squares (Griffin and Lim 1984). n = len(window) is a multiple of hop, two at least, and n - hop
    even; the outer halves of the first and the last frame lie beyond the waveform.
    """
    n, T = len(window), magnitude.shape[1]
    edge = (n - hop) // 2

    def added(frames: Tensor) -> Tensor:
        """Frames [B, T, n] on top of one another, as far as they are wanted."""
        y = frames.new_zeros(len(frames), T + n // hop - 1, hop)
        for number, part in enumerate(frames.split(hop, 2)):
            y[:, number : number + T] += part
        return y.flatten(1)[:, edge:][:, : T * hop]

    weight = added(window.square().expand(1, T, n))
    if torch.compiler.is_compiling():  # ONNX has no complex numbers
        parts = torch.cat([magnitude * phase.cos(), magnitude * phase.sin()], 2).transpose(1, 2)
        return operators.overlapped(parts, window, hop)[:, edge:][:, : T * hop] / weight
    return added(torch.fft.irfft(torch.polar(magnitude, phase), n) * window) / weight


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
