"""Seconds of a training step of five recipes: as vq computes it here, beside other ways, as ratios in one run.

    python tests/bench/training_steps.py [RECIPE ...] [--steps 6] [--compiled]

A ratio is the time of the other way over that of vq: above 1, vq is faster. The other ways are

    bfloat16       autocast in 16 bits, as recipes had it before precision was chosen by timing
    float32        the other precision, the other way round
    1, 2 threads   whichever was not chosen
    channels_last  convolutions with channels last in memory
    plain Adam     one kernel for each parameter and operation, instead of a fused one
    compiled       torch.compile, its compilation not counted and printed beside

Data are made: shapes, and clips of noise. The classifier of codes by shape has three classes.
"""

from __future__ import annotations

import argparse
import copy
import os
import tempfile
import time
from pathlib import Path

os.environ |= {"OMP_WAIT_POLICY": "passive"}

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from vqcli import recipe
from vqcli.data.shapes import Shapes
from vqcli.training import autotune, run
from vqcli.training.ema import EMA
from vqcli.training.tasks.base import Task

SLOW_STEPS = 2  # of the other precision, which may take ten times as long
CPU = torch.device("cpu")
RECIPES = ("cifar10-vqvae", "tokens", "pixelcnn", "speech-wavenet", "photo")
SIZES = {"cifar10-vqvae": 32, "tokens": 144, "pixelcnn": 72, "photo": 208}  # of the pictures


class Step:
    """A training step that can be repeated: loss, gradients, clipping, Adam, averages."""

    def __init__(self, task: Task, batch: tuple[Tensor, ...], precision: str, threads: int, way: str = "") -> None:
        self.task, self.batch, self.threads = copy.deepcopy(task).train(), batch, threads
        self.reduced = precision == "bfloat16"
        if way == "channels_last":
            self.task.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.learned = [parameter for parameter in self.task.parameters() if parameter.requires_grad]
        plain = {"foreach": False} if way == "plain Adam" else {"fused": True}
        self.optimizer = torch.optim.AdamW(self.learned, lr=1e-4, **plain)  # type: ignore[arg-type]
        self.average = EMA(self.task, 0.999)
        self.loss = torch.compile(self.task) if way == "compiled" else self.task
        torch.set_num_threads(threads)
        begun = time.perf_counter()
        self()
        self.first_s = time.perf_counter() - begun

    def __call__(self) -> float:
        torch.set_num_threads(self.threads)
        begun = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.reduced):
            loss = self.loss(*self.batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.value.backward()
        nn.utils.clip_grad_norm_(self.learned, 1.0)
        self.optimizer.step()
        self.average.update(1)
        return time.perf_counter() - begun


def prepared(name: str, folder: Path) -> run.Prepared:
    """The task of a recipe, over made data."""
    chosen = recipe.load(name)
    if chosen.modality == "image":
        return run.prepare(chosen, Shapes(count=200, size=SIZES[name]), CPU)
    draw = np.random.default_rng(0)
    for number in range(60):
        path = folder / f"speaker{number % 3}" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.1 * draw.standard_normal(16_000), 16_000)
    return run.prepare(chosen, [folder], CPU)


def measure(name: str, steps: int, compiled: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = prepared(name, Path(folder))
        data = made.task.recipe.data
        batch = made.task.as_input(made.dataset.batch(data, 0, 0, data.batch), CPU)
        chosen = autotune.choose(made.task, made.dataset, CPU, 20)
    precision, threads = chosen.precision, chosen.threads
    other = {"float32": "bfloat16", "bfloat16": "float32"}[precision]
    ways = {
        "": Step(made.task, batch, precision, threads),
        other: Step(made.task, batch, other, threads),
        f"{3 - threads} thread{'s' * (threads == 1)}": Step(made.task, batch, precision, 3 - threads),
        "channels_last": Step(made.task, batch, precision, threads, "channels_last"),
        "plain Adam": Step(made.task, batch, precision, threads, "plain Adam"),
    }
    if compiled:
        ways["compiled"] = Step(made.task, batch, precision, threads, "compiled")
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(steps):  # in turns, so that a busy moment hits all
        for way, step in ways.items():
            if way != other or number < SLOW_STEPS:
                seconds[way].append(step())
    best = {way: min(taken) for way, taken in seconds.items()}
    own = best.pop("")
    ratios = "  ".join(f"{way} {taken / own:.2f}" for way, taken in best.items())
    extra = f"  ({ways['compiled'].first_s:.0f} s to compile)" if compiled else ""
    print(
        f"{name:16} {own:6.3f} s in {precision} on {threads} thread{'s' * (threads > 1)};  {ratios}{extra}", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--compiled", action="store_true", help="also torch.compile, which takes minutes")
    options = parser.parse_args()
    for name in options.recipes:
        measure(name, options.steps, options.compiled)


if __name__ == "__main__":
    main()
