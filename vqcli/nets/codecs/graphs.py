"""What of a codec runs without vq: its encoder and decoder as functions of tensors, with names, shapes and examples.

Graphs are made from them by tracing (zoo/exporting.py), for signals of any size, so a function has no loop over parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from vqcli.nets.codecs.base import ImageCodec
    from vqcli.nets.codecs.waveform import WaveformCodec

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


def of_images(net: ImageCodec, levels: int) -> Graphs:
    """Of any codec of images, with its first levels."""
    n = sum(net.level_codebooks[:levels])
    low, high = net.value_range

    def encode(x: Tensor, quality: Tensor | None = None) -> tuple[Tensor, ...]:
        return (net.quantize(net.latents(x), quality)[:, :n],)

    def decode(code: Tensor, quality: Tensor | None = None) -> tuple[Tensor, ...]:
        return (net.decode(code, quality),)

    image = Port(
        "image",
        (BATCH, net.channels, Axis("rows", net.stride), Axis("columns", net.stride)),
        torch.float32,
        f"{'grey' if net.channels == 1 else 'red, green and blue'}, black at {low:g}, white at {high:g}",
        (low, high),
        lambda shape: _smooth(shape) * (high - low) + low,
    )
    code = codes(n, max(net.codebook_sizes[:n]), ROWS, COLUMNS)
    quality = _quality(net) if net.qualities else ()
    return Graphs(Graph(encode, (image, *quality), (code,)), Graph(decode, (code, *quality), (image,)))


def _quality(net: ImageCodec) -> tuple[Port]:
    steps = net.qualities * max(1, len(net.tunes))
    about = f"1 the smallest file, {net.qualities} the best image, and what is between"
    for number, tune in enumerate(net.tunes[1:], 1):
        about += f"; {number * net.qualities + 1} to {(number + 1) * net.qualities} the same of --tune {tune}"
    middle = min((net.qualities + 1) / 2 + 0.25, steps)
    return (Port("quality", (BATCH,), torch.float32, about, (1, steps), lambda shape: torch.full(shape, middle)),)


def of_waveforms(net: WaveformCodec, levels: int) -> Graphs:
    """Of any codec of plain waveforms, with its first levels."""
    n = sum(net.level_codebooks[:levels])
    code = codes(n, max(net.codebook_sizes[:n]), POSITIONS)
    wave = waveform((BATCH, 1, Axis("positions", net.stride)), net.rate_hz)
    return Graphs(
        Graph(lambda x: (net.encode(x)[:, :n],), (wave,), (code,)),
        Graph(lambda x: (net.decode(x),), (code,), (wave,)),
    )


def waveform(shape: tuple[Axis | int, ...], rate_hz: int, about: str = "samples") -> Port:
    return Port("wave", shape, torch.float32, f"{about} of {rate_hz} Hz", (-1, 1), lambda size: 0.1 * _hum(size))


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
