"""A family, a coder and a recipe are each one file that is found by being there: toys go through every command."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from vqcli.container import vqz
from vqcli.data.shapes import Shapes
from vqcli.entropy import coders
from vqcli.media import image
from vqcli.nets import codecs

FAMILY = '''
import torch
from torch import nn

from vqcli.nets.codecs.base import ImageCodec
from vqcli.nets.layers.quantizer import VectorQuantizer


class Toy(nn.Module, ImageCodec):
    """Patches of 4 x 4 pixels, each by itself."""

    first = likelihood = None
    encoder_margin = decoder_margin = 0

    def __init__(self, K=8):
        super().__init__()
        self.channels, self.stride, self.levels, self.latent_dim = 3, 4, 1, 6
        self.encoder = nn.Conv2d(3, 6, 4, stride=4)
        self.quantizer = VectorQuantizer(6, K)
        self.decoder = nn.ConvTranspose2d(6, 3, 4, stride=4)
        self.codebook_sizes = self.quantizer.codebook_sizes

    def forward(self, x):
        quantized = self.quantizer(self.encoder(x))
        return self.decoder(quantized.z_q), quantized

    def to_image(self, output):
        return output

    def latents(self, x):
        return self.encoder(x)

    def quantize(self, z_e, quality=None):
        return self.quantizer.codes(z_e)

    @torch.no_grad()
    def decode(self, codes, quality=None, seed=None):
        return self.decoder(self.quantizer.lookup(codes))


FAMILY = Toy
'''
CODER = '''
"""Two bytes a code."""

import numpy as np

from vqcli.errors import BadFile

ID, USES_NET, NEEDS_STATISTICS = 99, False, False


def usable(given):
    return True


def encode(codes, given):
    return codes.astype(">u2").tobytes()


def decode(data, shape, given):
    if len(data) != 2 * int(np.prod(shape)):
        raise BadFile("these are not two bytes a code")
    return np.frombuffer(data, ">u2").astype(np.int32).reshape(shape)
'''
RECIPE = """
description = "A toy"
modality = "image"
[model]
family = "toy2d"
[model.arguments]
K = 16
[data]
crop = 16
batch = 4
[optimization]
steps = 20
warmup = 2
learning_rate = 1e-2
validate_every = 10
"""


def drop(monkeypatch, folder: Path, package, name: str, text: str) -> None:
    """A file in a folder that the package also looks into."""
    folder.mkdir()
    (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    importlib.invalidate_caches()


@pytest.fixture
def toys(home, monkeypatch):
    drop(monkeypatch, home / "families", codecs, "toy2d", FAMILY)
    drop(monkeypatch, home / "coders", coders, "two_bytes", CODER)
    (home / "toy.toml").write_text(RECIPE)
    (home / "images").mkdir()
    shapes = Shapes(24)
    for index in range(24):
        image.write(home / "images" / f"{index}.png", shapes.read(index))
    yield home
    for package, name in ((codecs, "toy2d"), (coders, "two_bytes")):
        sys.modules.pop(f"{package.__name__}.{name}", None)
        vars(package).pop(name, None)


def test_toys_go_through_every_command(vq, toys):
    trained = vq("train", "toy.toml", "images", "-o", "toy")
    assert trained.exit_code == 0, trained.stderr
    told = json.loads(vq("info", "./toy", "--json").stdout)
    assert told["family"] == "toy2d" and told["arguments"] == {"K": 16}
    encoded = vq("encode", "images/0.png", "--model", "./toy", "--coder", "two_bytes", "-o", "0.vqz", "--json")
    assert encoded.exit_code == 0, encoded.stderr
    assert json.loads(encoded.stdout)[0]["coder"] == "two_bytes"
    assert vqz.read(Path("0.vqz")).header.coder == 99
    assert json.loads(vq("info", "0.vqz", "--json").stdout)["coder"] == "two_bytes"
    decoded = vq("decode", "0.vqz", "--model", "./toy", "-o", "0.png")
    assert decoded.exit_code == 0, decoded.stderr
    assert image.read(Path("0.png")).pixels.shape == image.read(Path("images/0.png")).pixels.shape
    measured = vq("eval", "rd", "images", "--model", "./toy", "--baselines", "", "--json")
    assert measured.exit_code == 0, measured.stderr
    [row] = json.loads(measured.stdout)["points"]
    assert row["codec"] == "toy" and row["psnr_db"] > 5


def test_a_family_that_lacks_a_member_is_refused_with_its_name(vq, toys):
    assert vq("train", "toy.toml", "images", "-o", "toy").exit_code == 0
    less = FAMILY.replace("    def quantize(", "    def another(").replace("(nn.Module, ImageCodec)", "(nn.Module)")
    Path("families/toy2d.py").write_text(less)
    sys.modules.pop("vqcli.nets.codecs.toy2d")
    importlib.invalidate_caches()
    refused = vq("encode", "images/0.png", "--model", "./toy", "-o", "0.vqz")
    assert refused.exit_code == 4
    assert "Toy is no ImageCodec: it lacks" in refused.stderr and "quantize" in refused.stderr


def test_an_abstract_family_is_refused_too(vq, toys):
    assert vq("train", "toy.toml", "images", "-o", "toy").exit_code == 0
    Path("families/toy2d.py").write_text(FAMILY.replace("    def quantize(", "    def another("))
    sys.modules.pop("vqcli.nets.codecs.toy2d")
    importlib.invalidate_caches()
    refused = vq("encode", "images/0.png", "--model", "./toy", "-o", "0.vqz")
    assert refused.exit_code == 4 and "quantize" in refused.stderr


def test_without_the_file_there_is_no_such_family(vq, toys, monkeypatch):
    assert vq("train", "toy.toml", "images", "-o", "toy").exit_code == 0
    monkeypatch.setattr(codecs, "__path__", codecs.__path__[:1])
    sys.modules.pop("vqcli.nets.codecs.toy2d")
    refused = vq("encode", "images/0.png", "--model", "./toy", "-o", "0.vqz")
    assert refused.exit_code == 4 and "no family toy2d" in refused.stderr


def test_pixels_of_the_toys_come_back_the_same(toys, vq):
    assert vq("train", "toy.toml", "images", "-o", "toy").exit_code == 0
    for coder in ("two_bytes", "auto"):
        assert vq("encode", "images/1.png", "--model", "./toy", "--coder", coder, "-o", f"{coder}.vqz").exit_code == 0
        assert vq("decode", f"{coder}.vqz", "--model", "./toy", "-o", f"{coder}.png").exit_code == 0
    one, other = (image.read(Path(f"{coder}.png")).pixels for coder in ("two_bytes", "auto"))
    assert np.array_equal(one, other)
