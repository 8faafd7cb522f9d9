"""Large images are decoded in bands, from top to bottom, and are the same as at once."""

import io
from pathlib import Path

import numpy as np
import pytest

from vqcli import api
from vqcli.codec import chunks, image, image_file, lossless, tiling
from vqcli.container import vqz
from vqcli.errors import BadFile, OutputError
from vqcli.files import streams
from vqcli.media import band_writing
from vqcli.media import image as media_image

pytestmark = pytest.mark.fault("14 memory and time")


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "AT_ONCE", 0)
    monkeypatch.setattr(image_file, "CHUNK", 16)
    monkeypatch.setattr(tiling, "TILE", 16)


def decoded(path_or_data, model, **options):
    made = api.decode(path_or_data, model, **options)
    assert "pixels" not in made.__dict__
    return made


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".ppm", ".bmp", ".tif"])
def test_a_file_in_bands_is_the_image(tmp_path: Path, scalar_model, picture, suffix: str, channels: int) -> None:
    encoded = api.encode(picture(53, 70, channels), scalar_model)
    whole = tiling.decode_image(scalar_model, encoded.image)
    made = decoded(encoded, scalar_model)
    made.save(tmp_path / f"a{suffix}")
    assert "pixels" not in made.__dict__
    assert np.array_equal(media_image.read(tmp_path / f"a{suffix}").pixels.reshape(53, 70, -1)[..., :channels], whole)
    bands = list(made.bands())
    assert [len(band) for band in bands] == [16, 16, 16, 5]
    assert np.array_equal(np.concatenate(bands), made.pixels)


def test_tiles_of_very_wide_images_have_fewer_rows(scalar_model, picture, monkeypatch) -> None:
    encoded = api.encode(picture(40, 70), scalar_model)
    whole = tiling.decode_image(scalar_model, encoded.image)
    monkeypatch.setattr(tiling, "LARGE", 70 * 5)
    bands = list(decoded(encoded, scalar_model).bands())
    assert {len(band) for band in bands} == {4}
    assert np.abs(np.concatenate(bands).astype(int) - whole).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_in_bands_is_that_of_the_whole(tmp_path: Path, picture, monkeypatch, channels: int) -> None:
    monkeypatch.setattr(band_writing, "ROWS", 16)
    pixels = picture(300, 70, channels)  # 19 restarts, whose numbers begin again after 8
    media_image.write(tmp_path / "whole.jpg", pixels)
    bands = np.split(pixels, [5, 100, 101])
    media_image.write_bands(tmp_path / "bands.jpg", bands, (70, 300, channels))
    whole, made = (media_image.read(tmp_path / name).pixels for name in ("whole.jpg", "bands.jpg"))
    assert np.array_equal(whole, made)
    with pytest.raises(OutputError, match="JPEG cannot hold 65501 x 1"):
        media_image.write_bands(tmp_path / "wide.jpg", [], (65501, 1, 3))


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_what_is_not_written_in_bands_is_refused_when_large(tmp_path: Path, scalar_model, picture, monkeypatch, suffix):
    monkeypatch.setattr(media_image, "MAX_AT_ONCE", 53 * 70 - 1)
    encoded = api.encode(picture(53, 70), scalar_model)
    with pytest.raises(OutputError, match=r"of 70 x 53 pixels takes 0\.0 GB of memory") as error:
        decoded(encoded, scalar_model).save(tmp_path / f"a{suffix}")
    assert error.value.hint == "try .png; --max-pixels 3710 allows it" and not list(tmp_path.iterdir())
    api.decode(encoded, scalar_model, max_pixels=53 * 70).save(tmp_path / f"a{suffix}")
    assert media_image.read(tmp_path / f"a{suffix}").pixels.shape == (53, 70, 3)


def test_without_loss_a_wide_image_lies_in_a_temporary_file(scalar_model, picture, monkeypatch) -> None:
    monkeypatch.setattr(streams, "LARGEST_ARRAY", 16 * 70 * 3 - 1)
    monkeypatch.setattr(lossless, "BAND_BYTES", 1)
    pixels = picture(53, 70)
    made = decoded(api.encode(pixels, scalar_model, lossless=True), scalar_model)
    bands = list(made.bands())
    assert {len(band) for band in bands[:-1]} == {scalar_model.net.stride} and made.lossless
    assert np.array_equal(np.concatenate(bands), pixels)


