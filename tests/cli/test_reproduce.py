import json
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.conftest import SIDE, record
from vqcli.evaluation.video import actions, frames
from vqcli.experiments import figures
from vqcli.experiments.table import DATA, EXPERIMENTS, Data, Experiment, Variant, find, names
from vqcli.zoo import store

CODEC = """
description = "tiny"
modality = "image"
[model]
family = "vqvae2d"
[model.arguments]
widths = [8, 8]
dim = 4
blocks = 1
quantizer = { kind = "vector", K = 8 }
likelihood = { kind = "gaussian" }
[data]
crop = 28
batch = 8
[optimization]
steps = 4
validate_every = 4
average = 0.0
"""
PRIOR = """
description = "tiny"
modality = "image"
codec = "tokens"
[model]
family = "pixelcnn"
arguments = { width = 8, layers = 2, hidden = 8 }
[data]
crop = 28
batch = 8
[optimization]
steps = 4
validate_every = 4
"""
FRAMES = PRIOR.replace("crop = 28", "crop = 24")
STAGES = FRAMES.replace("pixelcnn", "twostage2d").replace(
    "width = 8, layers = 2, hidden = 8",
    "side = 24, latents = 2, K = 4, dim = 4, widths = [8, 8, 8], condition = 8, decoder = { width = 8, layers = 2 }",
)
VIDEO = FRAMES.replace("pixelcnn", "frames").replace(
    "width = 8, layers = 2, hidden = 8",
    "context = 2, embedded = 4, width = 8, blocks = 1, condition = 8, decoder = { width = 8, layers = 2 }",
)
TINY = (
    Experiment(
        "nets", "here", "two tiny nets", "bits/dim", paper="4.67", data="mnist",
        measures=("likelihood", "reconstruction"),
        variants=(
            Variant("beta-0.25", "codec.toml", ("model.arguments.quantizer.beta=0.25",)),
            Variant("beta-1", "codec.toml", ("model.arguments.quantizer.beta=1.0",)),
        ),
    ),
    Experiment(
        "drawn", "here", "tiny pictures", "named right", report="pictures", data="mnist", measures=("samples",),
        variants=(Variant("codec", "codec.toml", prior="prior.toml"),),
    ),
    Experiment(
        "walked", "here", "tiny frames", "PSNR", paper="pictures", data="walk", measures=("frames",),
        variants=(Variant("codec", "small.toml", prior="frames.toml"),),
    ),
    Experiment(
        "stages", "here", "tiny frames, few bits", "bits a code", paper="pictures", data="walk", measures=("latents",),
        variants=(Variant("codec", "small.toml", prior="stages.toml"),),
    ),
    Experiment(
        "moved", "here", "tiny video", "named right", paper="pictures", data="walk", measures=("frames", "actions"),
        variants=(Variant("codec", "small.toml", prior="video.toml"),),
    ),
    Experiment(
        "shipped", "here", "a model that ships", "PSNR", paper="good", data="photographs",
        measures=("reconstruction",), models=("vector",), commands=("vq eval pictures/ --model vector",),
    ),
)  # fmt: skip


def write_idx(folder, side=28, labels=True):
    """40 random pictures as MNIST has them, a quarter of them to test on."""
    folder = Path(folder)
    folder.mkdir()
    draw = np.random.default_rng(0)
    for part, count in (("train", 30), ("t10k", 10)):
        arrays = {"images-idx3": draw.integers(256, size=(count, side, side), dtype=np.uint8)}
        if labels:
            arrays["labels-idx1"] = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in arrays.items():
            head = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
            (folder / f"{part}-{kind}-ubyte").write_bytes(head + array.tobytes())


@pytest.fixture
def tiny(home, monkeypatch):
    """The table is TINY, its recipes and data lie in the working folder."""
    monkeypatch.setattr("vqcli.experiments.table.EXPERIMENTS", TINY)
    monkeypatch.setattr(figures, "EXPERIMENTS", TINY)
    Path("codec.toml").write_text(CODEC)
    Path("prior.toml").write_text(PRIOR)
    Path("small.toml").write_text(CODEC.replace("crop = 28", "crop = 24"))
    Path("frames.toml").write_text(FRAMES)
    Path("stages.toml").write_text(STAGES)
    Path("video.toml").write_text(VIDEO)
    write_idx("digits")
    monkeypatch.setitem(DATA, "walk", Data("a walk", "walk/", "made here", SIDE))
    monkeypatch.setattr(actions, "LENGTH", 9)
    record(Path("walk"), 200)


