import numpy as np

from vqcli.media import mel, voice


def noise(seconds, size=0.05, seed=0):
    return np.random.default_rng(seed).normal(0, size, round(seconds * 16_000)).astype(np.float32)


def test_pauses_do_not_count():
    speech = noise(2)
    codes = np.full(100, 20, np.uint8)
    plain = voice.profile(speech, codes)
    paused = np.concatenate([speech, np.zeros(32_000, np.float32)])
    with_pause = voice.profile(paused, np.pad(codes, (0, 100)))
    # frames at the edge of the pause are heard in part
    np.testing.assert_allclose(with_pause[: mel.BANDS], plain[: mel.BANDS], atol=0.05)
    assert with_pause[-1] == 0.5 and plain[-1] == 1.0


def test_windows_are_gathered_into_one(monkeypatch):
    speech, codes = noise(3), np.arange(150).astype(np.uint8) % 64
    whole = voice.profile(speech, codes)
    monkeypatch.setattr(voice, "_WINDOW", 16_000)
    np.testing.assert_allclose(voice.profile(speech, codes), whole, atol=0.03)


def test_silence_has_a_profile_too():
    found = voice.profile(np.zeros(16_000, np.float32), np.zeros(50, np.uint8))
    assert found.shape == (voice.SIZE,) and np.isfinite(found).all()
    assert found[-3] == np.float32(voice.USUAL_LOG_HZ)


def test_gain_brings_a_loudness_to_the_level_and_leaves_silence():
    assert np.isclose(20 * np.log10(voice.gain(-40.0)) - 40, voice.LEVEL_DB)
    assert voice.gain(-100.0) == 1.0
