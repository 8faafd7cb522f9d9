import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from vqcli.container import vqz
from vqcli.media import image

SCALAR = ("--model", "scalar", "--device", "cpu")
VECTOR = ("--model", "vector", "--device", "cpu")


def only_line(result, text):
    """The result is one line that starts with `vq: ` and holds `text`, perhaps with one line of hint."""
    lines = result.stderr.strip().splitlines()
    assert lines[0].startswith("vq: ") and text in lines[0], result.stderr
    assert len(lines) <= 2
    assert result.stdout == ""


def test_there_and_back(vq, photo):
    encoded = vq("encode", photo, *SCALAR)
    assert encoded.exit_code == 0, encoded.stderr
    assert "photo.vqz" in encoded.stderr and "bpp" in encoded.stderr and encoded.stdout == ""
    photo.unlink()
    assert vq("decode", "photo.vqz").exit_code == 0
    assert image.read(photo).pixels.shape == (38, 50, 3)


def test_suffix_chooses_the_format(vq, photo):
    vq("encode", photo, *SCALAR)
    for name, magic in (("a.webp", b"RIFF"), ("a.jpg", b"\xff\xd8"), ("a.png", b"\x89PNG")):
        assert vq("decode", "photo.vqz", "-o", name).exit_code == 0
        assert Path(name).read_bytes().startswith(magic)


def test_pipes(vq, photo):
    encoded = vq("encode", "-", *SCALAR, input=photo.read_bytes())
    assert encoded.exit_code == 0 and encoded.stdout_bytes.startswith(vqz.MAGIC)
    decoded = vq("decode", "-", input=encoded.stdout_bytes)
    assert decoded.exit_code == 0 and decoded.stdout_bytes.startswith(b"\x89PNG")


def test_json_holds_what_the_file_costs(vq, photo):
    (row,) = json.loads(vq("encode", photo, *SCALAR, "--quality", "2.5", "--json", "--verify").stdout)
    size = Path("photo.vqz").stat().st_size
    assert row["size_bytes"] == size
    assert row["bits_per_pixel"] == pytest.approx(8 * size / (50 * 38))
    assert row["quality"] == 2.5 and 0 < row["psnr_db"] < 60
    (row,) = json.loads(vq("decode", "photo.vqz", "-o", "b.png", "--json").stdout)
    assert (row["width"], row["height"], row["channels"]) == (50, 38, 3)


def test_bpp_is_kept_when_it_can_be(vq, photo):
    sizes = [json.loads(vq("encode", photo, *SCALAR, "-q", q, "--json", "--force").stdout)[0] for q in ("1", "3")]
    between = (sizes[0]["bits_per_pixel"] + sizes[1]["bits_per_pixel"]) / 2
    (row,) = json.loads(vq("encode", photo, *SCALAR, "--bpp", str(between), "--json", "--force").stdout)
    assert row["bits_per_pixel"] <= between and row["quality"] > 1
    impossible = vq("encode", photo, *SCALAR, "--bpp", "0.001", "--force")
    assert impossible.exit_code == 0 and "cannot go down to 0.001 bpp" in impossible.stderr


def test_bytes_are_kept_when_they_can_be(vq, photo):
    sizes = [json.loads(vq("encode", photo, *SCALAR, "-q", q, "--json", "--force").stdout)[0] for q in ("1", "3")]
    between = (sizes[0]["size_bytes"] + sizes[1]["size_bytes"]) // 2
    (row,) = json.loads(vq("encode", photo, *SCALAR, "--bytes", str(between), "--json", "--force").stdout)
    assert row["size_bytes"] <= between and row["quality"] > 1


