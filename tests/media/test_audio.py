import io
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vqcli.errors import BadFile, OutputError, UsageError
from vqcli.files import release
from vqcli.media import audio, loudness

RATES = (8000, 16_000, 22_050, 44_100, 48_000)


def tone(rate_hz: int, seconds: float = 0.5, channels: int = 1) -> np.ndarray:
    """float32 [channels, N]: a sine of another pitch on each channel."""
    time = np.arange(round(rate_hz * seconds)) / rate_hz
    return np.stack([0.4 * np.sin(2 * np.pi * (200 + 100 * c) * time) for c in range(channels)]).astype(np.float32)


def wav(samples: np.ndarray, rate_hz: int = 16_000, **options: str) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples.T, rate_hz, **({"format": "WAV", "subtype": "FLOAT"} | options))
    return stream.getvalue()


# ---------------------------------------------------------------- there and back


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff"])
def test_files_without_loss(tmp_path, suffix, rate_hz, channels):
    path, samples = tmp_path / f"a{suffix}", tone(rate_hz, 0.1, channels)
    audio.write(path, samples, rate_hz)
    again = audio.read(path, rate_hz, mono=False)
    assert again.samples.dtype == np.float32 and again.samples.shape == samples.shape
    assert np.abs(again.samples - samples).max() < 2**-14
    assert (again.rate_hz, again.source_rate_hz) == (rate_hz, rate_hz)
    assert (again.source_samples, again.source_channels, again.notes) == (samples.shape[1], channels, ())


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".mp3"])
def test_files_with_loss(tmp_path, suffix, rate_hz, channels):
    path, samples = tmp_path / f"a{suffix}", tone(rate_hz, 0.5, channels)
    audio.write(path, samples, rate_hz)
    again = audio.read(path, rate_hz, mono=False)
    assert again.source_rate_hz == (
        {22_050: 24_000, 44_100: 48_000}.get(rate_hz, rate_hz) if suffix == ".opus" else rate_hz
    )
    inner = slice(rate_hz // 10, 4 * rate_hz // 10)
    for there, here in zip(again.samples, samples, strict=True):
        assert np.corrcoef(there[inner], here[inner])[0, 1] > 0.99


@pytest.mark.parametrize("to_hz", [8000, 16_000, 44_100])
@pytest.mark.parametrize("from_hz", RATES)
def test_resampling_and_its_undoing(from_hz, to_hz):
    samples = tone(from_hz, 0.7, 2)
    recording = audio.from_samples(samples, from_hz, to_hz, mono=False)
    N = samples.shape[1]
    assert recording.samples.shape == (2, audio.length_at(N, from_hz, to_hz))
    blocks = np.array_split(recording.samples, 5, axis=1)
    back = np.concatenate(list(audio.restore(blocks, to_hz, from_hz, N, 2)), axis=1)
    assert back.shape == samples.shape
    inner = slice(from_hz // 20, -from_hz // 20)
    assert np.abs(back - samples)[:, inner].max() < 1e-3


@pytest.mark.parametrize("rate_hz", [11_025, 16_000, 48_000])
def test_blocks_equal_one_go(monkeypatch, rate_hz):
    samples = tone(rate_hz, 0.3, 2)
    whole = audio.from_samples(samples, rate_hz, 16_000, mono=True)
    monkeypatch.setattr(audio, "BLOCK", 777)
    parts = audio.from_samples(samples, rate_hz, 16_000, mono=True)
    assert np.array_equal(whole.samples, parts.samples)
    back = [
        np.concatenate(list(audio.restore(blocks, 16_000, rate_hz, 2000, 1)), axis=1)
        for blocks in ([whole.samples], np.array_split(whole.samples, 7, axis=1))
    ]
    assert np.array_equal(*back)


def test_a_part_is_restored_where_it_lies():
    samples = tone(44_100, 0.5)
    at_model = audio.from_samples(samples, 44_100, 16_000, mono=True).samples
    part = np.concatenate(list(audio.restore([at_model], 16_000, 44_100, 5000, 3, skip=8000)), axis=1)
    assert part.shape == (3, 5000)
    assert np.abs(part - samples[:, 8000:13_000]).max() < 1e-3
    beyond = np.concatenate(list(audio.restore([at_model], 16_000, 44_100, 5000, 1, skip=20_000)), axis=1)
    assert beyond.shape == (1, 5000) and not beyond[:, 3000:].any()


def test_streams_and_pipes(tmp_path):
    data = wav(tone(16_000))
    from_bytes = audio.read(io.BytesIO(data), 16_000, mono=True)
    reader, writer = os.pipe()
    os.write(writer, data[:60_000])  # a pipe holds no more
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        from_pipe = audio.read(pipe, 16_000, mono=True)
    assert np.array_equal(from_bytes.samples, from_pipe.samples)
    out = io.BytesIO()
    audio.write(out, np.array_split(from_bytes.samples, 3, axis=1), 16_000, format="flac")
    assert out.getvalue().startswith(b"fLaC")
    assert np.abs(audio.read(io.BytesIO(out.getvalue()), 16_000, True).samples - from_bytes.samples).max() < 2**-14


def test_long_recordings_are_in_a_file(monkeypatch):
    samples = tone(16_000, 1.0, 2)
    short = audio.from_samples(samples, 16_000, 16_000, mono=False)
    monkeypatch.setattr(audio, "IN_MEMORY", 2**14)
    long = audio.from_samples(samples, 16_000, 16_000, mono=False)
    assert isinstance(long.samples, np.memmap) and not isinstance(short.samples, np.memmap)
    assert np.array_equal(long.samples, short.samples)
    assert long.samples.flags.writeable and short.samples.flags.writeable  # or torch would complain


def test_mixing_down_is_told():
    samples = tone(16_000, 0.1, 6)
    mixed = audio.from_samples(samples, 16_000, 16_000, mono=True)
    expected = 0.5 * (samples[0] + samples[1]) + 0.5**0.5 * samples[2] + 0.5**1.5 * (samples[4] + samples[5])
    assert np.allclose(mixed.samples[0], expected, atol=1e-6)
    assert mixed.notes == ("6 channels mixed down to one (--channels keeps them)",)
    kept = audio.from_samples(samples, 16_000, 16_000, mono=False)
    assert np.array_equal(kept.samples, samples) and kept.notes == ()
    assert (mixed.source_channels, kept.source_channels) == (6, 6)


# ---------------------------------------------------------------- unusual files


@pytest.mark.parametrize("rate_hz", [1000, 8000, 44_100, 768_000])
def test_one_sample(rate_hz):
    recording = audio.read(io.BytesIO(wav(np.full((1, 1), 0.5, np.float32), rate_hz)), 16_000, mono=True)
    assert recording.source_samples == 1 and recording.samples.shape == (1, audio.length_at(1, rate_hz, 16_000))
    back = np.concatenate(list(audio.restore([recording.samples], 16_000, rate_hz, 1, 1)), axis=1)
    assert back.shape == (1, 1)


def test_samples_that_are_not_finite():
    samples = tone(16_000)
    samples[0, [5, 50, 500]] = np.nan, np.inf, 1e30
    recording = audio.read(io.BytesIO(wav(samples)), 16_000, mono=True)
    assert np.isfinite(recording.samples).all() and not recording.samples[0, [5, 50, 500]].any()
    assert recording.notes == ("3 samples that are not finite or out of range set to 0",)


def test_clipping_is_noted():
    assert audio.from_samples((4 * tone(16_000)).clip(-1, 1), 16_000, 16_000, True).notes[0].startswith("clipped: ")


def test_silence():
    recording = audio.from_samples(np.zeros(16_000), 16_000, 16_000, True)
    assert recording.notes == () and loudness.active_rms_db(recording.samples[0]) == -100


@pytest.mark.parametrize("claimed", [10**9, 2**32 - 1])
def test_a_length_that_is_not_there(claimed):
    data = bytearray(wav(tone(16_000, 0.25), subtype="PCM_16"))
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", claimed)
    recording = audio.read(io.BytesIO(data), 16_000, mono=True)
    assert recording.source_samples == recording.samples.shape[1] == 4000
    assert recording.notes == ("its header gives another length; 4000 samples are there",)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_files_that_break_off(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 80_000)).astype(np.float32)
    audio.write(path, noise, 16_000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    recording = audio.read(path, 16_000, mono=True)
    assert 10_000 < recording.source_samples < 80_000
    assert np.isfinite(recording.samples).all()
    if suffix in (".wav", ".flac"):  # the others do not say how long they are
        assert recording.notes


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "an empty file"),
        (b"hello there, this is text", "text"),
        (b"\x89PNG\r\n\x1a\n", "an image"),
        (b"\x89VQZ\r\n\x01", "a .vqz file"),
        (b"\0\0\0\x20ftypM4A ", "MP4 or M4A"),
        (bytes(range(200, 256)), "of no known kind"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "damaged"),
        (b"fLaC" + bytes(100), "damaged"),
        (None, "No such file"),
    ],
)
def test_what_is_no_audio(tmp_path, content, says):
    path = tmp_path / "x.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadFile, match=says) as caught:
        audio.read(path, 16_000, mono=True)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value) and caught.value.hint


