"""Train a recipe on data into a model folder: everything before and after the training loop."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
import torch.distributed as dist

from vqcli import recipe as recipes
from vqcli.container.header import MODEL_NAME
from vqcli.data.source import Given
from vqcli.errors import UsageError
from vqcli.evaluation.installation import machine
from vqcli.files import make_folder, remote, replacing
from vqcli.files.remote import Remote
from vqcli.nets.layers import distributed
from vqcli.recipe import Recipe
from vqcli.training import autotune, checkpoint, lock, warm_start
from vqcli.training.budget import Budget
from vqcli.training.checkpoint import State
from vqcli.training.datasets.base import DataSet
from vqcli.training.export.finished import FinishedRun
from vqcli.training.log import RunLog, Start
from vqcli.training.loop import Progress, train
from vqcli.training.tasks import registry
from vqcli.training.tasks.base import Task
from vqcli.training.validation import Validation
from vqcli.zoo import loading, store

RECIPE = "recipe.toml"
TIMEOUT = timedelta(hours=2)  # of the other processes, while the first validates or measures


@dataclass(frozen=True)
class Options:
    """Options of a run that are not part of its recipe.

    budget           wall time of the run, model and card included; a run that is resumed without a budget has what is
                     left of its first one
    resume           continue the run in the output folder
    start, partial   the model or run whose weights it starts from; `partial` initialises weights that do not fit
    threads          of torch; None for the fastest
    workers          threads that read data; None for a number by core
    progress, say    callbacks: how far it is every few steps, and lines for the terminal
    """

    device: str = "auto"
    budget: Budget | None = None
    resume: bool = False
    start: str | None = None
    partial: bool = False
    threads: int | None = None
    workers: int | None = None
    progress: Callable[[Progress], None] = lambda state: None
    say: Callable[[str], None] = lambda line: None


class Keywords(TypedDict, total=False):
    """`Options` as keywords."""

    device: str
    budget: Budget | None
    resume: bool
    start: str | None
    partial: bool
    threads: int | None
    workers: int | None
    progress: Callable[[Progress], None]
    say: Callable[[str], None]


def run(recipe: Recipe, data: Given, output: Path, **options: Unpack[Keywords]) -> store.ModelInfo | None:
    """Train, then write the model to the folder `output`, which also holds checkpoint, log, images and recipe.

    Under torchrun each process runs this; only the first writes and prints, the others return None.
    Raises UsageError if `output` holds a run or model already and is not to be resumed, has nothing to resume, or holds
    a run with another recipe; or if the data hold nothing that the recipe can be trained on. Raises ModelError if the
    weights to start with do not fit; nothing is written then.
    """
    chosen = Options(**options)
    recipe = warm_start.adopted(recipe, chosen.start, output if chosen.resume else None)
    _check_output(output, recipe, chosen.resume)
    alone = lock.held(output) if os.environ.get("RANK", "0") == "0" else nullcontext()
    with alone:
        _check_output(output, recipe, chosen.resume)  # again: a run may have ended there meanwhile
        return _joined(recipe, data, output, chosen)


def _joined(recipe: Recipe, data: Given, output: Path, chosen: Options) -> store.ModelInfo | None:
    place = join(chosen.device)
    try:
        start = None if chosen.start is None else warm_start.read(chosen.start, recipe, chosen.partial)
        info = _run(prepare(recipe, data, place, start), data, output, chosen)
        if distributed.world() > 1:
            dist.barrier()  # the first process measures the model; if another left before, the group would end with it
        return info
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _run(prepared: Prepared, data: Given, output: Path, options: Options) -> store.ModelInfo | None:
    """Train what is prepared and export the model; None in all processes but the first."""
    last = checkpoint.last(output) if options.resume else None
    before = last.counters if last else {}
    seconds = options.budget.seconds if options.budget else before.get("budget_s")
    budget = (options.budget or Budget(seconds or math.inf)).without(before.get("seconds", 0.0))
    first = distributed.rank() == 0
    if first:
        options.say(str(prepared))
        if prepared.validation is None:
            options.say(f"no {prepared.task.ITEMS} are held out: the last weights become the model, not validated")
        for change in _changes(_begun(output)[0], prepared.task.recipe) if options.resume else ():
            options.say(f"the recipe changed: {change}")
    settings = _settings(prepared, budget, before, options)
    state = State(data=[_named_place(path) for path in data] if isinstance(data, Sequence) else [], budget_s=seconds)
    state.items = len(prepared.dataset)
    state.threads, state.precision = settings.threads, settings.precision
    state.classes, state.start = list(prepared.dataset.classes), prepared.start
    remarks = [*last.remarks, *_other_data(before, state, prepared.task.ITEMS)] if last else []
    if first:
        for remark in remarks:
            options.say(remark)
        options.say(f"{settings}, on {_where(prepared.device)}")
        _write_recipe(output, prepared.task.recipe)
    if distributed.world() > 1:
        dist.barrier()
    with RunLog(output, before.get("step")) if first else nullcontext() as log:
        if log is not None:
            log.start(before.get("step", 0), _start(prepared, settings, before))
            for remark in remarks:
                log.alarm(before.get("step", 0), remark)
        train(
            prepared.task, prepared.dataset, prepared.validation, output, state, log, device=prepared.device,
            resume=options.resume, budget=budget, workers=options.workers, progress=options.progress,
        )  # fmt: skip
        if log is None:
            return None
        left_out = {**prepared.dataset.skipped, **prepared.dataset.too_small}
        for name, reason in left_out.items():
            log.skipped(name, reason)
    _say_left_out(left_out, options.say)
    return _export(prepared, settings, state, output, budget, options.say)


def _named_place(path: Path | Remote) -> str:
    """As `data_of` reads it again, from whatever folder."""
    return str(path.resolve()) if isinstance(path, Path) else path.url


def _other_data(before: dict[str, Any], state: State, items: str) -> Iterator[str]:
    """What of the data is not as it was in the session before: paths, number of items, classes."""
    if before.get("data", []) != state.data:
        yield f"resumed on other data: {_named(state.data)}; before, {_named(before.get('data'))}"
    elif before.get("items") and before["items"] != state.items:
        yield f"resumed on other data: {state.items} {items} in the same place; before, {before['items']}"
    if before.get("classes") is not None and before["classes"] != state.classes:
        yield f"resumed on other classes: {_named(state.classes)}; before, {_named(before['classes'])}"


def _named(names: list[str] | None, most: int = 5) -> str:
    """Some names in a line."""
    if not names:
        return "none"
    return ", ".join(names[:most]) + f" and {len(names) - most} more" * (len(names) > most)


def _write_recipe(output: Path, recipe: Recipe) -> None:
    make_folder(output)
    with replacing(output / RECIPE, force=True) as stream:
        stream.write(recipe.to_toml())


def _start(prepared: Prepared, settings: autotune.Settings, before: dict[str, Any]) -> Start:
    """The log's facts at the start of a session; `before` are the counters of the run so far."""
    recipe = prepared.task.recipe
    return Start(
        recipe=recipe.to_dict(),
        model=recipe.model.family,
        parameters=prepared.parameters,
        pictures=len(prepared.dataset),
        classes=len(prepared.dataset.classes),
        threads=torch.get_num_threads(),
        precision=settings.precision,
        device=prepared.device.type,
        world=distributed.world(),
        step_seconds=settings.seconds,
        timed_items=settings.items,
        start=prepared.start or before.get("start"),
    )


