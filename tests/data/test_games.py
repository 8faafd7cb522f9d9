"""What plays: the parts that need ale-py or vizdoom are left out where they are missing."""

import importlib.util
import itertools

import numpy as np
import pytest

from vqcli.data import games
from vqcli.errors import UsageError


def test_unknown_games_and_missing_extras(monkeypatch):
    with pytest.raises(UsageError, match="no game dom") as error:
        games.find("dom")
    assert error.value.hint == "did you mean doom?"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name, package in (("boxing", "ale-py"), ("doom", "vizdoom")):
        with pytest.raises(UsageError, match=f"{package}, which is not installed") as error:
            games.find(name)
        assert error.value.hint == "pip install 'vqcli[games]'"


def test_frames_are_reduced_to_means():
    frame = np.zeros((168, 168, 3), np.uint8)
    frame[::2], frame[:, :, 2] = 100, 7
    reduced = games._reduced(frame)
    assert reduced.shape == (84, 84, 3) and (reduced == (50, 50, 7)).all()
    assert games._reduced(np.zeros((210, 160, 3), np.uint8)).shape == (84, 84, 3)


@pytest.mark.parametrize("name", games.GAMES)
def test_games_can_be_played_again(name, tmp_path, monkeypatch):
    pytest.importorskip(games.GAMES[name].module)
    monkeypatch.chdir(tmp_path)
    game = games.find(name)
    with game.start() as play:
        first, other, again = (list(itertools.islice(play(seed), 40)) for seed in (3, 4, 3))
    frames, actions = (np.stack([frame for frame, _ in first]), [action for _, action in first])
    assert frames.shape == (40, 84, 84, 3) and frames.dtype == np.uint8 and frames.std() > 10
    assert len(actions) == 40 and set(actions) <= set(game.actions) and len(set(actions)) > 1
    assert len({frame.tobytes() for frame in frames}) > 20  # it moves
    assert np.array_equal(frames, [frame for frame, _ in again]) and actions == [action for _, action in again]
    assert not np.array_equal(frames, [frame for frame, _ in other])
    assert not list(tmp_path.iterdir())  # nothing is left where it was started


def test_turns_of_doom_turn_the_way_they_say():
    pytest.importorskip("vizdoom")
    with games.find("doom").start() as play:
        steps = list(itertools.islice(play(1), 300))
    images, actions = zip(*steps, strict=True)
    runs = [len(list(group)) for action, group in itertools.groupby(actions) if action != "forward"]
    assert len(runs) > 10 and max(runs) <= games.AWAY[1]
    changes = {name: [] for name in ("left", "right")}
    for now, after, action in zip(images, images[1:], actions, strict=False):
        if action != "forward":
            shifts = range(-20, 21)
            grey, moved = now.mean(2), after.mean(2)
            errors = [np.abs(np.roll(grey, shift, 1)[:, 21:-21] - moved[:, 21:-21]).mean() for shift in shifts]
            changes[action].append(shifts[int(np.argmin(errors))])
    assert np.median(changes["right"]) < 0 < np.median(changes["left"])  # the world moves the other way
