"""Recordings by a model that codes two channels together, in segments that overlap, with a scale each."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import vqcli
from vqcli.cli.media import audio as said
from vqcli.codec import audio_file, exchange
from vqcli.container import vqz
from vqcli.errors import BadFile, DamagedChunks, UsageError
from vqcli.zoo import loading, registry

RATE, HOP, SEGMENT = 16_000, 1584, 40  # segments of 0.1 s, one begins each 39.6 positions
ARGUMENTS = {
    "net": {"width": 4, "dim": 8, "ratios": [8, 5], "lstm": 1},
    **{"rate_hz": RATE, "segment": 1600, "hop": HOP, "codebooks": 3, "K": 16},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build("encodec_stereo", ARGUMENTS)
    description = {"family": "encodec_stereo", "arguments": ARGUMENTS, "modality": "audio"}
    return loading.load(loading.save(tmp_path_factory.mktemp("models") / "tiny-stereo", net, None, description), "cpu")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of ten segments."""
    monkeypatch.setattr(audio_file, "CHUNK_SECONDS", 1)
    monkeypatch.setattr(audio_file, "CHUNK_BYTES", 1)


def noise(N, channels=2, rate_hz=RATE):
    """Louder from second to second."""
    samples = np.random.default_rng(N).normal(0, 0.02, (channels, N)).astype(np.float32)
    return samples * (1 + np.arange(N, dtype=np.float32) / rate_hz)


def encode(samples, model, rate_hz=RATE, **options):
    return vqcli.encode(samples, model, rate_hz=rate_hz, **options)


