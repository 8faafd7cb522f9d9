"""Precision and threads of a run, chosen by timing real steps: what is fast depends on the net and on the processor.

bfloat16 takes less time than float32 on processors with units for it, and several times as long on others.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from vqcli.nets.layers import distributed
from vqcli.training import optimizers
from vqcli.training.datasets.base import DataSet
from vqcli.training.tasks.base import Task

STEPS = 3  # timed for each setting, after an untimed one
FEW = 2  # items that are tried first; normalisation over a batch wants more than one
TOO_SLOW = 2  # times as long as a few items of float32: not timed any further
FASTER = 0.9  # a setting must take less than this share of the time of a simpler one
PLANNED = 12  # steps of float32 in all that must fit into the time limit


@dataclass(frozen=True)
class Settings:
    """Threads of torch (0: unchanged) and precision of a run.

    seconds  of a step, or of `items` items where a whole batch takes too long to try, by setting; extrapolated
             from a few items for a precision that is slow on these
    """

    threads: int
    precision: str
    items: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        tried = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in self.seconds.items())
        return f"{_name(self.precision, self.threads)}" + f" (for {self.items} items: {tried})" * bool(tried)


def choose(
    task: Task,
    dataset: DataSet,
    device: torch.device,
    limit_s: float,
    *,
    threads: int = 0,
    progress: Callable[[float, str], None] = lambda share, note: None,
) -> Settings:
    """The fastest precision and number of threads for the steps of `task`, timed within `limit_s` seconds.

    A precision named by the recipe and given `threads` are kept. What there is no time to try is not chosen. On a GPU
    threads do not matter; under torchrun, which sets the threads of each process, their number is unchanged. The task
    itself is not changed; torch is left with the chosen threads.
    """
    precision = task.recipe.optimization.precision
    counts = _thread_counts(device, threads)
    first = "float32" if precision == "auto" else precision
    if precision != "auto" and len(counts) == 1:
        _use(counts[0])
        return Settings(counts[0], precision)
    _use(counts[0])
    trial = _Trial(task, dataset, device, limit_s)
    progress(0.0, "timing precisions and threads")
    best: tuple[float, int] | None = None
    for count in counts:
        seconds = trial.time(first, count)
        if seconds is not None and (best is None or seconds < FASTER * best[0]):
            best = seconds, count
    chosen = Settings(best[1] if best else counts[-1], first)
    if precision == "auto" and best is not None:
        seconds = trial.time("bfloat16", chosen.threads)
        if seconds is not None and seconds < FASTER * best[0]:
            chosen = Settings(chosen.threads, "bfloat16")
    _use(chosen.threads)
    return Settings(chosen.threads, chosen.precision, trial.items, trial.seconds)


class _Trial:
    """A copy of a task whose steps are timed within the time limit.

    The clock of the first process decides for all.
    """

    def __init__(self, task: Task, dataset: DataSet, device: torch.device, limit_s: float) -> None:
        self._device, self._end = device, time.monotonic() + limit_s
        self.seconds: dict[str, float] = {}
        data, options = task.recipe.data, task.recipe.optimization
        self._task = copy.deepcopy(task).train()
        learned = [parameter for parameter in self._task.parameters() if parameter.requires_grad]
        self._optimizer = optimizers.build(learned, options)
        batch = dataset.batch(data, options.seed, 0, data.batch)
        self._batch = batch.part(0, max(1, data.batch // options.accumulate))
        self._few = self.items = min(FEW, len(self._batch))
        self._step("float32", self._few)
        self._item_s = self._step("float32", self._few) / self._few
        # as many items as there will be time for
        left_s = distributed.from_first(self._end - time.monotonic())
        affordable = int(left_s / (PLANNED * max(self._item_s, 1e-9)))
        self.items = min(len(self._batch), max(self._few, affordable))

    def time(self, precision: str, threads: int) -> float | None:
        """Seconds of a step, None if there is no time to measure it."""
        _use(threads)
        expected = self._item_s * self.items
        if precision != "float32":
            # without units for it this may take ten times as long, so a few items are tried first
            if self.seconds and self._late(3 * self._item_s * self._few):
                return None
            expected = self._step(precision, self._few) / self._few * self.items
        best = expected
        if expected < TOO_SLOW * self._item_s * self.items or not self.seconds:
            if self._late(expected) and self.seconds:
                return None
            best = self._step(precision, self.items)
            for _ in range(STEPS):
                if self._late(best):
                    break
                best = min(best, self._step(precision, self.items))
        self.seconds[_name(precision, threads)] = best
        return best

    def _late(self, seconds: float) -> bool:
        """Whether less than `seconds` are left."""
        return distributed.from_first(self._end - time.monotonic()) < seconds

    def _step(self, precision: str, items: int) -> float:
        x = self._task.as_input(self._batch.part(0, items), self._device)
        begun = time.monotonic()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = self._task(*x)
        self._optimizer.zero_grad(set_to_none=True)
        loss.value.backward()
        self._optimizer.step()
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return distributed.from_first(time.monotonic() - begun)


def _thread_counts(device: torch.device, threads: int) -> tuple[int, ...]:
    if threads:
        return (threads,)
    if device.type != "cpu" or distributed.world() > 1:
        return (0,)
    cores = os.cpu_count() or 1
    return (1,) if cores == 1 else (1, 2) if cores < 4 else (1, 2, cores // 2)


def _use(threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)


def _name(precision: str, threads: int) -> str:
    return precision + f" on {threads} thread{'s' * (threads != 1)}" * bool(threads)
