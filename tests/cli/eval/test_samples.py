import json
from pathlib import Path

import pytest
import torch

from vqcli.data.shapes import Shapes
from vqcli.media import image
from vqcli.zoo import priors, registry, store, weights

QUICK = ("--minutes", "0.01", "--device", "cpu")


@pytest.fixture
def with_prior(make_model, tmp_path, monkeypatch):
    """with_prior(classes) puts a model `tokens` with random weights and a random pixelcnn of 16 x 16 on the path."""

    def make(*classes):
        made = make_model("tokens", tmp_path / "models", widths=[8, 8], dim=4, quantizer={"kind": "vector", "K": 8})
        arguments = {"codebook_sizes": [8], "width": 8, "layers": 2, "hidden": 8, "labels": len(classes)}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = registry.build("pixelcnn", arguments | {"unlabelled": True})
        told = {"family": "pixelcnn", "arguments": arguments | {"unlabelled": True}, "classes": list(classes)}
        data = {"size": 16, "crop": 16, "batch": 8}
        told |= {"codec": made.info.digest.hex(), "recipe": {"data": data}}
        priors.save(made.info.folder, weights.packed(net.state_dict()), told)
        monkeypatch.setenv("VQ_MODELS", str(tmp_path / "models"))

    return make


@pytest.fixture
def shapes(home):
    source = Shapes(24, size=20)
    for index in range(24):
        path = Path("shapes", "val" if index < 6 else "train", f"{source.labels[index]}/{index}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        image.write(path, source.read(index))
    return "shapes"


def test_rates_of_real_drawn_and_random_pictures(vq, with_prior, shapes):
    with_prior("triangle", "disc")
    options = ("--model", "tokens", "-n", "2", "--guidance", "2", "-o", "drawn.png", *QUICK)
    result = vq("eval", "samples", shapes, *options, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert {name: rate["pictures"] for name, rate in told["rates"].items()} == {
        "real, held out": 6, "sampled, pixelcnn": 4, "sampled, uniform": 6,
    }  # fmt: skip
    for rate in told["rates"].values():
        assert 0 <= rate["top_1"] <= rate["top_3"] == 1
    assert told["rates"]["sampled, pixelcnn"]["by_class"].keys() == {"disc", "triangle"}
    assert told["chance"] == {"top_1": pytest.approx(1 / 3), "top_3": 1}
    assert told["sampling"]["guidance"] == 2 and told["classifier"]["pictures"] == 18
    assert image.read(Path("drawn.png")).pixels.shape[0] == 2 * (16 + 4) + 4  # a row for each class of the prior


def test_a_class_beside_its_nearest(vq, with_prior, shapes):
    with_prior("triangle", "disc")
    options = ("--model", "tokens", "-n", "2", "--class", "disc", "--nearest", "near.png", *QUICK)
    result = vq("eval", "samples", shapes, *options, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["rates"]["sampled, pixelcnn"]["by_class"].keys() == {"disc"}
    assert told["rates"]["real, held out"]["by_class"].keys() == {"disc"}
    near = told["nearest"]["sampled"]
    assert 0 < near["nearest_grey_values"] <= near["grey_values"] and 0 <= near["equal_codes"] <= 1
    assert image.read(Path("near.png")).pixels.shape[0] == 16 + 2 * 8


def test_the_best_setting_is_stored(vq, with_prior, shapes):
    """The file of the prior then asks for it, and sampling follows unless told otherwise."""
    with_prior("triangle", "disc")
    drawn = {}
    for name, more in (("before", ()), ("guided", ("--guidance", "4", "--temperature", "0.9"))):
        assert (
            vq("sample", "--model", "tokens", "--class", "disc", "--seed", "1", "-o", f"{name}.png", *more).exit_code
            == 0
        )
        drawn[name] = image.read(Path(f"{name}.png")).pixels
    result = vq("eval", "samples", shapes, "--model", "tokens", "-n", "2", "--choose", "--store", "--json", *QUICK)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert len(told["settings"]) == 11 and told["settings"][0]["sampling"] is None
    info = priors.find(store.find("tokens"), "pixelcnn")
    assert info.defaults == {name: told["best"]["sampling"][name] for name in ("temperature", "guidance")}
    priors.set_sampling(info, 0.9, 4.0)
    for more, same in ((), "guided"), (("--guidance", "1", "--temperature", "1"), "before"):
        done = vq("sample", "--model", "tokens", "--class", "disc", "--seed", "1", "-o", "now.png", "--force", *more)
        assert done.exit_code == 0 and (image.read(Path("now.png")).pixels == drawn[same]).all()
    assert "guidance 4.0" in vq("models", "show", "tokens").stdout
    for wrong in (("--store",), ("--choose", "--guidance", "2"), ("--choose", "-o", "x.png")):
        assert vq("eval", "samples", shapes, "--model", "tokens", *wrong, *QUICK).exit_code == 2


def test_table(vq, with_prior, shapes):
    with_prior("disc", "square", "triangle")
    result = vq("eval", "samples", f"{shapes}/", "--model", "tokens", "-n", "1", "--prior", "uniform", *QUICK)
    assert result.exit_code == 0, result.stderr
    assert "sampled, uniform" in result.stdout and "pixelcnn" not in result.stdout and "chance" in result.stdout
    assert "0.56 M weights, 3 classes" in result.stderr


def test_what_cannot_be(vq, with_prior, shapes):
    with_prior("disc", "zebra")
    unknown = vq("eval", "samples", shapes, "--model", "tokens", *QUICK)
    assert unknown.exit_code == 2 and "no real images of zebra" in unknown.stderr
    assert vq("eval", "samples", shapes, "--model", "tokens", "--prior", "pixelcn", *QUICK).exit_code == 2
    assert vq("eval", "samples", shapes, "--model", "tokens", "--temperature", "-1", *QUICK).exit_code == 2
    with_prior()
    nameless = vq("eval", "samples", shapes, "--model", "tokens", *QUICK)
    assert nameless.exit_code == 2 and "has no classes" in nameless.stderr
    Path("there.png").write_bytes(b"")
    there = vq("eval", "samples", shapes, "--model", "tokens", "-o", "there.png", *QUICK)
    assert there.exit_code == 2 and "there.png exists" in there.stderr


def test_a_model_without_a_prior(vq, shapes):
    assert vq("eval", "samples", shapes, "--model", "vector", *QUICK).exit_code == 4
    assert vq("eval", "samples", shapes, "--model", "scalar", *QUICK).exit_code == 2
