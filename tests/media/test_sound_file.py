"""Ogg files that are chained, cut or damaged, WAVs that do not say how long they are, and mixing by places."""

import io
import re
import struct

import numpy as np
import pytest
import soundfile

from vqcli.errors import BadFile
from vqcli.media import audio, mixing, ogg

RATE = 16_000
NOISE = (0.1 * np.random.default_rng(0).standard_normal(5 * RATE)).astype(np.float32)
CODECS = ("VORBIS", "OPUS")


def encoded(samples, codec="VORBIS", rate_hz=RATE):
    stream = io.BytesIO()
    soundfile.write(stream, samples.T, rate_hz, format="OGG", subtype=codec)
    return stream.getvalue()


def read(data, mono=True):
    return audio.read(io.BytesIO(data), RATE, mono)


def pages(data):
    """Where the pages begin, and the end."""
    return [match.start() for match in re.finditer(b"OggS\\0", data)] + [len(data)]


def places(part, whole):
    """Where each tenth of a second of `part` is found in `whole`; pieces that are nowhere are left out."""
    n, size = RATE // 10, 1 << 18
    spectrum, found = np.fft.rfft(whole, size), []
    for at in range(0, len(part) - n, n):
        piece = part[at : at + n]
        matches = np.fft.irfft(spectrum * np.conj(np.fft.rfft(piece, size)), size)[: len(whole) - n + 1]
        best = int(matches.argmax())
        if matches[best] > 0.9 * np.sqrt((piece**2).sum() * (whole[best : best + n] ** 2).sum()):
            found.append(best)
    return np.array(found)


# ---------------------------------------------------------------- Ogg


@pytest.mark.fault("02 Ogg")
@pytest.mark.parametrize("codec", CODECS)
def test_all_streams_of_a_chain(codec):
    first, second = NOISE[: 2 * RATE], NOISE[2 * RATE :]
    chained = read(encoded(first, codec) + encoded(second, codec))
    assert chained.source_samples == len(NOISE) and chained.notes == ()
    alone = [read(encoded(part, codec)).samples for part in (first, second)]
    assert np.array_equal(chained.samples, np.concatenate(alone, 1))


@pytest.mark.fault("02 Ogg")
def test_a_chain_of_other_rates_and_channels():
    other = encoded(np.repeat(NOISE[:48_000], 1), rate_hz=48_000)
    chained = read(encoded(NOISE) + other)
    assert chained.source_samples == len(NOISE) + RATE and chained.source_rate_hz == RATE and chained.notes == ()
    stereo = read(encoded(NOISE) + encoded(np.stack([NOISE, NOISE])) + encoded(NOISE))
    assert stereo.source_samples == 2 * len(NOISE)
    assert stereo.notes == ("stream 2 of 3 left out: it has 2 channels, not 1",)


@pytest.mark.fault("02 Ogg")
@pytest.mark.parametrize("codec", CODECS)
def test_what_is_cut_short_is_noted(codec):
    data = encoded(NOISE, codec)
    for stop in (pages(data)[-3], pages(data)[-3] + 100):
        cut = read(data[:stop])
        assert 0 < cut.source_samples < len(NOISE) and cut.notes == ("its end is missing: cut short",)


