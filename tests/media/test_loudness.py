"""Loudness beside audiotools' and the standard's own test tone."""

import numpy as np
import pytest

from vqcli.media.loudness import Meter


def measured(samples, rate_hz, step):
    meter = Meter(rate_hz, len(samples))
    for at in range(0, samples.shape[1], step):
        meter.add(samples[:, at : at + step])
    return meter.loudness_db()


@pytest.mark.parametrize(
    ("rate_hz", "n", "expected"),  # as audiotools 0.7.2 measures the same; the second is shorter than half a second
    [(16_000, 48_077, -20.488989), (24_000, 7200, -56.074535), (44_056, 132_245, -20.024961)],
)
@pytest.mark.parametrize("step", [10**6, 1000])
def test_it_measures_what_audiotools_does(rate_hz, n, expected, step):
    noise = np.random.default_rng(n).standard_normal((2, n))
    samples = (0.1 * noise * np.abs(np.sin(np.arange(n) / rate_hz * 1.1)) ** 3).astype(np.float32)
    samples[1] *= 0.001
    assert np.allclose(measured(samples, rate_hz, step), [expected, -70], atol=1e-4)


def test_a_tone_of_full_scale(rate_hz=48_000):
    """997 Hz are at -3.01 dB by definition (BS.1770-4, annex 1)."""
    tone = np.sin(2 * np.pi * 997 * np.arange(3 * rate_hz) / rate_hz)[None]
    assert measured(tone, rate_hz, 5000)[0] == pytest.approx(-3.01, abs=0.1)


def test_silence():
    assert measured(np.zeros((1, 9000)), 16_000, 100)[0] == -70 == measured(np.zeros((1, 0)), 16_000, 1)[0]
