from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from vqcli.data import games
from vqcli.data.recordings import episode_files, read_episode
from vqcli.data.sources import open_source


@contextmanager
def counting():
    def play(seed):
        for time in range(1000):
            yield np.full((8, 8, 3), (seed % 256, time % 256, 0), np.uint8), "wait"

    yield play


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    """A game `counting`, played by something that is installed."""
    monkeypatch.setitem(games.GAMES, "counting", games.Game("A count", "numpy", "numpy", ("wait",), 300, counting))


def contents(folder):
    return {name: read_episode(file).images.tobytes() for name, file in episode_files(Path(folder)).items()}


def test_recording(vq):
    result = vq("record", "counting", "--frames", "90", "-o", "a")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "a: A count; 90 frames in 8 episodes, 1 of them held out; " in result.stderr
    source = open_source(Path("a"))
    assert len(source.names) == 90 and sum(source.held_out) == 12
    assert vq("record", "counting", "--frames", "90", "-o", "b", "--seed", "0").exit_code == 0
    assert contents("a") == contents("b")
    assert vq("record", "counting", "--frames", "90", "-o", "c", "--seed", "1").exit_code == 0
    assert contents("a") != contents("c")


def test_going_on_with_a_recording(vq):
    assert vq("record", "counting", "--frames", "90", "-o", "a").exit_code == 0
    before = contents("a")
    more = vq("record", "counting", "--frames", "140", "-o", "a")  # with episodes as long as those that are there
    assert more.exit_code == 0 and "140 frames in 13 episodes" in more.stderr
    assert {name: contents("a")[name] for name in before} == before
    for other in (["--seed", "1"], ["--length", "20"]):
        refused = vq("record", "counting", "--frames", "200", "-o", "a", *other)
        assert refused.exit_code == 2 and "a holds counting of seed 0, 12 frames an episode at most" in refused.stderr
    Path("mine").mkdir()
    Path("mine/notes.txt").touch()
    assert vq("record", "counting", "-o", "mine").exit_code == 2


def test_wrong_calls(vq, monkeypatch):
    unknown = vq("record", "pong", "-o", "a")
    assert unknown.exit_code == 2 and "there is no game pong" in unknown.stderr and "boxing" in unknown.stderr
    assert vq("record", "counting", "-o", "a", "--frames", "0").exit_code == 2
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    missing = vq("record", "boxing", "-o", "a")
    assert missing.exit_code == 2
    assert "ale-py, which is not installed" in missing.stderr and "pip install 'vqcli[games]'" in missing.stderr
    assert not Path("a").exists()


def test_interrupting(vq, monkeypatch):
    @contextmanager
    def interrupted():
        with counting() as play:
            episodes = iter(range(3))

            def short(seed):
                if next(episodes) == 2:
                    raise KeyboardInterrupt
                return play(seed)

            yield short

    monkeypatch.setitem(
        games.GAMES, "short", games.Game("A short count", "numpy", "numpy", ("wait",), 300, interrupted)
    )
    result = vq("record", "short", "--frames", "90", "-o", "a")
    assert result.exit_code == 130
    assert list(contents("a")) == ["train/00000.npz", "val/00001.npz"]
