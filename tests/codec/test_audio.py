import io
import math
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

import vqcli
from vqcli.codec import audio_file, chunks, image_file
from vqcli.codec.codes import AudioCodes
from vqcli.container import vqz
from vqcli.entropy import coders
from vqcli.errors import BadFile, DamagedChunks, UsageError
from vqcli.media import audio, loudness, mixing
from vqcli.nets.codecs import base
from vqcli.nets.priors import rounding
from vqcli.zoo import loading, priors, registry, store

RATE = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Three levels of two groups at 50 Hz, K = 8; untrained."""
    arguments = {"K": 8, "dim": 4, "width": 16, "blocks": (1, 1), "decoder_width": 16, "decoder_blocks": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build("speech", arguments)
    description = {"family": "speech", "arguments": arguments, "modality": "audio"}
    return loading.load(loading.save(tmp_path_factory.mktemp("models") / "tiny-speech", net, None, description), "cpu")


def talk(seconds: float, rate_hz: int = RATE, channels: int = 1) -> np.ndarray:
    """float32 [channels, N]: hums of moving pitch with pauses, another on each channel."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(0).normal(0, 0.003, (channels, len(time)))
    for c in range(channels):
        cycles = np.cumsum(150 + 20 * c + 40 * np.sin(2 * np.pi * 0.7 * time)) / rate_hz
        hum = sum(np.cos(2 * np.pi * k * cycles) / k for k in range(1, 15))
        noise[c] += 0.1 * hum * (np.sin(2 * np.pi * (0.4 + 0.1 * c) * time) > -0.3)
    return noise.astype(np.float32)


