"""Kills commands with SIGKILL at random moments, goes on, and checks that nothing half written is ever seen.

python tests/kills.py [--seconds 60] [--seed 0]

`vq encode` of a folder and `vq pack --force` are begun again until they end. Every file under its own name must be
whole after each kill, the result that of a run without kills, and no temporary file may be left at the end. POSIX only.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vqcli.cli.main import main as vq
from vqcli.zoo import loading

SIDE = 64
MODEL = "tokens"


def child(*arguments: str) -> int:
    """The number of a process that runs a command, forked, so that it need not import torch."""
    number = os.fork()
    if number:
        return number
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    sys.argv = ["vq", *arguments]
    code = 1
    try:
        vq()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        os._exit(code)


def killed(number: int, after_s: float) -> bool:
    """Whether the process was still running after so many seconds, and was killed; else it must have ended well."""
    deadline = time.monotonic() + after_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(number, os.WNOHANG)
        if ended:
            assert os.waitstatus_to_exitcode(status) == 0, f"the command left with {status}"
            return False
        time.sleep(0.001)
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    return True


def content(place: Path) -> dict[str, bytes]:
    """All files of a folder, or the one file."""
    paths = sorted(place.rglob("*")) if place.is_dir() else [place] * place.exists()
    return {path.name: path.read_bytes() for path in paths if path.is_file()}


def go_on_until_done(arguments: list[str], target: Path, whole: dict[str, bytes], took_s: float) -> int:
    """How many kills it took until the command ended; checks what is there after each."""
    kills = 0
    while killed(child(*arguments), random.uniform(0, took_s)):
        kills += 1
        for name, data in content(target).items():
            assert name.endswith(".tmp") or data == whole[name], f"{name} is not whole after kill {kills}"
        took_s *= 1.02  # so that it ends
    assert content(target) == whole, "the result differs, or temporary files are left"
    return kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    torch.set_num_threads(1)  # threads do not survive a fork
    loading.load(MODEL, "cpu")  # what a command imports
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "images").mkdir()
        noise = np.random.default_rng(options.seed)
        for number in range(12):
            pixels = noise.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / "images" / f"{number}.png")
        commands = {
            "encode": ["encode", str(place / "images"), "--model", MODEL, "--coder", "packed", "-o"],
            "pack": ["pack", str(place / "images"), "--force", "-o"],
        }
        for name, arguments in commands.items():
            suffix = ".safetensors" if name == "pack" else ""
            begun, reference = time.monotonic(), place / f"reference-{name}{suffix}"
            assert not killed(child(*arguments, str(reference)), 600)
            took_s, whole = time.monotonic() - begun, content(reference)
            kills = rounds = 0
            while time.monotonic() < begun + options.seconds:
                (place / f"{name}-{rounds}").mkdir()
                target = place / f"{name}-{rounds}" / f"result{suffix}"
                expected = whole if target.suffix == "" else {target.name: whole[reference.name]}
                kills += go_on_until_done([*arguments, str(target)], target, expected, took_s)
                left = list(target.parent.rglob("*.tmp"))
                assert not left, f"left behind: {left}"
                rounds += 1
            print(f"{name}: {kills} kills in {rounds} rounds, nothing half written, no temporary file left")


if __name__ == "__main__":
    main()
