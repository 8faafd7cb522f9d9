import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from vqcli.data.split import is_held_out
from vqcli.media import image
from vqcli.zoo import loading, registry, store

HELD_OUT = next(name for name in (f"ann/{index}.wav" for index in range(1000)) if is_held_out(name))


@pytest.fixture(scope="module")
def speech_model(models_folder):
    """On the search path as `tiny-speech`; it speaks as ann and bob."""
    arguments = {
        "K": 8, "dim": 4, "width": 8, "blocks": [1, 1], "decoder_width": 8, "decoder_blocks": 1, "levels": 2,
        "speakers": 2,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build("speech", arguments)
    speakers = [{"name": name, "seconds": 60.0, "pitch_hz": 150.0} for name in ("ann", "bob")]
    description = {"family": "speech", "arguments": arguments, "modality": "audio", "speakers": speakers}
    return loading.save(models_folder / "tiny-speech", net, None, description)


@pytest.fixture
def clips(home, speech_model):
    for name, hz in ((HELD_OUT, 200), ("ann/more.wav", 190), ("bob/0.wav", 100)):
        assert name == HELD_OUT or not is_held_out(name)
        phase = 2 * np.pi * hz * np.arange(8000) / 16_000
        path = home / "clips" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        soundfile.write(path, 0.1 * sum(np.sin(k * phase) / k for k in range(1, 15)), 16_000)
    return "clips"


MODEL = ("--model", "tiny-speech", "--no-judges")


def test_speech_is_measured_as_speech(vq, clips):
    result = vq("eval", clips, *MODEL, "--baselines", "Opus", "--json")
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)
    assert [(row["codec"], row["levels"]) for row in rows] == [
        ("source", 0), ("tiny-speech", 1), ("tiny-speech", 2), ("Opus", 0),
    ]  # fmt: skip
    assert all(row["clip"] == "mean of 3" and row["kbit_per_s"] > 0 for row in rows)
    table = vq("eval", clips, *MODEL, "--baselines", "", "--all")
    assert table.stdout.count("tiny-speech") == 6 and "kbit/s" in table.stdout and "DNSMOS" not in table.stdout


def test_models_stand_beside_codecs(vq, clips, models_folder):
    named = (*MODEL, "--baselines", "Opus,second", "--json")
    shutil.copytree(models_folder / "tiny-speech", "second")
    rows = json.loads(vq("eval", clips, *named).stdout)
    assert [row["codec"] for row in rows] == ["source", "tiny-speech", "tiny-speech", "Opus", "second", "second"]
    for own, same in zip(rows[1:3], rows[4:], strict=True):
        assert own["size_bytes"] - same["size_bytes"] == len("tiny-speech") - len("second")  # files name their model
        assert own["log_mel_distance_db"] == same["log_mel_distance_db"]
    other = vq("eval", clips, *MODEL, "--baselines", "scalar")
    assert other.exit_code == 2 and "of image, not of audio" in other.stderr


def test_the_model_follows_the_data(vq, clips, monkeypatch):
    monkeypatch.setitem(store.DEFAULTS, "audio", "tiny-speech")
    assert "tiny-speech" in vq("eval", clips, "--no-judges", "--baselines", "").stdout
    image.write(Path("clips/a.png"), np.zeros((32, 32, 3), np.uint8))
    both = vq("eval", clips, "--no-judges")
    assert both.exit_code == 2 and "images and audio" in both.stderr
    assert vq("eval", clips, "--baselines", "", "--model", "scalar", "--json").exit_code == 0


def test_codecs_that_are_not_there_are_left_out(vq, clips, monkeypatch):
    monkeypatch.setenv("PATH", "")
    result = vq("eval", clips, *MODEL)
    assert result.exit_code == 0 and "left out: Codec2-1300" in result.stderr and "Opus" in result.stdout
    assert vq("eval", clips, *MODEL, "--baselines", "MP3").exit_code == 2


def test_held_out(vq, clips):
    rows = json.loads(vq("eval", clips, *MODEL, "--held-out", "--all", "--baselines", "", "--json").stdout)
    assert {row["clip"] for row in rows} == {Path(HELD_OUT).name}
    none = vq("eval", "clips/bob", *MODEL, "--held-out")
    assert none.exit_code == 2 and "held out" in none.stderr


def test_spectrograms(vq, clips):
    result = vq("eval", clips, *MODEL, "--baselines", "", "--plot", "speech.webp")
    assert result.exit_code == 0 and "drawn to speech.webp" in result.stderr
    height = image.read(Path("speech.webp")).pixels.shape[0]
    assert vq("eval", "conversion", clips, *MODEL, "--to", "bob", "--plot", "to_bob.png").exit_code == 0
    assert image.read(Path("to_bob.png")).pixels.shape[0] < height  # two sounds, not three
    assert vq("eval", clips, *MODEL, "--plot", "speech.webp").exit_code == 2
    wrong = vq("eval", clips, *MODEL, "--plot", "speech.pdf")
    assert wrong.exit_code == 2 and ".webp" in wrong.stderr


def test_conversion(vq, clips):
    result = vq("eval", "conversion", clips, *MODEL, "--to", "bob", "--to", "ann", "--json")
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)
    assert [(row["to"], row["clip"]) for row in rows] == [
        ("bob", "mean of 2"),
        ("ann", "mean of 1"),
        ("all", "mean of 3"),
    ]
    shown = vq("eval", "conversion", clips, *MODEL, "--to", "bob", "--all")
    assert "more.wav" in shown.stdout and "real time" in shown.stderr and "like target" not in shown.stdout


def test_what_cannot_be_converted(vq, clips):
    unknown = vq("eval", "conversion", clips, *MODEL, "--to", "bub")
    assert unknown.exit_code == 5
    own = vq("eval", "conversion", "clips/bob/0.wav", *MODEL, "--to", "ann", "--pitch", "up")
    assert own.exit_code == 2
    nothing = vq("eval", "conversion", clips, *MODEL, "--to", "ann", "--held-out")
    assert nothing.exit_code == 2 and "of the target itself" in nothing.stderr
    assert vq("eval", clips, *MODEL, "--qualities", "3").exit_code == 2


def test_judges_must_be_there_if_asked(vq, clips, monkeypatch):
    for name in ("pocketsphinx", "resemblyzer", "speechmos"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    from vqcli.evaluation.speech import evaluators

    for loader in (evaluators._recogniser, evaluators._voice_encoder, evaluators._dnsmos_model):
        loader.cache_clear()
    result = vq("eval", clips, "--model", "tiny-speech", "--judges")
    assert result.exit_code == 2 and "extra" in result.stderr
