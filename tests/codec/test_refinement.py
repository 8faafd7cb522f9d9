"""Encoding with effort, with a tiny codec that holds its entropy model."""

import numpy as np
import pytest
import torch

import vqcli
from vqcli.codec import refinement, tiling
from vqcli.container.header import tune_of
from vqcli.errors import UsageError
from vqcli.training.export.joint2d import write_entropy_model
from vqcli.zoo import loading, registry

ARGUMENTS = {"width": 16, "dim": 8, "blocks": 1, "rate": {"slices": [2, 6], "levels": [1, 1], "hidden": 8}}
RATE = {"lambda_low": 0.001, "lambda_high": 0.1, "ssim": 0.5, "flat": 8.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build("lapped2d", ARGUMENTS)
    description = {"family": "lapped2d", "arguments": ARGUMENTS, "modality": "image", "recipe": {"rate": RATE}}
    info = loading.save(tmp_path_factory.mktemp("models") / "joint", net, None, description)
    write_entropy_model(info)
    return loading.load(info, "cpu")


@pytest.mark.parametrize("tune", ["ssim", "psnr"])
def test_codes_cost_less(model, picture, tune):
    pixels = picture(96, 120)
    plain = tiling.encode_image(model, pixels, quality=5, tune=tune)
    better = refinement.refined(model, pixels, plain, 4)
    assert (better.codes != plain.codes).any() and better.quality == plain.quality
    whole = (slice(0, 12), slice(0, 15))
    costs = [refinement._Tile(model, pixels, each.codes, each.quality, whole, whole) for each in (plain, better)]
    aim = refinement.aim_of(model, plain.quality)
    assert (aim.ssim, aim.flat) == ((0.5, 8.0) if tune == "ssim" else (0.0, 0.0))
    assert RATE["lambda_low"] < aim.weight < RATE["lambda_high"]
    with torch.no_grad():
        before, after = (float(tile.cost(tile.search.hard(tile.begin), aim)) for tile in costs)
    assert after < before


def test_equal_inputs_give_equal_files(model, picture):
    pixels = picture(64, 64)
    first, again = (vqcli.encode(pixels, model, effort=2).data for _ in range(2))
    assert first == again


def test_tiles_meet_without_a_gap(model, picture, monkeypatch):
    """Every code is in one tile, and what lies around a tile stays as it is."""
    monkeypatch.setattr(refinement, "SIDE", 8)
    seen = np.zeros((19, 26), int)
    for inner, outer in refinement._tiles((19, 26)):
        seen[inner] += 1
        assert all(
            o.start % 8 == 0 and o.start <= i.start and o.stop >= i.stop for i, o in zip(inner, outer, strict=True)
        )
    assert (seen == 1).all()
    pixels = picture(150, 203)
    shares = []
    better = refinement.refined(model, pixels, tiling.encode_image(model, pixels), 1, shares.append)
    assert better.codes.shape == (8, 19, 26)
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)


@pytest.mark.parametrize("shape", [(1, 1), (8, 40), (10, 10), (33, 9)])
def test_images_too_small_for_ms_ssim(model, picture, shape):
    pixels = picture(*shape)
    assert vqcli.decode(vqcli.encode(pixels, model, effort=1), model).pixels.shape == pixels.shape
    grey = pixels[..., :1]
    assert vqcli.decode(vqcli.encode(grey, model, effort=1), model).pixels.shape == grey.shape


def test_the_file_says_its_tune(model, picture, tmp_path):
    encoded = vqcli.encode(picture(40, 40), model, quality=3.5, tune="psnr", effort=1)
    assert encoded.header.quality == 135 and tune_of(13.5) == ("psnr", 3.5)
    encoded.save(tmp_path / "x.vqz")
    decoded = vqcli.decode(tmp_path / "x.vqz", model)
    assert np.array_equal(decoded.codes, encoded.codes)


def test_rates_are_kept(model, picture):
    pixels = picture(64, 96)
    full = vqcli.encode(pixels, model, quality=6, effort=2)
    fitted = vqcli.encode(pixels, model, bits_per_pixel=full.bits_per_pixel * 1.2, tune="psnr", effort=2)
    assert fitted.bits_per_pixel <= full.bits_per_pixel * 1.2 and fitted.header.quality > 100


def test_wrong_calls(model, scalar_model, picture):
    pixels = picture(16, 16)
    for options, message in (
        ({"effort": 10}, "effort 10"),
        ({"effort": -1}, "effort -1"),
        ({"tune": "vmaf"}, "has ssim and psnr"),
        ({"effort": 1, "lossless": True}, "without loss"),
        ({"quality": 10.5, "tune": "psnr"}, "not within 1 to 10"),
    ):
        with pytest.raises(UsageError, match=message):
            vqcli.encode(pixels, model, **options)
    with pytest.raises(UsageError, match="cannot search for codes"):
        vqcli.encode(pixels, scalar_model, effort=1)
    with pytest.raises(UsageError, match="has but one"):
        vqcli.encode(pixels, scalar_model, tune="psnr")


def test_vectors_are_chosen_by_what_they_come_to(make_model, vector_model, picture):
    with pytest.raises(UsageError, match="cannot search"):  # its levels quantize what others leave
        vqcli.encode(picture(16, 16), vector_model, effort=1)
    quantizer = {"kind": "vector", "K": 32, "groups": 2}
    model, pixels = make_model("one-level", widths=[8, 8], dim=4, blocks=1, quantizer=quantizer), picture(72, 90)
    plain = tiling.encode_image(model, pixels)
    better = refinement.refined(model, pixels, plain, 5)
    whole = tuple(slice(0, size) for size in plain.codes.shape[1:])
    tiles = [refinement._Tile(model, pixels, each.codes, 0, whole, whole) for each in (plain, better)]
    aim = refinement.Aim(tiles[0].weight(refinement.aim_of(model, 0)), 0.0)
    bits = tiles[0].search
    with torch.no_grad():  # under the same frequencies of codes
        before, after = (float(tiles[0].cost(bits.hard(tile.begin), aim)) for tile in tiles)
    assert after < before and (better.codes != plain.codes).any()
    encoded = vqcli.encode(pixels, model, effort=5)
    assert np.array_equal(vqcli.decode(encoded, model).codes, better.codes)