def test_the_table(vq):
    result = vq("reproduce")
    assert result.exit_code == 0, result.stderr
    assert all(experiment.name in result.stdout for experiment in EXPERIMENTS)
    assert "4.67" in result.stdout and "(speech-25hz)" in result.stdout


def test_the_table_for_machines(vq):
    told = {row["name"]: row for row in json.loads(vq("reproduce", "--json").stdout)}
    assert list(told) == list(names())
    assert told["cifar10-vae"]["paper"] == "4.51" and told["cifar10-vae"]["report"].startswith("5.681")
    assert not any(row["open"] for row in told.values())  # every experiment of both documents has its figure
    assert told["phonemes"]["shipped"][0]["model"] == "speech-25hz" and not told["phonemes"]["open"]
    assert told["phonemes"]["command"].startswith("vq eval phonemes")


def test_the_table_for_the_readme(vq):
    assert vq("reproduce", "--markdown").stdout.splitlines() == figures.markdown(figures.rows())


def test_commands_in_place_of_a_run(vq):
    result = vq("reproduce", "phonemes")
    assert result.exit_code == 0 and "speech-25hz: 29.2 %" in result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == len(set(lines)) == 4 and all(line.startswith("vq ") for line in lines)
    assert json.loads(vq("reproduce", "phonemes", "--json").stdout)["name"] == "phonemes"


