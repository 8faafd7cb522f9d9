"""Where the time of a training step goes."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch.profiler import ProfilerActivity, record_function

from vqcli.data.source import Given
from vqcli.nets.layers.quantizer import Quantizer
from vqcli.recipe import Recipe
from vqcli.training import autotune, loop, run
from vqcli.training.budget import TRIAL_SECONDS
from vqcli.training.log import RunLog

PHASES = ("data", "forward", "quantizer", "backward", "optimizer", "logging")
REST = "the rest"
WARM_UP = 3  # steps that are not measured
OPERATORS = 8


@dataclass(frozen=True)
class Profile:
    """Shares of the wall time of a step, 0 .. 1, by phase and by operator of torch, largest first.

    Operators lie within phases; on a GPU their shares are of its time, and phases are those of the processor.
    """

    what: str
    settings: autotune.Settings
    steps: int
    step_s: float
    phases: dict[str, float]
    operators: dict[str, float]


def profile(
    recipe: Recipe, data: Given, *, device: str = "auto", threads: int | None = None, steps: int = 20
) -> Profile:
    """Measure `steps` steps of a run without output. Raises UsageError as `run.run` does."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler prints its own messages
    place = run.join(device)
    prepared = run.prepare(recipe, data, place)
    settings = autotune.choose(prepared.task, prepared.dataset, place, TRIAL_SECONDS, threads=threads or 0)
    for module in prepared.task.modules():
        if isinstance(module, Quantizer):
            _mark(module, "quantizer")
    _train(prepared, settings, place, WARM_UP)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (place.type == "cuda")
    with torch.profiler.profile(activities=activities) as profiler:
        _train(prepared, settings, place, steps)
    spans = [event.time_range for event in profiler.events() or () if event.name in PHASES]
    seconds = (max(span.end for span in spans) - min(span.start for span in spans)) / 1e6
    return _summed(profiler.key_averages(), prepared, settings, steps, seconds)


def _train(prepared: run.Prepared, settings: autotune.Settings, device: torch.device, steps: int) -> None:
    options = msgspec.structs.replace(prepared.task.recipe.optimization, steps=steps)
    prepared.task.recipe = msgspec.structs.replace(prepared.task.recipe, optimization=options)
    state = loop.State(threads=settings.threads, precision=settings.precision)
    with tempfile.TemporaryDirectory() as folder, RunLog(Path(folder), None) as log:
        loop.train(prepared.task, prepared.dataset, None, Path(folder), state, log, device=device)


def _mark(module: torch.nn.Module, name: str) -> None:
    """Record the time in the module's forward as a phase `name`."""
    phases: list[Any] = []

    def enter(*_: Any) -> None:
        phases.append(record_function(name).__enter__())

    def leave(*_: Any) -> None:
        phases.pop().__exit__(None, None, None)

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave)


def _summed(averages: Any, prepared: run.Prepared, settings: autotune.Settings, steps: int, seconds: float) -> Profile:
    microseconds = {row.key: row.cpu_time_total for row in averages if row.key in PHASES}
    phases = {name: microseconds.get(name, 0.0) / 1e6 / seconds for name in PHASES}
    phases["forward"] -= phases["quantizer"]  # it is part of the forward pass
    phases[REST] = max(0.0, 1 - sum(phases.values()))
    by_device = any(row.self_device_time_total for row in averages)
    attribute = "self_device_time_total" if by_device else "self_cpu_time_total"
    operators = {row.key: getattr(row, attribute) for row in averages if row.key not in PHASES}
    total = sum(operators.values()) or 1.0
    largest = sorted(operators, key=lambda name: -operators[name])[:OPERATORS]
    shares = {name.removeprefix("aten::"): operators[name] / total for name in largest}
    return Profile(str(prepared), settings, steps, seconds / steps, phases, shares)