@pytest.mark.parametrize("without_loss", [False, True])
def test_pixels_and_codes_of_a_large_image_lie_in_temporary_files(
    scalar_model, picture, monkeypatch, without_loss
) -> None:
    pixels = picture(53, 70)
    whole = api.encode(pixels, scalar_model, lossless=without_loss)
    monkeypatch.setattr(streams, "LARGEST_ARRAY", 64)
    stored = streams.storage(pixels.shape, np.uint8)
    stored[:] = pixels
    found = api.encode(stored, scalar_model, lossless=without_loss)
    assert isinstance(found.codes, np.memmap) and not isinstance(whole.codes, np.memmap)
    assert found.data == whole.data
    decoded = api.decode(found.data, scalar_model)
    assert isinstance(decoded.codes, np.memmap) and np.array_equal(decoded.codes, whole.codes)
    assert np.array_equal(decoded.pixels, api.decode(whole.data, scalar_model).pixels)


def test_bands_of_other_heights_mend_each_other() -> None:
    there = np.array([[2], [1], [1], [0]])  # levels of positions of 2 x 2 pixels
    best = iter([np.full((4, 2, 1), 9), np.full((4, 2, 1), 9)])
    fewer = iter([np.full((n, 2, 1), 5) for n in (1, 2, 5)])
    rows = np.concatenate(list(image._mended(best, {1: fewer, 0: None}, there, 2)))[:, 0, 0]
    assert rows.tolist() == [9, 9, 5, 5, 5, 5, image.GREY, image.GREY]


def test_without_loss(tmp_path: Path, scalar_model, picture) -> None:
    pixels = picture(53, 70)
    encoded = api.encode(pixels, scalar_model, lossless=True)
    made = decoded(encoded, scalar_model)
    made.save(tmp_path / "a.png")
    assert made.lossless and np.array_equal(media_image.read(tmp_path / "a.png").pixels, pixels)


def test_what_is_wrong_is_said_when_pixels_are_asked_for(tmp_path: Path, scalar_model, picture) -> None:
    encoded = api.encode(picture(30, 20), scalar_model, lossless=True)
    residual = encoded.header.residual.__class__(encoded.header.residual.coder, 0)
    data = vqz.pack(encoded.header.__class__(**{**vars(encoded.header), "residual": residual}), encoded.payloads)
    made = decoded(data, scalar_model)
    with pytest.raises(BadFile, match="the pixels fail their checksum"):
        made.save(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
    saved = decoded(data, scalar_model, salvage=True)
    assert not saved.lossless and saved.pixels.shape == (30, 20, 3)


def test_lost_chunks_are_grey(scalar_model, picture) -> None:
    encoded = api.encode(picture(40, 40), scalar_model)
    data = bytearray(encoded.data)
    data[-1] ^= 1  # in the last chunk
    made = decoded(bytes(data), scalar_model, salvage=True)
    assert made.lost.any() and (made.pixels[32:, 32:] == image.GREY).all() and not (made.pixels[:32] == 128).all()


def test_as_many_chunks_at_once_as_memory_holds(scalar_model, picture, monkeypatch) -> None:
    sizes = []
    plain = chunks.ThreadPoolExecutor
    monkeypatch.setattr(chunks, "ThreadPoolExecutor", lambda workers: sizes.append(workers) or plain(workers))
    monkeypatch.setattr(chunks.os, "cpu_count", lambda: 16)
    encoded = api.encode(picture(64, 64), scalar_model)
    sizes.clear()
    decoded(encoded, scalar_model)
    monkeypatch.setattr(chunks, "WORKING_CODES", 3 * 4 * 4 * 2 + 1)  # of two chunks
    decoded(encoded, scalar_model)
    monkeypatch.setattr(chunks, "WORKING_CODES", 1)
    decoded(encoded, scalar_model)
    assert sizes == [16, 2, 1]


@pytest.mark.fault("16 read buffer")
def test_an_image_is_read_piece_by_piece(picture) -> None:
    data = io.BytesIO()
    media_image.write(data, picture(64, 96), format="png")

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size is not None and 0 <= size <= 2**20
            return super().read(size)

    assert np.array_equal(media_image.read(Watched(data.getvalue())).pixels, picture(64, 96))
