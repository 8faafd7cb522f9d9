"""Start a run from the weights of a model, or of another run, instead of random ones.

A model file holds what is needed to use a net; a run folder holds the whole training state, in full precision. What a
file lacks is initialised: the averages behind a codebook as if all codes were used equally, and a rate model is fitted
to the codes before the first step. Rows of tables by class or speaker are matched by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace
from torch import Tensor

from vqcli.entropy.statistics import Statistics
from vqcli.errors import ModelError, UsageError
from vqcli.nets.layers.quantizer import VectorQuantizer
from vqcli.recipe import Recipe
from vqcli.training import checkpoint
from vqcli.training.datasets.base import DataSet
from vqcli.training.tasks.base import Task
from vqcli.zoo import priors, registry, store, weights
from vqcli.zoo.store import ModelInfo

SHOWN = 3  # names in an error message


@dataclass(frozen=True)
class Start:
    """Weights by the names that a task has for them.

    facts       where they come from: model, digest ("" of a run), steps it was trained for, and of other people's
                weights their `source`
    classes     names of classes or speakers in the order of the tables' rows; None if unknown
    statistics  of scalar codes, which hold the weights of their rate model
    partial     weights that do not fit are left as they are
    """

    facts: dict[str, Any]
    tensors: dict[str, Tensor]
    classes: list[str] | None
    statistics: Statistics | None
    partial: bool


def read(name: str, recipe: Recipe, partial: bool = False) -> Start:
    """The weights of the model or run called `name`, or in that folder, for a run of `recipe`.

    Raises ModelError if there is none, if it is damaged, of another family, or a prior over other codes.
    """
    if checkpoint.exists(Path(name)):
        return _of_run(Path(name), recipe, partial)
    info = store.find(name)
    if recipe.codec is None or recipe.model.family == info.description["family"]:
        return _of_model(info, recipe, partial)
    return _of_prior(info, recipe, partial)


def adopted(recipe: Recipe, name: str | None, run: Path | None = None) -> Recipe:
    """A recipe that names no family, with family and arguments of the model or run called `name`, or of `run`, which it
    goes on with; its own arguments come first. Raises UsageError if there is neither."""
    if recipe.model.family:
        return recipe
    folder = run if name is None else Path(name)
    if folder is not None and checkpoint.exists(folder):
        found = checkpoint.metadata_of(folder)[0]["model"]
    elif name is not None:
        found = store.find(name).description
    else:
        raise UsageError(
            "this recipe goes on with a model: which one?", "--from encodec-24khz, or another name or folder"
        )
    arguments = {**found["arguments"], **recipe.model.arguments}
    return replace(recipe, model=replace(recipe.model, family=found["family"], arguments=arguments))


def _of_run(folder: Path, recipe: Recipe, partial: bool) -> Start:
    before, counters = checkpoint.metadata_of(folder)
    _check_family(str(folder), before["model"]["family"], recipe)
    tensors = checkpoint.weights_of(folder)
    facts = {"model": folder.resolve().name, "digest": "", "steps": counters["best_step"] or counters["step"]}
    facts |= _source_in(counters.get("start") or {})
    return Start(facts, tensors, counters.get("classes"), None, partial)


def _of_model(info: ModelInfo, recipe: Recipe, partial: bool) -> Start:
    _check_family(info.name, info.description["family"], recipe)
    arrays = _arrays(info.path)
    prefix = store.STATISTICS
    tables = {name.removeprefix(prefix): arrays.pop(name) for name in list(arrays) if name.startswith(prefix)}
    tensors = {f"model.{name}": tensor for name, tensor in _unpacked(info.path, arrays).items()}
    try:
        statistics = Statistics(**tables) if tables else None
    except TypeError as error:
        raise ModelError(f"{info.path} does not hold the statistics of a model: {error}") from None
    facts = {"model": info.name, "digest": info.digest.hex(), "steps": info.description.get("steps", 0)}
    facts |= _source_in(info.description)
    speakers = info.description.get("speakers")
    return Start(facts, tensors, speakers and [each["name"] for each in speakers], statistics, partial)


def _source_in(facts: dict[str, Any]) -> dict[str, Any]:
    """Where other people's weights come from, {} for own ones."""
    return {store.SOURCE: facts[store.SOURCE]} if store.SOURCE in facts else {}


def _of_prior(info: ModelInfo, recipe: Recipe, partial: bool) -> Start:
    family = recipe.model.family
    if getattr(registry.family_of(family), "EXACT", False):
        raise ModelError(
            f"the entropy model of {info.name} has rounded weights, which cannot be trained further",
            "--from the folder of its training run",
        )
    prior = priors.find(info, family)
    if prior is None:
        raise ModelError(f"model {info.name} has no prior of family {family}, and is not one itself")
    _check_family(str(prior.path), prior.family, recipe)
    codec = store.find(str(recipe.codec))
    if prior.description["codec"] != codec.digest.hex():
        raise ModelError(f"the prior of {info.name} is over other codes than those of {codec.name}", "--codec names it")
    tensors = {f"prior.{name}": tensor for name, tensor in _unpacked(prior.path, _arrays(prior.path)).items()}
    facts = {"model": info.name, "digest": prior.digest.hex(), "steps": prior.description.get("steps", 0)}
    return Start(facts, tensors, list(prior.classes), None, partial)