def _export(
    prepared: Prepared,
    settings: autotune.Settings,
    state: State,
    output: Path,
    budget: Budget,
    say: Callable[[str], None],
) -> store.ModelInfo:
    """Measure the trained weights and write the model."""
    steps = state.best_step if math.isfinite(state.best) else state.step
    if steps != state.step:
        say(f"the best weights are those of step {steps} of {state.step}")
    say("measuring the model")
    description = _description(prepared, settings, state, steps, output)
    finished = FinishedRun(prepared.dataset, prepared.held_out, prepared.validation, output, description, budget, say)
    return prepared.task.export(finished)


def _description(
    prepared: Prepared, settings: autotune.Settings, state: State, steps: int, output: Path
) -> dict[str, Any]:
    """The description in the model header, for weights of step `steps`."""
    recipe = prepared.task.recipe
    facts = {
        "family": recipe.model.family,
        "arguments": recipe.model.arguments,
        "modality": recipe.modality,
        "recipe": recipe.to_dict(),
        "name": output.resolve().name,
        "steps": steps,
        "trained_seconds": round(state.seconds),
        "machine": _where(prepared.device),
        "computed_in": str(settings),
        prepared.task.ITEMS: len(prepared.dataset),
        "processes": distributed.world(),
    }
    return facts if state.start is None else facts | {"start": state.start}


def _settings(prepared: Prepared, budget: Budget, before: dict[str, Any], options: Options) -> autotune.Settings:
    """Threads and precision: those of the run that is resumed, else the fastest."""
    if "precision" in before:
        settings = autotune.Settings(options.threads or before.get("threads", 0), before["precision"])
        torch.set_num_threads(settings.threads or torch.get_num_threads())
        return settings

    def trial(share: float, note: str) -> None:
        options.progress(Progress(0, prepared.task.recipe.optimization.steps, 0.0, share, note=note))

    threads = options.threads or before.get("threads", 0)
    return autotune.choose(
        prepared.task, prepared.dataset, prepared.device, budget.trial_s, threads=threads, progress=trial
    )


