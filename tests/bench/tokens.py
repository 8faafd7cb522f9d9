"""Images a second of `vq tokenize` beside the plain loop that a user would write, and its memory as sets grow.

    python -m tests.bench.tokens SOURCE --model cifar10 [--count 10000] [--workers 1,2] [--engine local,ray]
    python -m tests.bench.tokens --growth 1000,5000,20000 --model cifar10 [--workers 2] [--engine local]

SOURCE is a folder of images or an .npz with an array `images` or `x_train`. The loop reads an image, turns it into a
tensor, calls the net and its quantizer, and saves an .npy, one after the other in one process; with torch's own number
of threads, and with one. Both are timed from the start of the process to its end. Rounds take turns, as machines are
not always equally busy, and the median is printed; beside it the seconds of all CPUs, which depend less on other work.
Memory is the largest sum of the resident pages of all processes. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from tests import processes

PR_SET_CHILD_SUBREAPER = 36  # of prctl: orphans of children become children
SIDE = 32  # of images of --growth


def images_in(source: Path, count: int) -> Iterator[np.ndarray]:
    """uint8 [H, W, 3] each."""
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.suffix in (".png", ".jpg", ".jpeg", ".avif", ".webp"))
        for path in files[:count]:
            with Image.open(path) as image:
                yield np.array(image.convert("RGB"))
        return
    with np.load(source) as arrays:
        yield from arrays["images" if "images" in arrays else "x_train"][:count]


def loop(source: Path, model: str, count: int, out: Path, threads: int) -> None:
    """The plain loop."""
    import torch

    from vqcli.zoo import loading

    if threads:
        torch.set_num_threads(threads)
    net = loading.load(model, "cpu").net
    middle = torch.tensor([(net.qualities + 1) // 2.0]) if net.qualities else None
    with torch.inference_mode():
        for number, pixels in enumerate(images_in(source, count)):
            height, width = (length // net.stride * net.stride for length in pixels.shape[:2])
            x = torch.from_numpy(pixels[:height, :width].copy()).permute(2, 0, 1)[None].float() / 255 - 0.5
            codes = net.quantize(net.latents(x), middle)[0]
            np.save(out / f"{number}.npy", codes.numpy().astype(np.uint16))


def resident(parent: int) -> int:
    """Bytes of the pages of a process and all that descend from it; what they share is counted once for each."""
    children, held = processes.listed()
    return sum(held.get(number, 0) for number in (parent, *processes.descendants(parent, children)))


def orphans_ended(limit_s: float = 60) -> None:
    """Wait for what a process has left behind, as workers of a fork server, so that `spent` counts it."""
    limit = time.monotonic() + limit_s
    with suppress(ChildProcessError):
        while time.monotonic() < limit:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.05)


def spent() -> float:
    """Seconds of CPUs of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def timed(words: list[str], threads: int | None) -> tuple[float, float, int]:
    """Seconds, seconds of CPUs and largest memory of a process and its children."""
    unset = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
    begun, used, most = time.perf_counter(), spent(), 0
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
    while process.poll() is None:
        most = max(most, resident(process.pid))
        time.sleep(0.1)
    took_s = time.perf_counter() - begun
    orphans_ended()
    assert process.returncode == 0, process.stderr.read().decode() if process.stderr else ""
    return took_s, spent() - used, most


def vq(source: Path, out: Path, workers: str, engine: str, options: argparse.Namespace) -> list[str]:
    words = ["tokenize", str(source), "-o", str(out), "--model", options.model, "--device", "cpu", "--engine", engine]
    size = ["--per-shard", str(options.per_shard)] if options.per_shard else []
    return [sys.executable, "-m", "vqcli", *words, "--workers", workers, *size]


def beside(options: argparse.Namespace, folder: Path) -> None:
    """The loop and vq tokenize in turns."""
    source = options.source
    if options.count and source.is_dir():
        (folder / "in").mkdir()
        for path in sorted(path for path in source.rglob("*") if path.is_file())[: options.count]:
            (folder / "in" / path.name).symlink_to(path.resolve())
        source = folder / "in"
    elif options.count:
        np.savez(folder / "in.npz", images=np.stack(list(images_in(source, options.count))))
        source = folder / "in.npz"
    count = sum(1 for _ in images_in(source, sys.maxsize))
    took: dict[str, list[float]] = {}
    used: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    for number in range(options.rounds):
        ways = {}
        for threads in (0, 1):
            out = folder / f"loop-{threads}-{number}"
            out.mkdir()
            words = [sys.executable, __file__, str(source), "--model", options.model, "--loop", str(out)]
            ways[f"loop, {threads or 'all'} threads"] = [*words, "--threads", str(threads)], threads
        for engine, workers in product(options.engine.split(","), options.workers.split(",")):
            if engine == "local" or workers != "1":
                out = folder / f"{engine}-{workers}-{number}"
                ways[f"{engine}, {workers} workers"] = vq(source, out, workers, engine, options), 0
        for name, (words, threads) in ways.items():
            seconds, busy, most = timed(words, threads)
            took.setdefault(name, []).append(seconds)
            used.setdefault(name, []).append(busy)
            memory[name] = max(memory.get(name, 0), most)
    base = min(statistics.median(took[name]) for name in took if name.startswith("loop"))
    print(f"{count} images, {options.model}")
    for name, seconds in took.items():
        middle = statistics.median(seconds)
        print(
            f"{name:24} {middle:7.1f} s {count / middle:8.1f} a second  {base / middle:5.2f} x the faster loop",
            end="  ",
        )
        busy = statistics.median(used[name])
        print(f"{busy:7.1f} s of CPUs {1000 * busy / count:7.2f} ms each {memory[name] / 1e6:6.0f} MB")


def growth(options: argparse.Namespace, folder: Path) -> None:
    """Time and memory of sets of several sizes."""
    draw = np.random.default_rng(0)
    for count in map(int, options.growth.split(",")):
        images = draw.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
        np.savez(folder / f"{count}.npz", images=images)
        for engine, workers in product(options.engine.split(","), options.workers.split(",")):
            out = folder / f"{engine}-{workers}-{count}"
            seconds, busy, most = timed(vq(folder / f"{count}.npz", out, workers, engine, options), 0)
            line = f"{count:8} images, {engine}, {workers} workers {seconds:7.1f} s {count / seconds:8.1f} a second"
            print(f"{line} {busy:7.1f} s of CPUs {most / 1e6:6.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--engine", default="local")
    parser.add_argument("--per-shard", type=int, default=0)
    parser.add_argument("--growth", default="")
    parser.add_argument("--loop", type=Path)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.loop:
        loop(options.source, options.model, sys.maxsize, options.loop, options.threads)
        return
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as folder:
        if options.growth:
            growth(options, Path(folder))
        else:
            beside(options, Path(folder))


if __name__ == "__main__":
    main()
