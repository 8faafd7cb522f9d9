import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vqcli import recipe, zoo
from vqcli.data.pictures import Pictures, is_validation
from vqcli.errors import BadFile, ModelError, UsageError, VqError
from vqcli.media import image
from vqcli.training import checkpoint, loop, run

CPU = torch.device("cpu")

VECTOR = b"""
description = "tiny"
modality = "image"
[model]
family = "vqvae2d"
[model.arguments]
widths = [16, 32]
dim = 8
blocks = 1
quantizer = { kind = "vector", K = 16 }
[data]
crop = 32
batch = 8
[optimization]
steps = 60
learning_rate = 5e-3
warmup = 5
average = 0.9
"""

SCALAR = (
    VECTOR.replace(b'{ kind = "vector", K = 16 }', b'{ kind = "scalar", limits = 20, qualities = 3 }') + b"[rate]\n"
)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Twenty pictures of coloured rectangles."""
    folder = tmp_path_factory.mktemp("shapes")
    draw = np.random.default_rng(0)
    for number in range(20):
        pixels = np.full((48, 48, 3), draw.integers(256, size=3), np.uint8)
        for _ in range(4):
            top, left = draw.integers(0, 36, 2)
            pixels[top : top + 16, left : left + 16] = draw.integers(256, size=3)
        image.write(folder / f"{number}.png", pixels)
    return folder


def losses(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("text", [VECTOR, SCALAR], ids=["vector", "scalar"])
def test_learning(shapes, tmp_path, monkeypatch, text):
    monkeypatch.setattr(loop, "LOG_EVERY", 10)
    info = run.run(recipe.parse(text, "test"), [shapes], tmp_path / "model", device=CPU)
    log = losses(tmp_path / "model")
    assert len(log) == 6
    assert log[-1]["mse"] < 0.75 * log[0]["mse"]
    assert info.description["steps"] == 60
    model = zoo.load(info, "cpu")
    assert model.statistics is not None
    if text is VECTOR:
        pixels = loop.as_input(np.stack([image.read(path).pixels for path in sorted(shapes.glob("*.png"))]))
        assert len(model.net.encode(pixels).unique()) > 8


@pytest.mark.parametrize("text", [VECTOR, SCALAR], ids=["vector", "scalar"])
def test_resuming_equals_going_on(shapes, tmp_path, text):
    """12 steps straight equal 6, stop, 6: bit for bit."""
    twelve = recipe.parse(text.replace(b"steps = 60", b"steps = 12"), "test")
    pictures = Pictures([shapes])

    class Stopped(Exception):
        pass

    def stop_at_six(progress):
        raise Stopped

    for name in ("straight", "halved"):
        (tmp_path / name).mkdir()
    straight = loop.train(twelve, pictures, tmp_path / "straight", device=CPU)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "LOG_EVERY", 6)
        with pytest.raises(Stopped):
            loop.train(twelve, pictures, tmp_path / "halved", device=CPU, report=stop_at_six)
    resumed = loop.train(twelve, pictures, tmp_path / "halved", device=CPU, resume=True)
    one, other = checkpoint.tensors_of(straight), checkpoint.tensors_of(resumed)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(shapes, tmp_path, monkeypatch):
    tiny = recipe.parse(VECTOR.replace(b"steps = 60", b"steps = 4"), "test")
    loop.train(tiny, Pictures([shapes]), tmp_path, device=CPU)
    before = (tmp_path / checkpoint.NAME).read_bytes()
    more = recipe.parse(VECTOR.replace(b"steps = 60", b"steps = 8"), "test")
    nothing = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr(loop.Run, "loss", lambda self, x: (nothing, {}))
    with pytest.raises(VqError, match="not finite at step 4"):
        loop.train(more, Pictures([shapes]), tmp_path, device=CPU, resume=True)
    assert (tmp_path / checkpoint.NAME).read_bytes() == before


def test_a_budget_ends_the_run(shapes, tmp_path):
    endless = recipe.parse(VECTOR.replace(b"steps = 60", b"steps = 1000000"), "test")
    trained = loop.train(endless, Pictures([shapes]), tmp_path, device=CPU, budget_s=0.5)
    assert 0 < trained.steps_done < 1_000_000


def test_batches_follow_from_seed_and_step(shapes):
    pictures, options = Pictures([shapes]), recipe.parse(VECTOR, "test").data
    first = pictures.batch(options, 0, 3)
    assert first.shape == (8, 32, 32, 3) and first.dtype == np.uint8
    assert np.array_equal(first, pictures.batch(options, 0, 3))
    assert not np.array_equal(first, pictures.batch(options, 0, 4))
    assert not np.array_equal(first, pictures.batch(options, 1, 3))
    ahead = pictures.batches(options, 0, 3)
    assert np.array_equal(next(ahead), first)
    ahead.close()


def test_held_out_pictures_are_the_same_every_time(tmp_path, picture):
    names = [f"{number}.png" for number in range(300)]
    held_out = [name for name in names if is_validation(name)]
    assert 0 < len(held_out) < 30
    for name in [held_out[0], next(name for name in names if name not in held_out)]:
        image.write(tmp_path / name, picture(40, 40))
    assert [path.name for path in Pictures([tmp_path], validation=True).paths] == held_out[:1]
    assert len(Pictures([tmp_path])) == 1


def test_broken_pictures_are_left_out_and_named(shapes, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes((shapes / "0.png").read_bytes())
    (tmp_path / "broken.png").write_bytes(b"nothing")
    pictures = Pictures([tmp_path])
    for step in range(5):
        pictures.batch(recipe.parse(VECTOR, "test").data, 0, step)
    assert [path.name for path in pictures.skipped] == ["broken.png"]


def test_runs_are_not_mixed_up(shapes, tmp_path):
    tiny = recipe.parse(VECTOR.replace(b"steps = 60", b"steps = 2"), "test")
    with pytest.raises(UsageError, match="no run to resume"):
        run.run(tiny, [shapes], tmp_path / "m", device=CPU, resume=True)
    run.run(tiny, [shapes], tmp_path / "m", device=CPU)
    with pytest.raises(UsageError, match="holds a run already"):
        run.run(tiny, [shapes], tmp_path / "m", device=CPU)
    other = recipe.parse(VECTOR.replace(b"K = 16", b"K = 8"), "test")
    with pytest.raises(BadFile, match="does not continue this run"):
        run.run(other, [shapes], tmp_path / "m", device=CPU, resume=True)
    with pytest.raises(UsageError, match="cannot name a model"):
        run.run(tiny, [shapes], tmp_path / "A B", device=CPU)


def test_data_that_cannot_be_trained_on(tmp_path, picture):
    with pytest.raises(UsageError, match="no pictures"):
        Pictures([tmp_path])
    image.write(tmp_path / "small.png", picture(8, 8))
    with pytest.raises(UsageError, match="32 pixels"):
        Pictures([tmp_path]).batch(recipe.parse(VECTOR, "test").data, 0, 0)


@pytest.mark.parametrize("name", recipe.names())
def test_shipped_recipes_build(name):
    loaded = recipe.load(name)
    assert (recipe.SHIPPED / f"{name}.toml").read_text().count("\n") <= 40
    assert zoo.build(loaded.model.family, loaded.model.arguments).stride in (4, 8)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (VECTOR + b"[unknown]\n", "unknown"),
        (VECTOR.replace(b"crop = 32", b'crop = "large"'), "crop"),
        (VECTOR.replace(b"batch = 8", b"batch = 0"), "batch"),
        (b"= nonsense", "not a recipe"),
    ],
)
def test_wrong_recipes(wrong, says):
    with pytest.raises(BadFile, match=says):
        recipe.parse(wrong, "mine.toml")


def test_unknown_names():
    with pytest.raises(UsageError, match="no recipe foto") as raised:
        recipe.load("foto")
    assert "photo" in raised.value.hint
    with pytest.raises(ModelError, match="arguments do not make"):
        zoo.build("vqvae2d", {"wdths": [8]})


@pytest.mark.parametrize(("text", "length"), [("90s", 90), ("1.5m", 90), ("2h", 7200)])
def test_durations(text, length):
    assert run.seconds(text) == length
    with pytest.raises(UsageError):
        run.seconds(text[:-1])
