"""Priors over the codes of a finished model, from pictures or from the files it wrote."""

import errno
import io
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import vqcli
from tests.training.conftest import of
from vqcli.cli.main import app
from vqcli.data.shapes import KINDS, Shapes
from vqcli.errors import BadFile, ModelError, OutputError, UsageError
from vqcli.files import remote
from vqcli.media import image
from vqcli.sampling.image import sample
from vqcli.tokens import run as tokens
from vqcli.tokens.store import Store
from vqcli.training import checkpoint, loop, run
from vqcli.training.datasets import code_files, code_shards
from vqcli.training.log import read
from vqcli.zoo import loading, priors

PIXELCNN = b"""
description = "tiny prior"
modality = "image"
codec = "codec"
[model]
family = "pixelcnn"
[model.arguments]
width = 8
layers = 2
hidden = 16
unlabelled = true
[data]
crop = 32
batch = 8
[optimization]
steps = 40
learning_rate = 1e-2
warmup = 5
average = 0.9
validate_every = 20
"""


@pytest.fixture(scope="module")
def codec(make_model, tmp_path_factory):
    arguments = {"widths": [8, 8], "dim": 4, "blocks": 1, "quantizer": {"kind": "vector", "K": 8}}
    return make_model("codec", folder=tmp_path_factory.mktemp("priors"), **arguments)


def trained(text, data, output, codec, *settings):
    return run.run(of(text, f"codec={codec.info.folder}", *settings), data, output, device="cpu", threads=1)


def test_a_prior_by_class_learns_and_draws(tmp_path, codec):
    info = trained(PIXELCNN, Shapes(count=400), tmp_path / "drawing", codec)
    assert info.digest == codec.info.digest  # a copy of the codec lies beside it
    prior = priors.find(info, "pixelcnn")
    assert prior.classes == KINDS and prior.description["recipe"]["codec"] == "codec"
    measured = prior.description["measured"]
    assert measured["bits_per_code"] < measured["order_0"] < measured["uniform"] == 3.0
    assert measured["bits_per_dim"] == pytest.approx(measured["bits_per_code"] / 48, abs=1e-3)
    log = [event["bits_per_code"] for event in read(tmp_path / "drawing") if event["event"] == "train"]
    assert log[-1] < log[0]
    drawn = sample(loading.load(info, "cpu"), labels=["square"], count=2, seed=0)
    assert drawn.pixels.shape == (2, 32, 32, 3)
    card = (tmp_path / "drawing" / "README.md").read_text()
    assert "order 0" in card and "uniform prior" in card


def test_a_prior_by_class_over_a_codec_with_qualities(tmp_path, scalar_model):
    """Each picture comes at two qualities, with its class both times."""
    info = trained(PIXELCNN, Shapes(count=100), tmp_path / "two", scalar_model, "optimization.steps=2")
    assert priors.find(info, "pixelcnn").description["measured"]["bits_per_code"] > 0


def test_codes_that_lie_in_files(tmp_path, codec):
    """From .vqz files the prior sees the very codes in them; files of other models are left out by name."""
    shapes = Shapes(count=60)
    for index in range(60):
        folder = tmp_path / "codes" / str(shapes.labels[index])
        folder.mkdir(parents=True, exist_ok=True)
        vqcli.encode(shapes.read(index), codec).save(folder / f"{index}.vqz")
    (tmp_path / "codes" / "disc" / "broken.vqz").write_bytes(b"nothing")
    source = code_files.CodeFiles([tmp_path / "codes"], codec)
    assert source.stride == 4 and set(source.labels) == set(KINDS)
    index = list(source.names).index("square/1.vqz")
    assert np.array_equal(source.read(index).transpose(2, 0, 1), vqcli.encode(shapes.read(1), codec).codes)
    info = trained(PIXELCNN, [tmp_path / "codes"], tmp_path / "filed", codec, "optimization.steps=4")
    assert priors.find(info, "pixelcnn").classes == KINDS
    skipped = [event for event in read(tmp_path / "filed") if event["event"] == "skipped"]
    assert [event["name"] for event in skipped] == ["disc/broken.vqz"]


