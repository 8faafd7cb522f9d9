import importlib
import io
from dataclasses import replace

import numpy as np
import pytest

import vqcli
from vqcli.codec import image as codec_image
from vqcli.codec import image_file, tiling
from vqcli.errors import BadFile, DamagedChunks, ModelError, UsageError, VqError
from vqcli.media import image
from vqcli.zoo import store


@pytest.fixture(params=["scalar_model", "vector_model"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def on_the_path(models_folder, scalar_model, vector_model, monkeypatch, tmp_path):
    """`scalar` and `vector` can be found by name, and nothing of this machine's user."""
    monkeypatch.setenv("VQ_MODELS", str(models_folder))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    return models_folder


def test_round_trip_of_an_array(model, picture, tmp_path):
    pixels = picture(37, 50)
    encoded = vqcli.encode(pixels, model)
    assert encoded.pixels is pixels and encoded.notes == ()
    assert encoded.bits_per_pixel == 8 * len(encoded.data) / (37 * 50)
    assert encoded.save(tmp_path / "x.vqz") == len(encoded.data) == (tmp_path / "x.vqz").stat().st_size
    assert (tmp_path / "x.vqz").read_bytes() == encoded.data
    expected = tiling.decode_image(model, encoded.image)
    for source in (encoded, encoded.data, tmp_path / "x.vqz", str(tmp_path / "x.vqz")):
        decoded = vqcli.decode(source, model)
        assert np.array_equal(decoded.pixels, expected)
        assert np.array_equal(decoded.image.codes, encoded.codes)
        assert not decoded.lost.any()
        assert decoded.header == encoded.header


def test_round_trip_of_files_through_named_models(on_the_path, picture, tmp_path):
    pixels = picture(20, 30)
    image.write(tmp_path / "x.png", pixels)
    encoded = vqcli.encode(tmp_path / "x.png", "scalar", quality=1.5, metadata={"by": "test"}, device="cpu")
    assert np.array_equal(encoded.pixels, pixels)
    assert encoded.header.metadata == {"by": "test"} and encoded.header.quality == 15
    for source in (str(tmp_path / "x.png"), io.BytesIO((tmp_path / "x.png").read_bytes())):
        assert vqcli.encode(source, "scalar", quality=1.5, metadata={"by": "test"}).data == encoded.data
    decoded = vqcli.decode(encoded.data, device="cpu")  # finds its model by itself
    assert np.array_equal(decoded.pixels, vqcli.decode(encoded.data, "scalar").pixels)
    decoded.save(tmp_path / "y.png")
    assert np.array_equal(image.read(tmp_path / "y.png").pixels, decoded.pixels)


def test_saving_replaces_nothing_unasked(scalar_model, picture, tmp_path):
    encoded = vqcli.encode(picture(8, 8), scalar_model)
    (tmp_path / "x.vqz").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        encoded.save(tmp_path / "x.vqz")
    assert (tmp_path / "x.vqz").read_text() == "mine"
    encoded.save(tmp_path / "x.vqz", force=True)
    assert (tmp_path / "x.vqz").read_bytes() == encoded.data


@pytest.mark.parametrize("shape", [(9, 11), (9, 11, 1)], ids=str)
def test_grey_stays_grey(model, picture, shape):
    encoded = vqcli.encode(picture(9, 11, 1).reshape(shape), model)
    assert vqcli.decode(encoded, model).pixels.shape == (9, 11, 1)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0), np.uint8),
        np.zeros(4, np.uint8),
    ],
    ids=lambda pixels: f"{pixels.dtype} {pixels.shape}",
)
def test_arrays_that_are_no_pictures(scalar_model, pixels):
    with pytest.raises(UsageError, match="pixels are"):
        vqcli.encode(pixels, scalar_model)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"quality": 2, "bits_per_pixel": 1.0}, "exclude"),
        ({"quality": 4}, "quality 4"),
        ({"coder": "zip"}, "zip"),
        ({"coder": "prior"}, "prior"),
        ({"levels": 2}, "levels"),
        ({"levels": 0}, "levels"),
        ({"bits_per_pixel": 1.0, "coder": "zip"}, "zip"),
    ],
    ids=str,
)
def test_options_that_do_not_fit(scalar_model, picture, options, reason):
    with pytest.raises(UsageError, match=reason):
        vqcli.encode(picture(8, 8), scalar_model, **options)


def test_the_coder_that_was_asked_for(model, picture):
    for number, coder in enumerate(["packed", "histogram", "adaptive"]):
        assert vqcli.encode(picture(8, 8), model, coder=coder).header.coder == number


def test_best_quality_within_the_budget(scalar_model, picture):
    pixels = picture(64, 64)
    rates = {tenths: vqcli.encode(pixels, scalar_model, quality=tenths / 10).bits_per_pixel for tenths in range(10, 31)}
    assert rates[30] > rates[10]
    for budget in np.linspace(rates[10], rates[30], 6).tolist():
        encoded = vqcli.encode(pixels, scalar_model, bits_per_pixel=budget)
        assert encoded.bits_per_pixel <= budget
        quality = encoded.header.quality
        assert quality == 30 or rates[quality + 1] > budget
        assert encoded.data == vqcli.encode(pixels, scalar_model, quality=quality / 10).data
    assert vqcli.encode(pixels, scalar_model, bits_per_pixel=100).header.quality == 30
    assert vqcli.encode(pixels, scalar_model, bits_per_pixel=0.001).header.quality == 10  # the least it can do


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_fewer_levels(vector_model, picture, levels):
    pixels = picture(24, 24)
    whole, fewer = vqcli.encode(pixels, vector_model), vqcli.encode(pixels, vector_model, levels=levels)
    assert np.array_equal(fewer.codes, whole.codes[: 2 * levels])
    assert np.array_equal(
        vqcli.decode(fewer, vector_model).pixels, vqcli.decode(whole, vector_model, levels=levels).pixels
    )
    with pytest.raises(UsageError):
        vqcli.decode(fewer, vector_model, levels=levels + 1)


