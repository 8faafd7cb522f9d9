import numpy as np
import pytest
import torch

from vqcli.errors import ModelError, UnknownLabel, UsageError
from vqcli.nets.priors.autoregressive import Sampling
from vqcli.nets.priors.pixelcnn import PixelCNN
from vqcli.sampling import image
from vqcli.zoo import priors, store, weights

CLASSES = ["cat", "dog", "fox"]


def add_prior(model, **more):
    """A tiny random PixelCNN beside a model."""
    arguments = {"codebook_sizes": list(model.net.quantizer.codebook_sizes), "width": 8, "layers": 2, "hidden": 8}
    arguments |= {"labels": len(CLASSES), "unlabelled": True}
    torch.manual_seed(0)
    description = {
        "family": "pixelcnn",
        "arguments": arguments,
        "codec": model.info.digest.hex(),
        "classes": CLASSES,
        "aliases": {"kit_fox": "fox"},
        "recipe": {"data": {"crop": 32}},
        **more,
    }
    return priors.save(model.info.folder, weights.packed(PixelCNN(**arguments).state_dict()), description)


@pytest.fixture(scope="module")
def model(make_model, tmp_path_factory):
    arguments = {"widths": [8, 8], "dim": 4, "blocks": 1, "quantizer": {"kind": "vector", "K": 8, "groups": 2}}
    made = make_model("drawing", folder=tmp_path_factory.mktemp("drawing"), **arguments)
    add_prior(made)
    return made


def test_shapes_labels_and_seeds(model):
    drawn = image.sample(model, labels=["dog", "kit_fox"], count=3, seed=5)
    assert drawn.labels == ("dog",) * 3 + ("fox",) * 3
    assert drawn.codes.shape == (6, 2, 8, 8) and drawn.codes.dtype == np.uint16 and drawn.codes.max() < 8
    assert drawn.pixels.shape == (6, 32, 32, 3) and drawn.pixels.dtype == np.uint8
    again = image.sample(model, labels=["dog", "kit_fox"], count=3, seed=5)
    assert np.array_equal(drawn.codes, again.codes)
    assert not np.array_equal(drawn.codes, image.sample(model, labels=["dog", "fox"], count=3, seed=6).codes)
    # a sample is the same however many are drawn with it
    assert np.array_equal(image.sample(model, labels=["dog"], count=1, seed=5).codes[0], drawn.codes[0])


def test_without_a_label_classes_are_drawn(model):
    drawn = image.sample(model, count=8, seed=1)
    assert set(drawn.labels) <= set(CLASSES) and len(set(drawn.labels)) > 1


def test_sizes_beyond_the_trained_one(model):
    drawn = image.sample(model, labels=["cat"], size=(20, 50), seed=0)
    assert drawn.codes.shape == (1, 2, 5, 13) and drawn.pixels.shape == (1, 20, 50, 3)


def test_the_torch_path_draws_the_same_codes(model, monkeypatch):
    from vqcli.nets.priors import pixelcnn_torch

    compiled = image.sample(model, labels=["cat", "fox"], count=2, seed=3).codes
    net = priors.load_pixelcnn(priors.find(model.info, "pixelcnn"), torch.device("cpu"))
    uniforms = np.stack([np.random.default_rng([3, index]).random((2, 8, 8)) for index in range(4)])
    nothing = np.zeros((4, 2, 8, 8), np.int64)
    in_torch = pixelcnn_torch.sample(net, nothing, nothing.astype(bool), uniforms, np.array([0, 0, 2, 2]))
    assert np.array_equal(in_torch, compiled)


@pytest.mark.parametrize(("keep", "kept"), [("top", 32), ("left", 32), ("box", 16)])
def test_completion_keeps_its_part(model, picture, keep, kept):
    drawn = image.sample(model, labels=["cat"], count=2, start=picture(50, 40), keep=keep, seed=1)
    part = image.kept_part(keep, 8, 8)
    assert part.sum() == kept
    assert np.array_equal(drawn.codes[0][:, part], drawn.codes[1][:, part])
    assert not np.array_equal(drawn.codes[0], drawn.codes[1])


def test_the_middle_of_a_picture_is_fitted():
    wide = np.zeros((10, 40, 1), np.uint8)
    wide[:, 10:30] = 255
    assert (image.fitted(wide, 20, 20) == 255).all()
    assert image.fitted(wide, 5, 20).shape == (5, 20, 3)


def test_the_uniform_prior_needs_no_file(vector_model):
    drawn = image.sample(vector_model, prior="uniform", count=4, seed=0)
    assert drawn.labels == (None,) * 4
    assert set(np.unique(drawn.codes)) == set(range(8))


def test_settings_change_the_draw(model):
    plain = image.sample(model, labels=["cat"], count=2, seed=0).codes
    for other in (Sampling(temperature=0.1), Sampling(top_k=1), Sampling(top_p=0.3), Sampling(guidance=4.0)):
        assert not np.array_equal(plain, image.sample(model, labels=["cat"], count=2, seed=0, sampling=other).codes)
    sure = image.sample(model, labels=["cat"], count=2, seed=0, sampling=Sampling(temperature=0)).codes
    assert np.array_equal(sure[0], sure[1])


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"labels": ["foks"]}, UnknownLabel, "knows no foks"),
        ({"prior": "pixelsnn"}, UsageError, "no prior pixelsnn"),
        ({"prior": "uniform", "labels": ["fox"]}, UsageError, "knows no classes"),
        ({"count": 5000}, UsageError, "too many"),
        ({"size": (0, 8)}, UsageError, "too many or too few"),
        ({"size": (10**5, 10**5)}, UsageError, "too many"),
        ({"start": np.zeros((8, 8, 3), np.uint8), "keep": "middle"}, UsageError, "no part middle"),
    ],
)
def test_what_cannot_be_drawn(model, options, error, says):
    with pytest.raises(error, match=says):
        image.sample(model, **options)


def test_models_without_a_prior(vector_model, scalar_model):
    with pytest.raises(ModelError, match="has no prior pixelcnn"):
        image.sample(vector_model)
    with pytest.raises(UsageError, match="no prior to sample from"):
        image.sample(scalar_model)


def test_a_prior_of_another_model_is_refused(make_model, tmp_path):
    arguments = {"widths": [8, 8], "dim": 4, "blocks": 1, "quantizer": {"kind": "vector", "K": 8}}
    made = make_model("other", folder=tmp_path, **arguments)
    add_prior(made, codec="00" * 8)
    with pytest.raises(ModelError, match="belongs to another version"):
        image.sample(made)


def test_the_model_that_has_a_prior_is_found(model, monkeypatch):
    monkeypatch.setenv("VQ_MODELS", str(model.info.folder.parent))
    monkeypatch.setattr(store, "search_path", lambda: [model.info.folder.parent])
    assert image.find_model().name == "drawing"
    monkeypatch.setattr(store, "search_path", lambda: [])
    with pytest.raises(ModelError, match="no model has a prior"):
        image.find_model()


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:100], lambda data: data[:-8], lambda data: data.replace(b"fox", b"f\\x")],
    ids=["empty", "header", "weights", "json"],
)
def test_damaged_priors_are_model_errors(make_model, tmp_path, damage):
    arguments = {"widths": [8, 8], "dim": 4, "blocks": 1, "quantizer": {"kind": "vector", "K": 8}}
    made = make_model("damaged", folder=tmp_path, **arguments)
    info = add_prior(made)
    info.path.write_bytes(damage(info.path.read_bytes()))
    with pytest.raises(ModelError, match=r"pixelcnn\.safetensors"):
        image.sample(made)
