import numpy as np
import pytest

from vqcli.media import pitch


def sawtooth(hz, seconds, size=0.2):
    at = np.cumsum(np.broadcast_to(hz, round(seconds * pitch.RATE_HZ))) / pitch.RATE_HZ
    partials = sum(np.sin(2 * np.pi * k * at) / k for k in range(1, 12))
    return (size * partials / 2).astype(np.float32)


def test_codes_and_back_lose_less_than_half_a_step():
    hz = np.geomspace(56, 495, 200)
    again = pitch.from_codes(pitch.to_codes(hz))
    assert np.abs(12 * np.log2(again / hz)).max() < 0.32
    assert pitch.to_codes(np.array([0.0, 10.0, 5000.0])).tolist() == [0, 1, 63]
    assert pitch.from_codes(np.array([0]))[0] == 0


@pytest.mark.parametrize("hz", [80.0, 130.0, 240.0])
def test_a_voice_like_signal_is_tracked(hz):
    found = pitch.track(sawtooth(hz, 1.0))
    assert found.shape == (50,)
    assert (np.abs(found[5:-5] / hz - 1) < 0.03).all()


def test_silence_and_noise_have_no_pitch():
    assert not pitch.track(np.zeros(16_000, np.float32)).any()
    noise = np.random.default_rng(0).normal(0, 0.05, 16_000).astype(np.float32)
    assert (pitch.track(noise) > 0).mean() < 0.1


@pytest.mark.parametrize("samples", [0, 1, 319])
def test_less_than_a_position_has_none(samples):
    assert pitch.track(np.zeros(samples, np.float32)).shape == (0,)


def test_windows_give_what_the_whole_gives(monkeypatch):
    samples = sawtooth(np.linspace(90, 200, 16_000 * 6), 6.0)
    whole = pitch.track(samples)
    monkeypatch.setattr(pitch, "_WINDOW", 1280 * 20)
    np.testing.assert_allclose(pitch.track(samples), whole, rtol=1e-6)


def test_pitch_codes_move_by_semitones_and_stay_in_range():
    codes = np.arange(64, dtype=np.uint8)
    assert np.array_equal(pitch.transposed(codes, 0), codes)
    up = pitch.transposed(codes, 24)
    assert up[0] == 0 and up[1:].min() >= 1 and up.max() <= 63
