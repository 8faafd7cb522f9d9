"""A codec that is trained with its entropy model, from its recipe to the files it writes."""

import numpy as np
import pytest

import vqcli
from tests.training.conftest import of
from vqcli.codec import image_file
from vqcli.data.shapes import Shapes
from vqcli.training import log, run
from vqcli.zoo import loading, priors

JOINT = b"""
description = "tiny codec with its entropy model"
modality = "image"
[model]
family = "lapped2d"
eight_bits = ["encoder", "decoder"]
[model.arguments]
width = 16
dim = 8
blocks = 1
rate = { slices = [2, 6], levels = [1, 1], hidden = 8 }
[data]
crop = 32
batch = 8
synthetic = 0.2
[optimization]
steps = 60
learning_rate = 3e-3
warmup = 5
average = 0.9
validate_every = 20
[rate]
ssim = 0.5
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint") / "tiny"
    return run.run(of(JOINT), Shapes(count=300), folder, device="cpu", threads=1), folder


def test_codec_and_entropy_model_belong_together(trained):
    info, folder = trained
    described = priors.find(info, "exact").description
    assert described["codec"] == info.digest.hex() and described["family"] == "exact"
    losses = [event["loss"] for event in log.read(folder) if event["event"] == "validation"]
    assert losses[-1] < losses[0]
    limits = info.description["arguments"]["quantizer"]["limits"]
    assert len(limits) == 8 and min(limits) < 255  # as many codes as are in use


def test_a_file_under_its_entropy_model(trained, tmp_path):
    model = loading.load(trained[0], "cpu")
    pixels = np.concatenate([np.concatenate([Shapes().read(i + 4 * j) for i in range(4)]) for j in range(4)], 1)
    encoded = vqcli.encode(pixels, model, quality=6, coder="prior")
    sizes = {coder: image_file.file_size(model, encoded.image, coder=coder) for coder in ("auto", "prior", "packed")}
    assert sizes["auto"] <= sizes["prior"] < sizes["packed"]
    encoded.save(tmp_path / "shapes.vqz")
    decoded = vqcli.decode(tmp_path / "shapes.vqz", model)
    assert np.array_equal(decoded.image.codes, encoded.codes) and decoded.pixels.shape == pixels.shape


def test_a_run_begins_with_the_weights_of_the_model(trained, tmp_path):
    """All of them: its entropy model goes on too."""
    info, _ = trained
    again = run.run(
        of(JOINT, "optimization.steps=1"), Shapes(count=300), tmp_path / "on", device="cpu", start=str(info.folder)
    )
    first, second = (loading.load(each, "cpu").net.rate.slices[1].hidden.weight for each in (info, again))
    assert float((first - second).abs().max()) < 0.01
    assert again.description["start"]["model"] == "tiny"
