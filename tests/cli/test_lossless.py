import json
from pathlib import Path

import numpy as np
import pytest

from vqcli.codec import image_file
from vqcli.container import vqz
from vqcli.media import audio, image

SCALAR = ("--model", "scalar", "--device", "cpu", "--lossless")


@pytest.fixture
def encoded(vq, photo):
    assert vq("encode", photo, *SCALAR, "-o", "e.vqz").exit_code == 0
    return Path("e.vqz")


def test_there_and_back(vq, photo, picture):
    result = vq("encode", photo, *SCALAR, "--verify")
    assert result.exit_code == 0, result.stderr
    assert "bpp, quality 1, lossless" in result.stderr and "every pixel is equal" in result.stderr
    photo.unlink()
    decoded = vq("decode", "photo.vqz")
    assert decoded.exit_code == 0 and "50 x 38, lossless" in decoded.stderr
    assert np.array_equal(image.read(photo).pixels, picture(38, 50))


def test_json_says_it(vq, photo):
    (row,) = json.loads(vq("encode", photo, *SCALAR, "--json", "--verify").stdout)
    assert row["lossless"] is True and row["equal"] is True and row["size_bytes"] == Path("photo.vqz").stat().st_size
    (row,) = json.loads(vq("decode", "photo.vqz", "-o", "b.png", "--json").stdout)
    assert row["lossless"] is True
    (row,) = json.loads(vq("encode", photo, *SCALAR[:-1], "-o", "lossy.vqz", "--json").stdout)
    assert row["lossless"] is False


def test_pipes(vq, photo, picture):
    packed = vq("encode", "-", *SCALAR, input=photo.read_bytes())
    assert packed.exit_code == 0 and packed.stdout_bytes.startswith(vqz.MAGIC + b"\2")
    Path("b.png").write_bytes(vq("decode", "-", input=packed.stdout_bytes).stdout_bytes)
    assert np.array_equal(image.read(Path("b.png")).pixels, picture(38, 50))


def test_folders(vq, picture):
    Path("in").mkdir()
    for number in (1, 2):
        image.write(Path(f"in/{number}.png"), picture(20 + number, 30, 2 * number - 1))
    assert vq("encode", "in", "-o", "out", *SCALAR).exit_code == 0
    assert vq("decode", "out", "-o", "back").exit_code == 0
    for number in (1, 2):
        assert np.array_equal(image.read(Path(f"back/{number}.png")).pixels, picture(20 + number, 30, 2 * number - 1))


@pytest.mark.parametrize("options", [("--bpp", "9"), ("--levels", "1")])
def test_options_that_exclude_it(vq, photo, options):
    result = vq("encode", photo, *SCALAR, *options)
    assert result.exit_code != 0 and "without loss" in result.stderr
    assert not Path("photo.vqz").exists()


def test_sound(vq, home):
    audio.write(Path("a.wav"), np.zeros((1, 4000), np.float32), 16_000)
    result = vq("encode", "a.wav", "--lossless", "--device", "cpu")
    assert result.exit_code != 0 and "--lossless is for images, and this is audio" in result.stderr


def test_what_reading_changed_is_not_called_lossless(vq, picture):
    from PIL import Image

    rgba = np.concatenate([picture(20, 20), np.full((20, 20, 1), 100, np.uint8)], axis=2)
    Image.fromarray(rgba).save("alpha.png")
    result = vq("encode", "alpha.png", *SCALAR, "--verify")
    assert "lossless as read (alpha composited over white)" in result.stderr
    assert "every pixel is equal" in result.stderr


def test_formats_that_lose_are_warned_of(vq, encoded):
    assert "jpg does not keep" in vq("decode", encoded, "-o", "a.jpg").stderr
    assert "not keep" not in vq("decode", encoded, "-o", "a.png").stderr
    assert "not keep" not in vq("decode", encoded, "-o", "a.bmp").stderr
    assert "webp does not keep" in vq("decode", encoded, "-o", "-", "--format", "webp").stderr


def test_fewer_levels_say_that_they_are_lossy(vq, photo):
    vq("encode", photo, "--model", "vector", "--device", "cpu", "--lossless")
    assert "this is lossy" in vq("decode", "photo.vqz", "-o", "a.png", "--levels", "1").stderr
    assert "lossy" not in vq("decode", "photo.vqz", "-o", "b.png", "--levels", "3").stderr


def test_salvage(vq, photo, picture, monkeypatch):
    monkeypatch.setattr(image_file, "CHUNK", 24)
    vq("encode", photo, *SCALAR, "-o", "e.vqz")
    data = bytearray(Path("e.vqz").read_bytes())
    data[-1] ^= 1
    Path("e.vqz").write_bytes(data)
    result = vq("decode", "e.vqz", "-o", "a.png")
    assert result.exit_code == 3 and "damaged" in result.stderr and "--salvage" in result.stderr
    result = vq("decode", "e.vqz", "-o", "a.png", "--salvage")
    assert result.exit_code == 0 and "of the image without its lossless residual" in result.stderr
    pixels = image.read(Path("a.png")).pixels
    assert np.array_equal(pixels[:24], picture(38, 50)[:24]) and not np.array_equal(pixels, picture(38, 50))


def test_info(vq, encoded):
    facts = json.loads(vq("info", encoded, "--json").stdout)
    header, lengths = vqz.read_header(encoded)
    assert facts["format_version"] == 2 and facts["lossless"] is True
    assert (facts["codes_bytes"], facts["remainder_bytes"]) == lengths
    assert facts["remainder_coder"] == "predicted"
    assert facts["pixels_crc32"] == f"{header.residual.pixels_crc:08x}"


@pytest.mark.fault("20 verify")
def test_decode_verifies_pixels_where_they_are_exact(vq, encoded, monkeypatch):
    result = vq("decode", encoded, "-o", "b.png", "--verify", "--json")
    assert result.exit_code == 0 and "verified: every pixel is that of the original" in result.stderr
    assert json.loads(result.stdout)[0]["verified"] == "pixels"
    lossy = vq("decode", encoded, "-o", "b.jpg", "--verify", "--json")
    assert "verified: the codes" in lossy.stderr and json.loads(lossy.stdout)[0]["verified"] == "codes"
    write = image.write
    monkeypatch.setattr(image, "write", lambda target, pixels, **how: write(target, pixels ^ 1, **how))
    broken = vq("decode", encoded, "-o", "c.png", "--verify")
    assert broken.exit_code == 6 and "c.png does not hold the pixels" in broken.stderr


@pytest.mark.fault("20 verify")
def test_decode_verifies_codes_alone_of_what_is_lossy(vq, photo):
    made = vq("encode", photo, "--model", "scalar", "--device", "cpu", "--verify")
    assert made.exit_code == 0 and "verified: every code is equal, PSNR" in made.stderr
    result = vq("decode", "photo.vqz", "-o", "b.png", "--verify")
    assert result.exit_code == 0 and "verified: the codes; what they decode to differs" in result.stderr
    assert vq("decode", "photo.vqz", "-o", "-", "--verify").exit_code == 2


@pytest.mark.fault("14 memory and time")
@pytest.mark.parametrize("command", ["decode", "export"])
def test_commands_take_the_callers_limits(vq, encoded, command):
    result = vq(command, encoded, "-o", f"b.{'png' if command == 'decode' else 'npy'}", "--max-pixels", "1000")
    assert result.exit_code == 3 and "50 x 38 pixels are more than the 1,000" in result.stderr
    assert "--max-pixels allows more" in result.stderr
    assert vq("decode", encoded, "-o", "b.png", "--max-pixels", "1900", "--max-seconds", "1").exit_code == 0
