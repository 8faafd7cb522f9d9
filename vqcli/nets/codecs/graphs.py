"""What of a codec runs without vq: its encoder and decoder as functions of tensors, with names, shapes and examples.

Graphs are made from them by tracing (zoo/exporting.py), for signals of any size, so a function has no loop over parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

WHOLE = "It sees its whole input at once, and keeps nothing from call to call."


class Axis(NamedTuple):
    """A length that differs from call to call: `times` a number that has a name."""

    name: str
    times: int = 1

    def __str__(self) -> str:
        return f"{self.times} * {self.name}" if self.times > 1 else self.name


BATCH, ROWS, COLUMNS, POSITIONS = Axis("batch"), Axis("rows"), Axis("columns"), Axis("positions")
Example = Callable[[Sequence[int]], Tensor]  # of a shape


@dataclass(frozen=True)
class Port:
    """An input or output of a graph.

    about    what it holds, for people
    range    least and largest value, None where there are none
    example  makes an input like those that it is for; None where an output of the encoder is that input
    """

    name: str
    shape: tuple[Axis | int, ...]
    dtype: torch.dtype
    about: str
    range: tuple[float, float] | None = None
    example: Example | None = None

    def of_size(self, sizes: Mapping[str, int]) -> list[int]:
        """The shape where named lengths are these."""
        return [axis.times * sizes[axis.name] if isinstance(axis, Axis) else axis for axis in self.shape]


@dataclass(frozen=True)
class Graph:
    """A function of tensors, as many as there are inputs, to a tuple of as many as there are outputs."""

    run: Callable[..., tuple[Tensor, ...]]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    about: str = WHOLE

    @property
    def axes(self) -> list[str]:
        """Names of all lengths that differ."""
        return sorted({axis.name for port in self.inputs for axis in port.shape if isinstance(axis, Axis)})


@dataclass(frozen=True)
class Graphs:
    encoder: Graph
    decoder: Graph


def codes(n: int, largest: int, *grid: Axis) -> Port:
    """The port of codes of n codebooks, of at most `largest` entries."""
    about = "codes, 0 to K - 1 of each codebook"
    return Port("codes", (BATCH, n, *grid), torch.int64, about, (0, largest - 1))


def waveform(shape: tuple[Axis | int, ...], rate_hz: int, about: str = "samples") -> Port:
    return Port("wave", shape, torch.float32, f"{about} of {rate_hz} Hz", (-1, 1), lambda size: 0.1 * _hum(size))


def image(channels: int, stride: int, values: tuple[float, float]) -> Port:
    """The port of images whose black and white have these values."""
    low, high = values
    colours = "grey" if channels == 1 else "red, green and blue"
    return Port(
        "image",
        (BATCH, channels, Axis("rows", stride), Axis("columns", stride)),
        torch.float32,
        f"{colours}, black at {low:g}, white at {high:g}",
        values,
        lambda shape: _smooth(shape) * (high - low) + low,
    )


def quality(steps: int, tunes: Sequence[str]) -> Port:
    """The port of the quality of a net that has `steps` for each of its tunes."""
    largest = steps * max(1, len(tunes))
    about = f"1 the smallest file, {steps} the best image, and what is between"
    for number, tune in enumerate(tunes[1:], 1):
        about += f"; {number * steps + 1} to {(number + 1) * steps} the same of --tune {tune}"
    middle = min((steps + 1) / 2 + 0.25, largest)
    return Port("quality", (BATCH,), torch.float32, about, (1, largest), lambda shape: torch.full(shape, middle))


def noise(per_position: int) -> Port:
    """The port of noise that a decoder works with."""
    about = "random numbers of a normal distribution of mean 0 and deviation 1; zeros decode without noise"
    return Port("noise", (BATCH, Axis("positions", per_position)), torch.float32, about, None, _normal)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _normal(shape: Sequence[int]) -> Tensor:
    return torch.randn(*shape, generator=_generator())


def _smooth(shape: Sequence[int]) -> Tensor:
    """Images between 0 and 1: patches that run into each other, and a little noise."""
    batch, channels, height, width = shape
    patches = torch.rand(batch, channels, height // 8 + 2, width // 8 + 2, generator=_generator())
    smooth = F.interpolate(patches, (height, width), mode="bilinear")
    return (smooth + 0.05 * _normal(shape)).clamp(0, 1)


def _hum(shape: Sequence[int]) -> Tensor:
    """Waveforms between about -3 and 3: harmonics that rise, and noise, both coming and going."""
    time = torch.arange(shape[-1], dtype=torch.float64) / 16_000
    cycles = 120 * time + 40 * time**2
    voiced = sum(torch.sin(2 * torch.pi * k * cycles) / k for k in range(1, 12)) * torch.sin(5 * time).square()
    return (voiced + 0.2 * torch.cos(9 * time) * _normal(shape)).float()