@pytest.mark.parametrize("N", [700, HOP, 3 * HOP, 3 * HOP + 20, 3 * HOP + 300, 10 * HOP + 4, 41_000])
def test_there_and_back(model, N):
    encoded = encode(noise(N), model)
    segments, T = -(-N // HOP), model.audio.framing.positions(N)
    assert encoded.codes.shape == (1, 3, T) and encoded.header.grid == (T,)
    assert encoded.header.version == 4 and encoded.header.side_bytes == 4 * segments
    assert encoded.header.chunk in ((), (10 * SEGMENT,)) and encoded.header.chunk_count == max(1, -(-T // 400))
    decoded = vqcli.decode(encoded.data, model)
    assert decoded.audio == replace(encoded.audio, codes=decoded.audio.codes)  # the scales above all
    assert np.array_equal(decoded.codes, encoded.codes) and not decoded.lost.any()
    assert decoded.samples.shape == (2, N) and np.isfinite(decoded.samples).all()
    whole = model.audio.decode_windows(encoded.codes, encoded.audio.voice, (0, T), seed=0, progress=lambda share: None)
    with torch.inference_mode():
        assert np.array_equal(np.concatenate(list(whole), 1)[:, :N], decoded.samples)
    scales = np.frombuffer(encoded.audio.voice[0], "<f4")
    assert len(scales) == segments and (scales[-1] > scales[0] or N < 41_000)


@pytest.mark.parametrize(
    ("channels", "mono", "coded"),
    [(1, None, 1), (2, None, 1), (2, True, 1), (2, False, 1), (6, None, 1), (6, False, 3), (5, False, 3)],
)
def test_two_channels_are_coded_as_one(model, channels, mono, coded):
    encoded = encode(noise(5000, channels), model, mono=mono)
    assert len(encoded.codes) == coded == len(encoded.audio.voice) == len(encoded.audio.loudness_db)
    assert len(encoded.notes) == ((channels == 6 and mono is None) or (channels == 2 and mono is True))
    samples = vqcli.decode(encoded, model).samples
    assert samples.shape == (channels, 5000)
    if channels == 6:
        assert (samples == samples[0]).all() == (coded == 1)
        pair = vqcli.decode(encode(noise(5000, 6)[2:4], model), model).samples
        assert coded == 1 or np.abs(samples[2:4] - pair).max() < 1e-5


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 16_000, 44_100])
def test_any_part_decodes_alone(model, rate_hz):
    encoded = encode(noise(4 * rate_hz, rate_hz=rate_hz), model, rate_hz)
    whole = vqcli.decode(encoded, model).samples
    for start_s, end_s in ((0, 0.05), (2.21, 2.3), (3.5, None), (None, 1.0), (3.999, 99)):
        part = vqcli.decode(encoded.data, model, start_s=start_s, end_s=end_s)
        first, last = round((start_s or 0) * rate_hz), min(round((end_s or 99) * rate_hz), 4 * rate_hz)
        assert part.samples.shape == (2, last - first)
        assert np.abs(part.samples - whole[:, first:last]).max() < 1e-4


def test_levels_can_be_dropped(model):
    samples = noise(30_000)
    encoded = encode(samples, model)
    fewer = vqz.drop_levels(vqz.unpack(encoded.data), 2)
    assert encode(samples, model, levels=2).data == vqz.pack(fewer.header, fewer.payloads)
    assert np.array_equal(vqcli.decode(fewer, model).samples, vqcli.decode(encoded, model, levels=2).samples)
    least = encode(samples, model, size_bytes=10)
    assert least.header.levels == 1 and least.header.side_bytes == encoded.header.side_bytes and least.notes


def test_side_information_counts(model):
    encoded = encode(noise(32_000), model, coder="packed")
    header, lengths = encoded.header, tuple(map(len, encoded.payloads))
    facts = said.header_facts(header, len(encoded.data), lengths)
    assert facts["side_bytes"] == 4 * 21 and facts["kbit_per_s_of_side"] == 0.336
    assert facts["kbit_per_s_without_header"] == pytest.approx(8 * sum(lengths) / 2 / 1000)
    bare = header.grid[0] * 4 / 8  # bytes of a level under `packed`
    assert sum(lengths[: header.chunk_count]) == bare + 4 * 21 + header.chunk_count  # and a byte for each chunk


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.fault("19 salvage")
def test_damage_is_silent_and_stays_local(model, level):
    encoded = encode(noise(40_000), model, coder="packed")
    whole, chunks = vqcli.decode(encoded, model).samples, encoded.header.chunk_count
    data = bytearray(encoded.data)
    data[len(data) - sum(map(len, encoded.payloads[level * chunks + 1 :])) + 2] ^= 1  # a scale, or a code
    with pytest.raises(DamagedChunks):
        vqcli.decode(bytes(data), model)
    decoded = vqcli.decode(bytes(data), model, salvage=True)
    begin, end = 10 * HOP, 20 * HOP
    if level == 0:
        assert decoded.lost.sum() == 400 and not decoded.samples[:, begin:end].any()
    else:  # the level before it is whole
        assert decoded.fewer.sum() == 400 and not decoded.lost.any()
        first = vqcli.decode(encoded, model, levels=1).samples
        assert np.abs(decoded.samples - first)[:, begin + 16 : end].max() < 1e-5
    assert np.abs(decoded.samples - whole)[:, :begin].max() < 1e-5
    assert np.abs(decoded.samples - whole)[:, end + 16 :].max() < 1e-5  # after the fade of 1 ms
    part = vqcli.decode(bytes(data), model, start_s=0.1, end_s=0.3)
    assert np.abs(part.samples - whole[:, 1600:4800]).max() < 1e-5


def test_exchange(model, tmp_path):
    encoded = encode(noise(30_000), model)
    file = vqz.unpack(encoded.data)
    codes = exchange.codes_of(model, file)
    for name in ("x.npz", "x.json", "x.safetensors"):
        exchange.write(tmp_path / name, codes, model)
        again = exchange.restored(*exchange.read(tmp_path / name), model)
        assert vqz.pack(*exchange.file_of(model, again)) == encoded.data
    assert load_file(tmp_path / "x.safetensors")["codes"].shape == (3, encoded.header.grid[0])
    with pytest.raises(UsageError, match="more than codes"):
        exchange.restored(codes.codes[0], None, model)
    with pytest.raises(UsageError) as raised:
        exchange.write(tmp_path / "x.ecdc", codes, model)
    assert "encodec-48khz" in raised.value.hint  # which has segments of a second
    for lie in ({"voice": (b"",)}, {"voice": (codes.voice[0][:-4],)}, {"samples": 31_000}):
        with pytest.raises(BadFile):
            exchange.file_of(model, replace(codes, **lie))


def relabelled(encoded, payloads=None, **changes):
    """The same file with another header, or other payloads."""
    return vqz.unpack(vqz.pack(replace(encoded.header, **changes), payloads or encoded.payloads))


def test_a_lying_file_is_a_bad_file(model):
    encoded = encode(noise(9000), model, coder="packed")
    side, coded = vqz.unpack(encoded.data).side(0), vqz.unpack(encoded.data).payload(0, 0)
    T = encoded.header.grid[0]
    rest = encoded.payloads[1:]
    assert len(side) == 24
    lies = [
        relabelled(encoded, size=(9001 + HOP, RATE, 2)),
        relabelled(encoded, size=(9000, RATE, 3), metadata={"loudness_db": "-20.0,-20.0"}),
        relabelled(encoded, metadata=encoded.header.metadata | {"voice": "AAAA"}),
        relabelled(encoded, (coded, *rest), side_bytes=0),
        relabelled(encoded, (vqz.with_side(side[:-4], coded), *rest), side_bytes=20),
        relabelled(encoded, (vqz.with_side(side + bytes(4), coded), *rest), side_bytes=28),
        relabelled(encoded, (vqz.with_side(side[:-4] + b"\xff" * 4, coded), *rest)),
        relabelled(encoded, [*encoded.payloads[:1], b"\x00" * 4, *list(rest), b"", b""], chunk=(T - 10,)),
    ]
    for lie in lies:
        with pytest.raises(BadFile):
            vqcli.decode(lie, model).samples  # noqa: B018
