"""Files of strangers: no model takes more memory than its weights, and none ends the list of all."""

import json
import resource

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from typer.testing import CliRunner

from vqcli.cli.main import app
from vqcli.errors import ModelError
from vqcli.zoo import filling, loading, priors, registry, store, weights

VECTOR = {"widths": [64, 128], "dim": 64, "blocks": 2, "quantizer": {"kind": "vector", "K": 512}}
DESCRIPTION = {"format": 1, "family": "vqvae2d", "arguments": VECTOR, "modality": "image"}


def put(folder, description, **arrays):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / store.FILE).write_bytes(save(arrays or {"x": np.zeros(1, np.float32)}, {"vq": json.dumps(description)}))
    return folder


def of(**arguments):
    return {**DESCRIPTION, "arguments": {**VECTOR, **arguments}}


@pytest.mark.fault("15 models larger than their files")
@pytest.mark.parametrize(
    "arguments",
    [{"quantizer": {"kind": "vector", "K": 2**25}}, {"blocks": 12_000}, {"widths": [64, 2**20]}, {"dim": 2**30}],
    ids=str,
)
def test_no_net_is_larger_than_its_weights(tmp_path, arguments):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match="larger than its weights"):
        loading.load(str(put(tmp_path / "m", of(**arguments))), "cpu")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_what_repeats_counts_too():
    with pytest.raises(ValueError, match="larger"), filling._Bounded(2**20):
        torch.ones(4).repeat(2**10, 2**10)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(70), lambda: torch.eye(70, 90), lambda: torch.randn(70, 80), lambda: torch.randn((70, 80)),
        lambda: torch.arange(5000), lambda: torch.arange(7, 5000), lambda: torch.arange(5000, 7, -2.5),
        lambda: torch.arange(start=1, end=5000, step=3), lambda: torch.arange(end=5000),
        lambda: torch.linspace(0, 1, 5000), lambda: torch.logspace(0, 1, steps=5000),
        lambda: torch.hann_window(5000), lambda: torch.hamming_window(5000, periodic=False),
    ],
)  # fmt: skip
def test_what_is_made_counts_by_its_size(make):
    with filling._Bounded(2**20) as bounded:
        made = make()
    assert 2**20 - bounded.left == made.numel()


@pytest.mark.fault("18 hostile models")
def test_weights_that_do_not_fit_are_named_in_one_line(tmp_path):
    with pytest.raises(ModelError) as caught:
        loading.load(str(put(tmp_path / "m", of(widths=[4, 4], dim=4))), "cpu")
    assert "\n" not in str(caught.value) and "and" in str(caught.value)


@pytest.mark.fault("18 hostile models")
@pytest.mark.parametrize(
    "change",
    [
        {"modality": {}}, {"modality": ["image"]}, {"recipe": [1]}, {"recipe": {"description": 5}}, {"source": "x"},
        {"speakers": [{"name": 5}]}, {"speakers": [{"name": "a", "seconds": 1.0, "pitch_hz": float("nan")}]},
        {"speakers": [{"name": "a", "seconds": 1.0, "pitch_hz": 0.0}]}, {"speakers": 7}, {"steps": "x"},
        {"measured": [1]}, {"family": 1e400},
    ],
    ids=str,
)  # fmt: skip
def test_descriptions_of_other_types(tmp_path, change):
    with pytest.raises(ModelError, match="not a model of vq"):
        store.describe(put(tmp_path / "m", {**DESCRIPTION, **change}))


@pytest.mark.fault("18 hostile models")
def test_true_for_one_group():
    images = torch.zeros(1, 3, 8, 8)
    net = registry.build(
        "vqgan2d", {"net": {"widths": [4, 4], "attention": [], "z_channels": 4, "groups": True}, "dim": 4}
    )
    assert net.latents(images).shape == (1, 4, 4, 4)


@pytest.mark.fault("18 hostile models")
def test_a_negative_number_of_groups():
    with pytest.raises(ModelError, match="at least one group"):
        registry.build("vqgan2d", {"net": {"widths": [4, 4], "attention": [], "z_channels": 4, "groups": -1}, "dim": 4})


@pytest.mark.fault("18 hostile models")
@pytest.mark.parametrize("shape", [(), (0,), (3,), (3, 1, 1)])
def test_thresholds_of_other_dimensions(scalar_model, shape):
    tables = scalar_model.statistics.arrays() | {"thresholds": np.zeros(shape, np.int32)}
    with pytest.raises(ValueError):
        type(scalar_model.statistics)(**tables).check(scalar_model.net.codebook_sizes)


@pytest.mark.fault("18 hostile models")
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_one_bad_model_does_not_end_the_list(tmp_path, scalar_model, monkeypatch, as_json):
    monkeypatch.setenv("VQ_MODELS", str(tmp_path))
    loading.save(tmp_path / "good", scalar_model.net, scalar_model.statistics, scalar_model.info.description)
    put(tmp_path / "bad", {**DESCRIPTION, "recipe": [1]})
    put(tmp_path / "odd", {**DESCRIPTION, "recipe": None})
    loading.save(tmp_path / "worse", scalar_model.net, scalar_model.statistics, scalar_model.info.description)
    prior = {"format": 1, "family": "exact", "arguments": {}, "codec": 5}
    priors.path_of(tmp_path / "worse", "exact").write_bytes(
        save({"x": np.zeros(1, np.float32)}, {"vq": json.dumps(prior)})
    )
    result = CliRunner().invoke(app, ["models", "list", *as_json])
    assert result.exit_code == 0 and "good" in result.stdout and "odd" in result.stdout, result.output
    assert "bad" not in result.stdout.split()


@pytest.mark.fault("18 hostile models")
def test_a_constructor_may_fail_in_any_way():
    for arguments in (
        {"widths": None},
        {"widths": {}},
        {"dim": "x"},
        {"dim": 10**30},
        {"dim": float("nan")},
        {"blocks": []},
    ):
        with pytest.raises(ModelError, match="do not make a vqvae2d"):
            registry.build("vqvae2d", {**VECTOR, **arguments})


@pytest.mark.fault("16 read buffer")
@pytest.mark.parametrize("words", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_missing_memory_is_not_called_a_wrong_model(scalar_model, monkeypatch, words):
    def none_left(*_):
        raise words

    monkeypatch.setattr(weights, "read", none_left)
    with pytest.raises(type(words)):
        loading.load(scalar_model.info, "cpu")
    monkeypatch.setattr(registry, "family_of", lambda name: none_left)
    with pytest.raises(ModelError, match="not enough memory for a vqvae2d"):
        registry.build("vqvae2d", {})


@pytest.mark.fault("18 hostile models")
def test_null_is_as_if_the_key_were_not_there(tmp_path):
    info = store.describe(put(tmp_path / "m", {**DESCRIPTION, "recipe": None, "speakers": None}))
    assert info.description == DESCRIPTION
