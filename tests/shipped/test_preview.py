"""The preview of the next photo works, and says what it is."""

import numpy as np
import pytest

import vqcli
from tests.shipped.test_images import MODELS, PARROTS
from vqcli.evaluation import metrics
from vqcli.evaluation.image import baselines
from vqcli.media import image
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


def test_effort_saves_bytes_or_looks_better(preview):
    pixels = np.ascontiguousarray(image.read(PARROTS).pixels[:128, :128])
    plain, better = (vqcli.encode(pixels, preview, quality=5, effort=effort) for effort in (0, 1))
    assert len(better.data) < len(plain.data)
    difference = metrics.psnr(pixels, vqcli.decode(plain, preview).pixels) - metrics.psnr(
        pixels, vqcli.decode(better, preview).pixels
    )
    assert difference < 1
