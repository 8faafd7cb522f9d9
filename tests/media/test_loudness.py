"""Loudness beside audiotools' and the standard's own test tone."""

import numpy as np
import pytest

from vqcli.media import loudness
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


@pytest.mark.fault("03 loudness")
@pytest.mark.parametrize("rate_hz", [8000, 16_000, 48_000])
def test_offsets_and_rumble_are_not_loud(rate_hz):
    time = np.arange(2 * rate_hz) / rate_hz
    speech = (0.03 * np.sin(2 * np.pi * 200 * time) * (np.sin(2 * np.pi * time) > 0)).astype(np.float32)
    expected = loudness.active_rms_db(speech, rate_hz)
    assert expected == pytest.approx(20 * np.log10(0.03 / 2**0.5), abs=0.25)  # it rings at onsets
    assert loudness.active_rms_db(speech + np.float32(0.05), rate_hz) == pytest.approx(expected, abs=0.1)
    rumble = 0.05 * np.sin(2 * np.pi * 15 * time)
    assert loudness.active_rms_db((speech + rumble).astype(np.float32), rate_hz) == pytest.approx(expected, abs=0.3)
    assert loudness.active_rms_db(np.full(rate_hz, 0.5, np.float32), rate_hz) == -100


def test_parts_are_filtered_as_the_whole():
    noise = np.random.default_rng(0).normal(0, 0.1, 40 * 16_000)
    powers = loudness.block_powers(noise)  # in parts of 20 s
    spectrum = np.fft.rfft(np.pad(noise, (16_000, 16_000), "edge"))
    spectrum *= loudness._above_lowest(np.exp(-2j * np.pi * np.fft.rfftfreq(len(noise) + 32_000)), 16_000)
    whole = np.fft.irfft(spectrum)[16_000 : 16_000 + len(noise)]
    assert np.allclose(powers, (whole**2).reshape(-1, 320).mean(1), rtol=1e-6)
