"""Training: a recipe and a folder of pictures become a model."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vqcli import zoo
from vqcli.data.pictures import Pictures
from vqcli.errors import UsageError
from vqcli.recipe import Recipe
from vqcli.training import checkpoint
from vqcli.training.export import export
from vqcli.training.loop import Progress, train
from vqcli.vqz_header import MODEL_NAME


def run(
    recipe: Recipe,
    folders: list[Path],
    output: Path,
    *,
    device: torch.device,
    budget_s: float | None = None,
    resume: bool = False,
    threads: int | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda line: None,
) -> zoo.ModelInfo:
    """Train, then write the model to the folder `output`, which also holds the checkpoint and the log.

    Raises UsageError if `output` holds a run or model already and `resume` is false, or has nothing to resume;
    or if the folders hold no pictures.
    """
    if not MODEL_NAME.fullmatch(output.resolve().name):
        raise UsageError(f"{output.name} cannot name a model", "small letters, digits, dots and dashes")
    begun = (output / checkpoint.NAME).exists()
    if resume and not begun:
        raise UsageError(f"{output} holds no run to resume")
    if not resume and (begun or (output / zoo.FILE).exists()):
        raise UsageError(f"{output} holds a run already", "--resume continues it, another name starts a new one")
    if threads:
        torch.set_num_threads(threads)
    pictures = Pictures(folders)
    say(f"{len(pictures)} pictures, {recipe.model.family} on {device}")
    output.mkdir(parents=True, exist_ok=True)
    trained = train(recipe, pictures, output, device=device, budget_s=budget_s, resume=resume, report=report)
    for path, reason in pictures.skipped.items():
        say(f"left out {path}: {reason}")
    facts: dict[str, Any] = {
        "steps": trained.steps_done,
        "trained_seconds": round(trained.seconds_spent),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {device.type}",
        "pictures": len(pictures),
    }
    say("counting codes")
    return export(trained, recipe, pictures, output, facts)


def seconds(text: str) -> float:
    """A duration like 90s, 45m or 2h in seconds. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not match:
        raise UsageError(f"{text} is no duration", "90s, 45m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
