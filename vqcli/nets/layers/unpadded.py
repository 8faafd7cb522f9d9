"""Convolutions of a net without the zeros that they add to both ends of a signal."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.nets.layers.snake import ResidualUnit


def run(layer: nn.Module, x: Tensor) -> Tensor:
    """What a layer of DAC makes of x [B, channels, N] without padding; a residual branch goes to the middle of x."""
    if isinstance(layer, nn.Conv1d):
        return F.conv1d(x, layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups)
    if isinstance(layer, nn.ConvTranspose1d):
        return F.conv_transpose1d(x, layer.weight, layer.bias, layer.stride, groups=layer.groups)
    if not isinstance(layer, nn.Sequential):
        made: Tensor = layer(x)
        return made
    y = x
    for part in layer:
        y = run(part, y)
    if isinstance(layer, ResidualUnit):
        margin = (x.shape[2] - y.shape[2]) // 2
        y = y + x[..., margin : x.shape[2] - margin]
    return y


def length(net: nn.Module, n: int, *, padded: bool = False) -> int:
    """How many outputs n inputs make, through convolutions one after the other, with or without their padding."""
    for layer in net.modules():
        if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d)):
            stride, span = layer.stride[0], layer.dilation[0] * (layer.kernel_size[0] - 1)
            padding = 2 * int(layer.padding[0]) if padded else 0
            if isinstance(layer, nn.ConvTranspose1d):
                n = (n - 1) * stride + span + 1 - padding
            else:
                n = (n + padding - span - 1) // stride + 1
        if n < 1:
            return 0
    return n
