"""SEANet: the convolutional encoder and decoder of waveforms in EnCodec and Mimi.

    wave [B, channels, N] -> conv -> for each ratio: residual blocks, ELU, conv that halves time by the ratio
                          -> LSTM -> ELU -> conv -> latents [B, dim, P]
    and the mirror image with transposed convolutions (Défossez et al. 2022, section 3.1)

Layers are numbered as in the authors' checkpoints. A causal net, and any encoder, can see a signal part by part
(layers/stream.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from vqcli.errors import ModelError
from vqcli.nets.layers.operators import lstm
from vqcli.nets.layers.stream import Stream, through

PADDINGS = ("reflect", "constant", "replicate")
MOST_BLOCKS, LONGEST_DILATION = 32, 2**10  # whatever a configuration says


@dataclass(frozen=True)
class Shape:
    """The sizes of a SEANet.

    channels      of the waveform
    width         channels of the first layer, doubled at each ratio
    dim           of the latents
    ratios        of upsampling, in the order of the decoder
    kernels       of the first layer, of the last, and of residual blocks
    blocks        residual blocks for each ratio
    growth        of the dilation from one block to the next
    compress      by how much a block is narrower inside
    shortcut      whether the way around a block has a convolution
    lstm          layers of the LSTM, 0 for none
    causal        whether no layer looks ahead
    padding       at the ends of the signal: reflect, constant (0) or replicate
    normalization of the convolutions: weight, group (over time and channels) or none
    """

    channels: int = 1
    width: int = 32
    dim: int = 128
    ratios: Sequence[int] = (8, 5, 4, 2)
    kernels: Sequence[int] = (7, 7, 3)
    blocks: int = 1
    growth: int = 2
    compress: int = 2
    shortcut: bool = True
    lstm: int = 2
    causal: bool = True
    padding: str = "reflect"
    normalization: str = "weight"

    def __post_init__(self) -> None:
        if not isinstance(self.growth, int) or self.growth < 1 or not 1 <= self.blocks <= MOST_BLOCKS:
            raise ValueError(f"{self.blocks} residual blocks of dilations that grow by {self.growth!r}")
        if self.growth ** (self.blocks - 1) > LONGEST_DILATION:
            raise ValueError(f"a dilation of {self.growth} to the power of {self.blocks - 1}")
        if self.padding not in PADDINGS:
            raise ValueError(f"padding by {self.padding!r}, which is none of {', '.join(PADDINGS)}")

    @property
    def stride(self) -> int:
        return math.prod(self.ratios)


def padded(x: Tensor, left: int, right: int, mode: str) -> Tensor:
    """x [B, C, N] with more on both ends; reflection takes zeros for what a short signal lacks."""
    if mode != "reflect":
        return F.pad(x, (left, right), mode)
    N = x.shape[-1]
    short = torch.sym_max(0, max(left, right) + 1 - N)  # zeros that follow a signal too short to be mirrored

    def mirrored(places: Tensor, there: Tensor) -> Tensor:
        return torch.where(there & (places < N), x[..., places.clamp(max=N - 1)], 0.0)

    # by places, which do not depend on the length where a net is traced
    before, after = torch.arange(left, 0, -1, device=x.device), torch.arange(right, device=x.device)
    return torch.cat([mirrored(before, before > 0), x, mirrored(N - 2 - after + 2 * short, after >= short)], -1)


class Conv(nn.Module):
    """A convolution whose output has a frame for each `stride` of its input, a partial one at the end included."""

    def __init__(
        self, shape: Shape, into: int, out: int, kernel: int, stride: int = 1, dilation: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        self.conv: nn.Module = nn.Conv1d(into, out, kernel, stride, dilation=dilation, bias=bias)
        self.norm: nn.Module = nn.Identity()
        if shape.normalization == "weight":
            self.conv = weight_norm(self.conv)
        elif shape.normalization == "group":
            self.norm = nn.GroupNorm(1, out)
        self.width, self.stride, self.padding = out, stride, shape.padding
        self.past = (kernel - 1) * dilation + 1 - stride
        self.ahead = 0 if shape.causal else self.past // 2

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        x = stream.joined(self, x)
        left, right = (self.past - self.ahead) * stream.first, 0
        if stream.last:
            right = self.ahead + -(left + x.shape[-1] + self.ahead - self.past) % self.stride
        x = padded(x, left, right, self.padding)
        if not stream.last:
            frames = max(x.shape[-1] - self.past, 0) // self.stride
            stream.kept[self] = x[..., frames * self.stride :].clone()
            if not frames:  # the first needs more than there is yet
                return x.new_empty(len(x), self.width, 0)
        y: Tensor = self.norm(self.conv(x))
        return y


class Upsampling(nn.Module):
    """A transposed convolution of twice the stride; what it gives beyond the signal is cut off."""

    def __init__(self, shape: Shape, into: int, out: int, stride: int, groups: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.conv: nn.Module = nn.ConvTranspose1d(into, out, 2 * stride, stride, groups=groups, bias=bias)
        self.norm: nn.Module = nn.Identity()
        if shape.normalization == "weight":
            self.conv = weight_norm(self.conv)
        elif shape.normalization == "group":
            self.norm = nn.GroupNorm(1, out)
        self.stride = stride
        self.cut = 0 if shape.causal else stride - stride // 2  # on the left; the rest of `stride` on the right

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        before = 0
        if not stream.first:  # the frame before reaches into this part
            x, before = torch.cat([stream.kept[self], x], -1), self.stride
        stream.keep(self, lambda: x[..., -1:].clone())
        y: Tensor = self.norm(self.conv(x))
        return y[..., before + self.cut : y.shape[-1] - (self.stride - self.cut)]


class Activation(nn.Module):
    """ELU."""

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        return F.elu(x)


class Block(nn.Module):
    """x, or a convolution of it, + conv(ELU(conv(ELU(x)))), narrower inside."""

    def __init__(self, shape: Shape, width: int, dilation: int) -> None:
        super().__init__()
        inner = width // shape.compress
        self.block = nn.ModuleList(
            [
                Activation(),
                Conv(shape, width, inner, shape.kernels[2], dilation=dilation),
                Activation(),
                Conv(shape, inner, width, 1),
            ]
        )
        self.shortcut = Conv(shape, width, width, 1) if shape.shortcut else None

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        h = through(self.block, x, stream)
        x = stream.joined(self, x if self.shortcut is None else self.shortcut(x, stream))
        if not stream.last:  # h, which may look ahead, does not reach the last frames yet
            stream.kept[self], x = x[..., h.shape[-1] :].clone(), x[..., : h.shape[-1]]
        return x + h


class LSTM(nn.Module):
    """x + LSTM(x), over time."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        rows = x.permute(2, 0, 1)
        if torch.compiler.is_compiling():
            return (lstm(self.lstm, rows) + rows).permute(1, 2, 0)
        h, state = self.lstm(rows, stream.kept.get(self))
        stream.keep(self, lambda: state)
        return (h + rows).permute(1, 2, 0)


