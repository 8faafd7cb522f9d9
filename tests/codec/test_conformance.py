"""One test over every medium: what its file in codec and its file in cli/media have, and that a file comes back."""

from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.sampling.test_speech import make_model
from vqcli import api
from vqcli.cli import media
from vqcli.cli.options import flag
from vqcli.codec import medium
from vqcli.container import vqz
from vqcli.container.header import MODALITIES
from vqcli.media import audio, image, video_writing


@pytest.fixture(params=MODALITIES)
def name(request):
    return request.param


@pytest.fixture
def source(name, tmp_path, picture):
    """A file of the medium."""
    if name == "image":
        image.write(tmp_path / "a.png", picture(24, 32))
        return tmp_path / "a.png"
    if name == "audio":
        noise = np.random.default_rng(0).normal(0, 0.05, (1, 8000)).astype(np.float32)
        audio.write(tmp_path / "a.wav", [noise], 16_000)
        return tmp_path / "a.wav"
    frames = [picture(24, 32) for _ in range(3)]
    video_writing.write(tmp_path / "a.gif", iter(frames), 10_000)
    return tmp_path / "a.gif"


@pytest.fixture
def model(name, vector_model, tmp_path):
    return make_model(tmp_path) if name == "audio" else vector_model


def test_both_files_are_there(name):
    assert set(media.names()) == set(MODALITIES)
    kind, shown = medium.of(name), media.of(name)
    for member in ("WHAT", "PLURAL", "MODEL", "recognises", "encode", "decode"):
        assert hasattr(kind, member), member
    for member in (
        "PLURAL",
        "PRIOR",
        "SAMPLE",
        "LOST",
        "suffix",
        "line",
        "facts",
        "decoded_line",
        "remarks",
        "header_facts",
    ):
        assert hasattr(shown, member), member
    assert kind.PLURAL == shown.PLURAL
    for options in (shown.EncodeOptions, shown.SampleOptions):
        assert is_dataclass(options)
        assert all(flag(options, field.name).startswith("--") for field in fields(options))


def test_a_file_is_recognised_encoded_and_decoded(name, source, model, tmp_path):
    assert api.modality_of(source) == name
    encoded = api.encode(source, model)
    path = tmp_path / "a.vqz"
    encoded.save(path)
    header, lengths = vqz.read_header(path)
    assert header.modality == name and encoded.codes.dtype == np.uint16
    decoded = api.decode(path, model)
    assert not decoded.lost.any()
    shown = media.of(name)
    assert shown.line(encoded, 1.0) and shown.facts(encoded, 1.0)
    said, facts = shown.decoded_line(decoded, 1.0)
    assert said and facts
    assert shown.remarks(decoded, shown.suffix(), False) == []
    assert shown.header_facts(header, path.stat().st_size, lengths)
    said, facts = shown.verify(encoded, decoded, source, shown.EncodeOptions())
    assert said.startswith("verified: ") and facts
    target = tmp_path / f"back{source.suffix}"
    decoded.save(target)
    assert api.modality_of(target) == name
    assert Path(target).stat().st_size > 0


def test_options_of_other_media_are_refused(name, source, model):
    own = {"image": {"lossless": True}, "audio": {"mono": False}, "video": {"frames_per_s": 5.0}}
    for other, options in own.items():
        if other != name:
            with pytest.raises(api.UsageError, match="is for"):
                api.encode(source, model, **options)
    with pytest.raises(TypeError, match="no option colour"):
        api.encode(source, model, colour=3)
