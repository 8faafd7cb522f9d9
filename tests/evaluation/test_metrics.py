import math

import numpy as np
import pytest

from vqcli.errors import UsageError
from vqcli.evaluation import metrics


def noisy_pair(height: int, width: int, channels: int = 3, noise: float = 20) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    rows, columns, shift = np.mgrid[:height, :width, :channels]
    clean = 128 + 90 * np.sin(rows / 9 + shift) * np.cos(columns / 13)
    noisy = clean + noise * generator.standard_normal(clean.shape)
    return clean.astype(np.uint8), noisy.clip(0, 255).astype(np.uint8)


def plain_ms_ssim(a: np.ndarray, b: np.ndarray, weights: list[float]) -> float:
    """The definition, window by window in float64."""
    steps = np.arange(-5, 6)
    window = np.exp(-(steps[:, None] ** 2 + steps**2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(x: np.ndarray) -> np.ndarray:
        return (np.lib.stride_tricks.sliding_window_view(x, (11, 11)) * window).sum((-1, -2))

    def halve(x: np.ndarray) -> np.ndarray:
        x = np.pad(x, [(0, n % 2) for n in x.shape], mode="symmetric")
        return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).mean((1, 3))

    channels = []
    for x, y in zip(np.moveaxis(a.astype(float), -1, 0), np.moveaxis(b.astype(float), -1, 0), strict=True):
        value = 1.0
        for scale, weight in enumerate(weights):
            mx, my = mean(x), mean(y)
            term = (2 * (mean(x * y) - mx * my) + 58.5225) / (mean(x * x) - mx**2 + mean(y * y) - my**2 + 58.5225)
            if scale == len(weights) - 1:
                term = term * (2 * mx * my + 6.5025) / (mx**2 + my**2 + 6.5025)
            value *= max(term.mean(), 0) ** weight
            x, y = halve(x), halve(y)
        channels.append(value)
    return float(np.mean(channels))


def test_mse_and_psnr_on_numbers_done_by_hand():
    a = np.zeros((2, 2, 3), np.uint8)
    b = a.copy()
    b[0, 0] = [255, 0, 6]
    assert metrics.mse(a, b) == (255**2 + 6**2) / 12
    assert metrics.psnr(a, b) == pytest.approx(10 * math.log10(12 * 255**2 / (255**2 + 36)))
    assert metrics.psnr(a, a) == math.inf
    assert metrics.psnr(a, a + 255) == 0


def test_mse_does_not_overflow():
    assert metrics.mse(np.zeros((512, 512, 1), np.uint8), np.full((512, 512, 1), 255, np.uint8)) == 65025


@pytest.mark.parametrize("measure", [metrics.mse, metrics.psnr, metrics.ms_ssim])
def test_only_pictures_of_one_shape_compare(measure):
    a = np.zeros((16, 16, 3), np.uint8)
    for other in (a[:8], a[..., :1], a.astype(np.float32)):
        with pytest.raises(UsageError, match="cannot compare"):
            measure(a, other)


@pytest.mark.parametrize(("height", "width"), [(176, 192), (161, 163)])
def test_ms_ssim_is_its_definition(height, width):
    a, b = noisy_pair(height, width)
    expected = plain_ms_ssim(a, b, [0.0448, 0.2856, 0.3001, 0.2363, 0.1333])
    assert metrics.ms_ssim(a, b) == pytest.approx(expected, abs=1e-5)


def test_ms_ssim_of_small_pictures_uses_fewer_scales():
    for side, weights in [(11, [0.0448]), (21, [0.0448, 0.2856]), (160, [0.0448, 0.2856, 0.3001, 0.2363])]:
        a, b = noisy_pair(side, side + 5, channels=1)
        assert metrics.ms_ssim(a, b) == pytest.approx(
            plain_ms_ssim(a, b, list(np.divide(weights, sum(weights)))), abs=1e-5
        )
    a, b = noisy_pair(10, 100)
    assert math.isnan(metrics.ms_ssim(a, b))


def test_ms_ssim_range():
    a, b = noisy_pair(200, 180)
    assert metrics.ms_ssim(a, a) == pytest.approx(1, abs=1e-6)
    assert metrics.ms_ssim(a, b) == pytest.approx(metrics.ms_ssim(b, a), abs=1e-6)
    assert metrics.ms_ssim(a, noisy_pair(200, 180, noise=60)[1]) < metrics.ms_ssim(a, b) < 1
    assert metrics.ms_ssim(a, 255 - a) == 0  # a negative: every structure is reversed
    black = np.zeros((200, 200, 1), np.uint8)
    assert metrics.ms_ssim(black, black) == 1
    assert metrics.ms_ssim(black, black + 255) < 0.6


def test_usage_and_perplexity():
    assert metrics.usage_and_perplexity(np.array([5, 5, 0, 0])) == (0.5, pytest.approx(2))
    assert metrics.usage_and_perplexity(np.ones(512)).perplexity == pytest.approx(512)
    assert metrics.usage_and_perplexity(np.array([3, 1])).perplexity == pytest.approx(4 / 3**0.75)
    assert metrics.usage_and_perplexity(np.zeros(8)) == (0, 0)


def test_bits_per_pixel():
    assert metrics.bits_per_pixel(1536, 64, 32) == 6


def test_interpolation_is_straight_over_the_logarithm_of_the_rate():
    points = [(4.0, 40.0), (1.0, 20.0)]
    assert metrics.interpolate(points, 2.0) == pytest.approx(30)
    assert metrics.interpolate(points, 1.0) == 20
    assert metrics.interpolate(points, 4.0) == 40
    assert metrics.interpolate(points, 0.99) is None
    assert metrics.interpolate(points, 4.01) is None
    assert metrics.interpolate([], 1.0) is None


def test_codes_are_counted_by_group():
    counts = metrics.CodeCounts((4, 2))
    counts.add(np.array([[[0, 1]], [[0, 0]]]))
    counts.add(np.array([[[0, 1]], [[0, 0]]]))
    assert counts.usages() == [(0.5, pytest.approx(2)), (0.5, pytest.approx(1))]


def test_flat_colour_error():
    """A tint of flat areas counts by its length in Cb and Cr; what lies in texture, and noise, do not."""
    rng = np.random.default_rng(0)
    original = np.full((64, 96, 3), 90, np.uint8)
    original[:, 48:] = rng.integers(0, 256, (64, 48, 3))  # nothing flat here
    decoded = original.copy()
    assert metrics.flat_colour_error(original, decoded) == 0
    decoded[:, :48, 0] += 6  # red
    expected = 6 * np.hypot(0.168736, 0.5)
    assert metrics.flat_colour_error(original, decoded) == pytest.approx(expected, rel=1e-3)
    decoded[:, 48:] = 0
    assert metrics.flat_colour_error(original, decoded) == pytest.approx(expected, rel=1e-3)
    brighter = original.copy()
    brighter[:, :48] += 20
    assert metrics.flat_colour_error(original, brighter) == pytest.approx(0, abs=1e-3)
    noisy = original.copy()
    noisy[:, :48, 0] += rng.integers(0, 2, (64, 48), np.uint8) * 12  # 6 on average
    assert metrics.flat_colour_error(original, noisy) == pytest.approx(expected, rel=0.1)


def test_nothing_flat_or_grey_has_no_colour_error():
    rng = np.random.default_rng(0)
    textured = rng.integers(0, 256, (48, 48, 3)).astype(np.uint8)
    assert math.isnan(metrics.flat_colour_error(textured, textured))
    assert math.isnan(metrics.flat_colour_error(textured[..., :1], textured[..., :1]))
    assert math.isnan(metrics.flat_colour_error(textured[:9], textured[:9]))
