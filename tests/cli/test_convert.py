"""vq convert-speaker: the voice of a recording as the target, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.numpy import load_file

import vqcli
from vqcli.codec import voices
from vqcli.errors import BadFile, ModelError
from vqcli.training import new_speaker
from vqcli.zoo import loading, registry

ARGUMENTS = {
    **{"K": 8, "dim": 4, "width": 8, "blocks": [1, 1], "decoder_width": 8, "decoder_blocks": 1, "levels": 2},
    **{"speakers": 2, "voice_dim": 4},
}


def saved(folder: Path, seed: int):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = registry.build("speech", ARGUMENTS)
    speakers = [{"name": name, "seconds": 60.0, "pitch_hz": 150.0} for name in ("ann", "bob")]
    description = {"family": "speech", "arguments": ARGUMENTS, "modality": "audio", "speakers": speakers}
    return loading.save(folder, net, None, description)


@pytest.fixture(scope="module")
def model(models_folder):
    return loading.load(saved(models_folder / "tiny-voices", 0), "cpu")


def hum(hz: float, seconds: float) -> np.ndarray:
    phase = 2 * np.pi * hz * np.arange(round(16_000 * seconds)) / 16_000
    return 0.1 * sum(np.sin(k * phase) / k for k in range(1, 15))


@pytest.fixture
def sounds(home, model):
    """in.wav of 0.6 s at 200 Hz, and me.wav of 2 s at 110 Hz."""
    soundfile.write("in.wav", hum(200, 0.6), 16_000)
    soundfile.write("me.wav", hum(110, 2), 16_000)


MODEL = ("--model", "tiny-voices", "--device", "cpu")


def test_the_voice_of_a_recording_is_fitted_kept_and_used_again(vq, sounds, model):
    to = ("--to-voice", "me.wav", "--voice-steps", "3", "--save-voice", "mine.voice")
    done = vq("convert-speaker", "in.wav", *MODEL, *to)
    assert done.exit_code == 0 and "2 s of speech at 1" in done.stderr, done.stderr
    kept = voices.load("mine.voice", model)
    assert kept.speaker.name == "mine" and kept.speaker.seconds == 2 and abs(kept.speaker.pitch_hz / 110 - 1) < 0.03
    assert load_file("mine.voice")["voice"].shape == (4,) and Path("mine.voice").stat().st_size < 500
    again = vq("convert-speaker", "in.wav", *MODEL, "--to-voice", "mine.voice")
    assert again.exit_code == 0, again.stderr
    assert Path("in-me.wav").read_bytes() == Path("in-mine.wav").read_bytes()
    assert vq("convert-speaker", "in.wav", *MODEL, *to).exit_code == 2  # nothing is replaced unasked
    assert vq("convert-speaker", "in.wav", *MODEL, "--to", "ann", "--save-voice", "a.voice").exit_code == 2
    twice = vq("convert-speaker", "in.wav", *MODEL, "--to-voice", "me.wav", "--to-voice", "mine/me.wav", "-o", "both/")
    assert twice.exit_code == 2 and "two results would be both/in-me.wav" in twice.stderr


def test_from_python_a_path_is_a_voice(sounds, model):
    moved = vqcli.convert_speaker("in.wav", Path("me.wav"), model)
    assert moved.speaker == voices.Speaker("me", -1, 2.0, moved.speaker.pitch_hz) and moved.samples.shape == (1, 9600)
    voice = voices.of_recording(model, "me.wav")
    assert moved.audio.voice == (voice.stored(model),)
    assert vqcli.convert_speaker("in.wav", voice, model).audio.voice == moved.audio.voice


def test_fitting_brings_a_voice_nearer_and_repeats(sounds, model):
    known = voices.reference(model, "me.wav")
    notes: list[str] = []
    fitted = [
        new_speaker.fit_voice(model, known, steps=8, progress=lambda share, note: notes.append(note)) for _ in "ab"
    ]
    assert np.array_equal(fitted[0].values, fitted[1].values)
    assert not np.array_equal(fitted[0].values, voices.of_reference(model, known).values)
    assert len(notes) == 16 and float(notes[7].split()[-1]) < float(notes[0].split()[-1])
    assert all(weight.grad is None for weight in model.net.parameters())


@pytest.mark.fault("19 tracebacks")
def test_what_is_no_voice_is_one_line(vq, sounds, model, tmp_path):
    soundfile.write("silent.wav", np.zeros(48_000), 16_000)
    soundfile.write("short.wav", hum(110, 1), 16_000)
    soundfile.write("noise.wav", np.random.default_rng(0).normal(0, 0.1, 48_000), 16_000)
    soundfile.write("long.wav", np.zeros(601 * 1000), 1000)
    for name, why in (
        ("silent.wav", "silent is silent"),
        ("short.wav", "too little to know it by"),
        ("noise.wav", "too little to know it by"),
        ("long.wav", "longer than the 600 s that are allowed"),
        ("none.wav", "none.wav"),
        ("none.voice", "none.voice is not there"),
    ):
        refused = vq("convert-speaker", "in.wav", *MODEL, "--to-voice", name)
        assert refused.exit_code == 3 and why in refused.stderr and "Traceback" not in refused.stderr, refused.stderr
    voice = voices.of_recording(model, "me.wav")
    voice.save("me.voice")
    whole = Path("me.voice").read_bytes()
    for broken in (b"", b"nothing", whole[:-3], whole.replace(b'"seconds', b'"sekunds'), bytes(2**17)):
        Path("broken.voice").write_bytes(broken)
        with pytest.raises(BadFile, match="does not hold a voice"):
            voices.load("broken.voice", model)
    other = loading.load(saved(tmp_path / "other", 1), "cpu")
    with pytest.raises(ModelError, match="belongs to another model than other"):
        voices.load("me.voice", other)


@pytest.mark.fault("14 memory and time")
def test_recordings_and_codes_of_more_seconds_are_not_converted(vq, sounds, model):
    refused = vq("convert-speaker", "in.wav", *MODEL, "--to", "ann", "--max-seconds", "0.5")
    assert refused.exit_code == 3 and "in.wav is longer than the 0.5 s that are allowed" in refused.stderr
    assert vq("convert-speaker", "in.wav", *MODEL, "--to", "ann", "--max-seconds", "0.6").exit_code == 0
    vqcli.encode("in.wav", model, coder="packed").save("in.vqz")
    coded = vq("convert-speaker", "--from-codes", "in.vqz", "--to", "ann", "--max-seconds", "0.5", "-o", "b.wav")
    assert coded.exit_code == 3 and "Traceback" not in coded.stderr and not Path("b.wav").exists()
    with pytest.raises(BadFile, match=r"longer than the 0.5 s"):
        vqcli.convert_speaker("in.wav", "ann", model, max_seconds=0.5)
