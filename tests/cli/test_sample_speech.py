import json
from pathlib import Path

import numpy as np
import pytest

from tests.sampling.test_image import add_prior as add_pixelcnn
from tests.sampling.test_speech import add_prior, make_model
from vqcli.container import vqz
from vqcli.media import audio


@pytest.fixture(autouse=True)
def speech(home, monkeypatch, make_model_of_pictures):
    made = make_model(home / "models")
    add_prior(made, unlabelled=True)
    monkeypatch.setenv("VQ_MODELS", str(home / "models"))
    return made


@pytest.fixture
def make_model_of_pictures(home, make_model):
    arguments = {"widths": [8, 8], "dim": 4, "blocks": 1, "quantizer": {"kind": "vector", "K": 8}}
    made = make_model("tokens", folder=home / "models", **arguments)
    add_pixelcnn(made)
    return made


def sound(path: str) -> tuple[tuple[int, ...], int]:
    read = audio.read(Path(path), 16_000, mono=False)
    return read.samples.shape, read.source_rate_hz


def test_babble(vq):
    result = vq("sample", "--model", "speech", "--prior", "wavenet", "--seconds", "0.5", "--speaker", "p225",
                "--seed", "3", "-o", "babble.wav")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "1 sample of p225, seed 3: 0.5 s in" in result.stderr and "-> babble.wav" in result.stderr
    assert sound("babble.wav") == ((1, 8000), 16_000)
    again = vq("sample", "--speaker", "p225", "-o", "babble.wav")
    assert again.exit_code == 2 and "babble.wav" in again.stderr


def test_what_makes_sound_finds_the_model_that_does(vq):
    """--speaker, --seconds and --prior wavenet ask for speech, whatever else there is."""
    result = vq("sample", "--seconds", "0.2", "-n", "2", "-o", "many", "--speaker", "p226", "--json")
    files = [row["file"] for row in json.loads(result.stdout)]
    assert files == ["many/001-p226.wav", "many/002-p226.wav"] and all(Path(file).exists() for file in files)
    assert vq("sample", "-n", "1", "-o", "picture.png").exit_code == 0


def test_codes_that_decode_to_the_same_sound(vq):
    arguments = ["sample", "--speaker", "p225", "--seconds", "0.4", "--seed", "9", "--count", "2"]
    assert vq(*arguments, "-o", "codes.vqz").exit_code == 0
    assert vq(*arguments, "-o", "sound.wav").exit_code == 0
    header = vqz.read(Path("codes-002.vqz")).header
    told = {name: header.metadata[name] for name in ("drawn_from", "seed", "sample", "speaker")}
    assert told == {"drawn_from": "wavenet", "seed": "9", "sample": "1", "speaker": "p225"}
    assert vq("decode", "codes-001.vqz", "-o", "decoded.wav").exit_code == 0
    one, two = (audio.read(Path(name), 16_000, mono=True).samples for name in ("decoded.wav", "sound-001.wav"))
    assert one.shape == two.shape == (1, 6400)


def test_going_on_from_a_clip(vq):
    hum = np.sin(np.arange(22_050) / 20)[None].repeat(2, 0).astype(np.float32) * 0.2
    audio.write(Path("clip.wav"), hum, 22_050)
    result = vq("sample", "--model", "speech", "--from", "clip.wav", "--seconds", "0.5", "-o", "longer.flac")
    assert result.exit_code == 0, result.stderr
    assert "the clip's own voice" in result.stderr
    assert sound("longer.flac") == ((1, 24_000), 16_000)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--model", "speech", "--class", "fox"], 2, "--class is for images"),
        (["--model", "speech", "--keep", "left"], 2, "--keep is for images"),
        (["--model", "speech", "--size", "8x8"], 2, "--height is for images"),
        (["--model", "tokens", "--speaker", "p225"], 2, "--speaker is for audio"),
        (["--model", "tokens", "--seconds", "3"], 2, "--seconds is for audio"),
        (["--speaker", "p22"], 5, "did you mean"),
        (["--model", "speech", "--prior", "wave"], 2, "did you mean wavenet"),
        (["--model", "speech", "--from", "nowhere.wav"], 3, "nowhere.wav"),
        (["--model", "speech", "--seconds", "-1"], 2, "too few"),
        (["--model", "speech", "-o", "sound.png", "--seconds", "0.1"], 2, ".png"),
        (["--model", "speech", "--seconds", "0"], 2, "too few"),
    ],
)
def test_what_cannot_be(vq, arguments, code, says):
    result = vq("sample", *arguments)
    assert result.exit_code == code and says in result.stderr, result.stderr
    assert not Path("sample.wav").exists() and not Path("sound.png").exists()
