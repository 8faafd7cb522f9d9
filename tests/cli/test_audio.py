import io
import json
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from vqcli.codec import audio_file
from vqcli.container import vqz
from vqcli.media import audio, image
from vqcli.zoo import loading, registry, store

SPEECH = ("--device", "cpu")
RATE = 16_000


@pytest.fixture(autouse=True)
def speech(home):
    """A tiny model called `speech`, which is the one that sound is coded with unless another is named."""
    arguments = {"K": 8, "dim": 4, "width": 16, "blocks": (1, 1), "decoder_width": 16, "decoder_blocks": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build("speech", arguments)
    names = ["words", "pitch", *["residual"] * 4]
    description = {"family": "speech", "arguments": arguments, "modality": "audio", "groups": names}
    return loading.save(home / "models" / "speech", net, None, description)


@pytest.fixture(autouse=True)
def found(home, speech, monkeypatch, scalar_model):
    monkeypatch.setenv("VQ_MODELS", f"{speech.folder.parent}:{scalar_model.info.folder.parent}")


@pytest.fixture
def talk(home):
    """Two seconds in stereo at 22,050 Hz."""
    write(Path("talk.wav"), 2.0, 22_050, 2)
    return Path("talk.wav")


def write(path: Path, seconds: float, rate_hz: int = RATE, channels: int = 1) -> None:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    hum = sum(np.cos(2 * np.pi * 150 * k * time) / k for k in range(1, 15)) * 0.1
    audio.write(path, np.repeat(hum[None].astype(np.float32), channels, 0), rate_hz)


def only_line(result, text):
    lines = result.stderr.strip().splitlines()
    assert lines[0].startswith("vq: ") and text in lines[0], result.stderr
    assert len(lines) <= 2 and result.stdout == ""


def shape_of(path: str) -> tuple[int, int, int]:
    with soundfile.SoundFile(path) as file:
        return file.samplerate, file.channels, file.frames


def test_there_and_back(vq, talk):
    encoded = vq("encode", talk, "-o", "talk.vqz", *SPEECH)
    assert encoded.exit_code == 0, encoded.stderr
    assert "kbit/s" in encoded.stderr and encoded.stdout == ""
    assert re.search(r"2\.0 s in [0-9.]+ s, [0-9.]+ x real time", encoded.stderr)
    assert "2 channels mixed down to one (--channels keeps them)" in encoded.stderr
    talk.unlink()
    decoded = vq("decode", "talk.vqz", *SPEECH)
    assert decoded.exit_code == 0, decoded.stderr
    assert "talk.wav 22050 Hz, 2 channels, 2.0 s in" in decoded.stderr
    assert shape_of("talk.wav") == (22_050, 2, 44_100)


def test_suffix_or_format_chooses_the_format(vq, talk):
    vq("encode", talk, *SPEECH)
    for name, magic in (("a.flac", b"fLaC"), ("a.opus", b"OggS"), ("a.ogg", b"OggS"), ("a.aiff", b"FORM")):
        assert vq("decode", "talk.vqz", "-o", name).exit_code == 0
        assert Path(name).read_bytes().startswith(magic)
    assert vq("decode", "talk.vqz", "-o", "a.mp3").exit_code == 0 and shape_of("a.mp3")[0] == 22_050
    assert vq("decode", "talk.vqz", "--format", "flac").exit_code == 0 and Path("talk.flac").exists()
    result = vq("decode", "talk.vqz", "-o", "a.m4a")
    assert result.exit_code == 2
    only_line(result, "unknown kind of audio to write: .m4a")


def test_pipes(vq, talk):
    encoded = vq("encode", "-", *SPEECH, input=talk.read_bytes())
    assert encoded.exit_code == 0 and encoded.stdout_bytes.startswith(vqz.MAGIC)
    decoded = vq("decode", "-", input=encoded.stdout_bytes)
    assert decoded.exit_code == 0 and decoded.stdout_bytes.startswith(b"RIFF")
    assert audio.read(io.BytesIO(decoded.stdout_bytes), 22_050, mono=False).samples.shape == (2, 44_100)
    flac = vq("decode", "-", "--format", "flac", "--start", "0:01", input=encoded.stdout_bytes)
    assert flac.stdout_bytes.startswith(b"fLaC")
    assert audio.read(io.BytesIO(flac.stdout_bytes), 22_050, mono=False).source_samples == 22_050


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("options", [(), ("--model", "speech")])
def test_a_named_pipe(vq, talk, options):
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(talk.read_bytes()))
    writer.start()
    result = vq("encode", "pipe", "-o", "a.vqz", *options, *SPEECH)
    writer.join()
    assert result.exit_code == 0, result.stderr
    assert vqz.read_header(Path("a.vqz"))[0].size == (44_100, 22_050, 2)


