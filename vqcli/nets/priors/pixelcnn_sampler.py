"""The sampler of a Gated PixelCNN: compiled on a CPU, in torch elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from vqcli.nets.priors import pixelcnn_numba as compiled
from vqcli.nets.priors import pixelcnn_torch
from vqcli.nets.priors.pixelcnn import PixelCNN


def sampler_of(net: PixelCNN) -> Callable[..., np.ndarray]:
    """pixelcnn_torch.sample of this net with its present weights."""
    if net.embedding.weight.device.type == "cpu":
        return partial(compiled.sample, compiled.compile_net(net))
    return partial(pixelcnn_torch.sample, net)
