"""Files of descript-audio-codec: what numpy has pickled is read, and nothing of it is run."""

import io
import os
import pickle

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import vqcli
from vqcli.cli.main import app
from vqcli.codec import dac, exchange, windows
from vqcli.container import vqz
from vqcli.errors import BadFile, UsageError
from vqcli.zoo import loading, registry

# as its `DACFile.save` writes them: numpy 2 has pickled [2, 3, 8] codes in windows of 4, protocol 4
FILE = bytes.fromhex(
    "934e554d5059010076007b276465736372273a20277c4f272c2027666f727472616e5f6f72646572273a2046616c73652c20277368617065"
    "273a2028292c207d202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020"
    "2020202020202020202020202020200a800495fb010000000000008c166e756d70792e5f636f72652e6d756c74696172726179948c0c5f72"
    "65636f6e7374727563749493948c056e756d7079948c076e6461727261799493944b0085944301629487945294284b012968038c05647479"
    "70659493948c024f3894898887945294284b038c017c944e4e4e4affffffff4affffffff4b3f749462895d947d94288c05636f6465739468"
    "0268054b008594680787945294284b014b024b034b088794680b8c02753294898887945294284b038c013c944e4e4e4affffffff4affffff"
    "ff4b00749462894360000007000e0015001c0023002a00310038003f0006000d0014001b0022002900300037003e0005000c0013001a0021"
    "0028002f0036003d0004000b0012001900200027002e0035003c0003000a00110018001f0026002d0034003b0002000900947494628c086d"
    "65746164617461947d94288c08696e7075745f646294680268054b008594680787945294284b014b018594680b8c02663494898887945294"
    "284b03681b4e4e4e4affffffff4affffffff4b007494628943040000bcc1947494628c0f6f726967696e616c5f6c656e677468944de8038c"
    "0b73616d706c655f72617465944db80b8c0c6368756e6b5f6c656e677468944b048c086368616e6e656c73944b028c0770616464696e6794"
    "898c0b6461635f76657273696f6e948c05312e302e30947575617494622e"
)
CODES = (np.arange(2 * 3 * 8).reshape(2, 3, 8) * 7 % 64).astype(np.uint16)
HOP, RATE_HZ = 8, 4000


def packed(content, protocol=4, dtype=object):
    """As numpy would write it."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    pickle.dump(np.array(content, dtype), stream, protocol=protocol)
    return stream.getvalue()


def content(codes=CODES, **changed):
    metadata = {
        "input_db": np.array([-23.5], np.float32), "original_length": 1000, "sample_rate": RATE_HZ, "chunk_length": 4,
        "channels": len(codes), "padding": False, "dac_version": "1.0.0",
    }  # fmt: skip
    return {"codes": codes, "metadata": metadata | changed}


def test_codes_are_those_of_numpy():
    file = dac.read(FILE)
    assert np.array_equal(file.codes, CODES) and file.codes.dtype == np.uint16
    assert (file.samples, file.rate_hz, file.window, file.input_db) == (1000, 3000, 4, (-23.5, -23.5))


@pytest.mark.parametrize("protocol", [3, 4])  # of older and newer numpy
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda codes: codes.astype(">u2")])
def test_every_protocol_and_layout(protocol, layout):
    assert np.array_equal(dac.read(packed(content(layout(CODES)), protocol)).codes, CODES)


@pytest.mark.parametrize("window", [0, 4])
def test_it_writes_what_it_reads_and_numpy_too(window):
    file = dac.DacFile(CODES, 1000, 3000, window, (-20.0, -30.5))
    assert np.array_equal(dac.read(dac.write(file)).codes, CODES)
    found = np.load(io.BytesIO(dac.write(file)), allow_pickle=True)[()]
    assert np.array_equal(found["codes"], CODES) and found["codes"].dtype == np.uint16
    metadata = found["metadata"]
    assert metadata.pop("input_db").tolist() == [-20.0, -30.5]
    assert metadata == {
        "original_length": 1000, "sample_rate": 3000, "chunk_length": window or 8, "channels": 2,
        "padding": not window, "dac_version": "1.0.0",
    }  # fmt: skip
    with pytest.raises(UsageError, match="do not fit"):
        dac.write(dac.DacFile(np.full((1, 1, 2), 65_536), 1, 3000, 0, (0.0,)))


class Runs:
    """What a hostile pickle holds: a call when it is loaded."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def test_a_pickle_that_wants_to_run_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trap = Runs(os.mkdir, (str(tmp_path / "witness"),))
    for hostile in (trap, content() | {"codes": trap}, content(input_db=trap), {trap: 1}):
        for protocol in (2, 4):
            (tmp_path / "x.dac").write_bytes(packed(hostile, protocol))
            for command in (("decode", "x.dac", "--model", "speech"), ("import", "x.dac", "--model", "speech")):
                run = CliRunner().invoke(app, command)
                assert run.exit_code == 3 and "damaged, or wants to run something" in run.stderr
                assert len(run.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "witness").exists()