def test_salvage_shows_lost_chunks_in_grey(scalar_model, picture, monkeypatch):
    monkeypatch.setattr(image_file, "CHUNK", 32)
    encoded = vqcli.encode(picture(96, 93), scalar_model)
    data = bytearray(encoded.data)
    data[-1] ^= 1  # the chunk in the last corner
    with pytest.raises(DamagedChunks):
        vqcli.decode(bytes(data), scalar_model)
    decoded = vqcli.decode(bytes(data), scalar_model, salvage=True)
    assert decoded.lost[16:, 16:].all() and decoded.lost.sum() == 64
    assert (decoded.pixels[64:, 64:] == codec_image.GREY).all()
    reach = scalar_model.net.stride * scalar_model.net.decoder_margin
    whole = vqcli.decode(encoded, scalar_model).pixels
    assert np.array_equal(decoded.pixels[: 64 - reach], whole[: 64 - reach])
    assert np.array_equal(decoded.pixels[:, : 64 - reach], whole[:, : 64 - reach])


@pytest.mark.fault("19 salvage")
@pytest.mark.parametrize("level", [1, 2])
def test_salvage_shows_the_levels_that_are_whole(vector_model, picture, monkeypatch, level):
    monkeypatch.setattr(image_file, "CHUNK", 32)
    encoded = vqcli.encode(picture(96, 93), vector_model, coder="packed")
    chunks = encoded.header.chunk_count
    data = bytearray(encoded.data)
    data[len(data) - sum(map(len, encoded.payloads[(level + 1) * chunks :])) - 1] ^= 1  # the last corner of a level
    decoded = vqcli.decode(bytes(data), vector_model, salvage=True)
    assert not decoded.lost.any() and decoded.fewer[16:, 16:].all() and decoded.fewer.sum() == 64
    first, whole = (vqcli.decode(encoded, vector_model, levels=levels).pixels for levels in (level, 3))
    assert np.array_equal(decoded.pixels[64:, 64:], first[64:, 64:])
    reach = vector_model.net.stride * vector_model.net.decoder_margin
    assert np.array_equal(decoded.pixels[: 64 - reach], whole[: 64 - reach])


def test_files_that_are_none(scalar_model, tmp_path):
    (tmp_path / "x.vqz").write_bytes(b"nothing of the kind")
    for source in (tmp_path / "x.vqz", tmp_path / "missing.vqz", b"", b"noise"):
        with pytest.raises(BadFile):
            vqcli.decode(source, scalar_model)
    with pytest.raises(BadFile):
        vqcli.encode(tmp_path / "x.vqz", scalar_model)


# ---------------------------------------------------------------- models


def test_decoding_with_another_model(on_the_path, scalar_model, vector_model, picture):
    encoded = vqcli.encode(picture(8, 8), scalar_model)
    for other in (vector_model, "vector", str(on_the_path / "vector")):
        with pytest.raises(ModelError, match=encoded.header.digest.hex()):
            vqcli.decode(encoded, other)


def test_a_retrained_model_of_the_same_name(make_model, scalar_model, picture, tmp_path):
    quantizer = {"kind": "scalar", "limits": [4, 4, 7], "qualities": 3}
    arguments = {**scalar_model.info.description["arguments"], "quantizer": quantizer}
    retrained = make_model("scalar", folder=tmp_path, **arguments)
    with pytest.raises(ModelError, match="not with"):
        vqcli.decode(vqcli.encode(picture(8, 8), scalar_model), retrained)


def test_a_missing_model_names_where_it_was_sought(scalar_model, picture, monkeypatch, tmp_path):
    encoded = vqcli.encode(picture(8, 8), scalar_model)
    monkeypatch.setenv("VQ_MODELS", str(tmp_path / "here"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for action in (lambda: vqcli.decode(encoded), lambda: vqcli.encode(picture(8, 8), "scalar")):
        with pytest.raises(ModelError) as caught:
            action()
        message = str(caught.value)
        assert "scalar" in message
        assert all(str(place) in message for place in store.search_path())
        assert str(tmp_path / "here") in message


def test_a_folder_whose_name_no_file_could_hold(make_model, scalar_model, picture, tmp_path):
    """The name goes into the header, which takes lower case only: an error about the model, not about a file."""
    model = make_model("My Model", folder=tmp_path, **scalar_model.info.description["arguments"])
    try:
        encoded = vqcli.encode(picture(8, 8), model)
    except VqError as error:
        assert isinstance(error, ModelError)
    else:
        assert vqcli.decode(encoded, model).pixels.shape == (8, 8, 3)


def test_encoding_again_gives_the_same_bytes(model, picture):
    pixels = picture(30, 30)
    first = vqcli.encode(pixels, model)
    assert vqcli.encode(pixels.copy(), replace(model)).data == first.data


# ---------------------------------------------------------------- the package


def test_public_names_are_sorted_and_there():
    assert vqcli.__all__ == sorted(vqcli.__all__)
    homes = {name: home for home, names in vqcli._HOMES.items() for name in names}
    assert sorted(homes) == vqcli.__all__
    for name in vqcli.__all__:
        assert getattr(vqcli, name) is getattr(importlib.import_module(homes[name]), name)
        assert name in dir(vqcli)
    with pytest.raises(AttributeError, match="nothing"):
        vqcli.nothing  # noqa: B018