@dataclass(frozen=True)
class Prepared:
    """Task and data of a run before its first step; its string describes them in a line.

    begun  text on the weights that the task started from, "" for random ones
    start  the model they come from, None for random ones
    """

    task: Task
    dataset: DataSet
    held_out: DataSet | None
    validation: Validation | None
    device: torch.device
    begun: str
    start: dict[str, Any] | None

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.task.parameters() if p.requires_grad)

    def __str__(self) -> str:
        task = self.task
        classes = f" in {len(self.dataset.classes)} {task.CLASSES}" if self.dataset.classes else ""
        family = task.recipe.model.family
        return f"{len(self.dataset)} {task.ITEMS}{classes}; {family}, {self.parameters:,} weights{self.begun}"


def prepare(recipe: Recipe, data: Given, device: torch.device, start: warm_start.Start | None = None) -> Prepared:
    """Open the data and build the task, with the weights of `start` if given."""
    recipe = warm_start.adopted(recipe, None)  # refused if nobody said of what model
    kind = registry.task_of(recipe)
    codec = None if recipe.codec is None else loading.load(recipe.codec, str(device))
    dataset = kind.open(recipe, codec, data, held_out=False)
    held_out = validation = None
    with suppress(UsageError):  # too few items for any to be held out
        held_out = kind.open(recipe, codec, data, held_out=True)
        validation = Validation(held_out, recipe.data, device)
    torch.manual_seed(recipe.optimization.seed)
    task = kind.build(recipe, codec, dataset).to(device)
    begun = "" if start is None else warm_start.load(task, start, dataset)
    return Prepared(task, dataset, held_out, validation, device, begun, start.facts if start else None)


def _check_output(output: Path, recipe: Recipe, resume: bool) -> None:
    if recipe.data.batch % recipe.optimization.accumulate:
        raise UsageError(
            f"a batch of {recipe.data.batch} cannot be cut into {recipe.optimization.accumulate} equal parts",
            "--set optimization.accumulate to a divisor of data.batch",
        )
    if not MODEL_NAME.fullmatch(output.resolve().name):
        raise UsageError(f"{output.name} cannot name a model", "small letters, digits, dots and dashes")
    if not resume and (checkpoint.exists(output) or (output / store.FILE).exists()):
        raise UsageError(f"{output} holds a run already", "--resume continues it, another name starts a new one")
    if resume:
        before, counters = _begun(output)
        if before["model"] != recipe.to_dict()["model"]:
            raise UsageError(
                f"the run in {output} trains another model than this recipe", f"use its own: {output / RECIPE}"
            )
        last = max(before["optimization"]["steps"], recipe.optimization.steps)
        if counters["step"] >= last and (changed := _changes(before, recipe)):
            raise UsageError(
                f"the run in {output} is finished, and these would change its recipe only: {'; '.join(changed)}",
                "--set optimization.steps goes on for longer; a new run with --from begins with its weights",
            )


def _changes(before: dict[str, Any], recipe: Recipe) -> list[str]:
    """What a recipe sets otherwise than one that was begun with: "optimization.seed = 1, before 0"."""

    def settings(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
        for name, value in tree.items():
            if isinstance(value, dict):
                yield from settings(value, f"{path}{name}.")
            else:
                yield f"{path}{name}", value

    old, new = dict(settings(before)), dict(settings(recipe.to_dict()))
    return [f"{name} = {new.get(name)}, before {old.get(name)}" for name in new if new[name] != old.get(name)]


def _begun(output: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Recipe and counters of the run in `output`. Raises UsageError if there is none."""
    if not checkpoint.exists(output):
        raise UsageError(f"{output} holds no run to resume")
    return checkpoint.metadata_of(output)


def join(device: str) -> torch.device:
    """Join the other processes if torchrun started several, and return this one's device."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    place = loading.pick_device(device)
    if world == 1:
        return place
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=TIMEOUT)
    return place


def _where(device: torch.device) -> str:
    here = machine()
    processes = f" in {distributed.world()} processes" if distributed.world() > 1 else ""
    if device.type == "cpu":
        return f"{here['processor']}, {torch.get_num_threads()} of {here['cores']} cores{processes}"
    return f"{here.get('gpu', device.type)}{processes}"


def _say_left_out(left_out: dict[str, str], say: Callable[[str], None], most: int = 10) -> None:
    for name, reason in list(left_out.items())[:most]:
        say(f"left out {name}: {reason}")
    if len(left_out) > most:
        say(f"and {len(left_out) - most} more")


def recipe_of(output: Path) -> Recipe:
    """The recipe of the run in `output`."""
    return recipes.from_dict(_begun(output)[0], str(output))


def data_of(output: Path) -> list[Path | Remote]:
    """Paths of the data that the run in `output` was started with."""
    _, counters = _begun(output)
    return [remote.place(path) for path in counters.get("data", [])]