HUGE = (2**62).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no .dac"),
        (FILE[:9], "no .dac"),
        (FILE[:60], "no .dac"),
        (b"\x93NUMPY\x01\x00\xff\xff" + FILE[10:], "no .dac"),
        (FILE[:-40], "damaged"),
        (FILE[:128] + b"\x80\x04\x8e" + HUGE, "damaged"),  # bytes of more than there are
        (FILE[:128] + b"\x80\x04\x96" + HUGE, "damaged"),
        (FILE[:128] + b"\x80\x04\x95" + HUGE, "damaged"),
        (FILE[:128] + b"\x80\x04Nr\xff\xff\xff\xff.", "no codes"),  # a place in the memo far beyond
        (FILE[:128] + b"(" * 10**5 + b".", "no codes"),
        (FILE[:128] + b"]" * 10**4 + b"a" * (10**4 - 1) + b".", "damaged"),  # a list in a list in a list
        (packed([1, 2]), "neither u2 nor f4"),
        (packed(content(CODES.astype(np.int64))), "neither u2 nor f4"),
        (packed(content(CODES.astype(object))), "neither u2 nor f4"),
        (packed(content(np.zeros((2, 3), np.uint16))), "no codes"),
        (packed(content(CODES[:, :, :0])), "not those of"),
        (packed(content(np.zeros((1, 99, 4), np.uint16))), "not those of"),
        (packed(content(dac_version="2.0")), "version '2.0'"),
        (packed(content(channels=3)), "not those of 3"),
        (packed(content(channels=True)), "channels"),
        (packed(content(sample_rate=0)), "sample_rate"),
        (packed(content(original_length=10**12)), "original_length"),
        (packed(content(original_length="1")), "original_length"),
        (packed(content(chunk_length=3)), "no windows of 3"),
        (packed(content(padding=True)), "no windows of 4"),
        (packed(content(padding=1)), "damaged"),
        (packed(content(input_db=-20.0)), "damaged"),
        (packed(content(input_db=np.zeros(3, np.float32))), "damaged"),
        (packed(content(input_db=np.array([np.nan], np.float32))), "loudness"),
    ],
)
def test_what_it_refuses(data, words):
    with pytest.raises(BadFile, match=words) as raised:
        dac.read(data)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


