"""vq eval likelihood, on nets that a run just made."""

import json
import re

import numpy as np
import pytest

from vqcli import recipe as recipes
from vqcli.training import run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures of shades, in the layout of Keras: a part to train on and one to test on."""
    draw = np.random.default_rng(0)

    def part(count):
        shades = draw.integers(0, 200, (count, 1, 1)) + draw.integers(0, 40, (count, 28, 28))
        return shades.astype(np.uint8), (np.arange(count) % 3).astype(np.uint8)

    path = tmp_path_factory.mktemp("data") / "shades.npz"
    arrays = dict(zip(("x_train", "y_train", "x_test", "y_test"), (*part(80), *part(10)), strict=True))
    np.savez(path, **arrays)
    return path


def trained(name, data, folder, *settings):
    small = ("model.arguments.widths=[8, 8]", "model.arguments.blocks=0", "data.batch=8", "optimization.steps=4")
    recipe = recipes.override(recipes.load(name), [*small, *settings])
    return run.run(recipe, [data], folder, device="cpu", threads=1)


def test_a_vqvae_is_measured_under_both_priors_and_in_files(vq, data, tmp_path):
    settings = ("model.arguments.quantizer.K=8", "model.arguments.linear_start=0")
    info = trained("fashion-mnist", data, tmp_path / "codec", *settings)
    card = (info.folder / "README.md").read_text()
    assert "Bits/dim of 10 held-out images" in card and "uniform prior" in card
    prior = ("model.arguments.width=4", "model.arguments.layers=2", "model.arguments.hidden=8", "model.eight_bits=[]")
    recipe = recipes.override(
        recipes.load("fashion-mnist-prior"), [*prior, f"codec={info.folder}", "optimization.steps=2", "data.batch=8"]
    )
    run.run(recipe, [data], tmp_path / "both", device="cpu", threads=1)

    result = vq("eval", "likelihood", tmp_path / "both", data, "--json")
    bounds = json.loads(result.stdout)
    assert [bound["under"] for bound in bounds] == ["uniform prior", "pixelcnn prior", "lossless .vqz files"]
    assert all(bound["pictures"] == 10 and bound["definition"] for bound in bounds)
    assert bounds[0]["prior"] == pytest.approx(49 * 3 / 784)
    shown = vq("eval", "likelihood", tmp_path / "both", data, "-n", "4")
    assert "log p(x | z_q) - log p(z_q)" in shown.stdout and "4 images" in shown.stderr
    [nats] = re.findall(r"eq\. 7: ([\d.]+) nats", " ".join(shown.stderr.split()))
    assert float(nats) > 5.771


def test_a_baseline_has_no_codes_and_says_so(vq, photo, data, tmp_path):
    info = trained("fashion-mnist-vae", data, tmp_path / "vae", "model.arguments.linear_start=0")
    assert "vae2d" in (info.folder / "README.md").read_text()
    [bound] = json.loads(vq("eval", "likelihood", info.folder, data, "--json").stdout)
    assert bound["under"] == "vae2d" and "KL" in bound["definition"]
    for command in (("encode", photo, "--model"), ("eval", "codes", data, "--model")):
        result = vq(*command, info.folder)
        assert result.exit_code == 4 and "has no codes" in result.stderr


def test_what_cannot_be_measured(vq, data, tmp_path):
    result = vq("eval", "likelihood", "vector", data)
    assert result.exit_code == 2 and "has no likelihood" in result.stderr
    result = vq("eval", "likelihood", "vector", tmp_path / "missing.npz")
    assert result.exit_code == 2 and "no file or folder" in result.stderr
