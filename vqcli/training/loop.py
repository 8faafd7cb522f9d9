"""The training loop, read top to bottom."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vqcli.data.pictures import Pictures
from vqcli.errors import VqError
from vqcli.nets.rate import ScalarRate
from vqcli.recipe import Recipe
from vqcli.training import checkpoint
from vqcli.training.losses import Terms, rate_distortion_loss, reconstruction_loss
from vqcli.zoo import build

CHECKPOINT_SECONDS = 180
LOG_EVERY = 50


@dataclass
class Progress:
    """What a run tells about itself every few steps."""

    step: int
    steps: int
    seconds: float
    share: float  # of the run, 0 .. 1; by time if the run has a time budget
    terms: dict[str, float] = field(default_factory=dict)


class Run(nn.Module):
    """Everything with weights: the model and, for scalar codes, the rate model that is not shipped."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.model = build(recipe.model.family, recipe.model.arguments)
        quantizer = self.model.quantizer
        self.rate = ScalarRate(quantizer.dim, quantizer.qualities) if recipe.rate else None
        self.recipe = recipe
        self.steps_done, self.seconds_spent = 0, 0.0  # in training, over all its sittings

    def loss(self, x: Tensor) -> tuple[Tensor, Terms]:
        if self.rate is not None and self.recipe.rate is not None:
            return rate_distortion_loss(self.model, self.rate, self.recipe.rate, x)
        return reconstruction_loss(self.model, x)


def train(
    recipe: Recipe,
    pictures: Pictures,
    folder: Path,
    *,
    device: torch.device,
    resume: bool = False,
    budget_s: float | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Run:
    """Train by `recipe` and return the run with its averaged weights in place.

    The state goes to `folder` every few minutes and at the end. With `budget_s` the schedule follows the clock
    and ends after that many seconds, or after the recipe's steps if they come first.
    Interrupting saves the state, then raises on. Raises VqError if the loss stops being finite.
    """
    options = recipe.optimization
    torch.manual_seed(options.seed)
    run = Run(recipe).to(device).train()
    learned = [(name, parameter) for name, parameter in run.named_parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam([parameter for _, parameter in learned], lr=options.learning_rate)
    average = {name: parameter.detach().clone() for name, parameter in learned}
    step, spent = 0, 0.0
    if resume:
        counters = checkpoint.read(folder, run, average, optimizer)
        step, spent = counters["step"], counters["seconds"]

    started = last_saved = time.monotonic()
    log = (folder / "log.jsonl").open("a")
    batches = pictures.batches(recipe.data, options.seed, step)
    sums: dict[str, float] = {}
    summed = 0  # steps in `sums`: fewer than LOG_EVERY after resuming
    sound = True  # what is saved must be worth going on from

    def save() -> None:
        seconds = spent + time.monotonic() - started
        checkpoint.write(folder, run, average, optimizer, {"step": step, "seconds": seconds})

    try:
        while step < options.steps:
            seconds = spent + time.monotonic() - started
            share = max(step / options.steps, seconds / budget_s if budget_s else 0.0)
            if share >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * min(1, (step + 1) / max(options.warmup, 1)) * cosine(share)
            torch.manual_seed(options.seed * 2**32 + step)  # noise and revival follow the step, as the data do
            x = as_input(next(batches)).to(device)
            reduced = options.precision == "bfloat16" and share < 1 - options.full_precision_share
            with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
                loss, terms = run.loss(x)
            sound = bool(torch.isfinite(loss))
            if not sound:
                raise VqError(
                    f"the loss is not finite at step {step}", "lower optimization.learning_rate, or use float32"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if options.clip:
                nn.utils.clip_grad_norm_([parameter for _, parameter in learned], options.clip)
            optimizer.step()
            step, summed = step + 1, summed + 1
            # early on the average follows closely, later it remembers 1 / (1 - decay) steps
            decay = min(options.average, step / (step + 10))
            with torch.no_grad():
                for name, parameter in learned:
                    average[name].lerp_(parameter, 1 - decay)
            for name, term in {"loss": loss, **terms}.items():
                sums[name] = sums.get(name, 0.0) + float(term.detach())
            if step % LOG_EVERY == 0:
                means = {name: value / summed for name, value in sums.items()}
                sums.clear()
                summed = 0
                log.write(json.dumps({"step": step, "seconds": round(seconds, 1), **means}) + "\n")
                log.flush()
                report(Progress(step, options.steps, seconds, share, means))
            if time.monotonic() - last_saved > CHECKPOINT_SECONDS:
                save()
                last_saved = time.monotonic()
    finally:
        batches.close()
        log.close()
        if step and sound:
            save()
    with torch.no_grad():
        for name, parameter in learned:
            parameter.copy_(average[name])
    run.steps_done, run.seconds_spent = step, spent + time.monotonic() - started
    return run.eval()


def cosine(share: float) -> float:
    """Learning rate, as a share of the largest, at this share of the run: a cosine that ends at a hundredth."""
    return 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * share))


def as_input(pixels: np.ndarray) -> Tensor:
    """uint8 [B, H, W, C] -> float [B, C, H, W] in -0.5 .. 0.5."""
    return torch.from_numpy(pixels).movedim(-1, 1).float() / 255 - 0.5