def encode(
    samples: np.ndarray, model: loading.LoadedModel, rate_hz: int = RATE, **options: object
) -> vqcli.EncodedAudio:
    return vqcli.encode(samples, model, rate_hz=rate_hz, **options)


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of a second."""
    monkeypatch.setattr(audio_file, "CHUNK_SECONDS", 1)
    monkeypatch.setattr(audio_file, "CHUNK_BYTES", 1)


# ---------------------------------------------------------------- there and back


def test_round_trip_of_a_file(model, tmp_path):
    audio.write(tmp_path / "talk.flac", talk(1.5), RATE)
    encoded = vqcli.encode(tmp_path / "talk.flac", model, metadata={"by": "test"})
    assert encoded.codes.shape == (1, 6, 75) and encoded.notes == ()
    assert encoded.kbit_per_s == 8 * len(encoded.data) / 1.5 / 1000
    assert encoded.header.metadata["by"] == "test"
    assert encoded.save(tmp_path / "talk.vqz") == len(encoded.data)
    with (tmp_path / "talk.flac").open("rb") as stream:
        assert vqcli.encode(stream, model, metadata={"by": "test"}).data == encoded.data
    expected = None
    for source in (encoded, encoded.data, tmp_path / "talk.vqz", str(tmp_path / "talk.vqz")):
        decoded = vqcli.decode(source, model)
        expected = decoded.samples if expected is None else expected
        assert np.array_equal(decoded.samples, expected) and expected.shape == (1, 24_000)
        assert np.array_equal(decoded.audio.codes, encoded.codes) and decoded.header == encoded.header
        assert (decoded.rate_hz, decoded.channels, decoded.length_s) == (RATE, 1, 1.5)
        assert not decoded.lost.any()
    decoded.save(tmp_path / "back.wav")
    assert np.abs(audio.read(tmp_path / "back.wav", RATE, False).samples - audio.limited(expected)).max() < 1e-3


@pytest.mark.parametrize("samples", [1, 2, 319, 321, 5000])
@pytest.mark.parametrize("rate_hz", [8000, 11_025, 16_000, 44_100, 48_000])
def test_rate_length_and_channels_come_back(model, rate_hz, samples):
    decoded = vqcli.decode(encode(talk(1, rate_hz)[:, :samples], model, rate_hz), model)
    assert decoded.samples.shape == (1, samples) and decoded.rate_hz == rate_hz
    assert np.isfinite(decoded.samples).all()


def test_channels_are_mixed_or_coded_alone(model):
    samples = talk(2, channels=3)
    mixed = encode(samples, model)
    assert mixed.codes.shape == (1, 6, 100) and "3 channels mixed down" in mixed.notes[0]
    assert np.array_equal(mixed.codes, encode((samples.T @ mixing.weights(3)[:, None])[:, 0], model).codes)
    back = vqcli.decode(mixed, model).samples
    assert back.shape == samples.shape and np.array_equal(back[0], back[2])
    kept = encode(samples, model, mono=False)
    alone = [encode(channel, model) for channel in samples]
    assert kept.notes == () and np.array_equal(kept.codes, np.concatenate([each.codes for each in alone]))
    levels_db = [each.audio.loudness_db[0] for each in alone]  # as compared with what decodes, whose noise is another
    assert kept.audio.loudness_db == pytest.approx(levels_db, abs=0.5)
    assert kept.audio.voice == tuple(each.audio.voice[0] for each in alone)
    decoded = vqcli.decode(kept, model)
    assert decoded.audio.voice == kept.audio.voice and decoded.audio.loudness_db == kept.audio.loudness_db
    for level in (1, 2):
        fewer = encode(samples, model, mono=False, levels=level)
        assert np.array_equal(vqcli.decode(fewer, model).samples, vqcli.decode(kept, model, levels=level).samples)


def test_loudness_is_kept(model):
    loud, quiet = (encode(gain * talk(2), model) for gain in (1.0, 0.01))
    assert loud.audio.loudness_db[0] - quiet.audio.loudness_db[0] == pytest.approx(40, abs=0.11)
    levels = [loudness.active_rms_db(vqcli.decode(encoded, model).samples[0]) for encoded in (loud, quiet)]
    assert levels[0] - levels[1] == pytest.approx(40, abs=1)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("coder", ["packed", "adaptive"])
def test_coders(model, coder, channels, small_chunks):
    encoded = encode(talk(3.5, channels=channels), model, coder=coder, mono=False)
    assert encoded.header.chunk_count == 4 and encoded.header.coder == coders.get(coder).ID
    assert np.array_equal(vqcli.decode(encoded, model).audio.codes, encoded.codes)


def test_counts_are_shared_by_channels(model):
    """A model's statistics are those of one channel, and serve any number."""
    from vqcli.entropy import statistics

    samples = talk(4, channels=2)
    codes = encode(samples, model, mono=False).codes
    fitted = statistics.fit([codes[0][:, None], codes[1][:, None]], model.net.codebook_sizes)
    counted = replace(model, statistics=fitted)
    sizes = {coder: len(encode(samples, counted, mono=False, coder=coder).data) for coder in ("histogram", "packed")}
    assert sizes["histogram"] < sizes["packed"]
    encoded = encode(samples, counted, mono=False)
    assert len(encoded.data) <= min(sizes.values())
    assert np.array_equal(vqcli.decode(encoded, counted).audio.codes, codes)


def test_the_index_is_small(model):
    """At most 1 % of the bytes, for ten minutes of codes that carry what they can."""
    T = 30_000
    sizes = np.array(model.net.codebook_sizes)[:2, None]
    codes = np.random.default_rng(0).integers(0, sizes, (2, T)).astype(np.uint16)[None]
    recording = AudioCodes(codes, RATE, T * 320, 1, (-26.0,), (b"",))
    header, payloads = audio_file.pack_audio(model, recording)
    assert header.chunk_count > 10
    size = len(vqz.pack(header, payloads))
    assert size - sum(map(len, payloads)) <= 0.01 * size


# ---------------------------------------------------------------- long ones, in parts


