import math

import numpy as np
import pytest

from vqcli.errors import UsageError
from vqcli.evaluation.speech import metrics
from vqcli.media import mel

N = 2 * metrics.RATE_HZ
SECONDS = np.arange(N) / metrics.RATE_HZ


def buzz(hz: np.ndarray | float, level: float = 0.1) -> np.ndarray:
    """Like a voice: harmonics of a changing pitch, weaker the higher."""
    phase = np.cumsum(np.broadcast_to(hz, N)) * 2 * np.pi / metrics.RATE_HZ
    return (level * sum(np.sin(k * phase) / k for k in range(1, 20))).astype(np.float32)


def noise(level: float = 0.1, seed: int = 0) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(N)).astype(np.float32)


RISING = 120 * 2 ** (SECONDS / 4)
VOICE = buzz(RISING)
HALF_SILENT = np.where(SECONDS < 1, VOICE, 0).astype(np.float32)


def test_equal_sounds_are_equal_at_any_loudness():
    for other in (VOICE, 0.1 * VOICE):
        assert metrics.log_mel_distance(VOICE, other) == pytest.approx(0, abs=1e-3)
        assert metrics.log_mel_correlation(VOICE, other) == pytest.approx(1, abs=1e-6)
        assert metrics.melody(VOICE, other) == (pytest.approx(1), 0)


def test_distance_by_hand():
    """A frame of one band 6 dB and another 8 dB away is sqrt(100 / 80) dB away; frames are averaged after the root."""
    a, b = metrics.log_mel(VOICE), metrics.log_mel(noise())
    by_hand = np.mean([math.sqrt(np.mean((x - y) ** 2)) for x, y in zip(a.T, b.T, strict=True)])
    assert metrics.log_mel_distance(VOICE, noise()) == pytest.approx(by_hand, rel=1e-5)
    assert a.shape == (80, N // mel.HOP)


def test_correlation_is_pearsons():
    a, b = metrics.log_mel(VOICE).ravel(), metrics.log_mel(noise()).ravel()
    assert metrics.log_mel_correlation(VOICE, noise()) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-5)
    assert math.isnan(metrics.correlation(np.ones(5), np.arange(5.0)))
    assert math.isnan(metrics.correlation(np.zeros(0), np.zeros(0)))


def test_more_noise_is_farther():
    noisy = [VOICE + noise(level) for level in (0.001, 0.01, 0.1)]
    distances = [metrics.log_mel_distance(VOICE, other) for other in noisy]
    assert distances == sorted(distances)
    correlations = [metrics.log_mel_correlation(VOICE, other) for other in noisy]
    assert correlations == sorted(correlations, reverse=True)


def test_melody():
    assert metrics.melody(VOICE, buzz(RISING * 1.5)).correlation > 0.98  # a fifth higher
    assert metrics.melody(VOICE, buzz(RISING[::-1])).correlation < -0.98
    correlation, voicing_error = metrics.melody(VOICE, HALF_SILENT)
    assert correlation > 0.98 and voicing_error == pytest.approx(0.5, abs=0.05)
    assert math.isnan(metrics.melody(VOICE, np.zeros(N, np.float32)).correlation)


def test_mean_pitch_is_geometric():
    assert metrics.pitch_hz(VOICE) == pytest.approx(np.exp(np.log(RISING).mean()), rel=0.02)
    assert math.isnan(metrics.pitch_hz(noise()))


def test_lengths():
    assert metrics.log_mel_correlation(VOICE, VOICE[:-100]) == pytest.approx(1, abs=1e-3)
    with pytest.raises(UsageError, match="cannot compare"):
        metrics.log_mel_correlation(VOICE, VOICE[:-160])
    with pytest.raises(UsageError, match="cannot compare"):
        metrics.log_mel_distance(VOICE[None], VOICE[None])


@pytest.mark.parametrize("length", [0, 1, 159, 400])
def test_what_is_too_short_is_nan(length):
    measured = metrics.log_mel_distance(VOICE[:length], VOICE[:length])
    assert math.isnan(measured) or length >= mel.HOP
    assert math.isnan(metrics.melody(VOICE[:length], VOICE[:length]).correlation)
    assert math.isnan(metrics.log_mel_correlation(np.zeros(length), np.zeros(length)))


def test_stoi():
    pytest.importorskip("pystoi")
    assert metrics.stoi(VOICE, VOICE) == pytest.approx(1, abs=1e-3)
    assert metrics.stoi(VOICE, noise()) < 0.4
    assert math.isnan(metrics.stoi(VOICE[:3000], VOICE[:3000]))
    assert math.isnan(metrics.stoi(VOICE, np.zeros(N, np.float32)))
    brief = np.where(SECONDS < 0.2, VOICE, 0)
    assert math.isnan(metrics.stoi(brief, brief))


def test_without_pystoi(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pystoi", None)
    with pytest.raises(UsageError, match="STOI") as caught:
        metrics.stoi(VOICE, VOICE)
    assert "evaluators" in caught.value.hint


def test_visqol_falls_with_noise():
    pytest.importorskip("visqol")
    pytest.importorskip("ai_edge_litert")
    slight, strong = (VOICE + np.float32(share) * noise() for share in (0.003, 0.3))
    same, good, bad = (metrics.visqol(VOICE, other) for other in (VOICE, slight, strong))
    assert 5 >= same > good > bad >= 1
    assert metrics.visqol(VOICE, VOICE / 2) == pytest.approx(same, abs=0.05)  # loudness does not count
    assert math.isnan(metrics.visqol(VOICE[:9000], VOICE[:9000]))
    assert math.isnan(metrics.visqol(VOICE, np.zeros(N, np.float32)))


def test_without_visqol(monkeypatch):
    monkeypatch.setattr(metrics, "has_visqol", lambda: False)
    metrics._visqol.cache_clear()
    with pytest.raises(UsageError, match="ViSQOL") as caught:
        metrics.visqol(VOICE, VOICE)
    assert "evaluators" in caught.value.hint


def test_rate():
    assert metrics.kbit_per_s(1000, 16_000) == 8
    assert metrics.kbit_per_s(1000, 48_000, rate_hz=48_000) == 8
