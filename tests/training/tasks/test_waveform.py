"""Codecs that others trained go on learning here, and their codes get an exact entropy model."""

import math
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import vqcli
from tests.nets.codecs.test_conformance import SMALL
from vqcli import recipe
from vqcli.cli.main import app
from vqcli.entropy import coders
from vqcli.errors import UsageError
from vqcli.training import log
from vqcli.training.run import recipe_of, run
from vqcli.zoo import importing, loading, priors, registry, store

FAMILIES = ("encodec", "dac", "snac", "mimi", "wavtokenizer")
SOURCE = {"place": "someone/net", "revision": "0" * 40, "file": "model.safetensors", "sha256": "1" * 64}
SOURCE |= {"licence": "cc-by-nc-4.0", "citation": "Someone. A Net. 2020."}
SETTINGS = ("data.batch=4", "data.seconds=0.3", "optimization.precision=float32", "optimization.average=0.8")
SETTINGS += ("optimization.learning_rate=2e-3", "optimization.warmup=2", "adversary.width=8")
EXACT = ("past=2", "around=1", "earlier=2", "hidden=16", "embedding=8")


def small(family):
    torch.manual_seed(0)
    return registry.build(family, SMALL[family])


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """imported(family): a small model as `vq models import` writes them."""
    folder = tmp_path_factory.mktemp("imported")

    def make(family):
        net = small(family)
        facts = {"format": store.FORMAT, "family": family, "modality": "audio", "arguments": SMALL[family]}
        importing.write_weights(folder / family, net.state_dict(), facts | {store.SOURCE: SOURCE}, force=True)
        return store.describe(folder / family)

    return make


@pytest.fixture(scope="module")
def clips(clips_folder, tmp_path_factory):
    """A few clips of each speaker, one of them held out."""
    folder = tmp_path_factory.mktemp("data")
    for path in clips_folder.rglob("[0-4].wav"):
        into = folder / ("val" if path.stem == "4" else "train") / path.parent.name
        into.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, into / path.name)
    return folder