def test_windowed_codes_equal_those_of_the_whole(model, monkeypatch, small_chunks):
    samples = talk(6)
    whole = encode(samples, model)
    sound = vqcli.decode(whole, model).samples
    monkeypatch.setattr(base, "WINDOW_S", 1.0)
    parts = encode(samples, model)
    assert (parts.codes == whole.codes).mean() > 0.999  # ties within float error may fall either way
    blocks = list(vqcli.decode(whole, model).blocks())
    assert len(blocks) == 6
    assert np.abs(np.concatenate(blocks, axis=1) - sound).max() < 1e-4


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 16_000, 44_100])
def test_any_part_decodes_alone(model, small_chunks, monkeypatch, rate_hz):
    encoded = encode(talk(8, rate_hz), model, rate_hz)
    whole = vqcli.decode(encoded, model).samples
    seen = []
    true_decode = coders.decode
    monkeypatch.setattr(chunks.coders, "decode", lambda *given: seen.append(1) or true_decode(*given))
    for start_s, end_s in ((0, 0.5), (5.21, 5.9), (5.5, None), (None, 2.0), (7.999, 99)):
        part = vqcli.decode(encoded.data, model, start_s=start_s, end_s=end_s)
        first, last = round((start_s or 0) * rate_hz), min(round((end_s or 99) * rate_hz), 8 * rate_hz)
        assert part.samples.shape == (1, last - first)
        assert np.abs(part.samples - whole[:, first:last]).max() < 1e-4
        assert len(seen) < 8 * 3  # chunks of all levels
        seen.clear()


@pytest.mark.parametrize(("start_s", "end_s"), [(2.0, None), (1.0, 1.0), (1.0, 0.5), (-1.0, None), (0.0, 0.0)])
def test_parts_that_are_not_there(model, start_s, end_s):
    with pytest.raises(UsageError, match="no such part"):
        vqcli.decode(encode(talk(2), model), model, start_s=start_s, end_s=end_s)


def test_damage_is_silent_and_stays_local(model, small_chunks):
    encoded = encode(talk(6), model, coder="packed")
    whole = vqcli.decode(encoded, model).samples
    data = bytearray(encoded.data)
    before_end = sum(len(payload) for payload in encoded.payloads[3:])  # chunk 3 of level 0: the fourth second
    data[len(data) - before_end] ^= 1
    with pytest.raises(DamagedChunks):
        vqcli.decode(bytes(data), model)
    decoded = vqcli.decode(bytes(data), model, salvage=True)
    assert decoded.lost.sum() == 50 and not decoded.samples[:, 3 * RATE : 4 * RATE].any()
    reach = 320 * model.net.decoder_margin
    assert np.abs(decoded.samples - whole)[:, : 3 * RATE - reach].max() < 1e-5
    part = vqcli.decode(bytes(data), model, start_s=0.2, end_s=1.2)  # which needs no damaged chunk
    assert np.abs(part.samples - whole[:, round(0.2 * RATE) : round(1.2 * RATE)]).max() < 1e-5
    with pytest.raises(DamagedChunks):
        vqcli.decode(bytes(data), model, start_s=3.2, end_s=3.6)


def test_an_endless_recording_needs_no_more_memory(model, monkeypatch):
    """Blocks are made one by one: an hour of sound, of which the first seconds are taken."""
    T = 3600 * 50
    recording = AudioCodes(np.zeros((1, 2, T), np.uint16), RATE, T * 320, 1, (-26.0,), (bytes(16) + b"\1",))
    encoded = vqz.unpack(vqz.pack(*audio_file.pack_audio(model, recording, coder="packed")))
    blocks = vqcli.decode(encoded, model, start_s=100).blocks()
    assert sum(next(blocks).shape[1] for _ in range(3)) <= 3 * base.WINDOW_S * RATE


# ---------------------------------------------------------------- strange sounds


def wav(samples: np.ndarray, rate_hz: int = RATE) -> io.BytesIO:
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, samples.T, rate_hz, format="WAV", subtype="FLOAT")
    stream.seek(0)
    return stream


def music() -> np.ndarray:
    time = np.arange(2 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * hz * time) for hz in (220, 277.2, 329.6, 440, 2637))
    return (0.1 * chord + np.random.default_rng(0).normal(0, 0.1, len(time)) * (time % 0.5 < 0.05)).astype(np.float32)[
        None
    ]


def with_nan() -> np.ndarray:
    samples = talk(1)
    samples[0, 100:200] = np.nan
    return samples


