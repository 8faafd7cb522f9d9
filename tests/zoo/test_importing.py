"""Weights of other people, in every form that they come in, and in some that nobody should load."""

import argparse
import collections
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import vqcli
from vqcli.cli.main import app
from vqcli.errors import ModelError, UsageError
from vqcli.nets.codecs.encodec import Encodec
from vqcli.zoo import checkpoints, importing, loading, store

SMALL = {"net": {"width": 4, "dim": 8}, "codebooks": 4, "K": 16}


class Runs:
    """What a hostile pickle holds: a call when it is loaded."""

    def __init__(self, witness):
        self.witness = str(witness)

    def __reduce__(self):
        return open, (self.witness, "w")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(store, "user_folder", lambda: tmp_path / "home" / "vq" / "models")
    return tmp_path / "home" / "vq" / "models"


def by_transformers_names(net):
    """Tensors of a small EnCodec as transformers would publish them."""
    found = {}
    for name, tensor in net.state_dict().items():
        side, _, rest = name.partition(".")
        if side == "quantizer":
            found |= {f"quantizer.layers.{n}.codebook.embed": book.contiguous() for n, book in enumerate(tensor)}
        else:
            found[f"{side}.layers.{rest}"] = tensor.contiguous()
    return found


@pytest.fixture(scope="module")
def tensors():
    torch.manual_seed(0)
    return by_transformers_names(Encodec(**SMALL))


def source(path):
    return importing.source_of(str(path))


def forms(tensors, folder):
    """The same weights as people publish them."""
    save_file(tensors, folder / "model.safetensors")
    torch.save(tensors, folder / "plain.pth")
    torch.save(tensors, folder / "legacy.th", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": collections.OrderedDict(tensors), "epoch": 3}, folder / "trainer.ckpt")
    torch.save({"state_dict": tensors, "options": argparse.Namespace(rate=1), "x": {1: [2]}}, folder / "objects.ckpt")
    halves = {name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()}
    torch.save({"model": halves, "options": argparse.Namespace(rate=1)}, folder / "parameters.bin")
    return sorted(path for path in folder.iterdir() if path.is_file())


def test_one_digest_for_all_forms(tensors, tmp_path):
    digests = {path.name: importing.import_model(source(path)).digest for path in forms(tensors, tmp_path)}
    assert len(digests) == 6 and len(set(digests.values())) == 1


def test_files_of_one_open_with_the_other(tensors, tmp_path, home):
    files = forms(tensors, tmp_path)
    first, second = (loading.load(importing.import_model(source(path))) for path in files[:2])
    samples = 0.1 * torch.randn(9000).numpy()
    encoded = vqcli.encode(samples, first, rate_hz=24_000)
    encoded.save(tmp_path / "x.vqz")
    (home / first.info.name / store.FILE).unlink()
    found = vqcli.decode(tmp_path / "x.vqz")  # by its digest alone
    assert (found.codes == encoded.codes).all() and found.samples.shape == (1, 9000)
    assert second.info.digest == first.info.digest


def test_what_nets_are_made_of_decides_the_digest(tensors, tmp_path):
    save_file(tensors, tmp_path / "one.safetensors")
    name = "encoder.layers.0.conv.bias"
    save_file(tensors | {name: tensors[name] + 1}, tmp_path / "two.safetensors")
    one, two = (importing.import_model(source(tmp_path / f"{name}.safetensors")) for name in ("one", "two"))
    assert one.digest != two.digest


def test_the_command_and_its_card(tensors, tmp_path):
    folder = tmp_path / "encodec_Small"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "encodec", "sampling_rate": 16000}')
    (folder / "README.md").write_text("---\nlibrary: x\nlicense: cc-by-nc-4.0\n---\n# Small\n")
    run = CliRunner().invoke(app, ["models", "import", str(folder)])
    assert run.exit_code == 0, run.output
    info = store.find("encodec-small")
    assert info.description["arguments"]["rate_hz"] == 16_000
    card = (info.folder / "README.md").read_text()
    for word in ("cc-by-nc-4.0", "Défossez", "model.safetensors", info.digest.hex(), "50 positions a second"):
        assert word in card
    with pytest.raises(UsageError, match="there is a model encodec-small"):
        importing.import_model(source(folder))
    importing.import_model(source(folder), force=True)
    with pytest.raises(UsageError, match="no name of a model"):
        importing.import_model(source(folder), "../up")


