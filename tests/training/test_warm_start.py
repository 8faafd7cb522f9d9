"""Runs that begin with the weights of a model or of another run."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from tests.training.conftest import CPU, SCALAR, VECTOR, begin, of
from tests.training.tasks.test_priors import PIXELCNN
from vqcli.cli.main import app
from vqcli.data.dataset import Dataset
from vqcli.data.shapes import KINDS, Shapes
from vqcli.errors import ModelError
from vqcli.media import image
from vqcli.nets.layers.rate import ScalarRate
from vqcli.training import checkpoint, log, run, warm_start
from vqcli.zoo import loading

SHAPES = Shapes(count=2000)
BRIEF = ("optimization.steps=20", "optimization.validate_every=10", "optimization.precision=float32")


def trained(text, folder, *settings, start=None, partial=False, data=SHAPES):
    recipe = of(text, *BRIEF, *settings)
    return run.run(recipe, data, folder, device="cpu", threads=1, start=start and str(start), partial=partial)


def validations(folder):
    return [event for event in log.read(folder) if event["event"] == "validation"]


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """Finished runs: vector and scalar codes, and a prior over the former by class."""
    folder = tmp_path_factory.mktemp("before")
    for name, text in (("vector", VECTOR), ("scalar", SCALAR)):
        trained(text, folder / name)
        shutil.copytree(folder / name, folder / f"{name}-model")  # as it is given to others: without its run
        (folder / f"{name}-model" / checkpoint.NAME).unlink()
    trained(PIXELCNN, folder / "prior", f"codec={folder / 'vector'}")
    shutil.copytree(folder / "prior", folder / "prior-model")
    (folder / "prior-model" / checkpoint.NAME).unlink()
    return folder


@pytest.mark.parametrize("kind", ["vector", "scalar"])
@pytest.mark.parametrize("ending", ["", "-model"])
def test_it_begins_where_the_model_ended(before, tmp_path, kind, ending):
    """The held-out loss at step 0 is that of the best weights, and more steps lower it."""
    info = trained(
        {"vector": VECTOR, "scalar": SCALAR}[kind],
        tmp_path / "after",
        "optimization.learning_rate=3e-3",
        "optimization.steps=60",
        start=before / (kind + ending),
    )
    best = min(event["loss"] for event in validations(before / kind))
    first, *others = validations(tmp_path / "after")
    assert first["step"] == 0 and first["loss"] < (1.01 if kind == "vector" or not ending else 1.05) * best
    assert min(event["loss"] for event in others) < first["loss"]
    assert info.description["start"]["model"] == kind + ending
    assert f"from the weights of {kind}{ending} (20 steps" in (tmp_path / "after" / "README.md").read_text()
    assert log.read(tmp_path / "after")[0]["start"]["steps"] == 20


def test_a_run_that_makes_nothing_better_keeps_what_it_began_with(before, tmp_path):
    info = trained(VECTOR, tmp_path / "after", "optimization.learning_rate=0.3", start=before / "vector")
    assert info.description["steps"] == 0
    one, other = (
        loading.load(str(folder), "cpu").net.state_dict() for folder in (before / "vector", tmp_path / "after")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_all_of_a_run_is_there(before, tmp_path):
    """Weights, codebook and averages, bit for bit; the codebook is not made anew from data."""
    start = warm_start.read(str(before / "vector"), of(VECTOR))
    dataset = Dataset(SHAPES, held_out=False)
    task = begin(of(VECTOR), None, dataset)
    assert warm_start.load(task, start, dataset) == ", started from those of vector (20 steps)"
    own = checkpoint.tensors_of(task)
    assert all(torch.equal(own[name], tensor) for name, tensor in start.tensors.items() if name != "usage")
    assert task.model.quantizer.initialised


def test_a_codebook_that_lacks_its_averages_is_kept(before):
    start = warm_start.read(str(before / "vector-model"), of(VECTOR))
    dataset = Dataset(SHAPES, held_out=False)
    task = begin(of(VECTOR), None, dataset).train()
    warm_start.load(task, start, dataset)
    codebook = task.model.quantizer.codebook.clone()
    task(*task.as_input(dataset.batch(task.recipe.data, 0, 0, 16), CPU))
    assert (task.model.quantizer.codebook - codebook).abs().max() < 0.2 * codebook.std()


def test_a_run_that_was_never_judged(before, tmp_path):
    """Its averaged weights are the start."""
    shutil.copytree(before / "vector", tmp_path / "young")
    (tmp_path / "young" / checkpoint.BEST).unlink()
    start = warm_start.read(str(tmp_path / "young"), of(VECTOR))
    with safe_open(tmp_path / "young" / checkpoint.NAME, "pt") as file:
        assert torch.equal(start.tensors["model.decoder.0.weight"], file.get_tensor("average.model.decoder.0.weight"))


@pytest.mark.parametrize("ending", ["", "-model"])
def test_labels_of_a_prior_go_by_name(before, tmp_path, ending):
    """Classes in another order find their rows; so does the row for no label."""
    recipe = of(PIXELCNN, f"codec={before / 'vector'}")
    start = warm_start.read(str(before / f"prior{ending}"), recipe)
    dataset = Dataset(SHAPES, held_out=False)
    dataset.classes = tuple(reversed(KINDS))
    task = begin(recipe, loading.load(str(before / "vector"), "cpu"), dataset)
    warm_start.load(task, start, dataset)
    there = start.tensors["prior.label_embedding.weight"]
    assert torch.equal(task.prior.label_embedding.weight, there[[*reversed(range(len(KINDS))), len(KINDS)]])


def test_unknown_classes(before):
    recipe = of(PIXELCNN, f"codec={before / 'vector'}")
    dataset = Dataset(SHAPES, held_out=False)
    dataset.classes = (KINDS[1], "heptagon")
    codec = loading.load(str(before / "vector"), "cpu")
    start = warm_start.read(str(before / "prior-model"), recipe)
    with pytest.raises(ModelError, match="prior-model does not know heptagon") as raised:
        warm_start.load(begin(recipe, codec, dataset), start, dataset)
    assert "--partial" in raised.value.hint
    task = begin(recipe, codec, dataset)
    said = warm_start.load(task, warm_start.read(str(before / "prior-model"), recipe, True), dataset)
    assert said.endswith("new: heptagon")
    assert torch.equal(task.prior.label_embedding.weight[0], start.tensors["prior.label_embedding.weight"][1])


def test_the_rate_model_comes_back_from_its_integers():
    torch.manual_seed(0)
    one, other = ScalarRate(6, 3), ScalarRate(6, 3)
    for parameter in (one.mean, one.own, one.earlier):
        torch.nn.init.normal_(parameter, std=0.5)
    other.restore(one.fitted_weights())
    again = other.fitted_weights()
    assert all((again[name] - value).abs().max() <= 1 for name, value in one.fitted_weights().items())


# ---------------------------------------------------------------- what does not fit


@pytest.fixture
def vq(before, picture, tmp_path, monkeypatch):
    """The command, in a folder with models, recipes and pictures."""
    monkeypatch.chdir(tmp_path)
    for folder in before.iterdir():
        shutil.copytree(folder, folder.name)
    Path("tiny.toml").write_bytes(VECTOR.replace(b"steps = 60", b"steps = 4"))
    Path("scalar.toml").write_bytes(SCALAR)
    Path("prior.toml").write_bytes(PIXELCNN.replace(b'"codec"', b'"./vector"'))
    Path("damaged").mkdir()
    whole = Path("vector-model/model.safetensors").read_bytes()
    Path("damaged/model.safetensors").write_bytes(whole[: len(whole) // 2])
    Path("half").mkdir()
    Path("half/checkpoint.safetensors").write_bytes(Path("vector/checkpoint.safetensors").read_bytes()[:5000])
    Path("pictures").mkdir()
    for number in range(3):
        image.write(Path(f"pictures/{number}.png"), picture(40, 40))
    return lambda *arguments: CliRunner().invoke(app, arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tiny.toml", "--from", "nobody"], "no model nobody"),
        (["tiny.toml", "--from", "./damaged"], "does not hold the weights of a model"),
        (["tiny.toml", "--from", "./half"], "is not a checkpoint of vq"),
        (["tiny.toml", "--from", "./prior"], "is of family pixelcnn, and the recipe trains a vqvae2d"),
        (["prior.toml", "--from", "./vector"], "is of family vqvae2d"),
        (["prior.toml", "--from", "./vector-model"], "has no prior of family pixelcnn"),
        (["prior.toml", "--from", "./prior-model", "--codec", "./scalar"], "is over other codes than those of scalar"),
        (
            ["tiny.toml", "--from", "./vector-model", "--set", "model.arguments.quantizer.K=32"],
            "model.quantizer.codebook is [1, 1, 16, 8] there and [1, 1, 32, 8] here",
        ),
        (["tiny.toml", "--from", "./vector-model", "--set", "model.arguments.blocks=0"], "does not fit the recipe"),
        (["scalar.toml", "--from", "./vector-model"], "model.quantizer.log_gain is missing there"),
        (["tiny.toml", "--partial"], "--from MODEL names it"),
        (["tiny.toml", "--from", "./vector", "--resume"], "leave out --from or --resume"),
    ],
)
def test_what_cannot_be(vq, arguments, says):
    recipe, *options = arguments
    result = vq("train", recipe, "pictures", "-o", "other", "--device", "cpu", *options)
    assert result.exit_code != 0 and says in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2  # what it is about, and the hint
    assert not Path("other").exists()


def test_other_codebooks_begin_anew_where_that_is_wanted(before, tmp_path):
    settings = "model.arguments.quantizer.K=32"
    trained(VECTOR, tmp_path / "after", settings, start=before / "vector-model", partial=True)
    first, *others = validations(tmp_path / "after")
    assert min(event["loss"] for event in others) < first["loss"]
