"""The training loop: `train` has the order of events, `Session` the steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.profiler import record_function as phase

from vqcli.errors import VqError
from vqcli.nets.layers import distributed
from vqcli.training import checkpoint, optimizers
from vqcli.training.budget import Budget
from vqcli.training.checkpoint import State
from vqcli.training.datasets.base import DataSet, Items
from vqcli.training.ema import EMA
from vqcli.training.log import RunLog
from vqcli.training.tasks.base import Task
from vqcli.training.validation import Validation

CHECKPOINT_SECONDS = 120
LEAST_USAGE = 0.25  # of a codebook; below it, the run warns


@dataclass
class Progress:
    """Progress of a run, passed to its `progress` callback every few steps."""

    step: int
    steps: int
    seconds: float
    share: float  # of the run, 0 .. 1; by time if the run has a time budget
    items_per_second: float = 0.0
    terms: dict[str, float] = field(default_factory=dict)
    usage: float | None = None  # lowest usage of a codebook over the last epoch, 0 .. 1
    note: str = ""  # what the run is doing before its first step

    def __str__(self) -> str:
        """One line for the terminal."""
        if self.note:
            return self.note
        terms = "  ".join(f"{name} {value:.4g}" for name, value in self.terms.items())
        used = f"  codes used {self.usage:.0%}" if self.usage is not None else ""
        return f"step {self.step}  {terms}{used}  {self.items_per_second:.0f} items/s"


class Sitting(TypedDict, total=False):
    """What `train` may be given: go on from the checkpoint, the time there is, threads that read data, a callback."""

    resume: bool
    budget: Budget | None
    workers: int | None
    progress: Callable[[Progress], None]


def train(
    task: Task,
    dataset: DataSet,
    validation: Validation | None,
    folder: Path,
    state: State,
    log: RunLog | None,
    *,
    device: torch.device,
    **sitting: Unpack[Sitting],
) -> None:
    """Train `task` by its recipe; its best weights are in place when this returns.

    Of several processes only the first has a `log`, and writes. The state goes to `folder` every few minutes and at the
    end. With a `budget` the schedule follows the clock and ends when the last validation and the export still fit into
    it, or after the recipe's steps if they come first. Weights that came from a model are validated before the first
    step, so that the run never ends with worse ones. Interrupting saves the state, then raises on. Raises VqError if
    the loss stops being finite or memory runs out; the last checkpoint is then good.
    """
    progress = sitting.get("progress", lambda state: None)
    session = Session(task, dataset, validation, folder, state, log, device, progress)
    session.open(sitting.get("resume", False), sitting.get("budget"), sitting.get("workers"))
    options = task.recipe.optimization
    task.train()
    if state.start and not state.step and validation is not None:
        validate(task, validation, folder, state, log)
    try:
        while True:
            share = session.share()
            # a step is taken however short the time
            if (share >= 1 and state.step) or (options.patience and state.worse >= options.patience):
                break
            learning_rate = session.step(share)
            session.log_step(share, learning_rate)
            if state.step % options.validate_every == 0 and validation is not None:
                with session.ema.in_place():
                    validate(task, validation, folder, state, log)
                session.meter.restart()
            session.save_if_due()
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
            raise
        raise out_of_memory(task.recipe.data.batch, options.accumulate) from None
    finally:
        session.close()
    session.finish()


@dataclass
class Session:
    """One session of a run, from its start or its checkpoint: optimizer, batches, clock, and the steps in the loop."""

    task: Task
    dataset: DataSet
    validation: Validation | None
    folder: Path
    state: State
    log: RunLog | None
    device: torch.device
    progress: Callable[[Progress], None]

    def open(self, resume: bool, budget: Budget | None, workers: int | None) -> None:
        """Make the optimizer and the batches, from the checkpoint if the run is resumed, and start the clock."""
        task, state, options, data = self.task, self.state, self.task.recipe.optimization, self.task.recipe.data
        self.learned = [parameter for parameter in task.parameters() if parameter.requires_grad]
        self.optimizer = optimizers.build(self.learned, options)
        self.ema = EMA(task, options.average)
        if resume:
            now = {name: getattr(state, name) for name in ("threads", "precision", "budget_s", "data", "items")}
            vars(state).update(checkpoint.read(self.folder, task, self.ema, self.optimizer) | now)
        self.batches: Generator[Items, None, None] = self.dataset.batches(
            data, options.seed, state.step, rank=distributed.rank(), world=distributed.world(), workers=workers
        )
        self.items = data.batch * distributed.world()  # in a step
        self.log_every = max(1, min(50, options.steps // 20))
        self.epoch_steps = max(self.log_every, math.ceil(len(self.dataset) / self.items))
        self.meter = Meter()
        self.clock = Clock(state.seconds)
        self.step_s = 0.0
        self.end_s = state.seconds + budget.training_left_s if budget else math.inf

    def share(self) -> float:
        """How much of the run is done, 0 .. 1: by steps, or by the clock if that is further on."""
        validation, step_s, steps = self.validation, self.step_s, self.task.recipe.optimization.steps
        self.begun_s = self.clock.seconds
        ending_s = step_s / 2 + (validation.seconds_of(step_s) if validation is not None else 0)
        spent = self.begun_s / max(self.end_s - ending_s, 1e-9)
        return distributed.from_first(min(1.0, max(self.state.step / steps, spent)))

    def step(self, share: float) -> float:
        """One step of the optimizer; returns its learning rate."""
        task, state, options = self.task, self.state, self.task.recipe.optimization
        learning_rate = options.learning_rate * min(1, (state.step + 1) / max(options.warmup, 1))
        if options.schedule == "cosine":
            learning_rate *= cosine(share)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        torch.manual_seed(options.seed * 2**32 + state.step)  # noise and revival follow the step, as the data do
        reduced = state.precision == "bfloat16" and share < 1 - options.full_precision_share
        self.optimizer.zero_grad(set_to_none=True)
        with phase("data"):
            batch = next(self.batches)
        for part in parts(batch, options.accumulate):
            with phase("forward"), torch.autocast(self.device.type, torch.bfloat16, enabled=reduced):
                loss = task(*task.as_input(part, self.device))
            with phase("backward"):
                (loss.value / options.accumulate).backward()
            with phase("logging"):
                self.meter.add({"loss": loss.value, **loss.terms}, len(part))
                if loss.codes is not None and task.codebook_sizes:
                    task.count(loss.codes)
        with phase("optimizer"):
            distributed.average_gradients(self.learned)
            norm = nn.utils.clip_grad_norm_(self.learned, options.clip or math.inf)
            self.optimizer.step()
            state.step += 1
            self.ema.update(state.step)
        self.meter.add({"gradient_norm": norm})
        self.step_s = self.clock.seconds - self.begun_s
        return learning_rate

    def log_step(self, share: float, learning_rate: float) -> None:
        """Log codebook usage at the end of an epoch, and the means of the terms every few steps."""
        state, steps = self.state, self.task.recipe.optimization.steps
        if state.step % self.epoch_steps == 0 and self.task.codebook_sizes:
            epoch = state.step * self.items // len(self.dataset)
            state.usage = close_epoch(self.task, state.step, self.log, epoch)
        if state.step % self.log_every == 0:
            means, speed = self.meter.close()
            if not all(map(math.isfinite, means.values())):
                self.meter.diverged = True
                raise not_finite(state.step)
            if self.log is not None:
                self.log.train(state.step, self.clock.seconds, learning_rate, speed, means)
            self.progress(Progress(state.step, steps, self.clock.seconds, share, speed, means, state.usage))

    def save_if_due(self) -> None:
        if self.clock.since_saved > CHECKPOINT_SECONDS and self.meter.finite:
            self.save()
            self.clock.saved()

    def save(self) -> None:
        self.state.seconds = self.clock.seconds
        if self.log is not None:
            metadata = {"counters": vars(self.state), "recipe": self.task.recipe.to_dict()}
            checkpoint.write(self.folder, self.task, self.ema, self.optimizer, metadata)

    def close(self) -> None:
        """Stop reading data, and save the state; a state with values that are not finite is not saved."""
        self.batches.close()
        if self.state.step and self.meter.finite:
            self.save()

    def finish(self) -> None:
        """Validate the averaged weights, and put the best ones into the task."""
        task, state = self.task, self.state
        with torch.no_grad():
            for name, parameter in self.ema.learned.items():
                parameter.copy_(self.ema.tensors[name])
        if self.validation is not None and state.step % task.recipe.optimization.validate_every:
            validate(task, self.validation, self.folder, state, self.log)
        if self.log is not None:
            if math.isfinite(state.best):
                checkpoint.read_best(self.folder, task)
            self.log.end(state.step, self.clock.seconds)
        task.eval()


def validate(task: Task, validation: Validation, folder: Path, state: State, log: RunLog | None) -> None:
    """Validate the weights in place, save them if they are the best so far, and log reconstructions of some items."""
    if log is not None:
        terms = validation.measure(task)
        # models with a likelihood compare by bits/dim: the quantizer's terms in the loss grow as latents grow
        value = terms.get("bits_per_dim", terms["loss"])
        best = value < state.best
        if best:
            state.best, state.best_step, state.worse = value, state.step, 0
            checkpoint.write_best(folder, task)
        else:
            state.worse += 1
        log.validation(state.step, terms, best)
        shown = validation.show(task)
        if shown is not None:
            log.images(state.step, *shown)
    state.worse = int(distributed.from_first(state.worse))


def close_epoch(task: Task, step: int, log: RunLog | None, epoch: int) -> float:
    """Log the usage and perplexity of each codebook over the epoch, and return the lowest usage."""
    counts = distributed.summed(task.usage).double()
    p = counts / counts.sum(1, keepdim=True).clamp_min(1)
    perplexity = torch.exp(-torch.xlogy(p, p).sum(1))
    sizes = torch.tensor(task.codebook_sizes, device=counts.device)
    usage = (counts > 0).sum(1) / sizes
    task.usage.zero_()
    least = float(usage.min())
    if log is not None:
        log.epoch(step, epoch, usage.tolist(), perplexity.tolist())
        if least < LEAST_USAGE:
            log.alarm(step, f"only {least:.0%} of a codebook is in use: raise quantizer.revive, or update = ema")
    return least


def parts(batch: Items, count: int) -> Iterator[Items]:
    """A batch cut into `count` equal parts."""
    size = len(batch) // count
    for start in range(0, size * count, size):
        yield batch.part(start, start + size)


def cosine(share: float) -> float:
    """Factor of the learning rate at this share of the run: a cosine from 1 to 0.01."""
    return 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * share))


def not_finite(step: int) -> VqError:
    return VqError(
        f"the loss is not finite at step {step}; the last good state is saved",
        "--set optimization.learning_rate to a third, or optimization.precision=float32, and start again or --resume",
    )


def out_of_memory(batch: int, accumulate: int) -> VqError:
    return VqError(
        f"a batch of {batch} in {accumulate} part{'s' * (accumulate > 1)} does not fit into memory",
        f"--set optimization.accumulate={2 * accumulate} gives the same result in less memory; "
        f"--set data.batch={max(1, batch // 2)} and a smaller data.crop help too",
    )


class Meter:
    """Means of the terms since the last log line, summed on the device: reading them each step would stall a GPU."""

    diverged = False

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.items, self.begun = 0, time.monotonic()

    def add(self, terms: dict[str, Tensor], items: int = 0) -> None:
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + term.detach().float()
            self.counts[name] = self.counts.get(name, 0) + 1
        self.items += items

    @property
    def finite(self) -> bool:
        """Whether all terms since the last log line were finite."""
        return not self.diverged and all(bool(torch.isfinite(value)) for value in self.sums.values())

    def close(self) -> tuple[dict[str, float], float]:
        """Means of the terms and items per second, over all ranks; restarts."""
        sums = distributed.summed(torch.stack(list(self.sums.values()))).tolist()
        means = {
            name: total / (self.counts[name] * distributed.world()) for name, total in zip(self.sums, sums, strict=True)
        }
        speed = self.items * distributed.world() / max(time.monotonic() - self.begun, 1e-9)
        self.restart()
        return means, speed


class Clock:
    """Seconds of training over all sessions, and since the last checkpoint of this one."""

    def __init__(self, before: float) -> None:
        self._zero = time.monotonic() - before
        self.saved()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._zero

    @property
    def since_saved(self) -> float:
        return time.monotonic() - self._saved

    def saved(self) -> None:
        self._saved = time.monotonic()