def chosen(*settings):
    return recipe.override(recipe.load("speech-finetune"), [*SETTINGS, *settings])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_way_of_training_is_that_of_codes_and_reaches_every_weight(family):
    net = small(family).train()
    N = 3 * net.stride
    wave = 0.1 * torch.randn(2, 1, N)
    decoded, losses = net(wave, torch.full((2,), net.levels))
    assert decoded.shape == wave.shape
    (decoded.square().mean() + losses.codebook + losses.commitment).backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    with torch.no_grad():
        net.eval()
        codes = net.encode(wave)
        for levels in (1, net.levels):
            expected = net.decode(codes[:, : sum(net.level_codebooks[:levels])])
            assert torch.allclose(net(wave, torch.full((2,), levels))[0], expected, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_item_learns_by_its_first_levels_alone(family):
    net = small(family).train()
    decoded, losses = net(0.1 * torch.randn(2, 1, 2 * net.stride), torch.tensor([1, 1]))
    (decoded.square().mean() + losses.codebook + losses.commitment).backward()
    gradients = {name: p.grad for name, p in net.quantizer.named_parameters()}
    for name in ("quantizers.1.codebook.weight", "acoustic.codebooks"):
        assert name not in gradients or gradients[name] is None or not gradients[name].any()
    if family == "encodec":
        assert gradients["codebooks"][0].any() and not gradients["codebooks"][1:].any()


def test_a_finetuned_model_is_one_of_its_own(imported, clips, tmp_path):
    """It hears better what it learned from, says where it comes from, and leaves its source as it was."""
    info = imported("encodec")
    before = info.path.read_bytes()
    given = chosen("optimization.steps=24", "optimization.validate_every=12")
    made = run(given, [clips], tmp_path / "mine", device="cpu", threads=1, start=str(info.folder))
    assert info.path.read_bytes() == before and made.digest != info.digest
    facts = made.description
    assert (facts["family"], facts["arguments"], facts["source"]) == ("encodec", SMALL["encodec"], SOURCE)
    assert facts["start"]["digest"] == info.digest.hex() and facts["steps"] <= 24
    card = (made.folder / "README.md").read_text()
    for word in ("cc-by-nc-4.0", "someone/net", info.digest.hex(), made.digest.hex(), "Finetuned from encodec"):
        assert word in card
    losses = [event["loss"] for event in log.read(made.folder) if event["event"] == "validation"]
    assert len(losses) == 3 and all(map(math.isfinite, losses)) and losses[-1] < losses[0]
    assert [point["levels"] for point in facts["measured"]["points"]] == [1, 2, 3, 4]
    weights = loading.load(made, "cpu").net.state_dict()
    assert not any("original" in name for name in weights)  # folded here, and not in the file
    model, samples = loading.load(made, "cpu"), 0.1 * np.random.default_rng(0).normal(size=9000).astype(np.float32)
    encoded = vqcli.encode(samples, model, rate_hz=24_000)
    encoded.save(tmp_path / "x.vqz")
    assert np.array_equal(vqcli.decode(tmp_path / "x.vqz", model).codes, encoded.codes)


def test_a_run_goes_on_where_it_was_interrupted(imported, clips, tmp_path):
    folder, given = str(imported("snac").folder), chosen("optimization.steps=4", "optimization.validate_every=2")

    def stop(progress):
        if progress.step >= 2:
            raise KeyboardInterrupt

    whole = run(given, [clips], tmp_path / "whole", device="cpu", threads=1, start=folder)
    with pytest.raises(KeyboardInterrupt):
        run(given, [clips], tmp_path / "parts", device="cpu", threads=1, start=folder, progress=stop)
    resumed = run(given, [clips], tmp_path / "parts", device="cpu", threads=1, resume=True)
    assert resumed.digest == whole.digest and resumed.description["source"] == SOURCE
    assert recipe_of(tmp_path / "parts").model.family == "snac"


def test_what_to_go_on_with_must_be_said(clips, tmp_path):
    asked = CliRunner().invoke(app, ["train", "speech-finetune", str(clips), "-o", str(tmp_path / "mine")])
    assert asked.exit_code and isinstance(asked.exception, UsageError | SystemExit)
    with pytest.raises(UsageError, match="goes on with a model") as raised:
        run(chosen(), [clips], tmp_path / "mine", device="cpu")
    assert "--from" in raised.value.hint
    with pytest.raises(UsageError, match="and not speech"):
        run(chosen(), [clips], tmp_path / "mine", device="cpu", start="speech")


@pytest.mark.parametrize("family", ["encodec", "snac"])
def test_an_exact_entropy_model_beside_an_imported_one(family, imported, clips, tmp_path):
    """Both digests hold, also of stereo; levels can still be dropped."""
    info = imported(family)
    settings = [f"codec={info.folder}", *(f"model.arguments.{each}" for each in EXACT), "optimization.steps=40"]
    settings += [
        "data.seconds=0.5",
        "data.batch=8",
        "optimization.learning_rate=1e-2",
        "optimization.precision=float32",
    ]
    given = recipe.override(recipe.load("exact-speech"), settings)
    said: list[str] = []
    made = run(given, [clips], tmp_path / family, device="cpu", threads=1, say=said.append)
    assert made.digest == info.digest and any("by `adaptive`" in line for line in said)
    assert priors.find(made, "exact").description["codec"] == info.digest.hex()
    card = (made.folder / "README.md").read_text()
    assert "cc-by-nc-4.0" in card and "by `adaptive`" in card
    model = loading.load(made, "cpu")
    assert model.entropy_model is not None
    samples = 0.1 * np.random.default_rng(0).normal(size=(2, 30_000)).astype(np.float32)
    encoded = vqcli.encode(samples, model, rate_hz=24_000, coder="prior")
    assert coders.name_of(encoded.header.coder) == "prior" and encoded.header.joint
    encoded.save(tmp_path / "x.vqz")
    assert np.array_equal(vqcli.decode(tmp_path / "x.vqz", model).codes, encoded.codes)
    first = vqcli.decode(tmp_path / "x.vqz", model, levels=1).codes
    assert np.array_equal(first, encoded.codes[:, : first.shape[1]])
