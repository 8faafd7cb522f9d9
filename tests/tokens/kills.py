"""Kills `vq tokenize` at random moments, the worker or the whole command, and compares every byte of what it made.

    python -m tests.tokens.kills [--kills 10] [--seed 0] [--engine ray]

One set is made undisturbed, by one worker. Others are begun with two; of the first a worker is killed with SIGKILL, of
the second the command itself, at a random moment each time, and what was killed is begun again with another number of
workers until it ends. Both sets must be equal to the first, byte by byte, and no temporary file may be left.
Linux only.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests import processes

SIDE, MODEL = 96, "tokens"


def command(place: Path, name: str, workers: int, engine: str) -> list[str]:
    words = ["tokenize", str(place / "images"), "-o", str(place / name), "--model", MODEL, "--per-shard", "4"]
    return [sys.executable, "-m", "vqcli", *words, "--workers", str(workers), "--device", "cpu", "--engine", engine]


def begun(place: Path, name: str, workers: int, engine: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(place, name, workers, engine), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def workers_of(parent: int, engine: str) -> list[int]:
    """Processes that descend from one and are busy with shards: those that have no children of their own, or that Ray
    calls by the actor they hold."""
    children, _ = processes.listed()
    found = processes.descendants(parent, children)
    if engine == "ray":
        return [number for number in found if b"MapWorker" in words_of(number)]
    return [number for number in found if number not in children]


def words_of(number: int) -> bytes:
    """The command line of a process, empty if it has ended."""
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return b""


def ended(numbers: list[int]) -> None:
    """Wait until none of the workers of a command that was killed is left, and end what else of Ray outlives it."""
    words = {number: words_of(number) for number in numbers}
    limit = time.monotonic() + 10
    while left := [number for number in numbers if words[number] and words_of(number) == words[number]]:
        if time.monotonic() > limit:
            assert not any(b"MapWorker" in words[number] for number in left), "workers outlive the command"
            for number in left:
                os.kill(number, signal.SIGKILL)
            return
        time.sleep(0.2)


def killed_workers(place: Path, name: str, kills: int, took_s: float, engine: str) -> int:
    """How many workers were killed in one run that went on to its end."""
    done = 0
    process = begun(place, name, 2, engine)
    while process.poll() is None:
        # a Ray cluster takes most of the time to begin; what it takes for the work is a few seconds
        time.sleep(random.uniform(0, 2 * took_s / kills if engine == "local" else 3))
        workers = workers_of(process.pid, engine)
        # a shard may lose two workers, not three
        if done < kills and len(list((place / name / "index").glob("*"))) > done // 2 and workers:
            os.kill(random.choice(workers), signal.SIGKILL)
            done += 1
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()
    return done


def killed_commands(place: Path, name: str, kills: int, took_s: float, engine: str) -> int:
    """How many times the command was killed before it was let alone."""
    done = 0
    while done < kills:
        process = begun(place, name, 1 + done % 2, engine)
        try:
            process.wait(random.uniform(0.2, 1.0) * took_s)
        except subprocess.TimeoutExpired:
            others = processes.descendants(process.pid, processes.listed()[0])
            process.kill()
            ended(others)
            done += 1
        _, said = process.communicate()
        if process.returncode == 0:
            break
    process = begun(place, name, 2, engine)
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", default="local")
    options = parser.parse_args()
    random.seed(options.seed)
    draw = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "images").mkdir()
        for number in range(options.images):
            pixels = draw.integers(0, 256, (SIDE, SIDE + number % 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / "images" / f"{number}.png")
        start = time.monotonic()
        assert begun(place, "whole", 1, "local").wait() == 0
        took_s, whole = time.monotonic() - start, content(place / "whole")
        if options.engine != "local":  # which takes its time to begin
            start = time.monotonic()
            assert begun(place, "undisturbed", 2, options.engine).wait() == 0
            took_s = time.monotonic() - start
            assert content(place / "undisturbed") == whole
        for kind, kill in (("worker", killed_workers), ("command", killed_commands)):
            kills = rounds = 0
            while kills < options.kills:
                kills += kill(place, f"{kind}-{rounds}", options.kills - kills, took_s, options.engine)
                found = content(place / f"{kind}-{rounds}")
                differing = sorted(name for name in whole.keys() | found.keys() if whole.get(name) != found.get(name))
                assert not differing, f"after {kills} kills of the {kind} these differ: {differing}"
                rounds += 1
            print(f"{kind}: {kills} kills in {rounds} sets, all {len(whole)} files as those of an undisturbed run")


if __name__ == "__main__":
    main()
