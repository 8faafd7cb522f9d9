"""Mu-law companding (ITU-T G.711's curve, mu = 255): samples -1 .. 1 <-> 256 codes, finer where speech is quiet.

f(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu) (WaveNet, section 2.2); codes divide -1 .. 1 of f evenly. Both ways go by
tables, so that numpy and torch agree to the bit.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

CODES = 256
SILENCE = 128  # the code of sample 0
_MU = CODES - 1


def _expanded(companded: np.ndarray) -> np.ndarray:
    """The inverse of f, of float64 -1 .. 1."""
    return (np.sign(companded) * np.expm1(np.abs(companded) * np.log1p(_MU)) / _MU).astype(np.float32)


# Code k stands for 2 k / mu - 1 of f, and for all that is nearer to it there than to other codes.
_SAMPLES = _expanded(2 * np.arange(CODES) / _MU - 1)
_EDGES = _expanded((2 * np.arange(_MU) + 1) / _MU - 1)
_TENSOR_SAMPLES, _TENSOR_EDGES = torch.from_numpy(_SAMPLES), torch.from_numpy(_EDGES)


def compress(samples: np.ndarray) -> np.ndarray:
    """Codes int64 0 .. 255 of float samples of any shape; what lies outside -1 .. 1 is clipped."""
    return np.searchsorted(_EDGES, np.asarray(samples, np.float32), side="right")


def expand(codes: np.ndarray) -> np.ndarray:
    """Samples float32 -1 .. 1 of codes 0 .. 255 of any shape."""
    return _SAMPLES[codes]


def compress_tensor(samples: Tensor) -> Tensor:
    """As `compress`, on the samples' device: int64 of float samples."""
    return torch.bucketize(samples.float().contiguous(), _TENSOR_EDGES.to(samples.device), right=True)


def expand_tensor(codes: Tensor) -> Tensor:
    """As `expand`, on the codes' device: float32 of int64."""
    return _TENSOR_SAMPLES.to(codes.device)[codes]
