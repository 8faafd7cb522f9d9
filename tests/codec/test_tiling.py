from pathlib import Path

import numpy as np
import pytest
import torch

from vqcli.codec import image as codec_image
from vqcli.codec import tiling
from vqcli.codec.codes import ImageCodes
from vqcli.codec.image import search_quality
from vqcli.errors import BadFile, UsageError
from vqcli.nets.codecs.vqgan2d import VQGAN
from vqcli.zoo.loading import LoadedModel
from vqcli.zoo.store import ModelInfo

MODELS = ["scalar_model", "vector_model"]


@pytest.fixture(params=MODELS)
def model(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("tile", [8, 16, 36])
def test_tiles_give_the_codes_and_pixels_of_the_whole(model, picture, monkeypatch, tile):
    pixels = picture(93, 78)  # neither a multiple of the stride nor of the tile
    whole_latents = tiling.encode_latents(model, pixels)
    whole = tiling.encode_image(model, pixels)
    whole_pixels = tiling.decode_image(model, whole)
    assert all(len(np.unique(group)) > 2 for group in whole.codes)  # not a test of constants
    monkeypatch.setattr(tiling, "TILE", tile)
    torch.testing.assert_close(tiling.encode_latents(model, pixels), whole_latents, rtol=1e-4, atol=1e-5)
    tiled = tiling.encode_image(model, pixels)
    assert (tiled.codes != whole.codes).mean() < 1e-3  # but for ties within float error
    decoded = tiling.decode_image(model, whole)
    assert np.abs(decoded.astype(int) - whole_pixels).max() <= 1


def test_latents_are_those_of_the_plain_net(model, picture):
    pixels = picture(32, 40)
    x = torch.from_numpy(pixels).movedim(-1, 0)[None] / 255 - 0.5
    torch.testing.assert_close(tiling.encode_latents(model, pixels), model.net.encoder(x)[0])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (5, 7), (33, 1), (1, 33), (4, 4), (31, 35)], ids=str)
def test_any_size_comes_back_in_its_size(model, picture, monkeypatch, size, channels):
    monkeypatch.setattr(tiling, "TILE", 16)
    pixels = picture(*size, channels)
    image = tiling.encode_image(model, pixels)
    assert image.codes.dtype == np.uint16
    assert image.codes.shape[1:] == tuple(-(-side // model.net.stride) for side in size)
    assert (image.size, image.channels) == ((size[1], size[0]), channels)
    decoded = tiling.decode_image(model, image)
    assert decoded.shape == pixels.shape and decoded.dtype == np.uint8


def test_cropped_pixels_are_those_of_the_picture_continued_by_its_border(scalar_model, picture):
    pixels = picture(13, 10)
    continued = np.pad(pixels, ((0, 3), (0, 2), (0, 0)), mode="edge")
    image, larger = (tiling.encode_image(scalar_model, p, quality=3) for p in (pixels, continued))
    assert np.array_equal(image.codes, larger.codes)
    assert np.array_equal(tiling.decode_image(scalar_model, image), tiling.decode_image(scalar_model, larger)[:13, :10])


def test_grey_is_the_codes_of_equal_channels(model, picture):
    grey = picture(20, 24, 1)
    image = tiling.encode_image(model, grey)
    colour = tiling.encode_image(model, grey.repeat(3, axis=2))
    assert np.array_equal(image.codes, colour.codes)
    mean = tiling.decode_image(model, colour).astype(float).mean(2, keepdims=True)
    decoded = tiling.decode_image(model, image)
    unclipped = (mean > 8) & (mean < 247)
    assert np.abs(decoded - mean)[unclipped].max(initial=0) <= 8
    assert decoded.shape == grey.shape


@pytest.mark.parametrize("tile", [16, 1024])
def test_report_rises_to_one(scalar_model, picture, monkeypatch, tile):
    monkeypatch.setattr(tiling, "TILE", tile)
    shares: list[float] = []
    image = tiling.encode_image(scalar_model, picture(40, 50), progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1
    shares.clear()
    tiling.decode_image(scalar_model, image, shares.append)
    assert shares == sorted(shares) and shares[-1] == 1


@pytest.mark.parametrize(("quality", "tenths"), [(None, 20), (1, 10), (3, 30), (1.23, 12), (2.96, 30)])
def test_quality_in_tenths(scalar_model, quality, tenths):
    assert tiling.resolve_quality(scalar_model, quality) == tenths


def test_qualities_that_are_not_there(scalar_model, vector_model, picture):
    for quality in (0, 0.9, 3.1, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="within 1 to 3"):
            tiling.resolve_quality(scalar_model, quality)
    assert tiling.resolve_quality(vector_model, None) == 0
    with pytest.raises(UsageError, match="one quality"):
        tiling.resolve_quality(vector_model, 1)
    with pytest.raises(UsageError, match="one rate"):
        search_quality(vector_model, picture(8, 8), 1.0)


def test_higher_qualities_use_more_codes(scalar_model, picture):
    images = [tiling.encode_image(scalar_model, picture(64, 64), quality=quality) for quality in (1, 2, 3)]
    spreads = [image.codes.astype(float).std() for image in images]
    assert spreads == sorted(spreads) and spreads[0] < spreads[-1]


def test_a_grid_that_is_not_the_pictures(scalar_model):
    with pytest.raises(BadFile, match="3 x 3"):
        tiling.decode_image(scalar_model, ImageCodes(np.zeros((3, 3, 3), np.uint16), (8, 8), 3, 10))


def test_what_a_net_must_see_whole_is_bounded(monkeypatch, picture):
    """Attention and normalisation over the image: memory grows with it, so a large one is refused before any work."""
    net = VQGAN(net={"widths": [8, 8], "attention": [1], "z_channels": 4, "groups": 4}, dim=4, K=16)
    info = ModelInfo(Path("gan"), {"family": "vqgan2d", "modality": "image", "arguments": {}})
    model = LoadedModel(info, net.eval().requires_grad_(False), None, torch.device("cpu"))
    image = tiling.encode_image(model, picture(17, 30))
    assert image.codes.shape == (1, 9, 15) and tiling.decode_image(model, image).shape == (17, 30, 3)
    monkeypatch.setattr(tiling, "LARGEST_WHOLE", 500)
    for work in (lambda: tiling.encode_image(model, picture(17, 30)), lambda: tiling.decode_image(model, image)):
        with pytest.raises(UsageError, match="as a whole"):
            work()
    with pytest.raises(UsageError, match="never exact"):
        codec_image.encode(picture(8, 8), model, lossless=True)
