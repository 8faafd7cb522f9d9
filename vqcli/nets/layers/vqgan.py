"""The convolutional encoder and decoder of VQGAN: those of Ho et al. 2020 without their skip connections.

    image -> conv -> for each level: residual blocks, perhaps with attention, and a halving of height and width
          -> block, attention, block -> GroupNorm, SiLU, conv -> [B, z_channels, h, w]
    and the mirror image with a doubling of height and width (Esser et al. 2021, https://arxiv.org/abs/2012.09841)

Group normalisation and attention see the whole picture.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """The sizes of a VQGAN.

    channels    of images
    widths      channels of each level, the finest first; all but the last halve height and width
    blocks      residual blocks of a level of the encoder; a level of the decoder has one more
    attention   levels, by their places in `widths`, where attention follows each residual block
    middle      whether there is attention between the two blocks of the lowest resolution
    z_channels  of the encoder's output and the decoder's input
    groups      of channels that are normalised together
    """

    channels: int = 3
    widths: Sequence[int] = (128, 128, 256, 256, 512)
    blocks: int = 2
    attention: Collection[int] = (4,)
    middle: bool = True
    z_channels: int = 256
    groups: int = 32

    @property
    def stride(self) -> int:
        return 2 ** (len(self.widths) - 1)


class Norm(nn.GroupNorm):
    """Group normalisation over the whole picture, or signal.

    In the decoder of MoVQ, every place has a scale and a shift of its own, linear in z_q [B, condition, h, w] there
    (Zheng et al. 2022, https://arxiv.org/abs/2209.09002).
    """

    def __init__(self, groups: int, condition: int, width: int) -> None:
        if groups < 1:  # which torch says only when the net runs
            raise ValueError("there is at least one group of channels")
        super().__init__(int(groups), width, eps=1e-6)  # `true` of a header counts as 1 here, but not when it runs
        self.scale = nn.Conv2d(condition, width, 1) if condition else None
        self.shift = nn.Conv2d(condition, width, 1) if condition else None

    def forward(self, x: Tensor, z_q: Tensor | None = None) -> Tensor:
        y = super().forward(x)
        if self.scale is None or self.shift is None:
            return y
        # grown after the 1x1 convolution, which is the same as before it with less work
        scale, shift = (F.interpolate(part(z_q), x.shape[2:]) for part in (self.scale, self.shift))
        return torch.addcmul(shift, y, scale)


MakeNorm = Callable[[int], Norm]  # of a number of channels


class Block(nn.Module):
    """x, or a 1x1 convolution of it where widths differ, + conv(SiLU(norm(conv(SiLU(norm(x)))))).

    Images, or with `conv` nn.Conv1d signals [B, channels, T].
    """

    def __init__(
        self, into: int, width: int, norm: MakeNorm, conv: type[nn.Conv1d] | type[nn.Conv2d] = nn.Conv2d
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(into), norm(width)
        self.conv1 = conv(into, width, 3, padding=1)
        self.conv2 = conv(width, width, 3, padding=1)
        self.shortcut = conv(into, width, 1) if into != width else None

    def forward(self, x: Tensor, z_q: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x, z_q), inplace=True))
        h = self.conv2(F.silu(self.norm2(h, z_q), inplace=True))
        y: Tensor = h.add_(x if self.shortcut is None else self.shortcut(x))
        return y


class Attention(nn.Module):
    """x + attention of every place to all, with one head; of images, or signals [B, width, T]."""

    def __init__(self, width: int, norm: MakeNorm) -> None:
        super().__init__()
        self.norm = norm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, z_q: Tensor | None = None) -> Tensor:
        rows = self.norm(x, z_q).flatten(2).transpose(1, 2)[:, None]  # [B, 1, h * w, width]
        h = self.out(F.scaled_dot_product_attention(self.query(rows), self.key(rows), self.value(rows)))
        return x + h[:, 0].transpose(1, 2).unflatten(2, x.shape[2:])


class Halving(nn.Conv2d):
    """A convolution of stride 2 that pads on the right and below only."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class Doubling(nn.Conv2d):
    """A convolution after every value became four."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.interpolate(x, scale_factor=2.0))


class Stage(nn.Module):
    """Residual blocks, each of the first `attentions` with attention after it, and perhaps a change of resolution."""

    def __init__(
        self, into: int, width: int, blocks: int, attentions: int, norm: MakeNorm, resample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width if number else into, width, norm) for number in range(blocks))
        self.attentions = nn.ModuleList(Attention(width, norm) for _ in range(attentions))
        self.resample = resample

    def forward(self, x: Tensor, z_q: Tensor | None) -> Tensor:
        for number, block in enumerate(self.blocks):
            x = block(x, z_q)
            if number < len(self.attentions):
                x = self.attentions[number](x, z_q)
        return x if self.resample is None else self.resample(x)


class Encoder(nn.Module):
    """Images to [B, z_channels, h, w]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        norm = partial(Norm, shape.groups, 0)
        first, last = shape.widths[0], shape.widths[-1]
        self.conv_in = nn.Conv2d(shape.channels, first, 3, padding=1)
        self.levels = _levels(shape, shape.blocks, range(len(shape.widths)), norm, Halving)
        self.middle = Stage(last, last, 2, int(shape.middle), norm)
        self.norm_out = norm(last)
        self.conv_out = nn.Conv2d(last, shape.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for stage in (*self.levels, self.middle):
            x = stage(x, None)
        y: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return y


class Decoder(nn.Module):
    """[B, z_channels, h, w] to images; `condition` is the number of channels of z_q if norms depend on it, else 0."""

    def __init__(self, shape: Shape, condition: int) -> None:
        super().__init__()
        norm = partial(Norm, shape.groups, condition)
        first, last = shape.widths[0], shape.widths[-1]
        self.conv_in = nn.Conv2d(shape.z_channels, last, 3, padding=1)
        self.middle = Stage(last, last, 2, int(shape.middle), norm)
        self.levels = _levels(shape, shape.blocks + 1, range(len(shape.widths))[::-1], norm, Doubling)
        self.norm_out = norm(first)
        self.conv_out = nn.Conv2d(first, shape.channels, 3, padding=1)

    def forward(self, x: Tensor, z_q: Tensor) -> Tensor:
        x = self.conv_in(x)
        for stage in (self.middle, *self.levels):
            x = stage(x, z_q)
        y: Tensor = self.conv_out(F.silu(self.norm_out(x, z_q)))
        return y


def _levels(
    shape: Shape, blocks: int, order: Sequence[int], norm: MakeNorm, resample: Callable[[int], nn.Module]
) -> nn.ModuleList:
    """A stage for each level, as they follow each other; all but the last end with `resample`."""
    return nn.ModuleList(
        Stage(
            shape.widths[before],
            shape.widths[level],
            blocks,
            blocks if level in shape.attention else 0,
            norm,
            resample(shape.widths[level]) if level != order[-1] else None,
        )
        for before, level in zip((order[0], *order), order, strict=False)
    )
