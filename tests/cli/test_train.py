import json
from pathlib import Path

import pytest

from tests.training.conftest import VECTOR
from vqcli import recipe
from vqcli.media import image


@pytest.fixture
def pictures(picture):
    Path("pictures").mkdir()
    for number in range(3):
        image.write(Path(f"pictures/{number}.png"), picture(40 + number, 40))
    Path("pictures/broken.png").write_bytes(b"nothing")
    Path("tiny.toml").write_bytes(VECTOR.replace(b"steps = 60", b"steps = 4"))


def test_a_model_from_a_folder(vq, pictures):
    result = vq("train", "tiny.toml", "pictures", "-o", "mine", "--device", "cpu", "--set", "data.batch=4")
    assert result.exit_code == 0, result.stderr
    assert "left out broken.png" in result.stderr
    assert recipe.load("mine/recipe.toml").data.batch == 4
    assert "4 steps of 4 crops" in Path("mine/README.md").read_text()
    assert vq("encode", "pictures/0.png", "--model", "./mine").exit_code == 0
    assert vq("decode", "pictures/0.vqz", "--model", "./mine", "-o", "back.png").exit_code == 0


def test_going_on(vq, pictures):
    assert vq("train", "tiny.toml", "pictures", "-o", "mine").exit_code == 0
    again = vq("train", "tiny.toml", "pictures", "-o", "mine")
    assert again.exit_code == 2 and "holds a run already" in again.stderr
    # a run that is resumed knows its recipe and its data
    more = vq("train", "-o", "mine", "--resume", "--set", "optimization.steps=6")
    assert more.exit_code == 0, more.stderr
    steps = [json.loads(line) for line in Path("mine/log.jsonl").read_text().splitlines()]
    assert [event["step"] for event in steps if event["event"] == "train"] == [1, 2, 3, 4, 5, 6]
    other = vq("train", "-o", "mine", "--resume", "--set", "model.arguments.dim=16")
    assert other.exit_code == 2 and "trains another model" in other.stderr
    assert vq("train", "-o", "nothing", "--resume").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fotto", "pictures", "-o", "other"], "no recipe fotto"),
        (["tiny.toml", "pictures"], "where should the run go"),
        (["tiny.toml", "-o", "other"], "which data"),
        (["-o", "other"], "which recipe"),
        (["tiny.toml", "pictures", "-o", "Other One"], "cannot name a model"),
        (["tiny.toml", "pictures", "-o", "other", "--budget", "long"], "not a duration"),
        (["tiny.toml", "pictures", "-o", "other", "--set", "data.bach=4"], "did you mean batch"),
        (["tiny.toml", "nowhere", "-o", "other"], "nowhere"),
        (["pixelcnn", "pictures", "-o", "other", "--codec", "nobody"], "no model nobody"),
    ],
)
def test_what_cannot_be(vq, pictures, arguments, says):
    result = vq("train", *arguments)
    assert result.exit_code != 0 and says in result.stderr
    assert not Path("other").exists()


def test_a_folder_alone_finds_its_recipe(vq, pictures):
    little = ("--set", "optimization.steps=2", "--set", "data.crop=32", "--set", "data.batch=2", "--device", "cpu")
    result = vq("train", "pictures", *little)
    assert result.exit_code == 0, result.stderr
    first, second = result.stderr.splitlines()[:2]
    assert first.startswith("4 images: recipe tokens (Photographs as tokens")
    assert second == "about 1 minute on two cores without a GPU; --budget 30m ends it earlier"
    assert recipe.load("my-tokens/recipe.toml").model == recipe.load("tokens").model
    again = vq("train", "pictures")
    assert again.exit_code == 2 and "my-tokens holds a run already" in again.stderr


def test_smoke(vq):
    """The newcomer's first try, cut short: made data, the loss falls, a model comes out."""
    result = vq("train", "--smoke", "--set", "optimization.steps=40")
    assert result.exit_code == 0, result.stderr
    log = [json.loads(line) for line in Path("smoke/log.jsonl").read_text().splitlines()]
    losses = [event["loss"] for event in log if event["event"] == "train"]
    assert losses[-1] < losses[0]
    assert "## Measured" in Path("smoke/README.md").read_text()


def test_recipes(vq):
    listed = vq("recipes")
    assert all(name in listed.stdout for name in recipe.names())
    printed = vq("recipes", "photo").stdout
    assert recipe.parse(printed.encode(), "printed") == recipe.load("photo")
    assert json.loads(vq("recipes", "--json").stdout).keys() == set(recipe.names())
    assert vq("recipes", "foto").exit_code == 2


def test_a_batch_that_does_not_part_evenly(vq, pictures):
    result = vq("train", "tiny.toml", "pictures", "-o", "other", "--set", "optimization.accumulate=3")
    assert result.exit_code == 2 and "equal parts" in result.stderr


def test_a_profile_leaves_nothing_behind(vq, pictures):
    before = sorted(Path().rglob("*"))
    result = vq("train", "tiny.toml", "pictures", "--profile", "--threads", "1", "--set", "data.batch=4")
    assert result.exit_code == 0, result.stderr
    assert "backward" in result.stdout and "convolution" in result.stdout and "20 steps of" in result.stderr
    assert sorted(Path().rglob("*")) == before
