"""The transformer of streaming codecs: each frame attends to itself and to a window of frames before it.

    x [B, width, T] -> layers of: x + scale * attention(norm(x)), x + scale * MLP(norm(x)) -> [B, width, T]

with rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864) and a scale for each channel (Touvron et al.
2021, https://arxiv.org/abs/2103.17239). A stream (layers/stream.py) keeps the keys and values of the window,
and how many frames went by.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.nets.layers.stream import Stream

FIRST_SCALE = 0.01  # of what a layer adds, before training


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer.

    layers  how many
    heads   into which the width divides
    hidden  numbers inside the MLP
    window  frames that one attends to, itself included
    period  the slowest rotation takes about 2 pi times as many frames
    """

    layers: int = 8
    heads: int = 8
    hidden: int = 2048
    window: int = 250
    period: float = 10_000.0

    def __post_init__(self) -> None:
        counts = (self.layers, self.heads, self.hidden, self.window)
        if not all(isinstance(count, int) and count > 0 for count in counts) or not self.period > 0:
            raise ValueError(f"not sizes of a transformer: {self}")


Rotation = tuple[Tensor, Tensor]  # cosines and sines [T, half a head]


def rotated(x: Tensor, rotation: Rotation) -> Tensor:
    """Queries or keys [B, heads, T, D], whose numbers n and n + D/2 are a pair, turned by its angle at each frame."""
    cos, sin = rotation
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Attention(nn.Module):
    """Of several heads, without biases."""

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        self.heads, self.before = shape.heads, shape.window - 1
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, rotation: Rotation, seen: Tensor, stream: Stream) -> Tensor:
        """Of frames [B, T, width]; `seen` [T, frames before and at hand] says which they attend to."""
        query, key, value = (self._of_heads(layer(x)) for layer in (self.query, self.key, self.value))
        query, key = rotated(query, rotation), rotated(key, rotation)
        if self in stream.kept:
            keys, values = stream.kept[self]
            key, value = torch.cat([keys, key], 2), torch.cat([values, value], 2)
        stream.keep(self, lambda: tuple(part[:, :, max(part.shape[2] - self.before, 0) :] for part in (key, value)))
        h = F.scaled_dot_product_attention(query, key, value, seen)
        y: Tensor = self.out(h.transpose(1, 2).flatten(2))
        return y

    def _of_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """Attention, then an MLP with GELU, each added to what it was made of."""

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(shape, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, shape.hidden, bias=False), nn.GELU(), nn.Linear(shape.hidden, width, bias=False)
        )
        self.attention_scale = nn.Parameter(torch.full((width,), FIRST_SCALE))
        self.mlp_scale = nn.Parameter(torch.full((width,), FIRST_SCALE))

    def forward(self, x: Tensor, rotation: Rotation, seen: Tensor, stream: Stream) -> Tensor:
        x = x + self.attention_scale * self.attention(self.attention_norm(x), rotation, seen, stream)
        return x + self.mlp_scale * self.mlp(self.mlp_norm(x))


class CausalTransformer(nn.Module):
    """[B, width, T] to [B, width, T], without a norm at the end.

    reach  frames before the current one that an output depends on
    """

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        if width % (2 * shape.heads):
            raise ValueError(f"{width} numbers do not make {shape.heads} heads of pairs")
        self.head, self.window, self.period = width // shape.heads, shape.window, shape.period
        self.layers = nn.ModuleList(Layer(shape, width) for _ in range(shape.layers))
        self.reach = shape.layers * (shape.window - 1)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        start = stream.kept.get(self, 0)
        stop = start + x.shape[2]
        stream.keep(self, lambda: stop)
        frames = torch.arange(max(start - self.window + 1, 0), stop, device=x.device)
        current = frames[frames.shape[0] - x.shape[2] :]
        age = current[:, None] - frames
        seen = (age >= 0) & (age < self.window)
        rotation = self._rotation(current)
        h = x.transpose(1, 2)
        for layer in self.layers:
            h = layer(h, rotation, seen, stream)
        return h.transpose(1, 2)

    def _rotation(self, frames: Tensor) -> Rotation:
        exponents = torch.arange(0, self.head, 2, device=frames.device).float() / self.head
        angles = frames[:, None].float() * (1 / self.period**exponents)
        return angles.cos(), angles.sin()
