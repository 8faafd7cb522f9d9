"""Parameters of a net as the compiled functions read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from vqcli.nets.kernels.matmul import padded


def array_of(tensor: Tensor) -> np.ndarray:
    """A copy as a float32 array in C order."""
    return np.array(tensor.detach().cpu().float().numpy(), order="C")


def biases_of(layers: Sequence[nn.Conv2d | nn.Linear], width: int) -> np.ndarray:
    """Their biases, at most `width` each, as rows (layers, width padded) with zeros behind."""
    biases = np.zeros((len(layers), padded(width)), np.float32)
    for row, layer in zip(biases, layers, strict=True):
        if layer.bias is not None:
            row[: len(layer.bias)] = array_of(layer.bias)
    return biases