def test_any_change_is_refused_or_harmless():
    for at in range(0, len(FILE), 3):
        for bit in (0, 5):
            data = bytearray(FILE)
            data[at] ^= 1 << bit
            try:
                file = dac.read(bytes(data))
            except BadFile:
                continue
            assert file.codes.size == CODES.size


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A narrow DAC of random weights, called `small-dac`."""
    arguments = {"width": 4, "decoder_width": 16, "strides": (2, 4), "rate_hz": RATE_HZ, "codebooks": 3, "K": 64}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build("dac", arguments)
    description = {"family": "dac", "arguments": arguments, "modality": "audio"}
    return loading.load(loading.save(tmp_path_factory.mktemp("models") / "small-dac", net, None, description), "cpu")


@pytest.fixture
def vq(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VQ_MODELS", str(model.info.folder.parent))
    return lambda *arguments: CliRunner().invoke(app, [str(each) for each in arguments])


def made(codes, **changed):
    return packed(content(codes, **changed))


def test_windows_decode_alone_at_the_loudness_that_the_file_says(vq, tmp_path, model):
    """Each to what the net makes of it without padding; the loudness of both channels is that of the file."""
    codes = np.random.default_rng(0).integers(0, 64, (2, 3, 600)).astype(np.uint16)
    net = model.net
    each = net.samples_of(200, alone=True)
    (tmp_path / "talk.dac").write_bytes(made(codes, chunk_length=200, original_length=2 * each + 70))
    assert vq("import", "talk.dac", "--model", "small-dac").exit_code == 0
    samples = vqcli.decode("talk.vqz").samples
    assert samples.shape == (2, 2 * each + 70)
    with torch.inference_mode():
        alone = net.decode_alone(torch.from_numpy(codes[:, :, 200:400].astype(np.int64)))[:, 0].numpy()
    assert alone.shape == (2, each) and each != 200 * HOP
    gain = np.linalg.norm(samples[:, each : 2 * each], axis=1) / np.linalg.norm(alone, axis=1)
    assert np.allclose(samples[:, each : 2 * each], alone * gain[:, None], atol=1e-6)
    decoded = vqcli.decode("talk.vqz")
    assert np.allclose(windows.loudness_db(model, decoded.audio), -23.5, atol=1e-3)
    part = vqcli.decode("talk.vqz", start_s=0.3, end_s=0.5).samples
    assert np.allclose(part, samples[:, round(0.3 * RATE_HZ) : round(0.5 * RATE_HZ)], atol=1e-6)
    assert vq("decode", "talk.dac", "--model", "small-dac", "-o", "talk.wav").exit_code == 0
    assert vq("decode", "talk.vqz", "-o", "same.wav").exit_code == 0
    assert (tmp_path / "talk.wav").read_bytes() == (tmp_path / "same.wav").read_bytes()


@pytest.mark.parametrize(("window", "samples"), [(0, 4795), (200, 3900)])
def test_codes_go_there_and_back(vq, tmp_path, window, samples):
    codes = np.random.default_rng(0).integers(0, 64, (1, 3, 600)).astype(np.uint16)
    fields = {"chunk_length": window or 600, "padding": not window, "original_length": samples}
    (tmp_path / "talk.dac").write_bytes(made(codes, **fields))
    assert vq("import", "talk.dac", "--model", "small-dac").exit_code == 0
    run = vq("export", "talk.vqz", "-o", "back.dac", "--format", "dac")
    assert run.exit_code == 0, run.stderr
    here, there = (dac.read((tmp_path / name).read_bytes()) for name in ("talk.dac", "back.dac"))
    assert np.array_equal(here.codes, there.codes) and np.allclose(here.input_db, there.input_db, atol=1e-3)
    assert (here.samples, here.rate_hz, here.window) == (there.samples, there.rate_hz, there.window)
    assert vq("export", "talk.vqz", "-o", "talk.npz").exit_code == 0
    assert vq("import", "talk.npz", "-o", "back.vqz").exit_code == 0
    assert (tmp_path / "back.vqz").read_bytes() == (tmp_path / "talk.vqz").read_bytes()
    assert vq("encode", "talk.vqz", "--levels", 2, "-o", "less.vqz").exit_code == 0
    less, whole = vqcli.decode("less.vqz").samples, vqcli.decode("talk.vqz", levels=2).samples
    assert np.array_equal(less, whole)


def test_what_the_command_line_says(vq, tmp_path):
    (tmp_path / "talk.dac").write_bytes(made(CODES, original_length=10))
    for command in ("decode", "import"):
        run = vq(command, "talk.dac")
        assert run.exit_code == 2 and "does not say" in run.stderr and "--model NAME" in run.stderr
    run = vq("decode", "talk.dac", "--model", "small-dac")
    assert run.exit_code == 3 and "windows of 4 positions" in run.stderr
    (tmp_path / "talk.dac").write_bytes(made(CODES[:, :2] + 64, padding=True, chunk_length=8))
    assert "not within the codebooks" in vq("decode", "talk.dac", "--model", "small-dac").stderr


@pytest.mark.parametrize(
    "metadata",
    [
        {"decoder_window": "x"}, {"decoder_window": "7"}, {"decoder_window": "-1"}, {"decoder_window": "600000000"},
        {"decoder_gain_db": "1"}, {"decoder_gain_db": "1.00000,1.00000"}, {"decoder_gain_db": "nan"},
    ],
)  # fmt: skip
def test_headers_that_cannot_be(model, metadata):
    codes = np.zeros((1, 3, 600), np.uint16)
    array, facts = codes[0], exchange.AudioFacts(
        model="small-dac", digest="", shape=(3, 600), codebook_sizes=(), positions_per_s=0, rate_hz=RATE_HZ,
        samples=600 * HOP, channels=1, loudness_db=(0.0,), voice=(b"",),
    )  # fmt: skip
    header, payloads = exchange.file_of(model, exchange.restored(array, facts, model), "packed")
    changed = vqz.Header(**{name: getattr(header, name) for name in header.__dataclass_fields__} | {
        "metadata": header.metadata | metadata
    })  # fmt: skip
    with pytest.raises(BadFile):
        vqcli.decode(vqz.pack(changed, payloads), model)
