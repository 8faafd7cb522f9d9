"""One experiment of the table from data to its row: its nets are trained, or the shipped ones taken, and measured.

results = train(experiments.find("fashion-mnist"), Path("fashion-mnist/"), Path("out"), budget_s=600)
results = measure_shipped(experiments.find("phonemes"), Path("timit/"))
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqcli import recipe
from vqcli.data.dataset import Dataset
from vqcli.errors import UsageError
from vqcli.experiments.measures import CLASSIFIER_MINUTES, JUDGES, Material, Measured
from vqcli.experiments.table import DATA, Experiment, Variant
from vqcli.training import run
from vqcli.training.budget import Budget
from vqcli.zoo import loading, priors, store
from vqcli.zoo.loading import LoadedModel

OF_EPISODES = "frames"  # the family that learns from whole episodes, not from single pictures
# where time is short: what the documents say is for days
QUICK = ("optimization.learning_rate=1e-3", "optimization.schedule=cosine")
CODEC_SHARE, PRIOR_SHARE = 0.5, 0.4  # of the time, where a prior is trained too; the rest is the classifier's

Progress = Callable[[str], AbstractContextManager[Callable[..., None]]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """What one net of an experiment reached.

    label    of its variant, or the name of a shipped model
    steps    of the codec; minutes of codec and prior together; 0 for a shipped model, whose card tells them
    items    pictures that it learned from
    """

    label: str
    model: Path
    figures: tuple[Measured, ...]
    steps: int = 0
    minutes: float = 0.0
    items: int = 0
    machine: str = ""


def quietly(label: str) -> AbstractContextManager[Callable[..., None]]:
    """The default for `progress`, which otherwise shows `report(share, note)` under a label while it is open."""
    return nullcontext(lambda share, note="": None)


def data_for(experiment: Experiment, path: Path | None) -> Path:
    """The data that were named, or those that the system has. Raises UsageError if there are none."""
    data = DATA[experiment.data]
    if path is None and data.usual is not None and data.usual.is_dir():
        return data.usual
    if path is None:
        raise UsageError(f"{experiment.name} needs {data.title}: --data names it", f"it is {data.comes}")
    if not path.exists():
        raise UsageError(f"no file or folder {path}", f"{data.title} is {data.comes}")
    return path


def train(
    experiment: Experiment,
    path: Path,
    output: Path,
    *,
    budget_s: float | None = None,
    count: int = 1000,
    device: str = "auto",
    progress: Progress = quietly,
    say: Say = lambda line: None,
) -> list[Result]:
    """Train each variant into a folder of its own below `output`, in its share of the time, and measure it.

    `count` held-out pictures are measured at most. Raises UsageError before anything is trained if the data are not
    those of the experiment, or one of the folders holds a run already.
    """
    material = Material(path, count, _minutes(experiment, budget_s))
    check(experiment, material)
    for variant in experiment.variants:
        for folder in (output / variant.label, output / f"{variant.label}-prior"):
            if folder.exists():
                raise UsageError(f"{folder} holds a run already", "-o with another name starts a new one")
    output.mkdir(parents=True, exist_ok=True)
    share_s = budget_s / len(experiment.variants) if budget_s else None
    results = []
    for variant in experiment.variants:
        model, facts = _trained(variant, material, output, share_s, device, progress, say)
        figures = _measured(experiment, loading.load(model, device), material, progress)
        steps, items, machine = (facts[0][name] for name in ("steps", "pictures", "machine"))
        minutes = sum(fact["trained_seconds"] for fact in facts) / 60
        results.append(Result(variant.label, model.folder, figures, steps, minutes, items, machine))
    return results


def measure_shipped(
    experiment: Experiment,
    path: Path,
    *,
    count: int = 1000,
    device: str = "auto",
    progress: Progress = quietly,
) -> list[Result]:
    """Measure the shipped models of an experiment that trains none."""
    material = Material(path, count, whole=True)
    results = []
    for name in experiment.models:
        model = loading.load(name, device)
        results.append(Result(name, model.info.folder, _measured(experiment, model, material, progress)))
    return results


def check(experiment: Experiment, material: Material) -> None:
    """Raise UsageError unless the pictures have the size and the classes that the experiment is about."""
    data, source = DATA[experiment.data], material.source
    height, width = source.read(0).shape[:2]
    hint = f"{data.title} is {data.comes}"
    if data.side is not None and (height, width) != (data.side, data.side):
        size = f"pictures of {width} x {height} pixels"
        raise UsageError(f"{material.path} holds {size}, {data.title} has {data.side} x {data.side}", hint)
    classes = {label for label in source.labels if label is not None}
    if "samples" in experiment.judges and (len(classes) < 2 or None in source.labels):
        raise UsageError(f"{material.path} names no classes, and {experiment.name} draws by class", hint)
    if classes and data.classes and len(classes) != data.classes:
        raise UsageError(f"{material.path} has {len(classes)} classes, {data.title} has {data.classes}", hint)
    for held_out in (False, True):
        Dataset(source, held_out=held_out)


def _trained(
    variant: Variant,
    material: Material,
    output: Path,
    budget_s: float | None,
    device: str,
    progress: Progress,
    say: Say,
) -> tuple[store.ModelInfo, list[dict[str, Any]]]:
    """The model of a variant, which is what is trained last, and what its runs say about themselves."""
    settings = (*variant.settings, *QUICK) if budget_s else variant.settings
    plans = [(variant.label, recipe.override(recipe.load(variant.recipe), settings), 1.0)]
    if variant.prior is not None:
        codec = f"codec={output / variant.label}"
        plans = [(*plans[0][:2], CODEC_SHARE)]
        plans += [(f"{variant.label}-prior", recipe.override(recipe.load(variant.prior), [codec]), PRIOR_SHARE)]
    made, facts = None, []
    for label, chosen, share in plans:
        with progress(f"training {label}") as shown:

            def report(told: run.Progress, shown: Callable[..., None] = shown) -> None:
                shown(told.share, str(told))

            limit = Budget(share * budget_s) if budget_s else None
            data = [material.path] if chosen.model.family == OF_EPISODES else material.source
            made = run.run(chosen, data, output / label, device=device, budget=limit, report=report, say=say)
        if made is None:
            raise UsageError("an experiment runs in one process", "start it without torchrun")
        prior = priors.find(made, chosen.model.family) if chosen.model.family in priors.FAMILIES else None
        facts.append(prior.description if prior else made.description)
    assert made is not None
    return made, facts


def _measured(
    experiment: Experiment, model: LoadedModel, material: Material, progress: Progress
) -> tuple[Measured, ...]:
    figures: list[Measured] = []
    for name in experiment.judges:
        with progress(f"measuring {model.info.name}: {name}") as report:
            figures += JUDGES[name](model, material, report)
    return tuple(figures)


def _minutes(experiment: Experiment, budget_s: float | None) -> float:
    """How long a classifier may learn: what training leaves of the time."""
    if budget_s is None:
        return CLASSIFIER_MINUTES
    rest = budget_s / len(experiment.variants) * (1 - CODEC_SHARE - PRIOR_SHARE)
    return min(CLASSIFIER_MINUTES, rest / 60)
