"""The model of `vq encode photo.png`: better than what it replaces, also where photographs do not lead."""

import numpy as np
import pytest

import vqcli
from tests.shipped.test_images import MODELS, PARROTS
from vqcli.codec import refinement
from vqcli.evaluation import metrics
from vqcli.evaluation.image import baselines
from vqcli.media import image
from vqcli.nets.layers.convnet2d import from_pixels
from vqcli.nets.layers.distortion import distortion
from vqcli.zoo import loading, store


@pytest.fixture(scope="module")
def model():
    return loading.load(store.describe(MODELS / "photo-2"), "cpu")


@pytest.mark.parametrize("tune", ["ssim", "psnr"])
@pytest.mark.parametrize("name", ["photo-2", "photo-free"])
def test_it_is_better_than_jpeg_at_equal_bytes(name, tune):
    model = loading.load(store.describe(MODELS / name), "cpu")
    original = image.read(PARROTS).pixels
    encoded = vqcli.encode(original, model, quality=5, tune=tune)
    decoded = vqcli.decode(encoded, model).pixels
    jpeg = baselines.at_bytes(original, "JPEG", len(encoded.data))
    assert metrics.psnr(original, decoded) > metrics.psnr(original, jpeg.pixels) + 1
    assert metrics.ms_ssim(original, decoded) > metrics.ms_ssim(original, jpeg.pixels)
    assert encoded.header.quality == (150 if tune == "psnr" else 50)


def test_it_is_the_default():
    assert store.DEFAULTS["image"] == store.DEFAULTS["video"] == "photo-2"
    assert vqcli.encode(np.zeros((16, 16, 3), np.uint8)).header.model == "photo-2"


def test_files_of_a_preview_are_not_to_be_kept():
    model = loading.load(store.describe(MODELS / "photo-free"), "cpu")
    pixels = np.zeros((16, 16, 3), np.uint8)
    for encoded in (vqcli.encode(pixels, model), vqcli.encode(np.stack([pixels] * 2), model)):
        assert len(encoded.notes) == 1 and "preview" in encoded.notes[0]
    assert vqcli.encode(pixels).notes == ()


def chessboard(square, dark, light, side=128):
    y, x = np.mgrid[:side, :side] // square
    return np.where(((x + y) % 2)[..., None], np.array(light, np.uint8), np.array(dark, np.uint8))


def bars(width, side=128):
    return np.broadcast_to(
        ((np.arange(side) // width % 2) * 255).astype(np.uint8)[None, :, None], (side, side, 3)
    ).copy()


PATTERNS = {
    "chessboard of 4": (chessboard(4, (0, 0, 0), (255, 255, 255)), 22),
    "chessboard of 8": (chessboard(8, (0, 0, 0), (255, 255, 255)), 26),
    "chessboard of 32": (chessboard(32, (0, 0, 0), (255, 255, 255)), 32),
    "bars of 2": (bars(2), 22),
    "bars of 5": (bars(5), 28),
    "saturated blocks": (
        np.random.default_rng(0).choice([0, 255], (8, 8, 3)).repeat(16, 0).repeat(16, 1).astype(np.uint8),
        26,
    ),
    "red": (np.full((64, 64, 3), (255, 0, 0), np.uint8), 40),
    "white": (np.full((64, 64, 3), 255, np.uint8), 34),
    "black": (np.zeros((64, 64, 3), np.uint8), 40),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_of_full_contrast_come_back(model, name):
    """Far beyond photographs: an earlier net made garbage of them, at 3 dB."""
    pixels, least_db = PATTERNS[name]
    decoded = vqcli.decode(vqcli.encode(pixels, model, quality=8), model).pixels
    assert metrics.psnr(pixels, decoded) > least_db


def test_effort_lowers_bits_and_loss_together(model):
    """By what training minimised, with the bits of real files."""
    pixels = np.ascontiguousarray(image.read(PARROTS).pixels[:192, :192])
    aim = refinement.aim_of(model, 50)

    def cost(effort):
        encoded = vqcli.encode(pixels, model, quality=5, effort=effort)
        images = [from_pixels(x[None], model.device) for x in (vqcli.decode(encoded, model).pixels, pixels)]
        return 8 * len(encoded.data) + aim.weight * 192 * 192 * float(distortion(*images, aim.ssim).value)

    assert cost(2) < 0.99 * cost(0)