@pytest.mark.parametrize(
    ("samples", "rate_hz", "note"),
    [
        (np.zeros((1, RATE), np.float32), RATE, None),
        ((20 * talk(1)).clip(-1, 1), RATE, "clipped"),
        (np.full((1, 1), 0.5, np.float32), RATE, None),
        (np.zeros((1, 1), np.float32), 48_000, None),
        (talk(1, 8000), 8000, None),
        (talk(1, 48_000, 6), 48_000, "6 channels mixed down"),
        (with_nan(), RATE, "100 samples that are not finite"),
        (music(), RATE, None),
        (np.full((1, RATE), 0.5, np.float32), RATE, None),
    ],
    ids=["silent", "clipped", "1 sample", "1 silent sample", "8 kHz", "5.1", "NaN", "music", "constant"],
)
def test_strange_sounds(model, samples, rate_hz, note):
    encoded = vqcli.encode(wav(samples, rate_hz), model)
    assert len(encoded.notes) == (note is not None) and all(str(note) in said for said in encoded.notes)
    decoded = vqcli.decode(encoded, model)
    assert decoded.samples.shape == samples.shape and decoded.rate_hz == rate_hz
    assert np.isfinite(decoded.samples).all()
    if not samples.any():
        assert np.abs(decoded.samples).max() < 1e-3


def test_a_pipe(model):
    data = wav(talk(0.5)).getvalue()
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert vqcli.encode(pipe, model).data == vqcli.encode(io.BytesIO(data), model).data


def test_a_length_that_is_not_there(model):
    data = bytearray(wav(talk(1)).getvalue())
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\x7f"
    encoded = vqcli.encode(io.BytesIO(data), model)
    assert encoded.audio.samples == RATE and "gives another length" in encoded.notes[0]


# ---------------------------------------------------------------- what does not fit


def test_each_modality_has_its_options(model, vector_model, picture):
    with pytest.raises(UsageError, match=r"^quality is for images or clips, and this is audio"):
        encode(talk(1), model, quality=5)
    with pytest.raises(UsageError, match=r"^mono is for audio, and this is an image"):
        vqcli.encode(picture(8, 8), vector_model, mono=True)
    with pytest.raises(UsageError, match="no rate of their own"):
        vqcli.encode(talk(1), model)
    with pytest.raises(UsageError, match=r"^start_s is for audio or clips, and this is an image"):
        vqcli.decode(vqcli.encode(picture(8, 8), vector_model), vector_model, start_s=1)
    with pytest.raises(UsageError, match="model vector is for images, and this is audio"):
        vqcli.encode(wav(talk(1)), vector_model)
    with pytest.raises(UsageError, match="--levels 4"):
        encode(talk(1), model, levels=4)
    with pytest.raises(UsageError, match="loudness_db is vq's own"):
        encode(talk(1), model, metadata={"loudness_db": "-3.0"})
    with pytest.raises(BadFile, match="an image, not audio"):
        vqcli.encode(io.BytesIO(b"\x89PNG\r\n\x1a\n" + bytes(60)), model)


def test_the_honest_version_decodes(model):
    assert vqcli.decode(lying(model), model).samples.shape == (2, 6400)


def lying(model: loading.LoadedModel, **changes: object) -> vqz.Vqz:
    """A file that is sound as a container, with a header that its codes and its model do not bear out."""
    sizes, coded = changes.pop("codebook_sizes", model.net.codebook_sizes), changes.pop("levels", 3)
    codes = np.zeros((len(sizes), *changes.get("grid", (20,))), np.uint16)
    header = vqz.Header(
        modality="audio", size=(6400, RATE, 2), grid=codes.shape[1:], codebook_sizes=sizes, levels=coded,
        model=model.info.name, digest=model.info.digest, coder=0,
        codes_crcs=tuple(vqz.codes_crc(part) for part in np.split(codes, coded)),
        metadata={"loudness_db": "-26.0", "voice": "AAAAAAAAAAAAAAAAAAAAAAE="},
    )  # fmt: skip
    n = header.level_groups[0]
    payloads = [
        coders.encode("packed", part, coders.Given(sizes[n * level : n * (level + 1)]))
        for level, part in enumerate(np.split(codes, coded))
    ]
    header = replace(header, **{"metadata": header.metadata | changes.pop("metadata", {})}, **changes)
    return vqz.unpack(vqz.pack(header, payloads))