def test_folders_keep_their_tree_and_skip_what_exists(vq, photo, picture):
    for name in ("in/a.png", "in/deep/b.jpg"):
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        image.write(Path(name), picture(20, 24))
    Path("in/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    first = vq("encode", "in", "-o", "out", *SCALAR)
    assert first.exit_code == 3
    assert "broken.png" in first.stderr and "1 file could not be encoded" in first.stderr
    assert sorted(path.as_posix() for path in Path("out").rglob("*.vqz")) == ["out/a.vqz", "out/deep/b.vqz"]
    Path("in/broken.png").unlink()
    second = vq("encode", "in", "-o", "out", *SCALAR)
    assert second.exit_code == 0 and "2 files skipped" in second.stderr
    assert vq("decode", "out", "-o", "back").exit_code == 0
    assert Path("back/deep/b.png").exists()


def test_levels_on_either_side(vq, photo):
    assert vq("encode", photo, *VECTOR, "-o", "all.vqz").exit_code == 0
    assert vq("encode", photo, *VECTOR, "-o", "one.vqz", "--levels", "1").exit_code == 0
    assert Path("one.vqz").stat().st_size < Path("all.vqz").stat().st_size
    assert vq("decode", "all.vqz", "-o", "a.png", "--levels", "1").exit_code == 0
    assert vq("decode", "one.vqz", "-o", "b.png").exit_code == 0
    assert np.array_equal(image.read(Path("a.png")).pixels, image.read(Path("b.png")).pixels)
    result = vq("decode", "one.vqz", "-o", "c.png", "--levels", "2")
    assert result.exit_code == 2
    only_line(result, "--levels 2")


def test_notes_about_the_picture_are_told(vq, photo, picture):
    rgba = np.concatenate([picture(20, 20), np.full((20, 20, 1), 100, np.uint8)], axis=2)
    from PIL import Image

    Image.fromarray(rgba).save("alpha.png")
    assert "alpha" in vq("encode", "alpha.png", *SCALAR).stderr


def test_nothing_is_replaced_unasked(vq, photo):
    Path("photo.vqz").write_text("precious")
    result = vq("encode", photo, *SCALAR)
    assert result.exit_code == 2
    only_line(result, "photo.vqz exists")
    assert Path("photo.vqz").read_text() == "precious"
    assert vq("encode", photo, *SCALAR, "--force").exit_code == 0


def test_decode_beside_the_original_takes_another_name(vq, photo):
    before = photo.read_bytes()
    assert vq("encode", photo, *SCALAR).exit_code == 0
    result = vq("decode", "photo.vqz")
    assert result.exit_code == 0
    said = "photo.vqz -> photo.decoded.png 50 x 38 (photo.png exists; --force replaces it)"
    assert result.stderr.splitlines() == [said]
    assert photo.read_bytes() == before and image.read(Path("photo.decoded.png")).pixels.shape == (38, 50, 3)
    decoded = Path("photo.decoded.png").read_bytes()
    only_line(vq("decode", "photo.vqz"), "photo.png exists")  # both names are taken
    assert photo.read_bytes() == before and Path("photo.decoded.png").read_bytes() == decoded
    only_line(vq("decode", "photo.vqz", "-o", photo), "photo.png exists")  # what is named is meant
    assert photo.read_bytes() == before
    assert vq("decode", "photo.vqz", "--force").exit_code == 0 and photo.read_bytes() == decoded


def test_decode_of_several_beside_their_originals(vq, photo):
    for name in ("photo.vqz", "photo.decoded.vqz", "other.vqz"):
        assert vq("encode", photo, *SCALAR, "-o", name).exit_code == 0
    rows = json.loads(vq("decode", "photo.vqz", "other.vqz", "--json").stdout)
    assert [row["target"] for row in rows] == ["photo.decoded.png", "other.png"]
    Path("photo.decoded.png").unlink()
    clash = vq("decode", "photo.decoded.vqz", "photo.vqz")  # that name is another's
    assert clash.exit_code == 3
    assert "photo.png exists" in clash.stderr and "1 file could not be decoded" in clash.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "empty"), (b"hello there, this is text", "text"), (b"\x89VQZ\r\n\x01", ".vqz file"), (None, "No such file")],
)
def test_what_is_no_picture(vq, home, content, says):
    if content is not None:
        Path("x.png").write_bytes(content)
    result = vq("encode", "x.png", *SCALAR)
    assert result.exit_code == 3
    only_line(result, says)
    assert not Path("x.vqz").exists()


