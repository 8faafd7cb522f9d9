import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcli.entropy import pixel_prediction
from vqcli.errors import BadFile


def pair(height, width, channels, noise, seed=0):
    """A picture of slopes and noise, and one that is near to it."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    smooth = 120 + 60 * np.sin(rows / 9 + columns / 7)[..., None] + np.arange(channels) * 9
    pixels = (smooth + generator.normal(0, noise, (height, width, channels))).clip(0, 255).astype(np.uint8)
    decoded = (smooth + generator.normal(0, 1, smooth.shape)).clip(0, 255).astype(np.uint8)
    return pixels, decoded


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3]), st.data())
@settings(max_examples=100, deadline=None)
def test_whatever_pixels_return(height, width, channels, data):
    size = height * width * channels
    extremes = st.lists(st.sampled_from([0, 1, 127, 254, 255]), min_size=size, max_size=size)
    pixels, decoded = (
        np.array(data.draw(extremes), np.uint8).reshape(height, width, channels) for _ in range(2)
    )  # fmt: skip
    assert np.array_equal(pixel_prediction.decode(pixel_prediction.encode(pixels, decoded), decoded), pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_against_noise_returns_and_costs_little_more_than_itself(channels):
    generator = np.random.default_rng(0)
    pixels, decoded = generator.integers(0, 256, (2, 60, 50, channels), np.uint8)
    data = pixel_prediction.encode(pixels, decoded)
    assert np.array_equal(pixel_prediction.decode(data, decoded), pixels)
    assert len(data) < 1.15 * pixels.size


def test_steps_between_black_and_white_return():
    """What drives the weights as far as they go."""
    pixels = np.indices((80, 80)).sum(0, dtype=np.int64)[..., None].repeat(3, 2) % 2 * 255
    for decoded in (255 - pixels, np.zeros_like(pixels), pixels):
        data = pixel_prediction.encode(pixels.astype(np.uint8), decoded.astype(np.uint8))
        assert np.array_equal(pixel_prediction.decode(data, decoded.astype(np.uint8)), pixels)


@pytest.mark.parametrize("noise", [4.0, 20.0])
def test_the_rate_is_that_of_the_noise(noise):
    pixels, decoded = pair(128, 128, 3, noise)
    bits = 8 * len(pixel_prediction.encode(pixels, decoded)) / pixels.size
    entropy = np.log2(noise * np.sqrt(2 * np.pi * np.e))
    assert entropy - 0.2 < bits < entropy + 0.35


def test_small_pictures_do_not_pay_for_what_is_not_learned():
    large, small = ([*pair(side, side, 3, 3.0)] for side in (160, 16))
    rates = [len(pixel_prediction.encode(*pictures)) / pictures[0].size for pictures in (large, small)]
    assert rates[1] < 1.15 * rates[0]


def test_nothing_is_missing():
    pixels, _ = pair(64, 64, 3, 0.0)
    assert len(pixel_prediction.encode(pixels, pixels)) < 0.05 * pixels.size


def test_bytes_that_end_too_early_or_too_late():
    pixels, decoded = pair(20, 20, 3, 4.0)
    data = pixel_prediction.encode(pixels, decoded)
    for wrong in (b"", data[:1], data[:-1], data + b"\0", data[: len(data) // 2], data * 2):
        with pytest.raises(BadFile, match="too early or too late"):
            pixel_prediction.decode(wrong, decoded)


def test_tables_have_the_shape_of_distributions():
    means, classes, scales, masses = pixel_prediction._tables()
    assert (masses[:, 0] == pixel_prediction.WHOLE // 2).all()
    assert (np.diff(masses.astype(np.int64)) >= 0).all() and masses.max() <= pixel_prediction.WHOLE
    assert (np.diff(classes.astype(int)) >= 0).all() and classes.max() == pixel_prediction.CLASSES - 1
    assert (np.diff(scales.astype(int)) >= 0).all() and scales.max() == pixel_prediction.SCALES - 1
    # mean |z| of each, from its mass beyond z, is its scale
    beyond = 2 * (pixel_prediction.WHOLE - masses.astype(np.float64)) / pixel_prediction.WHOLE
    mean = (beyond.sum(1) - 0.5) / 16
    steps = np.array([pixel_prediction.EIGHTHS[k % 8] << k // 8 for k in range(pixel_prediction.SCALES)]) // 8 / 64
    np.testing.assert_allclose(mean[8:72], steps[8:72], rtol=0.02)
    assert len(means) == pixel_prediction.CLASSES


def test_golden_bytes():
    pixels, decoded = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3) * np.uint8(2)
    data = pixel_prediction.encode(pixels, decoded)
    assert data.hex() == GOLDEN
    assert np.array_equal(pixel_prediction.decode(data, decoded), pixels)


GOLDEN = "000021a62a09323a7eb898c52a04973444e7f7f217cd9e56a1bfd286d571f54c571bcda22e43e74a064807c9d3e20852"


def test_pixels_of_another_kind():
    for wrong in (np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3))):
        with pytest.raises(ValueError, match="pixels are"):
            pixel_prediction.encode(wrong, wrong)
