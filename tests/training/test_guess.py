import json

import pytest

from vqcli import recipe
from vqcli.errors import UsageError
from vqcli.training import guess

RECORDING = json.dumps({"game": "boxing", "seed": 1, "length": 10}).encode()


def folder_of(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"a.png": b"", "cat/b.JPG": b"", "notes.txt": b"", ".hidden.png": b""}, guess.Guess("tokens", "image", 2)),
        (
            {"p225/a.flac": b"", "p226/b.wav": b"", "a.txt": b"", "cover.jpg": b""},
            guess.Guess("speech", "recording", 2),
        ),
        ({"train/0.npz": b"", "val/1.npz": b""}, guess.Guess("doom", "episode", 2)),
        ({"train/0.npz": b"", "recording.json": RECORDING}, guess.Guess("boxing", "episode", 1)),
    ],
)
def test_what_most_files_are(tmp_path, files, found):
    assert guess.guess([folder_of(tmp_path, files)]) == found


@pytest.mark.parametrize(
    ("files", "says"), [({"a.txt": b""}, "no images, recordings or episodes"), ({"a.mp4": b""}, "clips of video")]
)
def test_what_no_recipe_takes(tmp_path, files, says):
    with pytest.raises(UsageError, match=says):
        guess.guess([folder_of(tmp_path, files)])


def test_hours_follow_the_steps():
    tokens = guess.Guess("tokens", "image", 1)
    assert tokens.hours(recipe.load("tokens")) == pytest.approx(3.0)
    assert tokens.hours(recipe.override(recipe.load("tokens"), ["optimization.steps=4000"])) == pytest.approx(0.3)


def test_every_guess_is_a_recipe_with_a_time():
    assert set(guess.RECIPES.values()) <= guess.SECONDS_A_STEP.keys() <= set(recipe.names())