def test_a_part(vq, talk):
    vq("encode", talk, *SPEECH)
    vq("decode", "talk.vqz", "-o", "whole.flac")
    assert vq("decode", "talk.vqz", "-o", "part.flac", "--start", "0:00.5", "--end", "1.2").exit_code == 0
    whole, part = (audio.read(Path(name), 22_050, mono=True).samples for name in ("whole.flac", "part.flac"))
    assert part.shape == (1, round(0.7 * 22_050))
    assert np.abs(part - whole[:, 11_025 : 11_025 + part.shape[1]]).max() < 1e-3
    for options, says in (
        (("--start", "3"), "no such part"),
        (("--start", "1", "--end", "0:01"), "no such part"),
        (("--start", "soon"), "--start soon is no time"),
        (("--end", "-1"), "--end -1 is no time"),
    ):
        result = vq("decode", "talk.vqz", "-o", "none.wav", *options)
        assert result.exit_code == 2 and not Path("none.wav").exists()
        only_line(result, says)


def test_channels_and_levels(vq, talk):
    sizes = {}
    for options in ((), ("--channels",), ("--levels", "1"), ("--mono", "--levels", "2")):
        (row,) = json.loads(vq("encode", talk, "-o", "a.vqz", "--force", "--json", *options, *SPEECH).stdout)
        sizes[options] = row["size_bytes"]
        assert row["kbit_per_s"] == pytest.approx(8 * row["size_bytes"] / 2 / 1000)
        assert row["length_s"] == 2 and row["model"] == "speech"
    assert sizes["--levels", "1"] < sizes["--mono", "--levels", "2"] < sizes[()] < sizes["--channels",]
    (row,) = json.loads(vq("decode", "a.vqz", "-o", "a.wav", "--levels", "1", "--json").stdout)
    assert (row["rate_hz"], row["channels"], row["length_s"]) == (22_050, 2, 2.0)


def test_folders_of_both(vq, talk, scalar_model, picture):
    Path("in/deep").mkdir(parents=True)
    write(Path("in/a.flac"), 0.5)
    image.write(Path("in/deep/b.png"), picture(20, 24))
    write(Path("in/deep/b.opus"), 0.5)
    photo = Path("models/photo")
    photo.mkdir()
    photo.joinpath(store.FILE).write_bytes(scalar_model.info.path.read_bytes())
    result = vq("encode", "in", "-o", "out", *SPEECH)
    assert result.exit_code == 0, result.stderr
    written = sorted(path.as_posix() for path in Path("out").rglob("*.vqz"))
    assert written == ["out/a.vqz", "out/deep/b.opus.vqz", "out/deep/b.png.vqz"]
    assert vq("decode", "out", "-o", "back").exit_code == 0
    assert sorted(path.name for path in Path("back").rglob("*.*")) == ["a.wav", "b.opus.wav", "b.png.png"]
    only_sound = vq("encode", "in", "-o", "sound", "--model", "speech", *SPEECH)
    assert only_sound.exit_code == 0 and len(list(Path("sound").rglob("*.vqz"))) == 2


def test_info(vq, talk):
    vq("encode", talk, "--channels", "-o", "a.vqz", *SPEECH)
    facts = json.loads(vq("info", "a.vqz", "--json").stdout)
    size = Path("a.vqz").stat().st_size
    assert (facts["modality"], facts["length_s"], facts["rate_hz"], facts["channels"]) == ("audio", 2.0, 22_050, 2)
    assert facts["size_bytes"] == size and facts["kbit_per_s"] == pytest.approx(8 * size / 2000, abs=1e-3)
    assert len(facts["kbit_per_s_of_levels"]) == 3
    without = facts["kbit_per_s_without_header"]
    assert without == pytest.approx(sum(facts["kbit_per_s_of_levels"]), abs=1e-3)
    assert without == pytest.approx(8 * (size - facts["overhead_bytes"]) / 2000, abs=1e-3)
    assert facts["codebooks"] == "2 of words (K = 8), 2 of pitch (K = 64), 8 of residual (K = 8)"
    assert len(facts["loudness_db"].split(",")) == 2
    assert "kbit per s" in vq("info", "a.vqz").stdout


