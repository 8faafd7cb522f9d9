"""What is compiled is kept, made anew when a source changes that it may come from, and never trusted when damaged."""

import errno
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vqcli.entropy import jit


@pytest.fixture
def halves(tmp_path):
    """A file with a function, whose compiled code lies beside it."""
    path = tmp_path / "halves.py"
    path.write_text("def half(x):\n    return x / 2\n")
    yield path
    sys.modules.pop(path.stem, None)


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(jit, "_SAID", set())


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = sys.modules[path.stem] = importlib.util.module_from_spec(spec)  # code from the cache imports it
    spec.loader.exec_module(loaded)
    return loaded.half


def hits(path, *values):
    """How many signatures came from the cache."""
    function = jit.compiled(load(path))
    for value in values or (3.0,):
        assert function(value) == value / 2
    return sum(function.stats.cache_hits.values())


def cached(path):
    return sorted(path.parent.rglob("*.nbc"))


def test_the_compiled_function_follows_the_sources(halves, monkeypatch):
    def with_sources(sources):
        monkeypatch.setattr(jit, "_digest", lambda: sources)
        return hits(halves)

    assert [with_sources(sources) for sources in ("one", "one", "other", "other")] == [0, 1, 0, 1]
    assert len(cached(halves)) == 1  # the outdated one is replaced


def test_the_sources_have_a_digest():
    assert jit._digest() == jit._digest() and len(jit._digest()) == 64


def test_without_a_place_for_the_cache(monkeypatch):
    """A read-only installation compiles anew instead of failing."""

    def nowhere(function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(jit, "_Cache", nowhere)

    @jit.compiled
    def twice(x):
        return 2 * x

    assert twice(21) == 42
    with pytest.raises(TypeError):
        twice()


def middle_bit(data: bytes) -> bytes:
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    return bytes(damaged)


@pytest.mark.fault("13 numba cache")
@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:-1], middle_bit, lambda data: b"\xff" * len(data)],
    ids=["empty", "cut off", "a flipped bit", "other bytes"],
)
def test_damaged_code_is_made_anew(halves, caplog, damage):
    """It is said once, and mended."""
    assert hits(halves, 3.0, 3) == 0 and hits(halves, 3.0, 3) == 2
    for path in cached(halves):
        path.write_bytes(damage(path.read_bytes()))
    assert not caplog.messages
    assert hits(halves, 3.0, 3) == 0
    assert len(caplog.messages) == 1 and "is damaged, and is made anew" in caplog.messages[0]
    assert hits(halves, 3.0, 3) == 2 and len(caplog.messages) == 1


@pytest.mark.fault("13 numba cache")
def test_code_that_cannot_be_loaded_is_made_anew(halves, caplog):
    """As another version of something below numba leaves it: whole, but not what was meant."""
    hits(halves)
    (path,) = cached(halves)
    content = path.read_bytes()[jit._DIGEST_BYTES :][: jit._DIGEST_BYTES] + b"no pickle"
    path.write_bytes(jit.hashlib.sha256(content).digest() + content)
    assert [hits(halves), hits(halves)] == [0, 1]
    assert len(caplog.messages) == 1 and "cannot be loaded" in caplog.messages[0]


@pytest.mark.fault("13 numba cache")
def test_a_full_disk_is_said_once(halves, caplog, monkeypatch):
    def full(self, path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(jit._Files, "_open_for_write", full)
        assert [hits(halves, 3.0, 3), hits(halves, 3.0, 3)] == [0, 0]
    assert len(caplog.messages) == 1 and "cannot be kept" in caplog.messages[0] and "No space" in caplog.messages[0]
    assert [hits(halves), hits(halves)] == [0, 1]


TOTAL = """
import sys, time
import numpy as np
from vqcli.entropy import jit

@jit.compiled
def total(x):
    sum = 0.0
    for value in x:
        sum += value * 0.5
    return sum

arrays = [np.arange(1000).astype(kind) for kind in ("u1", "i2", "i4", "f4", "f8")]
turn = int(sys.argv[1])
print("ready", flush=True)
input()
for array in arrays[turn % 5 :] + arrays[: turn % 5]:
    assert total(array) == array.astype("f8").sum() / 2, array.dtype
print(sum(total.stats.cache_hits.values()))
"""


@pytest.mark.slow
@pytest.mark.fault("13 numba cache")
def test_twenty_processes_begin_with_a_cold_cache(tmp_path):
    """Numba's own index lets two signatures share a file, so that one runs the code of the other."""
    (tmp_path / "total.py").write_text(TOTAL)
    root = str(Path(jit.__file__).parents[2])
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": root}
    for expected in (None, "5"):
        children = [
            subprocess.Popen(
                [sys.executable, tmp_path / "total.py", str(turn)], env=environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for turn in range(20)
        ]  # fmt: skip
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            child.stdin.write("\n")
            child.stdin.flush()
        for child in children:
            out, error = child.communicate()
            assert child.returncode == 0 and error == "", error
            assert expected in (None, out.strip())


@pytest.mark.fault("13 numba cache")
def test_signatures_have_files_of_their_own(halves):
    """Also if two processes save before either knows of the other's."""
    one, other = jit.compiled(load(halves)), jit.compiled(load(halves))
    assert one(3.0) == 1.5 and other(np.float32(3)) == 1.5
    assert len(cached(halves)) == 2
