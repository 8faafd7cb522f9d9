"""The training loop, read top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function as phase

from vqcli.errors import VqError
from vqcli.nets.layers import distributed
from vqcli.training import checkpoint
from vqcli.training.budget import Budget
from vqcli.training.datasets.base import DataSet, Items
from vqcli.training.ema import Average
from vqcli.training.log import Journal
from vqcli.training.tasks.base import Task
from vqcli.training.validation import Validation

CHECKPOINT_SECONDS = 120
ALARM = 0.25  # of a codebook in use; below it, the run says so


@dataclass
class Progress:
    """What a run tells about itself every few steps."""

    step: int
    steps: int
    seconds: float
    share: float  # of the run, 0 .. 1; by time if the run has a time budget
    items_per_second: float = 0.0
    terms: dict[str, float] = field(default_factory=dict)
    usage: float | None = None  # share of the codes in use over the last epoch, of the group that uses least
    note: str = ""  # what it does before the first step

    def __str__(self) -> str:
        """The line for a person."""
        if self.note:
            return self.note
        terms = "  ".join(f"{name} {value:.4g}" for name, value in self.terms.items())
        used = f"  codes used {self.usage:.0%}" if self.usage is not None else ""
        return f"step {self.step}  {terms}{used}  {self.items_per_second:.0f} items/s"


@dataclass
class State:
    """Counters of a run, over all its sittings. They go into the checkpoint."""

    step: int = 0
    seconds: float = 0.0
    data: list[str] = field(default_factory=list)  # where the pictures lie
    threads: int = 0  # of torch; another number of them would sum floats in another order
    precision: str = "float32"
    budget_s: float | None = None  # of the whole run
    start: dict[str, Any] | None = None  # the model whose weights it began with (warm_start.py)
    classes: list[str] | None = None
    best: float = math.inf  # loss, or bits/dim, of the best validation
    best_step: int = 0
    worse: int = 0  # validations since then
    usage: float | None = None


def train(
    task: Task,
    dataset: DataSet,
    validation: Validation | None,
    folder: Path,
    state: State,
    journal: Journal | None,
    *,
    device: torch.device,
    resume: bool = False,
    budget: Budget | None = None,
    workers: int | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Train `task` by its recipe; its best weights are in place when this returns.

    Of several processes the first alone has a `journal`, and writes. The state goes to `folder` every few minutes and
    at the end. With a `budget` the schedule follows the clock and ends when the last validation and the export still
    fit into it, or after the recipe's steps if they come first. Weights that came from a model are judged before the
    first step, so that the run never ends with worse ones. Interrupting saves the state, then raises on. Raises VqError
    if the loss stops being finite or memory runs out; the last checkpoint is then good.

    It is long and takes all that a run has, so that the order of everything in a step can be read in one place.
    """
    recipe, options = task.recipe, task.recipe.optimization
    learned = [parameter for parameter in task.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=options.learning_rate, weight_decay=options.weight_decay, fused=True)
    average = Average(task, options.average)
    if resume:
        now = {name: getattr(state, name) for name in ("threads", "precision", "budget_s")}
        vars(state).update(checkpoint.read(folder, task, average, optimizer) | now)
    batches: Generator[Items, None, None] = dataset.batches(
        recipe.data, options.seed, state.step, rank=distributed.rank(), world=distributed.world(), workers=workers
    )
    items = recipe.data.batch * distributed.world()  # in a step
    log_every = max(1, min(50, options.steps // 20))
    epoch_steps = max(log_every, math.ceil(len(dataset) / items))
    meter = Meter()
    clock = Clock(state.seconds)
    step_s = 0.0
    end_s = state.seconds + budget.training_left_s if budget else math.inf

    def save() -> None:
        state.seconds = clock.seconds
        if journal is not None:
            checkpoint.write(folder, task, average, optimizer, {"counters": vars(state), "recipe": recipe.to_dict()})

    task.train()
    if state.start and not state.step and validation is not None:
        judge(task, validation, folder, state, journal)
    try:
        while True:
            begun_s = clock.seconds
            ending_s = step_s / 2 + (validation.seconds_of(step_s) if validation is not None else 0)
            spent = begun_s / max(end_s - ending_s, 1e-9)
            share = distributed.from_first(min(1.0, max(state.step / options.steps, spent)))
            # a step is taken however short the time
            if (share >= 1 and state.step) or (options.patience and state.worse >= options.patience):
                break
            learning_rate = options.learning_rate * min(1, (state.step + 1) / max(options.warmup, 1))
            if options.schedule == "cosine":
                learning_rate *= cosine(share)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            torch.manual_seed(options.seed * 2**32 + state.step)  # noise and revival follow the step, as the data do
            reduced = state.precision == "bfloat16" and share < 1 - options.full_precision_share
            optimizer.zero_grad(set_to_none=True)
            with phase("data"):
                batch = next(batches)
            for part in parts(batch, options.accumulate):
                with phase("forward"), torch.autocast(device.type, torch.bfloat16, enabled=reduced):
                    loss = task(*task.as_input(part, device))
                with phase("backward"):
                    (loss.value / options.accumulate).backward()
                with phase("logging"):
                    meter.add({"loss": loss.value, **loss.terms}, len(part))
                    if loss.codes is not None and task.codebook_sizes:
                        task.count(loss.codes)
            with phase("optimizer"):
                distributed.average_gradients(learned)
                norm = nn.utils.clip_grad_norm_(learned, options.clip or math.inf)
                optimizer.step()
                state.step += 1
                average.update(state.step)
            meter.add({"gradient_norm": norm})
            step_s = clock.seconds - begun_s

            if state.step % epoch_steps == 0 and task.codebook_sizes:
                state.usage = close_epoch(task, state.step, journal, state.step * items // len(dataset))
            if state.step % log_every == 0:
                means, speed = meter.close()
                if not all(map(math.isfinite, means.values())):
                    meter.spoilt = True
                    raise not_finite(state.step)
                if journal is not None:
                    journal.train(state.step, clock.seconds, learning_rate, speed, means)
                report(Progress(state.step, options.steps, clock.seconds, share, speed, means, state.usage))
            if state.step % options.validate_every == 0 and validation is not None:
                with average.in_place():
                    judge(task, validation, folder, state, journal)
                meter.restart()
            if clock.since_saved > CHECKPOINT_SECONDS and meter.sound:
                save()
                clock.saved()
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
            raise
        raise out_of_memory(recipe.data.batch, options.accumulate) from None
    finally:
        batches.close()
        if state.step and meter.sound:  # what is saved must be worth going on from
            save()
    with torch.no_grad():
        for name, parameter in average.learned.items():
            parameter.copy_(average.tensors[name])
    if validation is not None and state.step % options.validate_every:
        judge(task, validation, folder, state, journal)
    if journal is not None:
        if math.isfinite(state.best):
            checkpoint.read_best(folder, task)
        journal.end(state.step, clock.seconds)
    task.eval()


def judge(task: Task, validation: Validation, folder: Path, state: State, journal: Journal | None) -> None:
    """Validate the weights in place, keep them if they are the best so far, and draw what they make of pictures."""
    if journal is not None:
        terms = validation.measure(task)
        # of a likelihood, what it is for: latents that grow make the terms of a quantizer grow beside it
        judged = terms.get("bits_per_dim", terms["loss"])
        best = judged < state.best
        if best:
            state.best, state.best_step, state.worse = judged, state.step, 0
            checkpoint.write_best(folder, task)
        else:
            state.worse += 1
        journal.validation(state.step, terms, best)
        shown = validation.show(task)
        if shown is not None:
            journal.pictures(state.step, *shown)
    state.worse = int(distributed.from_first(state.worse))


def close_epoch(task: Task, step: int, journal: Journal | None, epoch: int) -> float:
    """Log how much of each codebook the epoch used, and return the least share."""
    counts = distributed.summed(task.usage).double()
    p = counts / counts.sum(1, keepdim=True).clamp_min(1)
    perplexity = torch.exp(-torch.xlogy(p, p).sum(1))
    sizes = torch.tensor(task.codebook_sizes, device=counts.device)
    usage = (counts > 0).sum(1) / sizes
    task.usage.zero_()
    least = float(usage.min())
    if journal is not None:
        journal.epoch(step, epoch, usage.tolist(), perplexity.tolist())
        if least < ALARM:
            journal.alarm(step, f"only {least:.0%} of a codebook is in use: raise quantizer.revive, or update = ema")
    return least


def parts(batch: Items, count: int) -> Iterator[Items]:
    """A batch cut into so many equal parts."""
    size = len(batch) // count
    for start in range(0, size * count, size):
        yield batch.part(start, start + size)


def cosine(share: float) -> float:
    """Learning rate, as a share of the largest, at this share of the run: a cosine that ends at a hundredth."""
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
    """Means of the terms since the last report, summed on the device: reading them each step would stop a GPU."""

    spoilt = False

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
    def sound(self) -> bool:
        """Whether everything since the last report was finite."""
        return not self.spoilt and all(bool(torch.isfinite(value)) for value in self.sums.values())

    def close(self) -> tuple[dict[str, float], float]:
        """Means of the terms, and items per second, over all ranks; begins anew."""
        sums = distributed.summed(torch.stack(list(self.sums.values()))).tolist()
        means = {
            name: total / (self.counts[name] * distributed.world()) for name, total in zip(self.sums, sums, strict=True)
        }
        speed = self.items * distributed.world() / max(time.monotonic() - self.begun, 1e-9)
        self.restart()
        return means, speed


class Clock:
    """Seconds of training over all sittings, and since the last checkpoint of this one."""

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