def test_no_samples():
    with pytest.raises(BadFile, match="holds no samples"):
        audio.read(io.BytesIO(wav(np.zeros((1, 0), np.float32))), 16_000, mono=True)


def test_too_long_or_too_many(monkeypatch):
    with pytest.raises(BadFile, match="65 channels"):
        audio.read(io.BytesIO(wav(np.zeros((65, 10), np.float32))), 16_000, mono=True)
    with pytest.raises(BadFile, match="sample rate of 500 Hz"):
        audio.read(io.BytesIO(wav(np.zeros((1, 10), np.float32), 500)), 16_000, mono=True)
    monkeypatch.setattr(audio, "MAX_SECONDS", 0.1)
    with pytest.raises(BadFile, match="longer than"):
        audio.read(io.BytesIO(wav(tone(16_000))), 16_000, mono=True)


@pytest.mark.parametrize("samples", [np.zeros(4, np.int16), np.zeros((0, 4)), np.zeros((1, 0)), np.zeros((1, 1, 4))])
def test_arrays_that_are_no_audio(samples):
    with pytest.raises(UsageError, match="samples are"):
        audio.from_samples(samples, 16_000, 16_000, True)


def test_random_bytes_after_a_true_start():
    random = np.random.default_rng(1)
    for magic in (
        wav(tone(16_000, 0.01))[:40],
        b"OggS\0\2",
        b"fLaC\0\0\0\x22",
        b"\xff\xfb\x90\x64",
        b"FORM\0\0\1\0AIFFCOMM",
    ):
        try:
            recording = audio.read(io.BytesIO(magic + random.bytes(3000)), 16_000, mono=True)
        except BadFile:
            continue
        assert np.isfinite(recording.samples).all()


