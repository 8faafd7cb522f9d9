import io
import struct
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from vqcli.errors import BadFile, OutputError, UsageError, VqError
from vqcli.files import streams
from vqcli.media import image

RAMP = (np.arange(24 * 40 * 3) % 256).astype(np.uint8).reshape(24, 40, 3)


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([4 * rows, 3 * columns, 2 * (rows + columns)], axis=-1).astype(np.uint8)


def saved(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)
    return path


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes) -> bytes:
    """A PNG from raw rows, also of kinds that Pillow does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_round_trip(tmp_path, suffix, channels):
    path = tmp_path / f"x{suffix}"
    image.write(path, RAMP[..., :channels])
    picture = image.read(path)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.writeable
    assert np.array_equal(picture.pixels, RAMP[..., :channels])
    assert picture.notes == ()


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp", ".avif"])
def test_lossy_round_trip_is_near_and_quality_counts(tmp_path, suffix):
    pixels = smooth()
    image.write(tmp_path / f"fine{suffix}", pixels)
    image.write(tmp_path / f"coarse{suffix}", pixels, quality=10)
    error = image.read(tmp_path / f"fine{suffix}").pixels.astype(int) - pixels
    assert np.abs(error).mean() < 3
    assert (tmp_path / f"coarse{suffix}").stat().st_size < (tmp_path / f"fine{suffix}").stat().st_size


def test_streams_need_no_seeking():
    class Pipe(io.BytesIO):
        def seek(self, *_: object) -> int:
            raise io.UnsupportedOperation("seek")

    stream = io.BytesIO()
    image.write(stream, RAMP, format="png")
    assert np.array_equal(image.read(Pipe(stream.getvalue())).pixels, RAMP)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_exif_orientation(tmp_path, orientation, suffix):
    turns = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: x.transpose(1, 0, 2)[:, ::-1],
        7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
        8: lambda x: x.transpose(1, 0, 2)[::-1],
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"x.{suffix}", Image.fromarray(RAMP), exif=exif, **options)
    assert np.array_equal(image.read(path).pixels, turns[orientation](RAMP))


def test_icc_profile_is_applied_unless_it_is_srgb(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert image.read(saved(tmp_path / "srgb.png", Image.fromarray(RAMP), icc_profile=srgb)).notes == ()
    # the same profile with the columns of red and green exchanged
    swapped = srgb.replace(b"rXYZ", b"tmp!", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"tmp!", b"gXYZ", 1)
    picture = image.read(saved(tmp_path / "swapped.png", Image.fromarray(RAMP), icc_profile=swapped))
    assert np.abs(picture.pixels.astype(int) - RAMP[..., [1, 0, 2]]).max() <= 3
    assert len(picture.notes) == 1
    assert picture.notes[0].startswith("ICC profile sRGB") and picture.notes[0].endswith("converted to sRGB")


def test_grey_stays_grey_under_an_rgb_profile(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = image.read(saved(tmp_path / "x.png", Image.fromarray(RAMP[..., 0]), icc_profile=srgb))
    assert np.array_equal(picture.pixels, RAMP[..., :1])


@pytest.mark.parametrize("profile", [b"not a profile", b"\0" * 200])
def test_bad_icc_profile_is_ignored(tmp_path, profile):
    picture = image.read(saved(tmp_path / "x.png", Image.fromarray(RAMP), icc_profile=profile))
    assert np.array_equal(picture.pixels, RAMP)
    assert picture.notes == ("unusable ICC profile ignored",)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_other_colour_spaces(tmp_path, mode):
    rgb = Image.new("RGB", (8, 8), (200, 100, 50))
    if mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        other = ImageCms.profileToProfile(rgb, ImageCms.createProfile("sRGB"), lab, outputMode="LAB")
        del other.info["icc_profile"]
    else:
        other = rgb.convert(mode)
    suffix = "jpg" if mode == "CMYK" else "tif"
    picture = image.read(saved(tmp_path / f"x.{suffix}", other))
    assert np.abs(picture.pixels.astype(int) - [200, 100, 50]).max() <= 6
    assert picture.notes == (f"{mode} converted",)


def test_16_bit_grey_is_rounded_not_cut(tmp_path):
    values = np.array([[0, 128, 129, 257, 32896, 65406, 65407, 65535]], np.uint16)
    picture = image.read(saved(tmp_path / "x.png", Image.fromarray(values)))
    assert picture.pixels[0, :, 0].tolist() == [0, 0, 1, 1, 128, 254, 255, 255]
    assert picture.notes == ("16 bits reduced to 8",)


def test_16_bit_rgb(tmp_path):
    (tmp_path / "x.png").write_bytes(png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 0, 32896, 65535)))
    picture = image.read(tmp_path / "x.png")
    assert picture.pixels.tolist() == [[[0, 128, 255]]]
    assert picture.notes == ("16 bits reduced to 8",)


@pytest.mark.parametrize(
    ("values", "expected", "note"),
    [
        ([0, 0.5, 1], [0, 128, 255], "floating point reduced to 8 bits, 1 as white"),
        ([0, 100, 255], [0, 100, 255], "floating point reduced to 8 bits, 255 as white"),
        ([-1, 0, 1], [0, 128, 255], "values from -1 to 1 stretched to 0 to 255"),
        ([np.nan, 0.2, 1], [0, 51, 255], "floating point reduced to 8 bits, 1 as white"),
    ],
)
def test_floating_point(tmp_path, values, expected, note):
    picture = image.read(saved(tmp_path / "x.tif", Image.fromarray(np.array([values], np.float32))))
    assert picture.pixels[0, :, 0].tolist() == expected
    assert picture.notes == (note,)


def test_one_bit(tmp_path):
    picture = image.read(saved(tmp_path / "x.png", Image.new("1", (3, 2), 1)))
    assert picture.pixels.tolist() == [[[255]] * 3] * 2


def test_palette_with_transparency(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    for suffix in ("gif", "png"):
        path = saved(tmp_path / f"x.{suffix}", palette, transparency=1)
        picture = image.read(path, background="#00ff00")
        assert picture.pixels.tolist() == [[[255, 0, 0], [0, 255, 0]]]
        assert picture.notes == ("alpha composited over #00ff00",)
    opaque = image.read(saved(tmp_path / "opaque.png", palette))
    assert opaque.pixels.tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert opaque.notes == ()


def test_grey_alpha_stays_grey_over_grey(tmp_path):
    path = saved(tmp_path / "x.png", Image.merge("LA", [Image.new("L", (1, 1), v) for v in (100, 51)]))
    assert image.read(path).pixels.tolist() == [[[224]]]  # (100 * 51 + 255 * 204) / 255
    assert image.read(path, background="black").pixels.tolist() == [[[20]]]
    assert image.read(path, background="red").pixels.tolist() == [[[224, 20, 20]]]


def test_opaque_alpha_is_no_news(tmp_path):
    picture = image.read(saved(tmp_path / "x.png", Image.fromarray(RAMP).convert("RGBA")))
    assert np.array_equal(picture.pixels, RAMP)
    assert picture.notes == ()


def test_transparent_grey_level(tmp_path):
    grey = Image.fromarray(np.array([[10, 20]], np.uint8))
    assert image.read(saved(tmp_path / "x.png", grey, transparency=20)).pixels.tolist() == [[[10], [255]]]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif", "avif"])
def test_first_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    picture = image.read(saved(tmp_path / f"x.{suffix}", frames[0], save_all=True, append_images=frames[1:]))
    assert np.abs(picture.pixels.astype(int) - [255, 0, 0]).max() <= 3
    assert picture.notes == ("first of 3 frames",)


# ---------------------------------------------------------------- what is not


def test_unknown_background():
    with pytest.raises(UsageError, match="unknown background colour: no such colour"):
        image.read(Path("x.png"), background="no such colour")


def refused(source: Path | io.BytesIO, **options: int) -> BadFile:
    with pytest.raises(BadFile) as caught:
        image.read(source, **options)
    message = str(caught.value)
    assert message.startswith(str(source) if isinstance(source, Path) else "the input")
    assert "\n" not in message
    return caught.value


def test_no_file(tmp_path):
    assert "No such file" in str(refused(tmp_path / "missing.png"))
    assert "Is a directory" in str(refused(tmp_path)) or sys.platform == "win32"
    assert "cannot be read" in str(refused(Path("nul\0byte.png")))


def test_no_permission(tmp_path, monkeypatch):
    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)  # chmod does not keep root out
    assert str(refused(tmp_path / "x.png")).endswith("cannot be read: Permission denied")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "an empty file"),
        (b"Dear diary,\n", "text"),
        (b"\x89VQZ\r\n\x1a\n" + bytes(40), "a .vqz file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "text"),  # never to Ghostscript
        (b"%PDF-1.7\n\xe2", "a PDF"),
        (b"\0\0\0\x18ftypisom\0\0", "a video"),
        (bytes(range(200, 256)), "of no known kind"),
    ],
)
def test_no_picture(tmp_path, data, said):
    (tmp_path / "x.png").write_bytes(data)
    assert f"x.png is {said}, not an image" in str(refused(tmp_path / "x.png"))
    refused(io.BytesIO(data))


@pytest.mark.fault("19 kinds of files")
def test_images_that_are_not_read_are_called_what_they_are():
    for magic, kind in ((b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"), (b"\xff\x0a\xfa", "JPEG XL")):
        error = refused(io.BytesIO(magic + bytes(100)))
        assert f"is a {kind} image, which vq does not read" in str(error) and error.hint == "save it as PNG"
    assert "is audio, not an image" in str(refused(io.BytesIO(b"\0\0\0\x20ftypM4A ")))


def test_vqz_hint():
    assert refused(io.BytesIO(b"\x89VQZ\r\n\x1a\n")).hint == "vq decode reads it, --levels drops levels"


def test_heic_without_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    error = refused(io.BytesIO(b"\0\0\0\x18ftypheic" + bytes(100)))
    assert error.hint == "pip install 'vqcli[heic]'"


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif", "tif", "bmp", "gif", "ppm"])
def test_truncated_files(tmp_path, suffix, capfd):
    whole = saved(tmp_path / f"x.{suffix}", Image.fromarray(smooth())).read_bytes()
    for keep in (8, 20, 40, len(whole) // 2, len(whole) * 3 // 4):
        (tmp_path / "cut").write_bytes(whole[:keep])
        refused(tmp_path / "cut")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif", "tif", "bmp", "gif", "ppm"])
def test_damaged_files_end_in_a_picture_or_an_error_of_vq(tmp_path, suffix, capfd):
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if suffix in ("bmp", "ppm", "gif") else {"exif": exif}
    whole = saved(tmp_path / f"x.{suffix}", Image.fromarray(smooth(16, 16)), **options).read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(whole)
        for at in generator.integers(2, len(damaged), 4):
            damaged[at] = generator.integers(256)
        try:
            image.read(io.BytesIO(damaged), max_pixels=2**20)
        except VqError:
            pass


def test_zero_size():
    assert "damaged" in str(refused(io.BytesIO(png(0, 5, 8, 2, b""))))


@pytest.mark.parametrize(
    "bomb",
    [
        png(100_000, 100_000, 8, 2, b"\0" * 1000),
        b"GIF89a" + struct.pack("<HH3xcHHHH", 65535, 65535, b",", 0, 0, 65535, 65535) + b"\0\2",
        b"P6 100000 100000 255\n",
        b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 100_000, 100_000, 1, 24, 0, 0, 0, 0, 0, 0),
    ],
    ids=["png", "gif", "ppm", "bmp"],
)
def test_bombs_are_refused_by_their_header(bomb):
    assert "is too large" in str(refused(io.BytesIO(bomb)))


def test_max_pixels_is_the_limit(tmp_path, monkeypatch):
    path = saved(tmp_path / "x.png", Image.fromarray(RAMP))
    assert image.read(path, max_pixels=24 * 40).pixels.shape == RAMP.shape
    assert "is too large: 40 x 24 pixels; 959 are allowed" in str(refused(path, max_pixels=959))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own limit has no say
    assert image.read(path).pixels.shape == RAMP.shape


def test_warning_filters_survive_threads(tmp_path):
    path = saved(tmp_path / "x.png", Image.fromarray(smooth(200, 200)))
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [image.read(path) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


# ---------------------------------------------------------------- what is written


def test_write_refuses(tmp_path):
    with pytest.raises(UsageError, match=r"unknown kind of image to write: \.xyz"):
        image.write(tmp_path / "x.xyz", RAMP)
    with pytest.raises(UsageError, match="no suffix"):
        image.write(io.BytesIO(), RAMP)
    with pytest.raises(UsageError, match=r"no quality 50 for \.png"):
        image.write(tmp_path / "x.png", RAMP, quality=50)
    with pytest.raises(UsageError, match="no quality 101"):
        image.write(tmp_path / "x.jpg", RAMP, quality=101)
    with pytest.raises(UsageError, match="not an image: float64"):
        image.write(tmp_path / "x.png", RAMP / 255)
    with pytest.raises(OutputError, match="WEBP cannot hold 20000 x 1 pixels"):
        image.write(tmp_path / "x.webp", np.zeros((1, 20000, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_write_replaces_only_when_told(tmp_path):
    path = tmp_path / "x.png"
    image.write(path, RAMP)
    with pytest.raises(UsageError, match="exists"):
        image.write(path, RAMP[:5])
    image.write(path, RAMP[:5], force=True)
    assert len(image.read(path).pixels) == 5


def test_jpeg_keeps_full_colour_resolution():
    stream = io.BytesIO()
    image.write(stream, RAMP, format="JPG")
    with Image.open(stream) as file:
        assert [layer[1:3] for layer in file.layer] == [(1, 1)] * 3


@pytest.mark.parametrize("kind", ["PNG", "16-bit PNG", "JPEG", "WEBP", "AVIF", "TIFF", "raw TIFF", "BMP", "GIF", "PPM"])
def test_a_large_file_is_read_from_a_copy_on_the_disk(tmp_path: Path, monkeypatch, kind: str) -> None:
    path, values = tmp_path / "image", np.random.default_rng(0).integers(0, 256, (48, 40, 3)).astype(np.uint8)
    settings = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
    picture = Image.fromarray(values[..., 0].astype(np.uint16) << 8 | 77 if kind == "16-bit PNG" else values)
    picture.save(path, kind.split()[-1], **settings)
    small = image.read(path)
    monkeypatch.setattr(streams, "IN_MEMORY", 100)
    with path.open("rb") as stream, streams.body_of(stream, 10**6) as body:
        assert isinstance(body, streams.LargeFile) and body.getvalue() == path.read_bytes()
    large = image.read(path)
    assert np.array_equal(large.pixels, small.pixels) and large.notes == small.notes


def test_a_large_damaged_file_is_damaged(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(streams, "IN_MEMORY", 100)
    for kind in ("PNG", "TIFF", "BMP", "PPM", "JPEG"):
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "whole", kind)
        (tmp_path / "part").write_bytes((tmp_path / "whole").read_bytes()[:-30] if kind != "JPEG" else
                                        (tmp_path / "whole").read_bytes()[:200])  # fmt: skip
        with pytest.raises(BadFile, match="damaged or incomplete"):
            image.read(tmp_path / "part")