@pytest.mark.parametrize(
    "lie",
    [
        {"size": (6401, RATE, 2)},
        {"size": (6400, 8000, 2)},
        {"size": (2**36, RATE, 2)},
        {"size": (1, 3, 2)},
        {"grid": (21,)},
        {"quality": 10},
        {"coder": 1},
        {"coder": 2},
        {"coder": 3},
        {"coder": 99},
        {"codebook_sizes": (8, 64) * 3},
        {"codebook_sizes": (8, 64, 8), "levels": 3},
        {"codebook_sizes": (8, 64, 8, 8, 8, 8, 8, 8), "levels": 4},
        {"codebook_sizes": (8, 64, 8, 64, 8, 64), "levels": 1},
        {"metadata": {"loudness_db": ""}},
        {"metadata": {"loudness_db": "loud"}},
        {"metadata": {"loudness_db": "nan"}},
        {"metadata": {"loudness_db": "-1e9"}},
        {"metadata": {"loudness_db": "999.0"}},
        {"metadata": {"loudness_db": "-26.0,-26.0"}},
        {"metadata": {"loudness_db": "٣.٣"}},
        {"metadata": {"voice": "no base64"}},
        {"metadata": {"voice": "ü"}},
        {"metadata": {"voice": "AAAA"}},
        {"metadata": {"voice": ""}},
    ],
    ids=str,
)
def test_a_lying_header_is_a_bad_file(model, lie):
    with pytest.raises(BadFile):
        vqcli.decode(lying(model, **lie), model).samples  # noqa: B018


def test_a_huge_recording_is_refused_before_memory_is_taken(model):
    """23 hours in 64 coded channels."""
    file = lying(model)
    samples = 23 * 3600 * RATE
    sizes = (8, 64) * 64 + (8,) * 256
    header = replace(file.header, size=(samples, RATE, 64), grid=(math.ceil(samples / 320),), codebook_sizes=sizes)
    with pytest.raises(BadFile, match="vq decodes 60 at once"):
        audio_file.unpack_audio(model, replace(file, header=header))


def test_modalities_are_not_mixed_up(model, vector_model, picture):
    image = vqz.unpack(vqcli.encode(picture(8, 8), vector_model).data)
    with pytest.raises(BadFile, match="image, not sound"):
        audio_file.unpack_audio(model, image)
    with pytest.raises(BadFile, match="audio, not an image"):
        image_file.unpack_image(vector_model, lying(model))


# ---------------------------------------------------------------- the exact prior


@pytest.fixture(scope="module")
def prior_model(model, tmp_path_factory):
    """The same model with a random exact prior beside it."""
    folder = tmp_path_factory.mktemp("prior") / "tiny-speech"
    folder.mkdir()
    (folder / store.FILE).write_bytes(model.info.path.read_bytes())
    arguments = {"codebook_sizes": model.net.codebook_sizes, "hidden": 8, "embedding": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = rounding.rounded_sequence(registry.build("exact1d", arguments))
    tensors = {name: torch.from_numpy(array) for name, array in net.arrays().items()}
    priors.save(folder, tensors, {"family": "exact1d", "arguments": arguments, "codec": model.info.digest.hex()})
    return loading.load(store.describe(folder), "cpu")


@pytest.mark.parametrize("channels", [1, 2])
def test_the_exact_prior_predicts_levels_from_those_below(prior_model, small_chunks, channels):
    samples = talk(3.5, channels=channels)
    encoded = encode(samples, prior_model, coder="prior", mono=False)
    assert encoded.header.coder == coders.get("prior").ID and encoded.header.joint
    for level in (1, 2, 3):
        decoded = vqcli.decode(encoded, prior_model, levels=level)
        assert np.array_equal(decoded.audio.codes, encoded.codes[:, : 2 * level])
    fewer = encode(samples, prior_model, coder="prior", mono=False, levels=2)
    assert fewer.payloads == encoded.payloads[:8]
    data = bytearray(encoded.data)
    data[len(data) - sum(map(len, encoded.payloads[5:]))] ^= 1  # chunk 1 of level 1
    decoded = vqcli.decode(bytes(data), prior_model, salvage=True)
    assert not decoded.lost.any() and decoded.fewer.sum() == 50 and decoded.fewer[50:100].all()
    assert np.array_equal(decoded.audio.codes[..., ~decoded.fewer], encoded.codes[..., ~decoded.fewer])
    part = vqcli.decode(encoded, prior_model, start_s=3.2).samples
    assert np.abs(part - vqcli.decode(encoded, prior_model).samples[:, round(3.2 * RATE) :]).max() < 1e-4
