"""Every kind of training run keeps the contract of tasks/base.py; a new file in tasks/ needs a tiny run here."""

from __future__ import annotations

import importlib
import math
import shutil
import sys
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.conftest import CPU, VECTOR, of
from tests.training.datasets.test_code_clips import ARGUMENTS, PRIOR
from tests.training.tasks.test_frames import FRAMES, TWO_STAGES, walk
from tests.training.tasks.test_joint2d import JOINT
from tests.training.tasks.test_priors import PIXELCNN
from tests.training.tasks.test_speech import SPEECH
from vqcli import recipe
from vqcli.data import recordings
from vqcli.data.recordings import Facts
from vqcli.data.shapes import Shapes
from vqcli.errors import UsageError
from vqcli.recipe import Recipe
from vqcli.training import log, run, tasks
from vqcli.training.losses import Loss
from vqcli.training.tasks import registry
from vqcli.zoo import loading, priors
from vqcli.zoo import registry as nets

BRIEF = ("optimization.steps=2", "optimization.validate_every=1", "optimization.precision=float32", "data.batch=4")
VAE = VECTOR.replace(b'family = "vqvae2d"', b'family = "vae2d"').replace(
    b'quantizer = { kind = "vector", K = 16 }', b""
)
WAVES = b"""
description = "tiny"
modality = "audio"
[model]
family = "vqvae1d"
arguments = { K = 8, dim = 4, width = 6, wavenet = { residual = 32, skip = 32, cycles = 1, layers_per_cycle = 2 } }
[data]
seconds = 0.12
"""
FINETUNE = b"""
description = "tiny"
modality = "audio"
task = "waveform"
[model]
family = "encodec"
arguments = { net = { width = 4, dim = 8 }, codebooks = 4, K = 16 }
[data]
seconds = 0.2
[adversary]
width = 8
"""
OVER_TIME = PRIOR.format(
    family="wavenet", arguments="residual = 32\nskip = 32\ncycles = 1\nlayers_per_cycle = 2\nhidden = 16"
).encode()


@pytest.fixture(scope="module")
def seeing(make_model, tmp_path_factory):
    """A codec of images, stride 4."""
    arguments = {"widths": [8, 8], "dim": 4, "blocks": 1, "quantizer": {"kind": "vector", "K": 8}}
    return make_model("seeing", folder=tmp_path_factory.mktemp("models"), **arguments)


@pytest.fixture(scope="module")
def hearing(tmp_path_factory):
    """A codec of speech that knows the speakers of the clips."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nets.build("speech", ARGUMENTS | {"speakers": 3})
        net.train()
        net.quantizer(torch.randn(4, 4, 200))
    speakers = [{"name": name, "seconds": 9.0, "pitch_hz": 120.0} for name in ("high", "low", "middle")]
    description = {"family": "speech", "arguments": ARGUMENTS | {"speakers": 3}, "modality": "audio"}
    folder = tmp_path_factory.mktemp("models") / "hearing"
    return loading.load(loading.save(folder, net, None, description | {"speakers": speakers}), "cpu")


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "walks"
    recordings.record(walk, folder, Facts("walk", 0, 50), 200)
    return [folder]


@pytest.fixture(scope="module")
def speakers(clips_folder, tmp_path_factory):
    """The clips of three speakers, some of them held out."""
    folder = tmp_path_factory.mktemp("data") / "speakers"
    for path in clips_folder.rglob("*.wav"):
        into = folder / ("val" if path.stem == "7" else "train") / path.parent.name
        into.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, into / path.name)
    return [folder]


@pytest.fixture
def tiny(seeing, hearing, walks, speakers):
    """tiny(name): a recipe that the task of that name trains, and data for it."""

    def make(name: str) -> tuple[Recipe, Any]:
        over_images, over_speech = f"codec={seeing.info.folder}", f"codec={hearing.info.folder}"
        shapes = Shapes(count=100)
        text, data, *settings = {
            "codec": (VECTOR, shapes),
            "baseline": (VAE, shapes),
            "joint2d": (JOINT, shapes),
            "twostage2d": (TWO_STAGES, shapes, over_images, "model.arguments.side=32", "data.crop=32"),
            "prior2d": (PIXELCNN, shapes, over_images),
            "frames": (FRAMES, walks, over_images),
            "speech": (SPEECH, speakers),
            "finetune": (SPEECH, speakers, over_speech, "task=finetune", "adversary.width=8", "data.seconds=0.64"),
            "vqvae1d": (WAVES, speakers),
            "prior1d": (OVER_TIME, speakers, over_speech),
            "waveform": (FINETUNE, speakers),
        }[name]
        return of(text, *settings, *BRIEF), data

    return make


@pytest.mark.parametrize("name", registry.names())
def test_what_a_task_takes_and_gives(name, tiny):
    """Batches hang on their numbers alone, can be cut, and become what the loss and the pictures are made of."""
    chosen, data = tiny(name)
    assert registry.task_of(chosen) is registry.find(name)
    made = run.prepare(chosen, data, CPU)
    task, dataset = made.task, made.dataset
    assert len(dataset) > 0 and made.validation is not None and made.held_out.classes == dataset.classes
    kinds = f" in {len(dataset.classes)} {task.CLASSES}" if dataset.classes else ""
    assert str(made).startswith(f"{len(dataset)} {task.ITEMS}{kinds}; {chosen.model.family}, ")
    batch, again = (dataset.batch(chosen.data, 0, 0, 4) for _ in range(2))
    inputs, others = task.as_input(batch, CPU), task.as_input(again, CPU)
    assert len(batch) == 4 and len(batch.part(1, 3)) == 2 and len(inputs) == len(others)
    assert all(torch.equal(one, other) and len(one) == 4 for one, other in zip(inputs, others, strict=True))
    loss = task.train()(*inputs)
    assert isinstance(loss, Loss) and loss.value.dim() == 0 and bool(torch.isfinite(loss.value))
    loss.value.backward()
    assert any(weight.grad is not None and bool(weight.grad.any()) for weight in task.parameters())
    assert (loss.codes is not None) >= bool(task.codebook_sizes)
    shown = made.validation.show(task)
    assert shown is None or (shown[0].shape == shown[1].shape and shown[0].dtype == shown[1].dtype == np.uint8)


@pytest.mark.parametrize("name", registry.names())
def test_a_run_of_two_steps_becomes_a_model(name, tiny, tmp_path):
    """With losses in the log, figures in the header, and a card."""
    chosen, data = tiny(name)
    info = run.run(chosen, data, tmp_path / "made", device="cpu", threads=1)
    events = log.read(tmp_path / "made")
    assert [event["step"] for event in events if event["event"] == "validation"] == [1, 2]
    assert all(math.isfinite(event["loss"]) for event in events if event["event"] in ("train", "validation"))
    loading.load(info, "cpu")
    found = [prior for prior in priors.beside(info) if prior.family == chosen.model.family]
    header = found[0].description if found else info.description
    assert header["family"] == chosen.model.family and header["steps"] <= 2 and header["measured"]
    assert header["recipe"].get("task") == chosen.task
    assert chosen.description in (tmp_path / "made" / "README.md").read_text()


TOY = """
from vqcli.training.losses import Loss
from vqcli.training.tasks.base import Task
from vqcli.zoo import loading, registry