@pytest.mark.parametrize("format", ["npz", "webdataset"])
def test_codes_that_lie_in_shards(tmp_path, codec, format):
    """From shards that were made of .vqz files, a prior learns exactly what it learns from these, and goes on so."""
    shapes = Shapes(count=60)
    for index in range(60):
        folder = tmp_path / "codes" / str(shapes.labels[index])
        folder.mkdir(parents=True, exist_ok=True)
        vqcli.encode(shapes.read(index), codec).save(folder / f"{index}.vqz")
    settings = tokens.Settings(format=format, per_shard=16, workers=1)
    tokens.tokenize([tmp_path / "codes"], str(tmp_path / "set"), str(codec.info.folder), settings)
    files, shards = code_files.CodeFiles([tmp_path / "codes"], codec), code_shards.CodeShards([tmp_path / "set"], codec)
    order = [list(shards.names).index(name) for name in files.names]
    assert [shards.labels[index] for index in order] == list(files.labels)
    assert [shards.held_out[index] for index in order] == list(files.held_out)
    assert all(np.array_equal(files.read(a), shards.read(b)) for a, b in enumerate(order))
    losses = {}
    for data in ("codes", "set"):
        still = "optimization.steps=4", "optimization.precision=float32"  # 16 bits are chosen where they are faster
        trained(PIXELCNN, [tmp_path / data], tmp_path / f"from-{data}", codec, *still)
        losses[data] = [event["loss"] for event in read(tmp_path / f"from-{data}") if event["event"] == "train"]
    assert len(losses["set"]) == 4 and losses["set"] == pytest.approx(losses["codes"], rel=1e-6)


@pytest.fixture(scope="module")
def token_set(codec, tmp_path_factory):
    """Sixty drawings as tokens."""
    folder = tmp_path_factory.mktemp("tokens")
    shapes = Shapes(count=60)
    for index in range(60):
        (folder / "pictures" / str(shapes.labels[index])).mkdir(parents=True, exist_ok=True)
        image.write(folder / "pictures" / str(shapes.labels[index]) / f"{index}.png", shapes.read(index))
    settings = tokens.Settings(per_shard=16, workers=1, device="cpu")
    tokens.tokenize([folder / "pictures"], str(folder / "set"), str(codec.info.folder), settings)
    return folder / "set"


def losses_of(folder):
    """Of steps, and of validations, by their numbers."""
    kinds = "train", "validation"
    return {(event["event"], event["step"]): event["loss"] for event in read(folder) if event["event"] in kinds}


STILL = "optimization.steps=12", "optimization.precision=float32", "optimization.validate_every=5"


