"""A recipe and data become a model folder: what comes before the loop and after it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from vqcli import recipe as recipes
from vqcli.container.header import MODEL_NAME
from vqcli.data.dataset import Dataset
from vqcli.data.source import Source
from vqcli.data.speech import Clips
from vqcli.errors import UsageError
from vqcli.files import replacing
from vqcli.nets.layers import distributed
from vqcli.nets.priors.frames import CONTEXT
from vqcli.recipe import Recipe
from vqcli.training import autotune, checkpoint, warm_start
from vqcli.training.budget import Budget
from vqcli.training.datasets import code_files
from vqcli.training.datasets.code_clips import CodeClips
from vqcli.training.datasets.code_windows import Windows
from vqcli.training.export.export import export
from vqcli.training.log import Journal, machine
from vqcli.training.loop import Progress, State, train
from vqcli.training.task import Task
from vqcli.training.tasks import prior, registry
from vqcli.training.validation import Validation
from vqcli.zoo import loading, store

RECIPE = "recipe.toml"
PATIENCE = timedelta(hours=2)  # with a process that validates or measures while the others wait


def run(
    recipe: Recipe,
    data: list[Path] | Source,
    output: Path,
    *,
    device: str = "auto",
    budget: Budget | None = None,
    resume: bool = False,
    start: str | None = None,
    partial: bool = False,
    threads: int | None = None,
    workers: int | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda line: None,
) -> store.ModelInfo | None:
    """Train, then write the model to the folder `output`, which also holds checkpoint, log, pictures and recipe.

    With a `budget` the run ends, model and card included, when it is used up; one that is resumed without a budget has
    what is left of its first one. `start` names the model or run whose weights it begins with, `partial` lets weights
    that do not fit begin anew. Under torchrun each process runs this; only the first writes and talks, the others
    return None.
    Raises UsageError if `output` holds a run or model already and `resume` is false, or has nothing to resume, or the
    run there has another recipe; or if the data hold no pictures. Raises ModelError if the weights of `start` do not
    fit; nothing is written then.
    """
    _check_output(output, recipe, resume)
    place = join(device)
    try:
        beginning = None if start is None else warm_start.read(start, recipe, partial)
        info = _run(recipe, data, output, place, budget, resume, beginning, threads, workers, report, say)
        if distributed.world() > 1:
            dist.barrier()  # the first measures the model; a process that left before it would take it along
        return info
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _run(
    recipe: Recipe,
    data: list[Path] | Source,
    output: Path,
    device: torch.device,
    budget: Budget | None,
    resume: bool,
    start: warm_start.Start | None,
    threads: int | None,
    workers: int | None,
    report: Callable[[Progress], None],
    say: Callable[[str], None],
) -> store.ModelInfo | None:
    first = distributed.rank() == 0
    before = checkpoint.metadata_of(output)[1] if resume else {}
    seconds = budget.seconds if budget else before.get("budget_s")
    budget = (budget or Budget(seconds or math.inf)).without(before.get("seconds", 0.0))
    made = prepare(recipe, data, device, start)
    if first:
        say(str(made))
        if made.validation is None:
            say(f"no {made.things} are held out: the last weights will become the model, unjudged")
    settings = _settings(made, device, budget, threads, before, report)
    state = State(data=[str(path.resolve()) for path in data] if isinstance(data, list) else [], budget_s=seconds)
    state.threads, state.precision = settings.threads, settings.precision
    state.classes, state.start = list(made.dataset.classes), start.facts if start else None
    if first:
        say(f"{settings}, on {_where(device)}")
        output.mkdir(parents=True, exist_ok=True)
        with replacing(output / RECIPE, force=True) as stream:
            stream.write(recipe.to_toml())
    if distributed.world() > 1:
        dist.barrier()
    with Journal(output, before.get("step")) if first else nullcontext() as log:
        if log is not None:
            log.start(
                before.get("step", 0),
                recipe=recipe.to_dict(),
                model=recipe.model.family,
                parameters=made.parameters,
                pictures=len(made.dataset),
                classes=len(made.dataset.classes),
                threads=torch.get_num_threads(),
                precision=settings.precision,
                step_seconds=settings.seconds,
                timed_items=settings.items,
                start=state.start or before.get("start"),
                device=device.type,
                world=distributed.world(),
            )
        options: dict[str, Any] = {"device": device, "resume": resume, "workers": workers, "report": report}
        train(made.task, made.dataset, made.validation, output, state, log, budget=budget, **options)
        if log is None:
            return None
        left_out = {**made.dataset.skipped, **made.dataset.too_small}
        for name, reason in left_out.items():
            log.skipped(name, reason)
    _say_left_out(left_out, say)
    steps = state.best_step if math.isfinite(state.best) else state.step
    if steps != state.step:
        say(f"the best weights are those of step {steps} of {state.step}")
    say("measuring the model")
    facts: dict[str, Any] = {
        "steps": steps,
        "trained_seconds": round(state.seconds),
        "machine": _where(device),
        "computed_in": str(settings),
        made.things: len(made.dataset),
        "processes": distributed.world(),
    }
    if state.start is not None:
        facts["start"] = state.start
    return export(made.task, made.dataset, made.held_out, made.validation, output, facts, budget)


def _settings(
    made: Prepared,
    device: torch.device,
    budget: Budget,
    threads: int | None,
    before: dict[str, Any],
    report: Callable[[Progress], None],
) -> autotune.Settings:
    """Threads and precision: of a run that goes on those it had, else the fastest."""
    if "precision" in before:
        settings = autotune.Settings(threads or before["threads"], before["precision"])
        torch.set_num_threads(settings.threads or torch.get_num_threads())
        return settings

    def trial(share: float, note: str) -> None:
        report(Progress(0, made.task.recipe.optimization.steps, 0.0, share, note=note))

    threads = threads or before.get("threads", 0)
    return autotune.choose(made.task, made.dataset, device, budget.trial_s, threads=threads, report=trial)


@dataclass(frozen=True)
class Prepared:
    """What a run has before its first step; its string is the line that says so.

    begun  which weights the task began with, "" for random ones
    """

    task: Task
    dataset: Dataset | Clips | CodeClips | Windows
    held_out: Dataset | Clips | CodeClips | Windows | None
    validation: Validation | None
    begun: str

    @property
    def things(self) -> str:
        return "clips" if self.task.recipe.modality == "audio" else "pictures"

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.task.parameters() if p.requires_grad)

    def __str__(self) -> str:
        kinds = "speakers" if self.things == "clips" else "classes"
        if isinstance(self.dataset, Windows):
            kinds = "actions"
        classes = f" in {len(self.dataset.classes)} {kinds}" if self.dataset.classes else ""
        family = self.task.recipe.model.family
        return f"{len(self.dataset)} {self.things}{classes}; {family}, {self.parameters:,} weights{self.begun}"


def prepare(
    recipe: Recipe, data: list[Path] | Source, device: torch.device, start: warm_start.Start | None = None
) -> Prepared:
    """Open the data and make the task, with the weights of `start` if there is one."""
    source, codec = _source(recipe, data, device)
    dataset = _opened(recipe, codec, source, held_out=False)
    held_out = validation = None
    with suppress(UsageError):  # too few for any to be held out
        held_out = _opened(recipe, codec, source, held_out=True)
        validation = Validation(held_out, recipe.data, device)
    torch.manual_seed(recipe.optimization.seed)
    task = registry.make(recipe, codec, dataset, device)
    begun = "" if start is None else warm_start.begin(task, start, dataset)
    return Prepared(task, dataset, held_out, validation, begun)


def _source(
    recipe: Recipe, data: list[Path] | Source, device: torch.device
) -> tuple[Source | list[Path], loading.LoadedModel | None]:
    """Where the data come from, and for priors the codec: pictures, or codes that it wrote into files."""
    if recipe.codec is None:
        return data, None
    codec = loading.load(recipe.codec, str(device))
    if isinstance(data, list) and code_files.found(data):
        return code_files.CodeFiles(data, codec), codec
    return data, codec


def _opened(
    recipe: Recipe, codec: loading.LoadedModel | None, source: Source | list[Path], held_out: bool
) -> Dataset | Clips | CodeClips | Windows:
    if recipe.model.family == "frames":
        if codec is None or not isinstance(source, list):
            raise UsageError("a prior over video learns the codes of a model", "--codec NAME, and recordings")
        return Windows(source, codec, recipe.model.arguments.get("context", CONTEXT), held_out=held_out)
    if recipe.modality == "image":
        return Dataset(source, held_out=held_out)
    if not isinstance(source, list) or not all(path.is_dir() for path in source):
        raise UsageError("speech is learned from folders of clips", "name folders with a folder for each speaker")
    clips = Clips(source, held_out=held_out)
    return CodeClips(clips, codec) if codec and recipe.model.family in prior.OF_TIME else clips


def _check_output(output: Path, recipe: Recipe, resume: bool) -> None:
    if recipe.data.batch % recipe.optimization.accumulate:
        raise UsageError(
            f"a batch of {recipe.data.batch} cannot be cut into {recipe.optimization.accumulate} equal parts",
            "--set optimization.accumulate to a divisor of data.batch",
        )
    if not MODEL_NAME.fullmatch(output.resolve().name):
        raise UsageError(f"{output.name} cannot name a model", "small letters, digits, dots and dashes")
    if not resume and ((output / checkpoint.NAME).exists() or (output / store.FILE).exists()):
        raise UsageError(f"{output} holds a run already", "--resume continues it, another name starts a new one")
    if resume:
        before, _ = _begun(output)
        if before["model"] != recipe.to_dict()["model"]:
            raise UsageError(
                f"the run in {output} trains another model than this recipe", f"use its own: {output / RECIPE}"
            )


def _begun(output: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Recipe and counters of the run in `output`. Raises UsageError if there is none."""
    if not (output / checkpoint.NAME).exists():
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
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
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
    """The recipe of the run in `output`, for those who resume it without naming one."""
    return recipes.from_dict(_begun(output)[0], str(output))


def data_of(output: Path) -> list[Path]:
    """Where the pictures of the run in `output` lay when it began."""
    _, counters = _begun(output)
    return [Path(path) for path in counters["data"]]
