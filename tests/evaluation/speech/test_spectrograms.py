import numpy as np
import pytest

from vqcli.errors import UsageError
from vqcli.evaluation.speech import spectrograms

TONE = (0.1 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)).astype(np.float32)
NOISE = (0.1 * np.random.default_rng(0).standard_normal(8000)).astype(np.float32)


def spectrum(picture: np.ndarray, row: int) -> np.ndarray:
    """How light each pixel of one of the spectra is, [160, W]."""
    top = row * (spectrograms.CAPTION + 160) + spectrograms.CAPTION
    return picture[top : top + 160, spectrograms.MARGIN : -12].sum(2)


def test_a_row_for_each_sound():
    one, two = (spectrograms.stacked([("source", TONE), ("decoded", NOISE)][:count]) for count in (1, 2))
    assert two.dtype == np.uint8 and two.shape[2] == 3
    assert two.shape[0] - one.shape[0] == spectrograms.CAPTION + 160 and two.shape[1] == one.shape[1]


def test_a_tone_is_a_line_at_its_frequency():
    light = spectrum(spectrograms.stacked([("tone", TONE)]), 0)
    loudest = light.mean(1).argmax()
    assert loudest == pytest.approx(160 * (1 - spectrograms._position(1000)), abs=3)
    assert light[loudest].min() > 3 * light[10].mean()


def test_time_is_one_axis():
    """The shorter sound ends half way; the picture holds the longer one, or so many seconds of it."""
    light = spectrum(spectrograms.stacked([("tone", TONE), ("noise", NOISE)]), 1)
    middle = light.shape[1] // 2
    assert light[:, : middle - 12].max() < 3 * 255 and (light[:, middle + 12 :] == 3 * 255).all()
    half = spectrograms.stacked([("tone", TONE)], seconds=0.5)
    assert half.shape == spectrograms.stacked([("noise", NOISE)]).shape


def test_silence_is_dark_and_nothing_is_an_error():
    assert spectrum(spectrograms.stacked([("silence", np.zeros(8000, np.float32))]), 0).max() < 60
    for sounds in ([], [("short", TONE[:100])]):
        with pytest.raises(UsageError, match="no audio"):
            spectrograms.stacked(sounds)