@pytest.mark.fault("02 Ogg")
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("block", [1000, 2**16])
def test_damage_leaves_out_and_never_repeats(monkeypatch, codec, block):
    monkeypatch.setattr("vqcli.media.sound_file.BLOCK", block)
    data = encoded(NOISE, codec)
    whole, at = read(data).samples[0], pages(data)
    flipped = bytearray(data)
    flipped[at[4] + 200 : at[4] + 300] = bytes(100)
    for damaged in (data[: at[4]] + data[at[5] :], bytes(flipped)):
        recording = read(damaged)
        missing = len(NOISE) - recording.source_samples
        assert missing > 0 and recording.notes == (f"damaged: {missing / RATE:.2f} s left out",)
        found = places(recording.samples[0], whole)
        assert (np.diff(found) > RATE // 20).all() and found[-1] > len(NOISE) - RATE // 4
        assert len(found) >= recording.source_samples // (RATE // 10) - 3


@pytest.mark.fault("02 Ogg")
def test_a_damaged_last_page_is_noted():
    data = bytearray(encoded(NOISE))
    data[pages(bytes(data))[-2] + 200] ^= 1
    assert "its end is missing: cut short" in read(bytes(data)).notes


def test_links():
    one = encoded(NOISE)
    assert ogg.links(io.BytesIO(one)) == [ogg.Link(0, len(one), True)]
    junk = one + b"OggS and no page" + one[:-1]
    assert ogg.links(io.BytesIO(junk)) == [ogg.Link(0, len(one) + 16, True), ogg.Link(len(one) + 16, len(junk), False)]
    assert ogg.links(io.BytesIO(b"")) == [ogg.Link(0, 0, False)]


# ---------------------------------------------------------------- WAV


def wav(samples, channels=1, fmt=1, mask=None):
    """Of 16 bits, with a mask of channels if given."""
    body = np.rint(32767 * samples.T).astype("<i2").tobytes()
    head = struct.pack("<HHIIHH", fmt, channels, RATE, 2 * channels * RATE, 2 * channels, 16)
    if mask is not None:
        guid = bytes.fromhex("0100000000001000800000aa00389b71")
        head = struct.pack("<H", 0xFFFE) + head[2:] + struct.pack("<HHI", 22, 16, mask) + guid
    chunks = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


@pytest.mark.fault("19 WAV of size 0")
def test_a_wav_whose_header_was_not_filled_in():
    whole = bytearray(wav(NOISE))
    at = whole.index(b"data") + 4
    whole[4:8] = whole[at : at + 4] = bytes(4)
    recording = read(bytes(whole))
    assert np.abs(recording.samples[0] - NOISE).max() < 1e-4
    assert recording.notes == (f"its header gives another length; {len(NOISE)} samples are there",)


def test_an_empty_wav_is_empty():
    """Though chunks follow its data."""
    empty = wav(NOISE[:0])
    for tail in (b"", b"LIST" + struct.pack("<I", 4) + b"INFO"):
        with pytest.raises(BadFile, match="holds no samples"):
            read(empty + tail)


# ---------------------------------------------------------------- mixing


@pytest.mark.fault("04 mixing")
def test_channels_that_cancel_are_noted():
    other = np.random.default_rng(1).normal(0, 0.1, len(NOISE)).astype(np.float32)
    for second, said in ((-NOISE, "100%"), (-0.7 * NOISE, "94%"), (other, ""), (NOISE, ""), (0 * NOISE, "")):
        notes = audio.from_samples(np.stack([NOISE, second]), RATE, RATE, mono=True).notes
        cancelled = [note for note in notes if "cancel" in note]
        assert bool(cancelled) == bool(said) and all(said in note for note in cancelled)


@pytest.mark.fault("04 mixing")
def test_speech_in_the_centre_is_not_lost():
    """3 dB down, as in a mix to stereo; and what is meant for the subwoofer is left out."""
    channels = np.zeros((6, len(NOISE)), np.float32)
    channels[2] = NOISE
    assert np.allclose(read(wav(channels, 6)).samples[0], NOISE * 0.5**0.5, atol=1e-4)
    channels[2], channels[3] = 0, NOISE
    assert not read(wav(channels, 6)).samples.any()


def test_weights_by_mask_and_by_codec():
    side, centre, surround = 0.5, 0.5**0.5, 0.5**1.5
    assert mixing.weights(2).tolist() == [side, side]
    assert np.allclose(mixing.weights(6), [side, side, centre, 0, surround, surround])
    assert np.allclose(mixing.weights(6, vorbis=True), [side, centre, side, surround, surround, 0])
    assert np.allclose(mixing.weights(4, mask=0), [0.25] * 4)  # of no place
    assert np.allclose(mixing.weights(3, mask=0x107), [1 / 3] * 3)  # of a mask for four
    assert np.allclose(mixing.weights(3, mask=0x103), [side] * 3)
    assert np.allclose(mixing.weights(9), [1 / 9] * 9) and mixing.weights(1).tolist() == [1]
    four = np.stack([NOISE, 0 * NOISE, 0 * NOISE, 0 * NOISE])
    assert np.allclose(read(wav(four, 4, mask=0)).samples[0], NOISE / 4, atol=1e-4)
    assert np.allclose(read(wav(four, 4, mask=0x33)).samples[0], NOISE / 2, atol=1e-4)
