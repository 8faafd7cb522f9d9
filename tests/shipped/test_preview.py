"""The preview of the next photo works, and says what it is."""

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
def preview():
    return loading.load(store.describe(MODELS / "photo-2"), "cpu")


@pytest.mark.parametrize("tune", ["ssim", "psnr"])
def test_it_is_better_than_jpeg_at_equal_bytes(preview, tune):
    original = image.read(PARROTS).pixels
    encoded = vqcli.encode(original, preview, quality=5, tune=tune)
    decoded = vqcli.decode(encoded, preview).pixels
    jpeg = baselines.at_bytes(original, "JPEG", len(encoded.data))
    assert metrics.psnr(original, decoded) > metrics.psnr(original, jpeg.pixels) + 1
    assert metrics.ms_ssim(original, decoded) > metrics.ms_ssim(original, jpeg.pixels)
    assert encoded.header.quality == (150 if tune == "psnr" else 50)


def test_files_of_a_preview_are_not_to_be_kept(preview):
    notes = vqcli.encode(np.zeros((16, 16, 3), np.uint8), preview).notes
    assert len(notes) == 1 and "preview" in notes[0]


def test_effort_lowers_bits_and_loss_together(preview):
    """By what training minimised, with the bits of real files."""
    pixels = np.ascontiguousarray(image.read(PARROTS).pixels[:192, :192])
    aim = refinement.aim_of(preview, 50)

    def cost(effort):
        encoded = vqcli.encode(pixels, preview, quality=5, effort=effort)
        images = [from_pixels(x[None], preview.device) for x in (vqcli.decode(encoded, preview).pixels, pixels)]
        return 8 * len(encoded.data) + aim.weight * 192 * 192 * float(distortion(*images, aim.ssim).value)

    assert cost(2) < 0.99 * cost(0)