def test_a_pickle_that_wants_to_run_does_not(tensors, tmp_path):
    witness = tmp_path / "witness"
    torch.save({"state_dict": tensors, "trap": Runs(witness)}, tmp_path / "trap.ckpt")
    info = importing.import_model(source(tmp_path / "trap.ckpt"))
    assert info.description["family"] == "encodec" and not witness.exists()
    torch.save(Runs(witness), tmp_path / "alone.pth")
    torch.save(
        {"state_dict": tensors, "trap": Runs(witness)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False
    )
    (tmp_path / "bare.bin").write_bytes(pickle.dumps(Runs(witness)))
    for name in ("alone.pth", "old.pth", "bare.bin"):
        with pytest.raises(ModelError):
            checkpoints.read(tmp_path / name)
    assert not witness.exists()


def test_programs_are_refused_by_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:  # as torch.jit writes them
        for name in ("data.pkl", "code/__torch__.py", "constants.pkl", "version"):
            archive.writestr(f"net/{name}", b"")
    with pytest.raises(ModelError, match="TorchScript"):
        checkpoints.read(tmp_path / "net.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pth")
    with pytest.raises(ModelError, match="holds no tensors by name") as raised:
        checkpoints.read(tmp_path / "whole.pth")
    assert "pickled net" in raised.value.hint


def one_line(action):
    with pytest.raises(ModelError) as raised:
        action()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_bad_input_ends_in_one_line(tensors, tmp_path):
    assert "no weights" in one_line(lambda: importing.import_model(source(tmp_path)))
    assert "there is no" in one_line(lambda: importing.import_model(source(tmp_path / "gone")))
    save_file(tensors, tmp_path / "a.safetensors")
    save_file(tensors, tmp_path / "b.safetensors")
    assert "several" in one_line(lambda: importing.import_model(source(tmp_path)))

    half = tmp_path / "half.safetensors"
    half.write_bytes((tmp_path / "a.safetensors").read_bytes()[:5000])
    assert "damaged" in one_line(lambda: checkpoints.read(half))
    torch.save(tensors, tmp_path / "c.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "c.pth").read_bytes()[:5000])
    one_line(lambda: checkpoints.read(tmp_path / "half.pth"))
    (tmp_path / "text.pth").write_text("not a model")
    one_line(lambda: checkpoints.read(tmp_path / "text.pth"))

    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    assert "nothing in vq knows" in one_line(lambda: importing.import_model(source(tmp_path / "other.safetensors")))
    wrong = tensors | {"encoder.layers.0.conv.bias": torch.zeros(5)}
    save_file(wrong, tmp_path / "wrong.safetensors")
    assert "do not fit" in one_line(lambda: importing.import_model(source(tmp_path / "wrong.safetensors")))
    save_file(tensors | {"encoder.layers.0.conv.bias": torch.full((4,), float("nan"))}, tmp_path / "nan.safetensors")
    assert "not finite" in one_line(lambda: importing.import_model(source(tmp_path / "nan.safetensors")))


def test_sizes_are_bounded_by_the_file(tmp_path):
    """A tensor of no stride is as large as it says, in a few bytes."""
    torch.save({"a": torch.zeros(1).expand(10**6)}, tmp_path / "large.pth")
    with pytest.raises(ModelError, match="larger than what it holds"):
        checkpoints.read(tmp_path / "large.pth")


def test_compressed_archives_are_refused(tensors, tmp_path):
    torch.save({"state_dict": tensors, "options": argparse.Namespace()}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as archive,
        zipfile.ZipFile(tmp_path / "deflated.pth", "w", zipfile.ZIP_DEFLATED) as other,
    ):
        for name in archive.namelist():
            other.writestr(name, archive.read(name))
    one_line(lambda: checkpoints.read(tmp_path / "deflated.pth"))


@pytest.fixture
def like_24khz():
    """A net of EnCodec's own strides and codebooks, but narrow."""
    torch.manual_seed(0)
    arguments = {"net": {"width": 4, "dim": 8}, "codebooks": 8}
    return loading.load(
        loading.save(
            store.user_folder() / "encodec-24khz",
            Encodec(**arguments),
            None,
            {"family": "encodec", "arguments": arguments, "modality": "audio"},
        )
    )


def test_files_of_encodec_go_both_ways(like_24khz, tmp_path):
    samples = 0.1 * torch.randn(12_077).numpy()
    encoded = vqcli.encode(samples, like_24khz, rate_hz=24_000)
    encoded.save(tmp_path / "a.vqz")

    def vq(*arguments):
        run = CliRunner().invoke(app, [str(each) for each in arguments])
        assert run.exit_code == 0, run.output

    vq("export", tmp_path / "a.vqz", "-o", tmp_path / "a.ecdc")
    vq("import", tmp_path / "a.ecdc", "-o", tmp_path / "b.vqz")
    assert (vqcli.decode(tmp_path / "b.vqz").codes == encoded.codes).all()
    vq("decode", tmp_path / "a.ecdc", "-o", tmp_path / "a.wav")
    vq("decode", tmp_path / "a.vqz", "-o", tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_what_to_fetch_is_said(tmp_path):
    with pytest.raises(ModelError) as raised:
        store.find("encodec-24khz")
    assert raised.value.hint == "vq models pull encodec-24khz fetches it"
