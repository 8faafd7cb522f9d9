"""Recordings come back as loud as they were, in their own band; silence as silence."""

import numpy as np
import pytest
import soxr
import torch

import vqcli
from vqcli.codec import windows
from vqcli.media import loudness
from vqcli.zoo import loading, registry

RATE = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Untrained: what it decodes has the loudness that it happens to have."""
    arguments = {"K": 8, "dim": 4, "width": 16, "blocks": (1, 1), "decoder_width": 16, "decoder_blocks": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build("speech", arguments)
    description = {"family": "speech", "arguments": arguments, "modality": "audio"}
    return loading.load(loading.save(tmp_path_factory.mktemp("models") / "tiny-speech", net, None, description), "cpu")


def hum(seconds: float = 3) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.05 * np.sin(2 * np.pi * 180 * time) * (1 + np.sin(2 * np.pi * 2 * time))).astype(np.float32)


@pytest.mark.fault("03 loudness")
@pytest.mark.parametrize("rate_hz", [4000, 8000, 16_000, 44_100])
def test_recordings_come_back_as_loud_as_they_were(monkeypatch, model, rate_hz):
    monkeypatch.setattr(windows, "MOST_RAISED_DB", 40)  # of an untrained net
    samples = soxr.resample(hum(), RATE, rate_hz)
    back = vqcli.decode(vqcli.encode(samples, model, rate_hz=rate_hz), model).samples[0]
    was_db, is_db = loudness.active_rms_db(samples, rate_hz), loudness.active_rms_db(back, rate_hz)
    assert is_db == pytest.approx(was_db, abs=0.3)


@pytest.mark.fault("19 one channel is too quiet")
def test_each_channel_comes_back_as_loud_as_it_was(monkeypatch, model):
    monkeypatch.setattr(windows, "MOST_RAISED_DB", 40)
    samples = np.stack([hum(), 0.1 * hum()[::-1], 0 * hum()])
    back = vqcli.decode(vqcli.encode(samples, model, rate_hz=RATE, mono=False), model).samples
    for was, now in zip(samples[:2], back, strict=False):
        assert loudness.active_rms_db(now) == pytest.approx(loudness.active_rms_db(was), abs=0.3)
    assert not back[2].any()


def test_only_the_loudest_part_of_a_long_recording_is_compared(monkeypatch, model):
    monkeypatch.setattr(windows, "COMPARED_S", 1)
    monkeypatch.setattr(windows, "MOST_RAISED_DB", 40)
    decoded = []
    plain = windows.decode_audio
    monkeypatch.setattr(windows, "decode_audio", lambda *a, **k: decoded.append(k) or plain(*a, **k))
    samples = np.concatenate([0.05 * hum(4), hum(2), 0.05 * hum(3)])
    encoded = vqcli.encode(samples, model, rate_hz=RATE)
    assert [(part["start"] >= 190, part["stop"] - part["start"]) for part in decoded] == [(True, 50)]
    back = vqcli.decode(encoded, model).samples[0]
    loud = slice(int(4.2 * RATE), int(5.8 * RATE))
    assert loudness.active_rms_db(back[loud]) == pytest.approx(loudness.active_rms_db(samples[loud]), abs=1)


@pytest.mark.fault("03 silence")
@pytest.mark.parametrize("offset", [0, 0.3])
def test_silence_stays_silence(model, offset):
    samples = np.full(2 * RATE, offset, np.float32)
    assert not vqcli.decode(vqcli.encode(samples, model, rate_hz=RATE), model).samples.any()
