import json
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from vqcli.errors import BadFile, UsageError
from vqcli.media import image
from vqcli.training.log import RunLog, Start, compare, images_of, machine, read

START = {"recipe": {"description": "tiny"}, "model": "vqvae2d", "parameters": 9, "pictures": 3, "classes": 0} | {
    "threads": 1,
    "precision": "float32",
    "device": "cpu",
    "world": 1,
}


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def train(log, step, loss=1.0):
    log.train(step, step / 10, 1e-3, 80.0, {"loss": loss, "mse": 2.0})


def test_every_event(tmp_path):
    with RunLog(tmp_path, None) as log:
        log.start(0, Start(**START))
        log.skipped("a\nb é.png", "is empty")
        train(log, 50)
        log.epoch(60, 1, np.array([0.5, 1.0], np.float32), [3.0, 4.0])
        log.validation(60, {"loss": 0.5, "mse": 1.0}, np.True_)
        log.alarm(60, "few codes")
        log.end(60, 6.0)
        assert len(lines(tmp_path)) == 7  # each is on the disk before the file is closed
    start, skipped, trained, *others = lines(tmp_path)
    assert all(next(iter(event)) == "event" for event in lines(tmp_path))
    assert start["event"] == "start" and start["step"] == 0 and start["time"].endswith("+00:00")
    assert start["machine"] == machine() and start["recipe"] == {"description": "tiny"}
    assert skipped == {"event": "skipped", "name": "a\nb é.png", "reason": "is empty"}
    assert list(trained.items()) == [
        ("event", "train"), ("step", 50), ("seconds", 5.0), ("learning_rate", 1e-3), ("items_per_second", 80.0),
        ("mse", 2.0), ("loss", 1.0),
    ]  # fmt: skip
    assert others == [
        {"event": "epoch", "step": 60, "epoch": 1, "usage": [0.5, 1.0], "perplexity": [3.0, 4.0]},
        {"event": "validation", "step": 60, "mse": 1.0, "loss": 0.5, "best": True},
        {"event": "alarm", "step": 60, "text": "few codes"},
        {"event": "end", "step": 60, "seconds": 6.0},
    ]
    assert read(tmp_path) == lines(tmp_path)


def test_numbers_are_short_and_finite(tmp_path):
    with RunLog(tmp_path, None) as log:
        log.validation(7, {"a": 1 / 3, "b": float("nan"), "c": torch.tensor(2.0), "loss": np.float32("inf")}, True)
    text = (tmp_path / "log.jsonl").read_text()
    assert (
        text == '{"event": "validation", "step": 7, "a": 0.333333, "b": null, "c": 2.0, "loss": null, "best": true}\n'
    )


def test_a_resumed_log_is_one_history(tmp_path):
    with RunLog(tmp_path, None) as log:
        log.start(0, Start(**START))
        for step in (50, 100, 150):
            train(log, step, loss=1.0)
        log.skipped("late.png", "is empty")
        log.images(100, *two_batches(1))
        log.images(150, *two_batches(1))
    with (tmp_path / "log.jsonl").open("ab") as stream:
        stream.write(b'{"event": "train", "st')  # killed
    with RunLog(tmp_path, 100) as log:
        log.start(100, Start(**START))
        train(log, 150, loss=0.5)
    assert [(event["event"], event["step"]) for event in lines(tmp_path)] == [
        ("start", 0), ("train", 50), ("train", 100), ("start", 100), ("train", 150),
    ]  # fmt: skip
    assert lines(tmp_path)[-1]["loss"] == 0.5
    assert list(images_of(tmp_path)) == [100]


def test_a_new_run_begins_a_new_history(tmp_path):
    with RunLog(tmp_path, None) as log:
        train(log, 50)
        log.images(50, *two_batches(1))
    with RunLog(tmp_path, None):
        pass
    assert read(tmp_path) == [] and not images_of(tmp_path)
    with RunLog(tmp_path, 10) as log:
        train(log, 20)
    assert len(lines(tmp_path)) == 1


