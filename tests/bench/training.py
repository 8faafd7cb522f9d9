"""Throughput of `vq train`: beside a plain loop of the same net, of two processes beside one, and of five recipes as
they are computed here beside other ways (training_steps.py, which has options of its own).

    python tests/bench/training.py [--steps 60]

The first two ratios are of items per second in one run, taken in turns, one thread for each process. The plain loop
does what a step needs and nothing else: batches made ahead of time, loss, gradients, clipping, Adam, the averaged
weights. The loop of vq adds the log, the checkpoints, the count of codes and the checks.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}

import numpy as np
import torch
import training_steps
from torch import nn

from vqcli import recipe
from vqcli.data.dataset import Dataset
from vqcli.data.shapes import Shapes
from vqcli.training import loop
from vqcli.training.ema import EMA
from vqcli.training.log import RunLog, read
from vqcli.training.tasks import codec

CPU = torch.device("cpu")
ROUNDS = 5
NET = recipe.override(
    recipe.load("smoke"),
    ["model.arguments.widths=[64, 64]", "model.arguments.dim=32", "data.batch=32", "optimization.warmup=0"],
)


def plain(steps: int) -> float:
    """Items per second of the bare loop."""
    torch.manual_seed(0)
    task = codec.CodecTask(NET).train()
    learned = list(task.parameters())
    optimizer, average = torch.optim.AdamW(learned, lr=1e-3, fused=True), EMA(task, 0.99)
    batches = Dataset(Shapes(), held_out=False).batches(NET.data, 0, 0)
    begun = time.perf_counter()
    for step in range(steps):
        loss = task(*task.as_input(next(batches), CPU))
        optimizer.zero_grad(set_to_none=True)
        loss.value.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        average.update(step + 1)
    seconds = time.perf_counter() - begun
    batches.close()
    return steps * NET.data.batch / seconds


def ours(steps: int) -> float:
    """Items per second of vq's loop, from begin to end, checkpoint included."""
    torch.manual_seed(0)
    chosen = recipe.override(NET, [f"optimization.steps={steps}"])
    task, dataset = codec.CodecTask(chosen), Dataset(Shapes(), held_out=False)
    with tempfile.TemporaryDirectory() as folder, RunLog(Path(folder), None) as log:
        begun = time.perf_counter()
        loop.train(task, dataset, None, Path(folder), loop.State(threads=1), log, device=CPU)
        return steps * NET.data.batch / (time.perf_counter() - begun)


def processes(count: int, steps: int) -> tuple[float, list[float]]:
    """Items per second and losses of `vq train --smoke` in so many processes, the same items in each step."""
    with tempfile.TemporaryDirectory() as folder:
        launch = ["-m", "torch.distributed.run", f"--nproc-per-node={count}", "--master-port=29531", "-m", "vqcli"]
        settings = [f"optimization.steps={steps}", f"data.batch={64 // count}", "optimization.validate_every=100000"]
        settings += ["model.arguments.widths=[64, 64]", "model.arguments.dim=32"]
        command = [sys.executable, *launch, "train", "--smoke", "-o", f"{folder}/run", "--threads", "1"]
        for setting in settings:
            command += ["--set", setting]
        subprocess.run(command, check=True, capture_output=True)
        events = [event for event in read(Path(folder) / "run") if event["event"] == "train"]
        speeds = [event["items_per_second"] for event in events[1:]]
        return float(np.median(speeds)), [event["loss"] for event in events]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    plain(5)
    pairs = [(plain(steps), ours(steps)) for _ in range(ROUNDS)]
    bare, whole = (float(np.median(column)) for column in zip(*pairs, strict=True))
    ratios = sorted(own / other for other, own in pairs)
    print(f"plain loop    {bare:7.0f} items/s")
    print(f"vq train      {whole:7.0f} items/s: {np.median(ratios):.3f} of it ({ratios[0]:.3f} to {ratios[-1]:.3f})")
    one, losses = processes(1, steps)
    two, same = processes(2, steps)
    apart = [abs(a - b) / a for a, b in zip(losses, same, strict=True)]
    print(f"one process   {one:7.0f} items/s")
    print(f"two processes {two:7.0f} items/s: {two / one:.2f} times; losses apart by {apart[0]:.1e} at first")
    print(f"(float errors grow as they turn codes over: {apart[len(apart) // 2]:.1e} halfway)")
    print("\nseconds of a step, and times as many of other ways:")
    for name in training_steps.RECIPES:
        training_steps.measure(name, steps=6, compiled=False)


if __name__ == "__main__":
    main()
