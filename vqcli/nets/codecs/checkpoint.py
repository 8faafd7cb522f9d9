"""What a family makes a model of, where it knows other people's checkpoints.

A family that does has a function beside its class:

    def from_checkpoint(checkpoint: Checkpoint) -> Imported | None

which gives None for a checkpoint of another kind, and raises ModelError for one of its own that it cannot use. Reading
files is the business of zoo/checkpoints.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

WEIGHT_NORM = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by their names in the file, and the configuration beside it, {} without one."""

    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Imported:
    """Arguments of a family and the weights of its net, by the names that its `state_dict` has for them.

    citation  of the paper, for the card
    """

    arguments: dict[str, Any]
    tensors: dict[str, Tensor]
    citation: str


def modern(name: str) -> str:
    """A tensor's name with the two of an older weight norm called as torch calls them since 2.0."""
    parts = name.rpartition(".")
    return f"{parts[0]}.{WEIGHT_NORM[parts[2]]}" if parts[2] in WEIGHT_NORM else name
