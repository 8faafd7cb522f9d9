"""How far the layers of a net look."""

from __future__ import annotations

from torch import nn

from vqcli.nets.layers.local_attention import LocalAttention


def reach(net: nn.Module, first: int, last: int) -> tuple[int, int]:
    """The first and the last input that outputs first .. last depend on, through 1D layers one after the other.

    Those are convolutions, and attention within blocks, the first of which begins at frame 0. A residual branch counts
    as part of the line, for the way around it looks no further.
    """
    for layer in reversed(list(net.modules())):
        if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d)):
            stride, padding = layer.stride[0], int(layer.padding[0])
            span = layer.dilation[0] * (layer.kernel_size[0] - 1)
            if isinstance(layer, nn.ConvTranspose1d):  # input i adds to outputs i * stride - padding + 0 .. span
                first, last = -((span - padding - first) // stride), (last + padding) // stride
            else:
                first, last = first * stride - padding, last * stride - padding + span
        elif isinstance(layer, LocalAttention):
            first, last = first // layer.block * layer.block, (last // layer.block + 1) * layer.block - 1
    return first, last