def encoder(shape: Shape) -> nn.ModuleList:
    """Waveforms to latents."""
    width = shape.width
    layers: list[nn.Module] = [Conv(shape, shape.channels, width, shape.kernels[0])]
    for ratio in reversed(shape.ratios):
        layers += [Block(shape, width, shape.growth**number) for number in range(shape.blocks)]
        layers += [Activation(), Conv(shape, width, 2 * width, 2 * ratio, ratio)]
        width *= 2
    layers += [LSTM(width, shape.lstm)] if shape.lstm else []
    return nn.ModuleList([*layers, Activation(), Conv(shape, width, shape.dim, shape.kernels[1])])


def decoder(shape: Shape) -> nn.ModuleList:
    """Latents to waveforms."""
    width = shape.width * 2 ** len(shape.ratios)
    layers: list[nn.Module] = [Conv(shape, shape.dim, width, shape.kernels[0])]
    layers += [LSTM(width, shape.lstm)] if shape.lstm else []
    for ratio in shape.ratios:
        width //= 2
        layers += [Activation(), Upsampling(shape, 2 * width, width, ratio)]
        layers += [Block(shape, width, shape.growth**number) for number in range(shape.blocks)]
    return nn.ModuleList([*layers, Activation(), Conv(shape, width, shape.channels, shape.kernels[1])])


def reach(layers: Iterable[nn.Module], frames: int = 0) -> int:
    """Input frames before the current one that an output of causal convolutions depends on.

    With `frames`: that it depends on together with as many outputs before it.
    """
    found = [part for layer in layers for part in layer.modules() if isinstance(part, Conv | Upsampling)]
    for layer in reversed(found):
        frames = frames * layer.stride + layer.past if isinstance(layer, Conv) else -(-frames // layer.stride) + 1
    return frames


def sizes(tensors: Mapping[str, Tensor], weight: str) -> dict[str, Any]:
    """The arguments of `Shape` that the tensors of an `encoder` tell; `weight` ends the names of its convolutions'.

    Raises ModelError if they are not those of a SEANet.
    """
    try:
        convs = sorted(
            (int(name.split(".")[1]), tensor.shape)
            for name, tensor in tensors.items()
            if re.fullmatch(rf"encoder\.\d+\.{re.escape(weight)}", name)
        )
        (_, first), *downs, (_, last) = convs
        inner = tensors[f"encoder.1.block.1.{weight}"].shape
        return {
            "channels": first[1],
            "width": first[0],
            "dim": last[0],
            "ratios": [shape[2] // 2 for _, shape in reversed(downs)],
            "kernels": [first[2], last[2], inner[2]],
            "blocks": downs[0][0] - 2,  # between the first convolution, and an activation before the next
            "compress": first[0] // inner[0],
            "shortcut": f"encoder.1.shortcut.{weight}" in tensors,
            "lstm": sum(re.fullmatch(r"encoder\.\d+\.lstm\.weight_ih_l\d+", name) is not None for name in tensors),
        }
    except (ValueError, KeyError, IndexError, ZeroDivisionError):
        raise ModelError("the convolutions of the encoder are not those of a SEANet, or some are missing") from None