def test_old_logs_are_read_as_train_events(tmp_path):
    old = [{"step": step, "seconds": step / 10, "loss": loss} for step, loss in ((50, 9), (100, 8), (150, 7), (100, 6))]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in old))
    assert read(tmp_path) == [{"event": "train", **old[0]}, {"event": "train", **old[3]}]


def test_what_is_no_event_is_left_out(tmp_path):
    sound = b'{"event": "end", "step": 5, "seconds": NaN}'
    steps = (b"-1", b"true", b"1e9", b'"5"', b"9" * 5000)
    others = (b"[" * 100_000, b"[1]", b'{"event": 5}', b'{"loss": 1}', b"\xff", b"\0" * 50)
    for bad in (*(b'{"event": "end", "step": %s}' % step for step in steps), *others):
        (tmp_path / "log.jsonl").write_bytes(sound + b"\n" + bad + b"\n" + sound[:20])
        assert read(tmp_path) == [{"event": "end", "step": 5, "seconds": None}]


def test_no_log(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="holds no run"):
        read(tmp_path)
    (tmp_path / "log.jsonl").write_bytes(b"some\nother\nfile\n")
    with pytest.raises(BadFile, match="is not the log"):
        read(tmp_path)
    monkeypatch.setattr("vqcli.training.log.LARGEST_LOG", 10)
    with pytest.raises(BadFile, match="too large"):
        read(tmp_path)


def two_batches(count):
    originals = np.full((count, 16, 24, 3), 40, np.uint8)
    return originals, originals + 160


def test_pictures(tmp_path):
    with RunLog(tmp_path, None) as log:
        log.images(500, *two_batches(10))
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["step-000500.webp"]
    pixels = image.read(tmp_path / "pictures" / "step-000500.webp").pixels
    assert pixels.shape == (4 * (16 + 4) + 4, 8 * (24 + 4) + 4, 3)
    middles = pixels[12::20, 16::28].mean(-1)  # [4 rows, 8 columns]: two rows of eight, two of two
    assert np.abs(middles - np.array([40, 200, 40, 200])[:, None])[:, :2].max() < 8
    assert np.abs(middles[:2] - [[40], [200]]).max() < 8 and middles[2:, 2:].min() > 247


@pytest.mark.parametrize("shapes", [((2, 8, 8, 3), (1, 8, 8, 3)), ((0, 8, 8, 3),) * 2, ((8, 8, 3),) * 2])
def test_no_comparison(shapes):
    with pytest.raises(UsageError):
        compare(*(np.zeros(shape, np.uint8) for shape in shapes))


def test_machine_names_nobody():
    import getpass
    import platform

    facts = machine()
    assert facts["torch"] == torch.__version__ and facts["cores"] >= 1 and facts["processor"]
    assert json.loads(json.dumps(facts)) == facts
    for private in (platform.node(), getpass.getuser()):
        assert private not in facts.values()


def test_tensorboard_gets_the_same(tmp_path, monkeypatch):
    told = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            told.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            told.append((name, value, step))

        def add_image(self, name, pixels, step, dataformats):
            told.append((name, pixels.shape, step, dataformats))

        def close(self):
            told.append("closed")

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with RunLog(tmp_path, None) as log:
        train(log, 50)
        log.validation(50, {"loss": 3.0}, True)
        log.epoch(50, 1, [0.5, 1.0], [2.0, 4.0])
        log.images(50, *two_batches(1))
    assert told[0] == (str(tmp_path / "tensorboard"), 0) and told[-1] == "closed"
    for expected in (("train/mse", 2.0, 50), ("train/learning_rate", 1e-3, 50), ("validation/loss", 3.0, 50),
                     ("codes/usage", 0.75, 50), ("reconstructions", (44, 32, 3), 50, "HWC")):  # fmt: skip
        assert expected in told


def test_no_tensorboard_is_no_matter(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with RunLog(tmp_path, None) as log:
        train(log, 50)
        log.images(50, *two_batches(1))
    assert not (tmp_path / "tensorboard").exists()
