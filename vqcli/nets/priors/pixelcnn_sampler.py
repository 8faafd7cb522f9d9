"""Where codes are drawn from a Gated PixelCNN: compiled on a CPU, in torch elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from vqcli.nets.priors import pixelcnn_numba as compiled
from vqcli.nets.priors import pixelcnn_torch
from vqcli.nets.priors.pixelcnn import PixelCNN


def sampler_of(net: PixelCNN) -> Callable[..., np.ndarray]:
    """nets.sampling.sample of this net, its weights as they are now."""
    if net.embedding.weight.device.type == "cpu":
        return partial(compiled.sample, compiled.pack(net))
    return partial(pixelcnn_torch.sample, net)
