"""Run one experiment of the table: train its variants, or take the shipped models, and measure them.

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
from vqcli.experiments.measures import CLASSIFIER_MINUTES, MEASURES, EvaluationData, Measurement
from vqcli.experiments.table import DATA, Experiment, Variant
from vqcli.files import make_folder
from vqcli.training import run
from vqcli.training.budget import Budget
from vqcli.zoo import loading, priors, store
from vqcli.zoo.loading import LoadedModel

EPISODE_FAMILY = "frames"  # the family that is trained on whole episodes, not on single images
# settings for short runs; the published ones take days
QUICK = ("optimization.learning_rate=1e-3", "optimization.schedule=cosine")
CODEC_SHARE, PRIOR_SHARE = 0.5, 0.4  # of the time, where a prior is trained too; the rest is for the classifier

Progress = Callable[[str], AbstractContextManager[Callable[..., None]]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class ExperimentResult:
    """The figures of one net of an experiment.

    label    of its variant, or the name of a shipped model
    steps    of the codec; minutes of codec and prior together; 0 for a shipped model, whose card has them
    items    number of training images
    """

    label: str
    model: Path
    figures: tuple[Measurement, ...]
    steps: int = 0
    minutes: float = 0.0
    items: int = 0
    machine: str = ""


def quietly(label: str) -> AbstractContextManager[Callable[..., None]]:
    """The default for `progress`, which otherwise shows `advance(share, note)` under a label while it is open."""
    return nullcontext(lambda share, note="": None)


def data_for(experiment: Experiment, path: Path | None) -> Path:
    """The given data, or those installed in the system. Raises UsageError if there are none."""
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
) -> list[ExperimentResult]:
    """Train each variant into its own folder below `output`, in its share of the time, and measure it.

    At most `count` held-out images are measured. Raises UsageError before anything is trained if the data are not
    those of the experiment, or one of the folders holds a run already.
    """
    evaluation_data = EvaluationData(path, count, _minutes(experiment, budget_s))
    check(experiment, evaluation_data)
    for variant in experiment.variants:
        for folder in (output / variant.label, output / f"{variant.label}-prior"):
            if folder.exists():
                raise UsageError(f"{folder} holds a run already", "-o with another name starts a new one")
    make_folder(output)
    share_s = budget_s / len(experiment.variants) if budget_s else None
    results = []
    for variant in experiment.variants:
        model, facts = _train_variant(variant, evaluation_data, output, share_s, device, progress, say)
        figures = _measure(experiment, loading.load(model, device), evaluation_data, progress)
        steps, items, machine = (facts[0][name] for name in ("steps", "pictures", "machine"))
        minutes = sum(fact["trained_seconds"] for fact in facts) / 60
        results.append(ExperimentResult(variant.label, model.folder, figures, steps, minutes, items, machine))
    return results


def measure_shipped(
    experiment: Experiment,
    path: Path,
    *,
    count: int = 1000,
    device: str = "auto",
    progress: Progress = quietly,
) -> list[ExperimentResult]:
    """Measure the shipped models of an experiment that trains none."""
    evaluation_data = EvaluationData(path, count, whole=True)
    results = []
    for name in experiment.models:
        model = loading.load(name, device)
        results.append(
            ExperimentResult(name, model.info.folder, _measure(experiment, model, evaluation_data, progress))
        )
    return results


def check(experiment: Experiment, evaluation_data: EvaluationData) -> None:
    """Raise UsageError unless the images have the size and the classes of the experiment's data."""
    data, source = DATA[experiment.data], evaluation_data.source
    height, width = source.read(0).shape[:2]
    hint = f"{data.title} is {data.comes}"
    if data.side is not None and (height, width) != (data.side, data.side):
        size = f"images of {width} x {height} pixels"
        raise UsageError(f"{evaluation_data.path} holds {size}, {data.title} has {data.side} x {data.side}", hint)
    classes = {label for label in source.labels if label is not None}
    if "samples" in experiment.measures and (len(classes) < 2 or None in source.labels):
        raise UsageError(f"{evaluation_data.path} has no classes, and {experiment.name} samples by class", hint)
    if classes and data.classes and len(classes) != data.classes:
        raise UsageError(f"{evaluation_data.path} has {len(classes)} classes, {data.title} has {data.classes}", hint)
    for held_out in (False, True):
        Dataset(source, held_out=held_out)


def _train_variant(
    variant: Variant,
    evaluation_data: EvaluationData,
    output: Path,
    budget_s: float | None,
    device: str,
    progress: Progress,
    say: Say,
) -> tuple[store.ModelInfo, list[dict[str, Any]]]:
    """The model of a variant, which is trained last, and the descriptions of its runs."""
    settings = (*variant.settings, *QUICK) if budget_s else variant.settings
    plans = [(variant.label, recipe.override(recipe.load(variant.recipe), settings), 1.0)]
    if variant.prior is not None:
        codec = f"codec={output / variant.label}"
        plans = [(*plans[0][:2], CODEC_SHARE)]
        plans += [(f"{variant.label}-prior", recipe.override(recipe.load(variant.prior), [codec]), PRIOR_SHARE)]
    model, facts = None, []
    for label, chosen, share in plans:
        with progress(f"training {label}") as shown:

            def show(state: run.Progress, shown: Callable[..., None] = shown) -> None:
                shown(state.share, str(state))

            limit = Budget(share * budget_s) if budget_s else None
            data = [evaluation_data.path] if chosen.model.family == EPISODE_FAMILY else evaluation_data.source
            model = run.run(chosen, data, output / label, device=device, budget=limit, progress=show, say=say)
        if model is None:
            raise UsageError("an experiment runs in one process", "start it without torchrun")
        prior = priors.find(model, chosen.model.family) if chosen.model.family in priors.FAMILIES else None
        facts.append(prior.description if prior else model.description)
    assert model is not None
    return model, facts


def _measure(
    experiment: Experiment, model: LoadedModel, evaluation_data: EvaluationData, progress: Progress
) -> tuple[Measurement, ...]:
    figures: list[Measurement] = []
    for name in experiment.measures:
        with progress(f"measuring {model.info.name}: {name}") as advance:
            figures += MEASURES[name](model, evaluation_data, advance)
    return tuple(figures)


def _minutes(experiment: Experiment, budget_s: float | None) -> float:
    """Minutes for training a classifier: the time left by the runs."""
    if budget_s is None:
        return CLASSIFIER_MINUTES
    rest_s = budget_s / len(experiment.variants) * (1 - CODEC_SHARE - PRIOR_SHARE)
    return min(CLASSIFIER_MINUTES, rest_s / 60)
