"""Layers that see a signal part by part, with outputs as of the whole.

A layer is called with its input and a `Stream`, in which it keeps what it needs of the parts before. One that looks
ahead gives fewer frames for the first part, and the others with the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Stream:
    """What layers keep of the parts of a signal that they have seen.

    first, last  whether the part at hand begins and ends the signal
    """

    first: bool = True
    last: bool = False
    kept: dict[nn.Module, Any] = field(default_factory=dict)

    def joined(self, layer: nn.Module, x: Tensor) -> Tensor:
        """x [..., N] behind the frames that a layer kept of the parts before."""
        before = self.kept.get(layer)
        return x if before is None or not before.shape[-1] else torch.cat([before, x], -1)

    def keep(self, layer: nn.Module, past: Callable[[], Any]) -> None:
        """Keep for the next part, if there is one, what `past` gives."""
        if not self.last:
            self.kept[layer] = past()


def whole() -> Stream:
    """Of a signal that is one part."""
    return Stream(last=True)


def through(layers: Iterable[nn.Module], x: Tensor, stream: Stream) -> Tensor:
    for layer in layers:
        x = layer(x, stream)
    return x
