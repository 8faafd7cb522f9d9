"""The state of a run as a safetensors file: weights, buffers, averages, optimizer; counters as JSON in its header.

The file is replaced as a whole, so a kill at any moment leaves the last good one; the one before it is kept, and has
its turn where the last one is damaged. `best.safetensors` holds the weights alone, of the best validation.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from vqcli.errors import BadFile
from vqcli.files import replacing
from vqcli.training import sealed
from vqcli.training.ema import EMA

NAME = "checkpoint.safetensors"
PREVIOUS = "previous.safetensors"
BEST = "best.safetensors"

_BROKEN = (OSError, SafetensorError, KeyError, IndexError, AttributeError, TypeError, RuntimeError, ValueError)


@dataclass
class State:
    """Counters of a run, over all its sessions."""

    step: int = 0
    seconds: float = 0.0
    data: list[str] = field(default_factory=list)  # paths of the data of the last session
    items: int = 0  # in the training data; 0 where it was not counted yet
    threads: int = 0  # of torch; another number of threads sums floats in another order
    precision: str = "float32"
    budget_s: float | None = None  # of the whole run
    start: dict[str, Any] | None = None  # the model whose weights the run started from (warm_start.py)
    classes: list[str] | None = None
    best: float = math.inf  # loss, or bits/dim, of the best validation
    best_step: int = 0
    worse: int = 0  # validations since then
    usage: float | None = None


@dataclass(frozen=True)
class Checkpoint:
    """The last sound checkpoint of a run; `remarks` say what it takes the place of, and what else is damaged."""

    path: Path
    recipe: dict[str, Any]
    counters: dict[str, Any]
    remarks: tuple[str, ...]


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, also those that are not in a model file."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def write(
    folder: Path, module: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer, metadata: Mapping[str, Any]
) -> None:
    """Write the whole state; `metadata` are the counters and the recipe. The last file becomes the previous one."""
    tensors = {f"module.{name}": tensor for name, tensor in tensors_of(module).items()}
    tensors |= {f"average.{name}": tensor for name, tensor in ema.tensors.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    with replacing(folder / NAME, force=True) as stream:
        sealed.write(stream, tensors, metadata)
        stream.flush()
        os.fsync(stream.fileno())  # from here on the last one may go
        if _damage(folder / NAME) is None:  # a damaged one must not take the place of a sound one
            (folder / NAME).replace(folder / PREVIOUS)


def exists(folder: Path) -> bool:
    """Whether a run began in `folder`."""
    return (folder / NAME).is_file() or (folder / PREVIOUS).is_file()


def last(folder: Path) -> Checkpoint:
    """The checkpoint from which the run in `folder` goes on. Raises BadFile if there is no sound one."""
    wrong: list[str] = []
    for path in (folder / NAME, folder / PREVIOUS):
        if not path.exists() and (wrong or path.name == PREVIOUS):
            continue
        try:
            recipe, counters = _metadata(path)
        except (OSError, ValueError) as error:
            wrong.append(f"{path} is not a checkpoint of vq: {_reason(error)}")
            continue
        remarks = [f"{line}; the run goes on from {path.name}, step {counters['step']}" for line in wrong]
        if math.isfinite(counters.get("best", math.inf)) and (damage := _damage(folder / BEST)) is not None:
            remarks.append(f"{folder / BEST} is damaged: {damage}; the best weights are those of validations to come")
            counters |= {"best": math.inf, "best_step": 0, "worse": 0}
        return Checkpoint(path, recipe, counters, tuple(remarks))
    raise BadFile(wrong[0], "start a new run with another name")


def read(folder: Path, module: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load module, averages and optimizer from the last sound checkpoint of `folder`, and return its counters."""
    found = last(folder)
    try:
        tensors, _ = sealed.read(found.path)
        _fill(tensors_of(module), tensors, "module.")
        _fill(ema.tensors, tensors, "average.")
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    except _BROKEN as error:
        raise BadFile(f"{found.path} cannot resume this run: {error}", "start a new run with another name") from None
    return found.counters


def write_best(folder: Path, module: nn.Module) -> None:
    with replacing(folder / BEST, force=True) as stream:
        sealed.write(stream, tensors_of(module), {})


def read_best(folder: Path, module: nn.Module) -> None:
    """Load the best weights of the run into the module. Raises BadFile if they do not fit."""
    try:
        _fill(tensors_of(module), sealed.read(folder / BEST)[0], "")
    except _BROKEN as error:
        raise BadFile(
            f"{folder / BEST} does not hold the weights of this run: {error}", "--resume ends the run without them"
        ) from None


def weights_of(folder: Path) -> dict[str, Tensor]:
    """The best weights of the run in `folder`; if it was never validated, its averages, which would be the model."""
    found = last(folder)
    try:
        if (folder / BEST).exists():
            return sealed.read(folder / BEST)[0]
        stored, _ = sealed.read(found.path)
    except _BROKEN as error:
        raise BadFile(f"the weights of the run in {folder} cannot be read: {error}") from None
    return {
        key.removeprefix(part): stored[key] for part in ("module.", "average.") for key in stored
        if key.startswith(part)
    }  # fmt: skip


def metadata_of(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recipe and the counters of the run in `folder`. Raises BadFile."""
    found = last(folder)
    return found.recipe, found.counters


def _metadata(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Recipe and counters of a sound checkpoint. Raises ValueError, or OSError."""
    metadata = sealed.verify(path)
    recipe, counters = metadata.get("recipe"), metadata.get("counters")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("model"), dict):
        raise ValueError("it names no recipe")
    if not isinstance(counters, dict) or "step" not in counters:
        raise ValueError("it has no counters")
    msgspec.convert(counters, State)
    return recipe, counters


def _damage(path: Path) -> str | None:
    """What is wrong with a file, None if nothing is."""
    try:
        sealed.verify(path)
    except (OSError, ValueError) as error:
        return _reason(error)
    return None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


@torch.no_grad()
def _fill(into: dict[str, Tensor], tensors: dict[str, Tensor], prefix: str) -> None:
    for name, tensor in into.items():
        if tensors[prefix + name].shape != tensor.shape:
            raise ValueError(f"{name} has another shape")
        tensor.copy_(tensors[prefix + name])
