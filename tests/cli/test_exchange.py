"""vq export and vq import: the same file comes back, and other tools read what is between."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

import vqcli
from vqcli.cli.main import app
from vqcli.container import vqz

FORMATS = ("npz", "safetensors", "json")


def vq(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An image by tokens, one by photo, and a sentence of two channels."""
    folder = tmp_path_factory.mktemp("codes")
    pixels = np.random.default_rng(0).integers(0, 256, (48, 70, 3)).astype(np.uint8)
    samples = 0.05 * np.random.default_rng(0).standard_normal((2, 9000)).astype(np.float32)
    vqcli.encode(pixels, "tokens", metadata={}).save(folder / "tokens.vqz")
    vqcli.encode(pixels, "photo", quality=3).save(folder / "photo.vqz")
    vqcli.encode(samples, "speech", rate_hz=16_000, mono=False).save(folder / "talk.vqz")
    return folder


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", ["tokens", "photo", "talk"])
@pytest.mark.parametrize("format", FORMATS)
def test_the_same_file_comes_back(files, tmp_path, format, name, flat):
    there, back = tmp_path / f"x.{format}", tmp_path / f"{name}.vqz"
    run = vq("export", files / f"{name}.vqz", "-o", there, "--format", format, *["--flatten"] * flat)
    assert run.exit_code == 0, run.output
    assert vq("import", there, "-o", back).exit_code == 0
    assert back.read_bytes() == (files / f"{name}.vqz").read_bytes()


def test_what_other_tools_see(files, tmp_path):
    assert vq("export", files, "-o", tmp_path).exit_code == 0
    header = vqz.read_header(files / "talk.vqz")[0]
    talk, tokens = (np.load(tmp_path / f"{name}.npy") for name in ("talk", "tokens"))
    assert talk.dtype == np.uint16 and talk.shape == (header.groups, *header.grid)
    assert tokens.shape == (1, 12, 18) and np.array_equal(tokens, vqcli.decode(files / "tokens.vqz").image.codes)
    vq("export", files / "talk.vqz", "-o", tmp_path / "flat.safetensors", "--format", "safetensors", "--flatten")
    row = load_file(tmp_path / "flat.safetensors")["codes"]
    assert row.ndim == 1 and row.dtype == np.int32 and row.size == talk.size
    assert row[0] == talk[0, 0] and row[talk.shape[0]] == talk[0, 1]


def test_codes_that_something_else_has_made(files, tmp_path):
    """A language model writes codes alone: they become a file that decodes."""
    np.save(tmp_path / "made.npy", np.arange(12 * 18).reshape(1, 12, 18))
    run = vq("import", tmp_path / "made.npy", "--model", "tokens", "-o", tmp_path / "made.vqz")
    assert run.exit_code == 0, run.output
    decoded = vqcli.decode(tmp_path / "made.vqz")
    assert decoded.pixels.shape == (48, 72, 3) and decoded.image.codes[0, 11, 17] == 215
    assert "does not say" in vq("import", tmp_path / "made.npy").output


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((1, 2, 2), 600), "not within the codebooks"),
        (np.full((1, 2, 2), -1), "not within the codebooks"),
        (np.zeros((3, 2, 2), int), "not whole levels"),
        (np.zeros((1, 2, 2)), "holds no codes"),
        (np.zeros((1, 4), int), "do not make a file"),
        (np.array({"a": 1}, object), "holds no codes"),
    ],
)
def test_arrays_that_are_no_codes(tmp_path, array, words):
    np.save(tmp_path / "bad.npy", array, allow_pickle=True)
    run = vq("import", tmp_path / "bad.npy", "--model", "tokens")
    assert run.exit_code in (2, 3) and words in run.output


@pytest.mark.parametrize(
    "change", [{"digest": "zz"}, {"digest": "00" * 8}, {"size": [1]}, {"kind": "smell"}, {"quality": "x"}]
)
def test_facts_that_are_not_sound(files, tmp_path, change):
    assert vq("export", files / "tokens.vqz", "-o", tmp_path / "x.json", "--format", "json").exit_code == 0
    content = json.loads((tmp_path / "x.json").read_text())
    content["vq"] |= change
    (tmp_path / "x.json").write_text(json.dumps(content))
    run = vq("import", tmp_path / "x.json", "-o", tmp_path / "x.vqz")
    assert run.exit_code in (3, 4) and not (tmp_path / "x.vqz").exists()


def test_suffixes_and_existing_files(files, tmp_path):
    assert "npy npz" in vq("export", files / "tokens.vqz", "-o", tmp_path / "x.csv").output
    (tmp_path / "x.npy").write_text("mine")
    run = vq("export", files / "tokens.vqz", "-o", tmp_path / "x.npy")
    assert run.exit_code == 2 and (tmp_path / "x.npy").read_text() == "mine"