def test_info_of_files_whose_model_is_not_there(vq):
    golden = Path(__file__).parent.parent / "golden"
    facts = json.loads(vq("info", golden / "speech.vqz", "--json").stdout)
    assert facts["length_s"] == 4.375 and "2 of K = 512" in facts["codebooks"]
    assert json.loads(vq("info", golden / "video.vqz", "--json").stdout)["modality"] == "video"


def test_verify_decodes(vq, talk):
    result = vq("encode", talk, "--verify", *SPEECH)
    assert result.exit_code == 0 and "verified: every code is equal, decodes to 2.00 s" in result.stderr


def test_salvage(vq, talk, monkeypatch):
    monkeypatch.setattr(audio_file, "CHUNK_SECONDS", 1)
    monkeypatch.setattr(audio_file, "CHUNK_BYTES", 1)
    vq("encode", talk, *SPEECH)
    data = bytearray(Path("talk.vqz").read_bytes())
    data[-1] ^= 1
    Path("talk.vqz").write_bytes(data)
    assert "--salvage" in vq("decode", "talk.vqz", "-o", "a.wav").stderr
    result = vq("decode", "talk.vqz", "-o", "a.wav", "--salvage")
    assert result.exit_code == 0 and "50.0% with fewer levels than the rest" in result.stderr


def test_as_many_levels_as_fit(vq, talk):
    rows = [json.loads(vq("encode", talk, "--levels", n, "--json", "--force", *SPEECH).stdout)[0] for n in "123"]
    for option, name, slack in (("--kbps", "kbit_per_s", 1.0001), ("--bytes", "size_bytes", 1)):
        limit = rows[1][name]
        given = str(limit * slack)
        (row,) = json.loads(vq("encode", talk, option, given, "--json", "--force", *SPEECH).stdout)
        assert row["size_bytes"] == rows[1]["size_bytes"]
    least = vq("encode", talk, "--bytes", "20", "--force", *SPEECH)
    assert least.exit_code == 0 and "cannot go down to 20 bytes" in least.stderr
    assert Path("talk.vqz").stat().st_size == rows[0]["size_bytes"]
    assert vq("decode", "talk.vqz", "-o", "a.wav", *SPEECH).exit_code == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--kbps", "1", "--levels", "1"), "exclude"),
        (("--quality", "5"), "--quality is for images or clips"),
        (("--bpp", "1"), "--bpp is for images"),
        (("--background", "white"), "--background is for images or clips"),
        (("--levels", "9"), "--levels 9"),
        (("--model", "scalar"), "model scalar is for images, and this is audio"),
    ],
)
def test_options_that_make_no_sense(vq, talk, options, says):
    result = vq("encode", talk, *options, *SPEECH)
    assert result.exit_code == 2
    only_line(result, says)
    assert not Path("talk.vqz").exists()


def test_options_of_sound_for_pictures(vq, photo):
    result = vq("encode", photo, "--model", "scalar", "--channels", *SPEECH)
    assert result.exit_code == 2
    only_line(result, "--mono or --channels is for audio")
    vq("encode", photo, "--model", "scalar", *SPEECH)
    result = vq("decode", "photo.vqz", "--start", "1", "-o", "x.png")
    assert result.exit_code == 2
    only_line(result, "--start is for audio or clips")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "an empty file"),
        (b"this is text", "text, not audio"),
        (b"\0\0\0\x20ftypM4A " + bytes(60), "MP4 or M4A"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "damaged"),
        (None, "No such file"),
    ],
)
def test_what_is_no_sound(vq, home, content, says):
    if content is not None:
        Path("x.wav").write_bytes(content)
    result = vq("encode", "x.wav", *SPEECH)
    assert result.exit_code == 3
    only_line(result, says)
    assert not Path("x.vqz").exists()


def test_a_page_to_listen_to(vq, talk):
    """The source, each number of levels, and Opus, with the command for each."""
    done = vq("compare", talk, "-o", "page.html", "--json")
    assert done.exit_code == 0, done.stderr
    text = Path("page.html").read_text()
    assert json.loads(done.stdout)["size_bytes"] == Path("page.html").stat().st_size
    names = re.findall(r'class="player" data-codec="(\w*)"', text)
    assert names[0] == "" and names[-1] == "Opus" and set(names[1:-1]) == {"speech"}
    assert text.count("data:audio/flac;base64,") == len(names) and "2.0 s of sound" in text
    vq("encode", talk, "--levels", "1", "-o", "one.vqz")
    assert f"{Path('one.vqz').stat().st_size} B" in text
    refused = vq("compare", talk, "--qualities", "3", "-o", "other.html")
    assert refused.exit_code == 2 and "leave --qualities out" in refused.stderr
