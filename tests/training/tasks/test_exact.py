"""A prior for entropy coding from its recipe to the files it writes."""

import numpy as np
import pytest
import torch

import vqcli
from tests.nets.codecs.test_conformance import SMALL
from tests.training.conftest import of
from tests.training.tasks.test_waveform import SOURCE
from vqcli.cli.info import file_facts
from vqcli.codec import image_file
from vqcli.data.dataset import Dataset
from vqcli.data.shapes import Shapes
from vqcli.errors import ModelError
from vqcli.nets.layers.convnet2d import from_pixels
from vqcli.training import run
from vqcli.training.tasks import registry as registry_of_tasks
from vqcli.zoo import importing, loading, priors, registry, store

EXACT = b"""
description = "tiny prior for entropy coding"
modality = "image"
codec = "codec"
[model]
family = "exact"
[model.arguments]
hidden = 12
levels = 1
embedding = 4
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


@pytest.fixture(params=["scalar", "vector"])
def codec(request, make_model, scalar_model, tmp_path):
    arguments = {"widths": [8, 8], "dim": 4, "blocks": 1, "quantizer": {"kind": "vector", "K": 8}}
    if request.param == "scalar":
        arguments = scalar_model.info.description["arguments"]
    return make_model("codec", folder=tmp_path, **arguments)


def trained(output, codec, *settings):
    recipe = of(EXACT, f"codec={codec.info.folder}", *settings)
    return run.run(recipe, Shapes(count=300), output, device="cpu", threads=1)


def test_a_prior_saves_bytes(tmp_path, codec):
    info = trained(tmp_path / "exact", codec)
    described = priors.find(info, "exact").description
    assert described["codec"] == codec.info.digest.hex()
    measured = described["measured"]
    assert measured["bits_per_code"] < measured["order_0"] < measured["uniform"]
    # 64 codes a picture: the last byte of each weighs a little
    assert measured["float_bits_per_code"] * 0.98 < measured["bits_per_code"] < measured["float_bits_per_code"] + 8 / 64
    model = loading.load(info, "cpu")
    pixels = np.concatenate([np.concatenate([Shapes().read(i + 4 * j) for i in range(4)]) for j in range(4)], 1)
    encoded = vqcli.encode(pixels, model, coder="prior")
    sizes = {coder: image_file.file_size(model, encoded.image, coder=coder) for coder in ("auto", "prior", "packed")}
    assert sizes["auto"] <= sizes["prior"] < sizes["packed"]
    path = tmp_path / "shapes.vqz"
    encoded.save(path)
    assert np.array_equal(vqcli.decode(path, model).image.codes, encoded.codes)
    facts = file_facts(path, encoded.header, (len(encoded.payloads[0]),))
    assert facts["coder"] == "prior" and facts["digest_of"] == "model and entropy model together"
    with pytest.raises(ModelError, match=r"there is no exact\.safetensors"):
        vqcli.decode(path, codec)  # the same codec, without the prior


def test_residual_levels_are_refused(tmp_path, vector_model):
    with pytest.raises(ModelError, match="residual levels"):
        trained(tmp_path / "exact", vector_model)


def test_other_peoples_images_are_taken_in_their_range(tmp_path):
    """A VQGAN of -1 .. 1, imported: the prior learns the codes that files have, and leaves the model as it was."""
    torch.manual_seed(0)
    net = registry.build("vqgan2d", SMALL["vqgan2d"])
    facts = {"format": store.FORMAT, "family": "vqgan2d", "modality": "image", "arguments": SMALL["vqgan2d"]}
    importing.write_weights(tmp_path / "vqgan", net.state_dict(), facts | {store.SOURCE: SOURCE}, force=True)
    codec = loading.load(str(tmp_path / "vqgan"), "cpu")
    info = trained(tmp_path / "exact", codec)
    assert info.digest == codec.info.digest
    assert SOURCE["licence"] in (info.folder / "README.md").read_text()
    pixels = Shapes().read(3)
    task = registry_of_tasks.find("prior2d").build(of(EXACT), codec, Dataset(Shapes(count=20), held_out=False))
    codes, _ = task.codes(from_pixels(pixels[None], torch.device("cpu")))
    encoded = vqcli.encode(pixels, loading.load(info, "cpu"), coder="prior")
    assert np.array_equal(encoded.codes, codes[0]) and len(np.unique(encoded.codes)) > 1
    assert np.array_equal(vqcli.decode(encoded, loading.load(info, "cpu")).codes, encoded.codes)