def _check_family(name: str, family: str, recipe: Recipe) -> None:
    if family != recipe.model.family:
        raise ModelError(f"{name} is of family {family}, and the recipe trains a {recipe.model.family}")


def _arrays(path: Path) -> dict[str, Any]:
    try:
        return weights.read(path)
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} does not hold the weights of a model: {error}") from None


def _unpacked(path: Path, arrays: dict[str, Any]) -> dict[str, Tensor]:
    try:
        return weights.unpacked(arrays)
    except ValueError as error:
        raise ModelError(f"{path} does not hold the weights of a model: {error}") from None


@torch.no_grad()
def load(task: Task, start: Start, dataset: DataSet) -> str:
    """Copy the weights into the task; returns text on what was copied and what is new.

    Raises ModelError, with the names of the weights, if some do not fit and `start` is not partial, or if none does.
    """
    own = checkpoint.tensors_of(task)
    part = "model" if hasattr(task, "model") else "prior"
    net = task.get_submodule(part)
    saved = {f"{part}.{name}" for name in net.state_dict()}
    tensors = dict(start.tensors)
    tables = {f"{part}.{name}" for name in getattr(net, "CLASS_TABLES", ())}
    unknown = []
    if tables & tensors.keys() and start.classes is not None and start.classes != list(dataset.classes):
        unknown = sorted(set(dataset.classes) - set(start.classes))
        if unknown and not start.partial:
            raise ModelError(
                f"{_model(start)} does not know {', '.join(unknown[:SHOWN])}{' ...' * (len(unknown) > SHOWN)}",
                "--partial initialises them",
            )
        for name in tables & tensors.keys() & own.keys():
            tensors[name] = _by_name(tensors[name], own[name], start.classes, list(dataset.classes))
    misfits = _misfits(own, tensors, saved, part)
    if misfits and not start.partial:
        more = f" (and {len(misfits) - 1} more)" * (len(misfits) > 1)
        raise ModelError(
            f"{_model(start)} does not fit the recipe: {misfits[0]}{more}",
            "--partial initialises what does not fit",
        )
    _check_first_stage(own, tensors, start)
    fitting = [name for name in own if name in tensors and own[name].shape == tensors[name].shape and name != "usage"]
    if not any(name in saved for name in fitting):
        raise ModelError(f"none of the weights of {_model(start)} fit the recipe")
    for name in fitting:
        own[name].copy_(tensors[name])
    for name, module in task.named_modules():
        if isinstance(module, VectorQuantizer) and f"{name}.codebook" in fitting and f"{name}.counts" not in fitting:
            module.keep_codebook()
    new = sorted({".".join(name.split(".")[:2]) for name, _ in task.named_parameters() if name not in fitting})
    fitted = task.fit_missing(fitting, start.statistics, dataset)
    new = [name for name in new if name.partition(".")[0] not in fitted]
    new += [f"{part} (fitted to {what})" for part, what in fitted.items()]
    steps = f" ({start.facts['steps']:,} steps)" * bool(start.facts["steps"])
    suffix = f"; new: {', '.join([*new, *unknown[:SHOWN]])}" if new or unknown else ""
    return f", started from those of {start.facts['model']}{steps}{suffix}"


def _misfits(own: dict[str, Tensor], tensors: dict[str, Tensor], saved: set[str], part: str) -> list[str]:
    """Weights of the net with another shape or missing, codebooks first; and weights that the net does not have."""
    problems = []
    for name in sorted(saved, key=lambda name: (not name.endswith("codebook"), name)):
        there = list(tensors[name].shape) if name in tensors else "missing"
        if there != list(own[name].shape):
            problems.append(f"{name} is {there} there and {list(own[name].shape)} here")
    extra = (name for name in sorted(tensors) if name.startswith(f"{part}.") and name not in own)
    return problems + [f"there is no {name} here" for name in extra]


def _check_first_stage(own: dict[str, Tensor], tensors: dict[str, Tensor], start: Start) -> None:
    """A second stage depends on the codes of its first, which is not trained."""
    for name in (name for name in own if name.startswith("model.first.") and name in tensors):
        if own[name].shape != tensors[name].shape or not torch.allclose(own[name], tensors[name], atol=1e-3):
            raise ModelError(f"{_model(start)} is built on another first stage", "--codec names the first stage")


def _by_name(there: Tensor, here: Tensor, before: list[str], now: list[str]) -> Tensor:
    """A table [classes, or one more for none, ...] with the rows of `now`; unknown ones stay as they are here."""
    rows = here.clone()
    for number, name in enumerate(now):
        if name in before and before.index(name) < len(there):
            rows[number] = there[before.index(name)]
    if len(here) > len(now) and len(there) > len(before):
        rows[len(now) :] = there[len(before) :]
    return rows


def _model(start: Start) -> str:
    return str(start.facts["model"])