def test_two_nets_from_data_to_the_row(vq, tiny):
    options = ("--budget", "2s", "-o", "out", "-n", "6", "--device", "cpu")
    result = vq("reproduce", "nets", "--data", "digits", *options, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["paper"] == "4.67" and [net["label"] for net in told["results"]] == ["beta-0.25", "beta-1"]
    for net in told["results"]:
        assert net["items"] == 30 and 1 <= net["steps"] <= 4 and net["minutes"] < 1 and net["machine"]
        figures = {figure["what"]: figure for figure in net["figures"]}
        assert list(figures) == ["bits/dim, uniform prior", "PSNR, dB", "share of codes in use"]
        # noise of 8 bits, badly told, and 3 bits for each of 49 codes
        assert 8 < figures["bits/dim, uniform prior"]["value"] < 64
        assert 3 < figures["PSNR, dB"]["value"] < 15 and 0 < figures["share of codes in use"]["value"] <= 1
        assert "6 pictures" in figures["PSNR, dB"]["text"]
    assert (Path("out") / "beta-1" / "README.md").is_file()
    again = vq("reproduce", "nets", "--data", "digits", *options)
    assert again.exit_code == 2 and "holds a run already" in again.stderr


def test_pictures_by_class_from_data_to_the_row(vq, tiny):
    options = ("--budget", "3s", "-n", "10", "--device", "cpu")
    result = vq("reproduce", "drawn", "--data", "digits/t10k-images-idx3-ubyte", *options)
    assert result.exit_code == 0, result.stderr
    assert "named right, drawn: " in result.stdout and "of 10" in result.stdout
    assert "paper" in result.stdout and "report" in result.stdout and "here, codec" in result.stdout
    assert "trained on 30 images" in result.stderr
    assert {path.name for path in Path("reproduced-drawn").iterdir()} == {"codec", "codec-prior"}


@pytest.mark.parametrize(
    ("name", "family", "told"),
    [
        ("walked", "vqvae2d", ["PSNR, dB", "bits a code, pixelcnn prior"]),
        ("stages", "twostage2d", ["bits a code, right latents", "bits a code, shuffled latents"]),
        (
            "moved",
            "vqvae2d",
            [
                "PSNR, dB",
                f"bits a code, {frames.BEFORE}",
                f"bits a code, {frames.NOTHING}",
                "named right, drawn",
                "named right, real, held out",
            ],
        ),
    ],
)
def test_recordings_from_data_to_the_row(vq, tiny, name, family, told):
    options = ("--data", "walk", "--budget", "2s", "-n", "12", "--device", "cpu")
    result = vq("reproduce", name, *options, "--json")
    assert result.exit_code == 0, result.stderr
    (net,) = json.loads(result.stdout)["results"]
    assert [figure["what"] for figure in net["figures"]] == told
    assert net["model"].endswith("codec-prior") and store.find(net["model"]).description["family"] == family
    assert 1 <= net["steps"] <= 4 and net["items"] == 175


def test_an_experiment_that_nothing_runs(vq, monkeypatch):
    table = (*EXPERIMENTS, Experiment("open", "here", "what nothing runs yet", "nothing", paper="pictures"))
    monkeypatch.setattr("vqcli.experiments.table.EXPERIMENTS", table)
    monkeypatch.setattr(figures, "EXPERIMENTS", table)
    result = vq("reproduce", "open")
    assert result.exit_code == 2 and "open is open" in result.stderr


def test_what_ships_is_measured(vq, tiny, photo):
    result = vq("reproduce", "shipped", "--data", "photo.png", "--json")
    assert result.exit_code == 2  # a single file is no data set
    Path("pictures").mkdir()
    photo.rename("pictures/photo.png")
    result = vq("reproduce", "shipped", "--data", "pictures", "--json")
    assert result.exit_code == 0, result.stderr
    (net,) = json.loads(result.stdout)["results"]
    assert net["label"] == "vector" and net["steps"] == 0 and net["figures"][0]["what"] == "PSNR, dB"
    assert "vector" in vq("reproduce", "shipped", "--data", "pictures").stdout
    trained = vq("reproduce", "shipped", "--data", "pictures", "--budget", "1m")
    assert trained.exit_code == 2 and "trains nothing here" in trained.stderr


@pytest.mark.parametrize(
    ("arguments", "says", "hint"),
    [
        (["cifr10"], "no experiment cifr10", "did you mean cifar10"),
        (["video"], "video needs a recording of a maze: --data names it", "vq record doom"),
        (["boxing", "--data", "nowhere"], "no file or folder nowhere", "vq record boxing"),
        (["boxing-27bit", "--data", "walk"], "images of 24 x 24 pixels, a recording of Atari Boxing has 84 x 84", ""),
        (["cifar10"], "cifar10 needs CIFAR-10: --data names it", "cifar.html"),
        (["mnist", "--data", "nowhere"], "no file or folder nowhere", "idx files"),
        (["cifar10", "--data", "digits"], "images of 28 x 28 pixels, CIFAR-10 has 32 x 32", "binary version"),
        (["mnist-samples", "--data", "unnamed"], "unnamed has no classes", ""),
        (["mnist", "--data", "empty"], "no images in empty", ""),
        (["mnist", "--data", "digits", "--budget", "long"], "long is not a duration", ""),
        (["mnist", "--data", "digits", "--device", "abacus"], "device abacus is not available", ""),
        (["--budget", "10m"], "which experiment", "vq reproduce lists them"),
        (["mnist", "--markdown"], "--markdown is for the list", ""),
    ],
)
def test_what_cannot_be(vq, arguments, says, hint):
    write_idx("digits")
    write_idx("unnamed", labels=False)
    record(Path("walk"))
    Path("empty").mkdir()
    result = vq("reproduce", *arguments)
    assert result.exit_code in (1, 2) and says in result.stderr and hint in result.stderr
    assert not result.stdout and not list(Path().glob("reproduced-*/*/model.safetensors"))


def test_other_classes_are_another_data_set(vq):
    write_idx("digits")
    labels = Path("digits/train-labels-idx1-ubyte")
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x0b")
    result = vq("reproduce", "mnist", "--data", "digits")
    assert result.exit_code == 2 and "has 11 classes, MNIST has 10" in result.stderr


def test_the_data_of_the_system(monkeypatch, tmp_path):
    from dataclasses import replace

    from vqcli.experiments import run

    usual = replace(DATA["fashion-mnist"], usual=tmp_path)
    monkeypatch.setitem(DATA, "fashion-mnist", usual)
    assert run.data_for(find("fashion-mnist"), None) == tmp_path
