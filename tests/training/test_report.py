import base64
import json
import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest

from tests.elements import Elements
from vqcli import recipe
from vqcli.errors import BadFile, UsageError
from vqcli.training.log import RunLog, Start, images_of, machine
from vqcli.training.report import page as report

RECIPE = recipe.load("photo").to_dict()
EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"


class Page(Elements):
    """A report, and all text that it shows."""

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(text for tag, text in self.texts if tag not in ("script", "style")))


def open_page(run):
    return Page(report.page(run))


def start(log, step=0, **others):
    facts = {"recipe": RECIPE, "model": "vqvae2d", "parameters": 1234567, "pictures": 5000, "classes": 30}
    place = {"threads": 2, "precision": "float32", "device": "cpu", "world": 1}
    log.start(step, Start(**{**facts, **place, **others}))


def write_run(folder, groups=2, steps=1000, end=True):
    folder.mkdir(exist_ok=True)
    draw = np.random.default_rng(0)
    with RunLog(folder, None) as log:
        start(log)
        log.skipped("broken.png", "is empty")
        for step in range(50, steps + 1, 50):
            log.train(
                step, step / 5, 5e-4, 100.0, {"loss": 100 / step, "mse": 5000 / step, "commitment": draw.random()}
            )
            if step % 200 == 0:
                log.epoch(step, step // 200, draw.uniform(0.1, 1, groups), draw.uniform(1, 99, groups))
                log.validation(step, {"loss": 110 / step + (step == 1000), "mse": 6000 / step}, step < 1000)
                log.images(step, *draw.integers(0, 256, (2, 4, 16, 16, 3), np.uint8))
        if end:
            log.end(steps, steps / 5)
    return folder


def test_a_whole_run(tmp_path, vector_model):
    run = write_run(tmp_path / "my-run")
    page = open_page(run)
    assert "my-run" in page.text and RECIPE["description"] in page.text
    for fact in ("finished", "step 1,000 of 60,000", "3 min", "best validation loss 0.1375 at step 800", "5,000", "30",
                 "1,234,567", "1 file skipped", "broken.png", "is empty", "lambda_high = 0.1", "codebook 2",
                 "a quarter", "mean square error", "commitment", "Learning rate", "Speed"):  # fmt: skip
        assert fact in page.text, fact
    assert "warning" not in page.text and "no validation" not in page.text
    for key, value in machine().items():
        assert str(value) in page.text, key
    images = page.all("img")
    assert len(images) == 5 and all(
        image["alt"] and image["src"].startswith("data:image/webp;base64,") for image in images
    )
    embedded = base64.b64decode(images[0]["src"].partition(",")[2])
    assert embedded == (run / "pictures" / "step-001000.webp").read_bytes()
    assert "step 1,000" in images[0]["alt"] and "step 200" in images[1]["alt"]
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))


def test_the_page_asks_nothing_of_the_network(tmp_path):
    page = open_page(write_run(tmp_path))
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    text = (report.HERE / report.TEMPLATE).read_text()
    assert "url(" not in text and "@import" not in text and "fetch" not in text and "http:" not in text
    assert "default-src 'none'" in page.all("meta")[3]["content"]


def test_what_comes_from_files_is_escaped(tmp_path):
    evil = {"description": EVIL, EVIL: EVIL, "model": {EVIL: [EVIL, {EVIL: EVIL}]}}
    with RunLog(tmp_path, None) as log:
        start(log, recipe=evil, model=EVIL, device=EVIL)
        log.skipped(EVIL, EVIL)
        log.alarm(3, EVIL)
        log.train(5, 1.0, 1e-3, 1.0, {EVIL: 1.0, "loss": 2.0})
        log.validation(5, {EVIL: 1.0, "loss": 2.0}, True)
    page = open_page(tmp_path)
    assert len(page.all("script")) == 1 and not page.all("img")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.text.count("<script>alert(1)</script>") >= 8