@pytest.fixture(scope="module")
def undisturbed(codec, token_set, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    trained(PIXELCNN, [token_set], folder, codec, *STILL)
    return folder


def begun(data, folder, codec, again):
    """What a child does: it saves every step, and sleeps after the sixth so that it is killed there if not before."""
    if not again:  # a setting of its process, which is not that of the tests
        torch.set_num_threads(1)
        loop.CHECKPOINT_SECONDS = 0

    def progress(far):
        if far.step >= 6 and not again:
            time.sleep(60)

    recipe = of(PIXELCNN, f"codec={codec}", *STILL)
    run.run(recipe, [data], folder, device="cpu", threads=1, resume=again, progress=progress)


def test_a_prior_that_learns_from_shards_is_killed_and_goes_on(tmp_path, codec, token_set, undisturbed):
    """With the losses of an undisturbed run."""
    folder = tmp_path / "run"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vqcli.training.run"])  # torch is imported once for all tests
    child = context.Process(target=begun, args=(token_set, folder, codec.info.folder, False))
    child.start()
    while child.is_alive() and (not checkpoint.exists(folder) or checkpoint.metadata_of(folder)[1]["step"] < 3):
        time.sleep(0.01)
    child.kill()
    child.join()
    assert child.exitcode == -9 and 3 <= checkpoint.metadata_of(folder)[1]["step"] <= 6
    begun(token_set, folder, codec.info.folder, True)
    assert losses_of(folder) == losses_of(undisturbed) and len(losses_of(folder)) == 15


def test_shards_in_a_store(tmp_path, codec, token_set, undisturbed, stop_at, monkeypatch):
    """Are copied once, and a run over them goes on from the same URL; of stores nothing else is trained on."""
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.put(str(token_set), "/sets/of-drawings", recursive=True)
    url, folder = remote.place("memory://sets/of-drawings"), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        recipe = of(PIXELCNN, f"codec={codec.info.folder}", *STILL)
        run.run(recipe, [url], folder, device="cpu", threads=1, progress=stop_at(4))
    assert run.data_of(folder) == [url]
    asked = []
    real = Store.read
    monkeypatch.setattr(Store, "read", lambda self, name: asked.append(name) or real(self, name))
    code_shards._read.cache_clear()
    done = CliRunner().invoke(app, ["train", "-o", str(folder), "--resume", "--device", "cpu", "--threads", "1"])
    assert done.exit_code == 0, done.output
    assert losses_of(folder) == losses_of(undisturbed)
    assert sorted(name for name in asked if name.startswith("shard")) == [f"shard-{n:06d}.npz" for n in range(4)]
    Path(tmp_path / "tiny.toml").write_bytes(PIXELCNN)
    for recipe, url, words in (
        (str(tmp_path / "tiny.toml"), "memory://sets", "holds no tokens"),
        ("tokens", "memory://sets/of-drawings", "of stores, only priors learn"),
    ):
        more = ["--codec", str(codec.info.folder)] if "tiny" in recipe else []
        done = CliRunner().invoke(app, ["train", recipe, url, "-o", str(tmp_path / "no"), "--device", "cpu", *more])
        assert done.exit_code in (2, 3) and words in done.stderr and done.stderr.count("\n") <= 2, done.output
    system.rm("/sets", recursive=True)


@pytest.mark.fault("21 full disk")
def test_no_room_for_the_codes_of_shards(codec, token_set, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    code_shards._read.cache_clear()
    monkeypatch.setattr(code_shards.tempfile, "TemporaryFile", Full)
    with pytest.raises(OutputError, match=r"no room for codes in .*: No space left") as error:
        code_shards.CodeShards([token_set], codec)
    assert "TMPDIR" in error.value.hint


def test_shards_of_another_model_are_refused(tmp_path, codec, vector_model):
    (tmp_path / "pictures").mkdir()
    image.write(tmp_path / "pictures" / "a.png", Shapes().read(0))
    tokens.tokenize(
        [tmp_path / "pictures"], str(tmp_path / "set"), str(vector_model.info.folder), tokens.Settings(workers=1)
    )
    with pytest.raises(ModelError, match="vector"):
        trained(PIXELCNN, [tmp_path / "set"], tmp_path / "none", codec)
    (tmp_path / "set" / "index.json").unlink()
    with pytest.raises(BadFile, match="not whole"):
        trained(PIXELCNN, [tmp_path / "set"], tmp_path / "none", vector_model)


def test_files_of_another_model_are_left_out(tmp_path, codec, vector_model):
    (tmp_path / "codes").mkdir()
    vqcli.encode(Shapes().read(0), vector_model).save(tmp_path / "codes" / "a.vqz")
    with pytest.raises(UsageError, match="1 are damaged"):
        trained(PIXELCNN, [tmp_path / "codes"], tmp_path / "none", codec)


def test_files_with_qualities_are_refused(tmp_path, scalar_model):
    (tmp_path / "codes").mkdir()
    vqcli.encode(Shapes().read(0), scalar_model).save(tmp_path / "codes" / "a.vqz")
    with pytest.raises(UsageError, match="one quality each"):
        trained(PIXELCNN, [tmp_path / "codes"], tmp_path / "none", scalar_model)


def test_pictures_without_a_class_among_others(tmp_path, codec):
    (tmp_path / "pictures" / "disc").mkdir(parents=True)
    for path in ("a.png", "disc/b.png"):
        image.write(tmp_path / "pictures" / path, Shapes().read(0))
    with pytest.raises(UsageError, match="1 of 2 images lie in no class folder"):
        trained(PIXELCNN, [tmp_path / "pictures"], tmp_path / "none", codec)


def test_going_on_with_codes(tmp_path, codec, monkeypatch):
    """The recipe speaks of pixels whatever the data are, also when it is read again."""
    monkeypatch.chdir(tmp_path)
    Path("codes").mkdir()
    for index in range(20):
        vqcli.encode(Shapes().read(index), codec).save(f"codes/{index}.vqz")
    trained(PIXELCNN, [Path("codes")], tmp_path / "more", codec, "optimization.steps=2")
    again = of(run.recipe_of(tmp_path / "more").to_toml(), "optimization.steps=4")
    assert again.data.crop == 32
    run.run(again, run.data_of(tmp_path / "more"), tmp_path / "more", device="cpu", resume=True)
    assert [event["step"] for event in read(tmp_path / "more") if event["event"] == "train"] == [1, 2, 3, 4]
