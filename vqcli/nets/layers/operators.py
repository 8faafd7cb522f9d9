"""Layers as operators of ONNX, where torch's way of tracing them has no length but the traced one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

VERSION = 18  # of the set of operators
GATES = (0, 3, 1, 2)  # input, output, forget and cell of ONNX, in the order that torch has them


def lstm(net: nn.LSTM, x: Tensor) -> Tensor:
    """The output [T, B, width] of an LSTM with biases, of any number of layers, for x [T, B, width]."""
    for layer in range(net.num_layers):
        inward, recurrent, bias, recurrent_bias = (
            _ordered(weight, net.hidden_size) for weight in net.all_weights[layer]
        )
        weights = inward[None], recurrent[None], torch.cat([bias, recurrent_bias])[None]
        shape = (x.shape[0], 1, x.shape[1], net.hidden_size)  # of one direction
        attributes: dict[str, Any] = {"hidden_size": net.hidden_size}
        y = torch.onnx.ops.symbolic("LSTM", (x, *weights), attributes, dtype=x.dtype, shape=shape, version=VERSION)
        x = y[:, 0]
    return x


def _ordered(weight: Tensor, width: int) -> Tensor:
    """A weight [4 width, ...] or bias [4 width], by gates as ONNX has them."""
    return torch.cat([weight[gate * width : (gate + 1) * width] for gate in GATES])


def magnitudes(x: Tensor, window: Tensor, hop: int) -> Tensor:
    """Those of the spectra of windows of x [B, N]: [B, bins, T]."""
    real, imaginary = F.conv1d(x[:, None], _waves(window), stride=hop).chunk(2, 1)
    return (real.square() + imaginary.square()).sqrt()


def filtered(excitations: Sequence[Tensor], gains: Sequence[Tensor], window: Tensor, hop: int) -> Tensor:
    """[B, N], the sum of signals [B, N], each filtered by gains [B, bins, T], where their windows overlap."""
    waves = _waves(window)
    parts = [
        F.conv1d(x[:, None], waves, stride=hop) * torch.cat([gain, gain], 1)
        for x, gain in zip(excitations, gains, strict=True)
    ]
    return overlapped(torch.stack(parts).sum(0), window, hop)


def overlapped(spectra: Tensor, window: Tensor, hop: int) -> Tensor:
    """[B, N] of real, then imaginary parts of spectra [B, 2 bins, T]: windowed waves, added where they overlap."""
    n = len(window)
    counts = torch.full((n // 2 + 1,), 2 / n)
    counts[0] = counts[-1] = 1 / n  # all bins but these two stand for two
    return F.conv_transpose1d(spectra * counts.repeat(2)[:, None], _waves(window), stride=hop)[:, 0]


def _waves(window: Tensor) -> Tensor:
    """Real, then imaginary parts of the windowed waves of the Fourier transform of n real numbers: [2 bins, 1, n]."""
    n = len(window)
    angles = np.outer(np.arange(n // 2 + 1), np.arange(n)) % n * (2 * np.pi / n)
    return torch.from_numpy(np.concatenate([np.cos(angles), -np.sin(angles)]).astype(np.float32))[:, None] * window
