"""Initialise as a lossless linear map (looks-linear initialisation, Balduzzi et al. 2017, Shattered Gradients).

Channels before a ReLU come in pairs a and -a, and the layer after it takes relu(a) - relu(-a) = a: the ReLU does
nothing yet. With orthonormal maps between, an encoder begins as the cosine transform of each patch, a decoder as its
inverse, and a residual block as nothing. Random weights are far from that after minutes of training.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vqcli.nets.layers.convnet2d import Float32, ResidualBlock
from vqcli.nets.layers.likelihood import Likelihood

Convolution = nn.Conv2d | nn.ConvTranspose2d
CENTRE = slice(1, 3)  # of a kernel of 4 with padding 1: the two positions that no neighbour has


@torch.no_grad()
def init_linear(
    encoder: nn.Sequential,
    decoder: nn.Sequential,
    channels: int,
    likelihood: Likelihood | None,
    *,
    gain: float = 1.0,
    groups: int = 1,
) -> None:
    """Set the weights of an encoder and decoder of convnet2d.Shape (kernel 4, ReLU), which mirror each other.

    The first channels of the latents become the coefficients of a patch, distributed evenly by
    frequency over `groups` product groups, and scaled by `gain`: by 1, they are as large as pixels in -0.5 .. 0.5.
    Decoder outputs that are no means of a channel begin as 0.
    """
    *strided, last = _convolutions(encoder)
    first, *upward = _convolutions(decoder)
    for block in (*encoder, *decoder):
        if isinstance(block, ResidualBlock):
            nn.init.zeros_(block.mix.weight)
            assert block.mix.bias is not None
            nn.init.zeros_(block.mix.bias)
    carry = torch.eye(channels)  # (numbers after a layer without their mirrors, values of the patch so far)
    for down, up in zip(strided, reversed(upward), strict=True):
        # four positions become one: (half, 4, values), orthonormal columns while there is room
        half, values = down.out_channels // 2, carry.shape[1]
        isometry = _orthonormal(max(half, 4 * values))[:half, : 4 * values]
        kernel = torch.einsum("hpv,nv->hnp", isometry.view(half, 4, values), carry).unflatten(2, (2, 2))
        if down is strided[0]:
            _set(down, torch.cat([kernel, -kernel]), CENTRE)
            image = likelihood.of_means(kernel) if likelihood else kernel
            _set(up, torch.cat([image, -image]), CENTRE)
        else:
            both = torch.cat([kernel, -kernel], 1)
            _set(down, torch.cat([both, -both]), CENTRE)
            _set(up, torch.cat([both, -both]), CENTRE)
        carry = isometry
    dim, values = first.in_channels, carry.shape[1]
    kept = min(dim, values)
    transform = torch.zeros(max(dim, last.out_channels), values)
    transform[_channels_of_coefficients(kept, dim, groups)] = cosines(channels, len(strided))[:kept]
    kernel = (transform @ carry.T)[..., None, None]  # (latents, half, 1, 1)
    both = torch.cat([kernel, -kernel], 1)
    _set(last, gain * both[: last.out_channels], slice(1, 2))
    _set(first, both[:dim].transpose(0, 1) / gain, slice(1, 2))


def cosines(channels: int, halvings: int) -> Tensor:
    """The orthonormal cosine transform of patches and of their colours, [n, n], low frequencies first.

    Columns are the values of a patch in the order in which strided layers put them beside each other: the four
    positions of the last halving outermost, the channels of a pixel innermost.
    """
    side = 2**halvings
    at = torch.arange(side, dtype=torch.float32)
    wave = torch.cos(math.pi / side * at[:, None] * (at + 0.5)) * math.sqrt(2 / side)  # (frequency, position)
    wave[0] /= math.sqrt(2)
    colours = torch.eye(channels)
    if channels == 3:  # brightness and two differences
        colours = torch.tensor([[1.0, 1, 1], [1, 0, -1], [-1, 2, -1]])
        colours /= colours.norm(dim=1, keepdim=True)
    basis = torch.einsum("uy,vx,kc->uvkyxc", wave, wave, colours)
    basis = basis.reshape(side, side, channels, *[2] * (2 * halvings), channels)  # a bit of y and x for each halving
    bits = [3 + axis for pair in zip(range(halvings), range(halvings, 2 * halvings), strict=True) for axis in pair]
    basis = basis.permute(0, 1, 2, *bits, 3 + 2 * halvings).reshape(side * side * channels, -1)
    frequency = at[:, None, None] + at[:, None] + torch.tensor([0.0, 1.5, 1.5][:channels])  # colour carries less
    return basis[torch.argsort(frequency.flatten(), stable=True)]


def _channels_of_coefficients(kept: int, dim: int, groups: int) -> Tensor:
    """The channels that coefficients 0 .. kept - 1 go to: one to each group in turn, and back."""
    turn, place = torch.arange(kept) // groups, torch.arange(kept) % groups
    group = torch.where(turn % 2 == 0, place, groups - 1 - place)
    return group * (dim // groups) + turn


def _convolutions(net: nn.Sequential) -> list[Convolution]:
    layers = [layer.layer if isinstance(layer, Float32) else layer for layer in net]
    return [layer for layer in layers if isinstance(layer, Convolution)]


def _set(conv: Convolution, kernel: Tensor, taps: slice) -> None:
    nn.init.zeros_(conv.weight)
    conv.weight[:, :, taps, taps] = kernel
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)


def _orthonormal(size: int) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size))[0]
