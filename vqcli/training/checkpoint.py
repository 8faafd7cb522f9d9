"""The state of a run as one safetensors file: weights, buffers, averages, optimizer; counters as JSON in its header.

The file is replaced as a whole, so a kill at any moment leaves the last good one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from vqcli.errors import BadFile
from vqcli.files import replacing

NAME = "checkpoint.safetensors"


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, also those that a model file does without."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def write(
    folder: Path,
    modules: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    counters: dict[str, Any],
) -> None:
    tensors = {f"module.{name}": tensor for name, tensor in tensors_of(modules).items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(folder / NAME, force=True) as stream:
        stream.write(save(tensors, {"counters": json.dumps(counters)}))


def read(
    folder: Path, modules: nn.Module, average: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Fill everything from the checkpoint of `folder` and return its counters."""
    try:
        with safe_open(folder / NAME, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            counters = json.loads(file.metadata()["counters"])
        with torch.no_grad():
            for name, tensor in tensors_of(modules).items():
                tensor.copy_(tensors[f"module.{name}"])
            for name, tensor in average.items():
                tensor.copy_(tensors[f"average.{name}"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    except (OSError, SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise BadFile(
            f"{folder / NAME} does not continue this run: {error}", "start a new run with another name"
        ) from None
    return counters