def test_events_of_any_kind_and_type(tmp_path):
    odd = [None, True, -1, 1e300, 5e-324, 2**60, "text", [], [None], ["a"], {}, {"a": 1}, [1, 2], [1e300]]
    keys = ["step", "seconds", "loss", "mse", "usage", "perplexity", "epoch", "best", "name", "reason", "text"]
    keys += ["recipe", "machine", "time", "pictures", "classes", "device", "world", "threads", "parameters"]
    keys += ["learning_rate", "items_per_second"]
    kinds = ("start", "train", "epoch", "validation", "skipped", "alarm", "end", "other")
    base = {"step": 1, "epoch": 1, "usage": [0.5], "perplexity": [1.0], "loss": 1.0}
    events = [{"event": kind, **base, key: value} for kind in kinds for key in keys for value in odd]
    for some in (events, *[[event] for event in events[:: len(events) // 60]]):
        (tmp_path / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in some))
        open_page(tmp_path)


@pytest.mark.parametrize("recipe_", [{"optimization": 5}, {"optimization": {"steps": "many"}}, {"model": None}, 7])
def test_odd_recipes(tmp_path, recipe_):
    (tmp_path / "log.jsonl").write_text(json.dumps({"event": "start", "step": 3, "recipe": recipe_}))
    assert "step 3" in open_page(tmp_path).text


def test_a_run_that_has_just_begun(tmp_path):
    log = RunLog(tmp_path, None)
    page = open_page(tmp_path)
    assert "nothing logged yet" in page.text and "No loss has been written yet" in page.text
    start(log)
    page = open_page(tmp_path)
    assert "still running, or stopped" in page.text and "step 0 of 60,000" in page.text and not page.all("svg")
    log.train(50, 4.0, 1e-4, 90.0, {"loss": 3.0})
    page = open_page(tmp_path)
    assert "no validation yet" in page.text and len(page.all("svg")) == 3
    log.close()


def test_a_run_that_went_on_is_not_finished(tmp_path):
    write_run(tmp_path)
    with RunLog(tmp_path, 1000) as log:
        start(log, 1000)
    page = open_page(tmp_path)
    assert "still running" in page.text and "Sessions" in page.text and "2 threads" in page.text


def test_an_old_log(tmp_path):
    old = [{"step": step, "seconds": step / 7, "loss": 9.0, "mse": 80.0} for step in range(50, 5000, 50)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in old))
    page = open_page(tmp_path)
    assert "older log" in page.text and "step 4,950" in page.text and "steps per second" in page.text
    assert len(page.all("svg")) == 3


def test_alarms_stand_out(tmp_path):
    with RunLog(tmp_path, None) as log:
        log.alarm(1500, "group 3 uses 20 % of its codes")
    page = open_page(tmp_path)
    assert "1 warning" in page.text and "step 1,500: group 3 uses" in page.text
    assert {"class": "alarms", "aria-label": "Warnings"} in page.all("section")


def test_many_groups_become_a_band(tmp_path):
    page = open_page(write_run(tmp_path, groups=48))
    assert "median of 48 codebooks" in page.text and "minimum to maximum" in page.text and "codebook 2" not in page.text
    assert sum(path.get("class") == "band" for path in page.all("path")) == 2


def test_the_model_of_a_finished_run(tmp_path, vector_model):
    write_run(tmp_path)
    model = bytearray(vector_model.info.path.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(model)
    text = open_page(tmp_path).text
    assert vector_model.info.digest.hex() in text and "vqvae2d" in text
    description = {
        **vector_model.info.description,
        "measured": {"on": "Kodak", "command": "vq eval kodak/", "points": [{"psnr_db": 27.5, "quality": EVIL}, 5]},
    }
    header = json.dumps({"__metadata__": {"vq": json.dumps(description)}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    text = open_page(tmp_path).text
    assert "27.5" in text and "PSNR (dB)" in text and "vq eval kodak/" in text and EVIL[:20] in text
    (tmp_path / "model.safetensors").write_bytes(model[:50])
    assert vector_model.info.digest.hex() not in open_page(tmp_path).text  # a damaged model is left out


def test_pictures_have_a_limit(tmp_path, monkeypatch):
    write_run(tmp_path)
    pictures = images_of(tmp_path)
    size = max(path.stat().st_size for path in pictures.values())
    monkeypatch.setattr(report, "IMAGE_BYTES", 3 * size + size // 2)
    last, earlier = report.embedded(pictures)
    assert last["step"] == "1,000" and [shown["step"] for shown in earlier] == ["200", "600"]
    monkeypatch.setattr(report, "IMAGE_BYTES", size // 2)
    assert report.embedded(pictures) == (None, [])
    monkeypatch.undo()
    (tmp_path / "pictures" / "step-000400.webp").write_bytes(b"<svg onload=alert(1)>")
    assert [shown["step"] for shown in report.embedded(pictures)[1]] == ["200", "600", "800"]


@pytest.mark.parametrize("name", recipe.names())
def test_recipes_are_shown_as_toml(name):
    loaded = recipe.load(name)
    shown = report.toml(loaded.to_dict())
    assert recipe.parse(shown.encode(), name) == loaded
    assert tomllib.loads(report.toml({"a b": {'"': [1, {"x": None, "y": "\n"}]}})) == {"a b": {'"': [1, {"y": "\n"}]}}


def test_durations():
    assert [report.duration(seconds) for seconds in (3, 99, 100, 5280, 7700)] == [
        "3 s",
        "99 s",
        "1 min",
        "88 min",
        "2 h 8 min",
    ]


def test_writing(tmp_path):
    write_run(tmp_path)
    report.write_page(tmp_path, tmp_path / "x.html")
    assert (tmp_path / "x.html").read_bytes().startswith(b"<!doctype html>")
    with pytest.raises(UsageError, match="exists"):
        report.write_page(tmp_path, tmp_path / "x.html")
    report.write_page(tmp_path, tmp_path / "x.html", force=True)
    with pytest.raises(UsageError, match="holds no run"):
        report.write_page(tmp_path / "pictures", tmp_path / "y.html")
    (tmp_path / "log.jsonl").write_text("a\nb\nc")
    with pytest.raises(BadFile):
        report.page(tmp_path)


def test_a_page_needs_no_torch(tmp_path):
    write_run(tmp_path, steps=200)
    code = (
        f"import sys, pathlib; from vqcli.training.report import page; page.page(pathlib.Path({str(tmp_path)!r}));"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
