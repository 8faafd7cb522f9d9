"""Noise that decoders work with: of a seed and a place, so that windows of a signal have the noise of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

BLOCK = 2**14  # samples that are drawn together


def white_noise(channels: int, start: int, stop: int, seed: int, *layer: int) -> Tensor:
    """White noise [channels, stop - start]: sample n does not depend on start and stop.

    A decoder with noise in several layers gives each a number of its own.
    """
    blocks = range(start // BLOCK, -(-stop // BLOCK))
    parts = [
        np.random.default_rng([seed, block, *layer]).standard_normal((channels, BLOCK), np.float32) for block in blocks
    ]
    offset = start - blocks[0] * BLOCK
    return torch.from_numpy(np.concatenate(parts, 1)[:, offset : offset + stop - start])


@dataclass(frozen=True)
class Place:
    """Which noise a window of a signal has: by its seed, and by the frame of the decoder's input that it begins at."""

    seed: int = 0
    first: int = 0

    def noise(self, channels: int, length: int, layer: Noise) -> Tensor:
        start = self.first * layer.rate
        return white_noise(channels, start, start + length, self.seed, layer.number)


@dataclass(frozen=True)
class Supplied:
    """Noise that a caller brings along.

    values  [B, frames * sum(rates)], the noise of each layer after that of the layers before it
    rates   of the layers, by their numbers
    """

    values: Tensor
    rates: Sequence[int]

    def noise(self, channels: int, length: int, layer: Noise) -> Tensor:
        start = self.values.shape[1] // sum(self.rates) * sum(self.rates[: layer.number])
        return self.values[:, start : start + length]


class Noise(nn.Module):
    """x + noise * linear(x) of [B, width, N]: as loud, channel by channel, as x asks for; all channels have the same.

    number  of this layer in its net
    rate    samples for each frame of the decoder's input
    """

    def __init__(self, width: int, number: int, rate: int) -> None:
        super().__init__()
        self.number, self.rate = number, rate
        self.linear = nn.Conv1d(width, width, 1, bias=False)

    def forward(self, x: Tensor, place: Place | Supplied) -> Tensor:
        noise = place.noise(x.shape[0], x.shape[2], self)
        return x + noise[:, None].to(x) * self.linear(x)


class Noisy(nn.Sequential):
    """Layers one after the other; those that add noise, or hold some that do, are told the place of their input."""

    def forward(self, x: Tensor, place: Place | Supplied) -> Tensor:  # type: ignore[override]
        for layer in self:
            x = layer(x, place) if isinstance(layer, (Noise, Noisy)) else layer(x)
        return x
