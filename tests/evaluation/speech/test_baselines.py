import shutil

import numpy as np
import pytest

from vqcli.errors import UsageError
from vqcli.evaluation.speech import baselines, metrics

RATE_HZ = baselines.RATE_HZ
SECONDS = np.arange(3 * RATE_HZ + 77) / RATE_HZ
# syllables of a buzzing voice, four a second
PHASE = np.cumsum(120 + 20 * np.sin(2 * np.pi * SECONDS)) * 2 * np.pi / RATE_HZ
SPEECH = sum(np.sin(k * PHASE) / k for k in range(1, 25)) * (0.02 + 0.08 * np.sin(4 * np.pi * SECONDS) ** 2)
SPEECH = SPEECH.astype(np.float32)


def check(codec: str, least: float, most: float, nearness: float) -> None:
    result = baselines.through(SPEECH, codec)
    assert result.samples.shape == SPEECH.shape and result.samples.dtype == np.float32
    assert least < metrics.kbit_per_s(result.size_bytes, len(SPEECH)) < most
    # not late either: 20 ms would cost more than this leaves
    assert metrics.melody(SPEECH, result.samples).correlation > nearness


def test_opus_at_its_lowest_rate():
    check("Opus", 5, 9, 0.9)


@pytest.mark.parametrize("codec", baselines.CODEC2)
def test_codec2(codec):
    if not shutil.which("c2enc"):
        pytest.skip("the commands of Codec2 are not installed")
    nominal = int(baselines.CODEC2[codec].rstrip("C")) / 1000
    check(codec, 0.99 * nominal, 1.01 * nominal, 0.5)


def test_codec2_without_its_commands(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert baselines.available("Opus") and not baselines.available("Codec2-1300")
    with pytest.raises(UsageError, match="c2enc"):
        baselines.through(SPEECH, "Codec2-1300")


def test_unknown_codec():
    with pytest.raises(UsageError, match="no codec opus") as caught:
        baselines.through(SPEECH, "opus")
    assert "Opus" in caught.value.hint


def test_short_and_silent():
    for samples in (np.zeros(1, np.float32), np.zeros(800, np.float32)):
        assert baselines.through(samples, "Opus").samples.shape == samples.shape