class Toy(Task):
    ITEMS = "toys"

    def __init__(self, recipe):
        super().__init__(recipe)
        self.model = registry.build(recipe.model.family, recipe.model.arguments)

    def forward(self, pixels, labels):
        made, quantized = self.model(pixels)
        return Loss((made - pixels).abs().mean() + sum(quantized.losses.values()), {})

    def export(self, finished):
        return loading.save(finished.folder, self.model, None, finished.description)

TASK = Toy
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "toy.py").write_text(TOY)
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path / "tasks")])
    importlib.invalidate_caches()
    yield
    sys.modules.pop("vqcli.training.tasks.toy", None)
    vars(tasks).pop("toy", None)


def test_a_file_in_the_folder_is_a_task(toy, tmp_path):
    assert "toy" in registry.names()
    lines: list[str] = []
    chosen = of(VECTOR, "task=toy", *BRIEF)
    info = run.run(chosen, Shapes(count=100), tmp_path / "made", device="cpu", threads=1, say=lines.append)
    assert " toys in " in lines[0]
    assert info.description["recipe"]["task"] == "toy" and info.description["toys"] > 0
    assert run.recipe_of(tmp_path / "made") == chosen


def test_an_unknown_task_is_one_clear_line(toy):
    with pytest.raises(UsageError, match="no task tooy") as caught:
        registry.task_of(of(VECTOR, "task=tooy"))
    assert "toy" in caught.value.hint


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_has_its_task(name):
    assert registry.task_of(recipe.load(name)).__module__.startswith("vqcli.training.tasks.")


def test_recipes_without_a_task_train_as_before():
    """Those of old runs and headers: the family decides, and an adversary finishes a speech model."""
    assert "task" not in of(VECTOR).to_dict() and of(VECTOR) == recipe.from_dict(of(VECTOR).to_dict(), "again")
    finish = registry.find("finetune")
    assert registry.task_of(of(SPEECH, "adversary.width=8")) is finish
    assert registry.task_of(recipe.load("speech-finish")) is finish
    assert registry.task_of(of(SPEECH)) is registry.find("speech")
    assert registry.task_of(of(VECTOR, "adversary.width=8")) is registry.find("codec")


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("codec", ["codec=nothing"], "no model nothing"),
        ("prior2d", ["modality=audio"], "pixelcnn is not trained on audio"),
        ("speech", ["modality=image"], "speech is not trained on images"),
    ],
)
def test_what_does_not_belong_together_is_refused(name, settings, says, tiny):
    chosen, data = tiny(name)
    with pytest.raises(Exception, match=says) as caught:
        run.prepare(recipe.override(chosen, settings), data, CPU)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["prior2d", "prior1d", "twostage2d", "frames", "finetune"])
def test_some_need_a_model(name, tiny):
    chosen, data = tiny(name)
    alone = {key: value for key, value in chosen.to_dict().items() if key != "codec"}
    with pytest.raises(UsageError) as caught:
        run.prepare(recipe.from_dict(alone, "alone"), data, CPU)
    assert "--codec NAME" in caught.value.hint


def test_a_model_that_is_of_no_use_is_refused(tiny, seeing):
    chosen, data = tiny("codec")
    with pytest.raises(UsageError, match="vqvae2d is not trained on the codes of a model"):
        run.prepare(recipe.override(chosen, [f"codec={seeing.info.folder}"]), data, CPU)