@pytest.fixture
def encoded(vq, photo):
    assert vq("encode", photo, *SCALAR, "-o", "e.vqz").exit_code == 0
    return Path("e.vqz")


def test_a_picture_is_no_vqz(vq, photo):
    result = vq("decode", photo)
    assert result.exit_code == 3
    only_line(result, "PNG")


def test_a_newer_version(vq, encoded):
    data = bytearray(encoded.read_bytes())
    data[6] = vqz.VERSION + 1
    encoded.write_bytes(data)
    result = vq("decode", encoded)
    assert result.exit_code == 3
    only_line(result, "newer vq")


def test_a_truncated_file(vq, encoded):
    encoded.write_bytes(encoded.read_bytes()[:-3])
    result = vq("decode", encoded)
    assert result.exit_code == 3
    only_line(result, "truncated")
    assert not Path("e.png").exists()


def test_salvage(vq, encoded):
    data = bytearray(encoded.read_bytes())
    data[-1] ^= 1
    encoded.write_bytes(data)
    assert "--salvage" in vq("decode", encoded).stderr
    result = vq("decode", encoded, "--salvage")
    assert result.exit_code == 0 and "100.0% of the image is lost" in result.stderr
    assert (image.read(Path("e.png")).pixels == 128).all()


def test_a_missing_model(vq, encoded, monkeypatch, tmp_path):
    monkeypatch.setenv("VQ_MODELS", str(tmp_path / "nowhere"))
    result = vq("decode", encoded)
    assert result.exit_code == 4
    only_line(result, "needs model scalar")
    assert "nowhere" in result.stderr


def test_another_digest(vq, encoded, make_model, monkeypatch, tmp_path):
    make_model("scalar", tmp_path / "others", widths=[8, 8], dim=3, quantizer={"kind": "scalar", "limits": 4})
    monkeypatch.setenv("VQ_MODELS", str(tmp_path / "others"))
    result = vq("decode", encoded)
    assert result.exit_code == 4
    only_line(result, "made with model scalar")


def test_an_unknown_model(vq, photo):
    result = vq("encode", photo, "--model", "scalr")
    assert result.exit_code == 4
    only_line(result, "no model scalr")
    assert "did you mean scalar" in result.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--quality", "9", *SCALAR), "quality 9"),
        (("--quality", "2", "--bpp", "1", *SCALAR), "exclude"),
        (("--quality", "2", *VECTOR), "one quality"),
        (("--bpp", "2", *VECTOR), "one rate"),
        (("--bpp", "2", "--bytes", "99", *SCALAR), "exclude"),
        (("--levels", "9", *VECTOR), "--levels 9"),
        (("--coder", "zip", *SCALAR), "no coder zip"),
        (("--background", "blurple", *SCALAR), "blurple"),
        (("--json", "-o", "-", *SCALAR), "stream"),
    ],
)
def test_options_that_make_no_sense(vq, photo, options, says):
    result = vq("encode", photo, *options)
    assert result.exit_code == 2
    only_line(result, says)
    assert not Path("photo.vqz").exists()


def test_a_folder_that_is_not_there(vq, photo):
    result = vq("encode", photo, "-o", "nowhere/x.vqz", *SCALAR)
    assert result.exit_code == 6
    only_line(result, "cannot write")


def test_a_full_disk_leaves_nothing(vq, photo, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = vq("encode", photo, *SCALAR)
    assert result.exit_code == 6
    only_line(result, "No space left")
    assert [path.name for path in Path().iterdir()] == ["photo.png"]


def test_interrupting(vq, photo, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("vqcli.api.encode", interrupted)
    result = vq("encode", photo, *SCALAR)
    assert result.exit_code == 130 and "interrupted" in result.stderr


def test_traceback_on_request(vq, home, monkeypatch):
    monkeypatch.setenv("VQ_TRACEBACK", "1")
    assert vq("encode", "none.png", *SCALAR).exception is not None