# ---------------------------------------------------------------- loudness and limits


def test_loudness_is_that_of_the_active_part():
    speech = tone(16_000, 1.0)[0]
    expected = 20 * np.log10(0.4 / np.sqrt(2))
    assert loudness.active_rms_db(speech) == pytest.approx(expected, abs=0.02)
    pauses = np.concatenate([np.zeros(48_000, np.float32), speech, 1e-5 * speech])
    assert loudness.active_rms_db(pauses) == pytest.approx(expected, abs=0.1)  # the filter rings at its edges
    assert loudness.active_rms_db(speech[:1] + 0.1) == pytest.approx(-20)
    assert loudness.active_rms_db(np.float32([])) == -100


def test_peaks_are_bent_not_cut(tmp_path):
    samples = 3 * tone(16_000)
    audio.write(tmp_path / "a.wav", samples, 16_000)
    again = audio.read(tmp_path / "a.wav", 16_000, True).samples
    assert np.abs(again).max() <= 1
    quiet = np.abs(samples) < audio.KNEE
    assert np.abs(again - samples)[quiet].max() < 2**-14
    assert np.array_equal(audio.limited(tone(16_000)), tone(16_000))


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match="unknown kind of audio"):
        audio.write(tmp_path / "a.m4a", tone(16_000), 16_000)
    for name in ("a.mp3", "a.flac"):
        with pytest.raises(OutputError, match="channels"):
            audio.write(tmp_path / name, tone(16_000, 0.01, 9), 16_000)
    (tmp_path / "a.wav").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        audio.write(tmp_path / "a.wav", tone(16_000), 16_000)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_parts_that_were_read_are_given_back():
    """A long recording is a memory map: what was read of it must not stay in memory."""

    def mapped_mb():
        return int(re.search(r"RssFile:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024

    recording = audio.from_samples(np.full(2**24, 0.1, np.float32), 16_000, 16_000, mono=True)  # 64 MB
    samples = recording.samples[0]
    loudness.active_rms_db(samples)
    release(samples)
    before = mapped_mb()
    for at in range(0, len(samples), 2**20):
        samples[at : at + 2**20].sum()
        release(samples)
        assert mapped_mb() < before + 10
    assert samples[-1] == np.float32(0.1)


@pytest.mark.fault("14 memory and time")
def test_blocks_are_small_whatever_rate_and_channels_a_file_declares() -> None:
    tone = np.sin(np.arange(40_000) / 9, dtype=np.float32)[None]
    blocks = list(audio.restore([tone], 16_000, 768_000, 1_950_000, 64))
    assert max(block.size for block in blocks) <= 2**20 and {len(block) for block in blocks} == {64}
    assert sum(block.shape[1] for block in blocks) == 1_950_000
    few = np.concatenate(list(audio.restore([tone], 16_000, 768_000, 1_950_000, 1)), 1)
    assert np.array_equal(np.concatenate([block[:1] for block in blocks], 1), few)
