"""Every command with the n-th call of the system failing, for all n: a result is whole or not there, and what failed is
one line. As SQLite tests its own (https://www.sqlite.org/testing.html, section 3)."""

import builtins
import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from vqcli import files
from vqcli.errors import OutputError
from vqcli.media import audio, image, video_writing

# kind -> functions that count for it, the error of one that fails
SYSTEM = {
    "open": ([(os, "open"), (os, "scandir")], OSError(errno.EMFILE, "Too many open files")),
    "write": ([], OSError(errno.ENOSPC, "No space left on device")),
    "read": ([], OSError(errno.EIO, "Input/output error")),
    "name": ([(os, name) for name in ("link", "replace", "rename", "mkdir")], OSError(errno.EROFS, "Read-only")),
    "sync": ([(os, "fsync")], OSError(errno.EIO, "Input/output error")),
    "memory": (
        [(np, name) for name in ("empty", "zeros", "concatenate", "frombuffer")] + [(torch, "from_numpy")],
        MemoryError(),
    ),
}
BUFFERED = {"r": io.BufferedReader, "w": io.BufferedWriter, "x": io.BufferedWriter, "+": io.BufferedRandom}


class Failing:
    """While it is entered, the call number `n` of a kind fails, of those by the package on files in a folder."""

    def __init__(self, kind, n, monkeypatch):
        self.kind, self.n, self.calls, self._patch = kind, n, 0, monkeypatch

    def call(self, kind):
        if kind == self.kind:
            self.calls += 1
            if self.calls == self.n:
                raise SYSTEM[kind][1]

    def __enter__(self):
        files.sweep.cache_clear()
        functions, _ = SYSTEM[self.kind]
        for module, name in functions:
            self._patch.setattr(module, name, self._counted(getattr(module, name)))
        opened = self._opened(io.open)
        self._patch.setattr(io, "open", opened)
        self._patch.setattr(builtins, "open", opened)
        return self

    def __exit__(self, *error):
        self._patch.undo()

    def _counted(self, function):
        def counted(*args, **options):
            self.call(self.kind)
            return function(*args, **options)

        return counted

    def _opened(self, function):
        failing = self

        class Raw(io.FileIO):
            def write(self, data):
                failing.call("write")
                return super().write(data)

            def readinto(self, buffer):
                failing.call("read")
                return super().readinto(buffer)

            def readall(self):
                failing.call("read")
                return super().readall()

        def opened(file, mode="r", buffering=-1, *rest, **options):
            if "b" not in mode or buffering == 0 or options.get("opener"):
                return function(file, mode, buffering, *rest, **options)
            if not isinstance(file, int):
                self.call("open")
            kind = "+" if "+" in mode else mode[0]
            return BUFFERED[kind](Raw(file, mode.replace("b", "")))

        return opened


@pytest.fixture
def inputs(vq, photo, picture):
    """A photograph and a clip of the model, as pixels and as codes."""
    Path("in/deep").mkdir(parents=True)
    photo.rename("in/photo.png")
    image.write(Path("in/deep/b.png"), picture(20, 24))
    frames = np.stack([picture(16, 20 + number)[:, :20] for number in range(3)])
    video_writing.write(Path("clip.gif"), frames, 10_000)
    for arguments in (("in/photo.png", "-o", "photo.vqz"), ("clip.gif", "-o", "clip.vqz")):
        assert vq("encode", *arguments, "--model", "scalar", "--coder", "packed").exit_code == 0
    assert vq("export", "photo.vqz", "-o", "photo.npz").exit_code == 0


ENCODE = ("--model", "scalar", "--coder", "packed")
COMMANDS = {
    "encode": ("encode", "in/photo.png", "-o", "out/photo.vqz", *ENCODE),
    "encode folder": ("encode", "in", "-o", "out", *ENCODE),
    "encode clip": ("encode", "clip.gif", "-o", "out/clip.vqz", *ENCODE),
    "decode": ("decode", "photo.vqz", "-o", "out/photo.png"),
    "decode gif": ("decode", "clip.vqz", "-o", "out/clip.gif"),
    "decode webp": ("decode", "clip.vqz", "-o", "out/clip.webp"),
    "decode frames": ("decode", "clip.vqz", "-o", "out/clip"),
    "export": ("export", "photo.vqz", "-o", "out/photo.npz"),
    "export safetensors": ("export", "photo.vqz", "-o", "out/photo.safetensors"),
    "import": ("import", "photo.npz", "-o", "out/photo.vqz"),
    "info": ("info", "photo.vqz"),
    "pack": ("pack", "in", "-o", "out/pack.safetensors"),
}


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check(result, written, reference, kind, n):
    said = f"{kind} {n}: {result.exception!r}\n{result.stderr}"
    assert result.exception is None or isinstance(result.exception, SystemExit), said
    assert not any(".vq-" in name for name in written), said
    if result.exit_code == 0 and "left out" in result.stderr:
        return  # vq pack says which image is damaged, and packs the others
    assert all(reference[name] == data for name, data in written.items()), said
    if result.exit_code == 0:
        assert written == reference, said
    else:
        # one line for each file that failed, with its hint, and in a folder how many did
        lines = [line for line in result.stderr.splitlines() if not line.startswith("    ")]
        assert 1 <= sum(line.startswith("vq: ") for line in lines) <= 3 and "Traceback" not in result.stderr, said


@pytest.mark.fault("20 every failure")
@pytest.mark.parametrize("most", [2, pytest.param(10_000, marks=pytest.mark.slow)], ids=["first", "all"])
@pytest.mark.parametrize("kind", SYSTEM)
def test_the_result_is_whole_or_not_there(vq, inputs, home, kind, most):
    """Of each kind the first calls fail in turn, or (slow) all."""
    for number, arguments in enumerate(COMMANDS.values()):

        def run(n, number=number, arguments=arguments):
            folder = home / f"out-{number}-{n}"
            folder.mkdir()
            with pytest.MonkeyPatch.context() as patch, Failing(kind, n, patch) as failing:
                result = vq(*(argument.replace("out", folder.name, 1) for argument in arguments))
            return result, contents(folder), failing.calls

        result, reference, calls = run(0)
        assert result.exit_code == 0, result.stderr
        for n in range(1, min(calls, most) + 1):
            result, written, _ = run(n)
            check(result, written, reference, kind, n)


@pytest.mark.fault("18 full disks")
@pytest.mark.parametrize("suffix", [*audio._WRITTEN, *video_writing.KNOWN])
def test_a_full_disk_is_said_by_every_format(tmp_path, suffix, capfd):
    if suffix in video_writing._CODECS:
        pytest.importorskip("av")
    draw = np.random.default_rng(0)
    sound = draw.normal(0, 0.2, (1, 40_000)).astype(np.float32)
    frames = draw.integers(0, 256, (12, 32, 32, 3), np.uint8)
    for n in (1, 2):
        with pytest.MonkeyPatch.context() as patch, Failing("write", n, patch) as failing:
            try:
                if suffix in video_writing.KNOWN:
                    video_writing.write(tmp_path / f"x{suffix}", iter(frames), 10_000)
                else:
                    audio.write(tmp_path / f"x{suffix}", sound, 16_000)
            except OutputError as error:
                assert "No space left on device" in str(error) and "free space" in error.hint
            else:
                assert failing.calls < n
        if failing.calls >= n:
            assert list(tmp_path.iterdir()) == []
    assert "Traceback" not in capfd.readouterr().err
