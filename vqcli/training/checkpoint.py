"""The state of a run as one safetensors file: weights, buffers, averages, optimizer; counters as JSON in its header.

The file is replaced as a whole, so a kill at any moment leaves the last good one. `best.safetensors` holds the
weights alone, of the best validation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from vqcli.errors import BadFile
from vqcli.files import replacing
from vqcli.training.ema import EMA

NAME = "checkpoint.safetensors"
BEST = "best.safetensors"

_BROKEN = (OSError, SafetensorError, KeyError, RuntimeError, ValueError)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, also those that are not in a model file."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def write(
    folder: Path, module: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer, metadata: dict[str, Any]
) -> None:
    """Write the whole state; `metadata` are the counters and the recipe."""
    tensors = {f"module.{name}": tensor for name, tensor in tensors_of(module).items()}
    tensors |= {f"average.{name}": tensor for name, tensor in ema.tensors.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    _write(folder / NAME, tensors, metadata)


def read(folder: Path, module: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load module, averages and optimizer from the checkpoint of `folder`, and return its counters."""
    try:
        with safe_open(folder / NAME, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            counters: dict[str, Any] = json.loads(file.metadata()["counters"])
        _fill(tensors_of(module), tensors, "module.")
        _fill(ema.tensors, tensors, "average.")
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    except _BROKEN as error:
        raise BadFile(f"{folder / NAME} cannot resume this run: {error}", "start a new run with another name") from None
    return counters


def write_best(folder: Path, module: nn.Module) -> None:
    _write(folder / BEST, tensors_of(module), {})


def read_best(folder: Path, module: nn.Module) -> None:
    """Load the best weights of the run into the module. Raises BadFile if they do not fit."""
    try:
        _fill(tensors_of(module), load_file(folder / BEST), "")
    except _BROKEN as error:
        raise BadFile(f"{folder / BEST} does not hold the weights of this run: {error}") from None


def metadata_of(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recipe and the counters of the run in `folder`. Raises BadFile."""
    try:
        with safe_open(folder / NAME, "np") as file:
            metadata = file.metadata()
            return json.loads(metadata["recipe"]), json.loads(metadata["counters"])
    except _BROKEN as error:
        raise BadFile(
            f"{folder / NAME} is not a checkpoint of vq: {error}", "start a new run with another name"
        ) from None


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path, force=True) as stream:
        stream.write(save(tensors, {name: json.dumps(value) for name, value in metadata.items()}))


@torch.no_grad()
def _fill(into: dict[str, Tensor], tensors: dict[str, Tensor], prefix: str) -> None:
    for name, tensor in into.items():
        tensor.copy_(tensors[prefix + name])
