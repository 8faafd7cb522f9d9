import io
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

import vqcli
from vqcli.codec import guarded, image_file, lossless, tiling
from vqcli.codec import image as codec_image
from vqcli.container import vqz
from vqcli.container.header import LosslessResidual
from vqcli.errors import BadFile, DamagedChunks, UsageError
from vqcli.training.losses import likelihood_loss
from vqcli.zoo import loading, registry


@pytest.fixture(params=["scalar_model", "vector_model"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 32 pixels, and tiles of 16 for what is decoded in float64."""
    monkeypatch.setattr(image_file, "CHUNK", 32)
    monkeypatch.setattr(lossless, "TILE", 16)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (40, 33), (70, 65)], ids=str)
def test_every_pixel_returns(model, picture, small_chunks, size, channels):
    pixels = picture(*size, channels)
    encoded = vqcli.encode(pixels, model, lossless=True)
    assert encoded.lossless and encoded.header.version == 2
    assert encoded.header.residual == LosslessResidual(0, zlib.crc32(pixels.tobytes()))
    decoded = vqcli.decode(encoded.data, model)
    assert np.array_equal(decoded.pixels, pixels) and decoded.pixels.dtype == np.uint8
    assert decoded.lossless and decoded.exact.all() and not decoded.lost.any()


def test_codes_are_those_of_a_file_with_loss(model, picture):
    pixels = picture(40, 50)
    lossless, lossy = (vqcli.encode(pixels, model, lossless=kind, coder="packed") for kind in (True, False))
    qualities = tiling.qualities(model)
    assert lossless.header.quality == (10 * max(1.0, codec_image.LOSSLESS * qualities) if qualities else 0)
    same = vqcli.encode(pixels, model, lossless=True, coder="packed", quality=2 if qualities else None)
    assert np.array_equal(same.codes, lossy.codes)
    fewer = vqz.drop_levels(vqz.unpack(same.data), same.header.levels)
    assert vqz.pack(fewer.header, fewer.payloads) == lossy.data
    assert not vqcli.decode(lossy, model).lossless


def test_options_that_exclude_each_other(model, picture):
    for options in ({"bits_per_pixel": 9.0}, {"levels": 1}):
        with pytest.raises(UsageError, match="without loss"):
            vqcli.encode(picture(8, 8), model, lossless=True, **options)


def test_fewer_levels_are_lossy(vector_model, picture):
    encoded = vqcli.encode(picture(24, 24), vector_model, lossless=True)
    lossy = vqcli.encode(picture(24, 24), vector_model)
    fewer = vqcli.decode(encoded, vector_model, levels=1)
    assert not fewer.lossless
    assert np.array_equal(fewer.pixels, vqcli.decode(lossy, vector_model, levels=1).pixels)
    assert vqcli.decode(encoded, vector_model, levels=3).lossless


# ---------------------------------------------------------------- rounding


def test_rounding_is_listed_near_halves():
    levels = np.array([[2.5 - 2e-6, 2.5 - 1e-7, 2.5, 2.5 + 1e-7, 7.0, -0.5, 300.2, -3.0, 1.49]])
    taken, listed = lossless.rounded(levels)
    assert taken.tolist() == [[2, 2, 3, 3, 7, 0, 255, 0, 1]]
    assert listed == {1: False, 2: True, 3: True, 5: True}
    moved = levels + np.where(np.arange(9) % 2, 5e-7, -5e-7)  # as another machine may have it
    assert lossless.rounded(moved)[0].tolist() != taken.tolist()
    assert np.array_equal(lossless.rounded(moved, listed)[0], taken)


@pytest.mark.parametrize("listed", [{}, {0: True}, {3: False, 4: True, 999: True}, dict.fromkeys(range(1000), True)])
def test_lists_of_rounding(listed):
    written = lossless._list_to_bytes(listed)
    assert lossless._list_of_bytes(written + b"rest", 1000) == (listed, b"rest")
    for wrong in (b"", written[:-1] if listed else b"\xff" * 9, b"\xff\xff\xff\xff\x0f" + written):
        with pytest.raises(BadFile, match="residual"):
            lossless._list_of_bytes(wrong, 1000)
    if listed:
        with pytest.raises(BadFile, match=r"of 0|ends within"):
            lossless._list_of_bytes(written, 0)


def test_a_machine_that_sums_otherwise(model, picture, monkeypatch, small_chunks):
    """Errors below GUARD change nothing, for what they could change is listed; larger ones are told in one line."""
    monkeypatch.setattr(guarded, "GUARD", 0.05)  # so that the list is long
    pixels = picture(40, 50)
    encoded = vqcli.encode(pixels, model, lossless=True)
    plain, size = lossless.values, [0.04]

    def other_values(part):
        levels = plain(part)
        return levels + np.random.default_rng(0).uniform(-1, 1, levels.shape) * size[0]

    monkeypatch.setattr(lossless, "values", other_values)
    assert np.array_equal(vqcli.decode(encoded, model).pixels, pixels)
    size[0] = 0.4
    with pytest.raises(BadFile, match="cannot be had without loss") as caught:
        vqcli.decode(encoded, model)
    assert "machine" in caught.value.hint
    saved = vqcli.decode(encoded, model, salvage=True)
    assert not saved.exact.any() and not saved.lost.any()


@pytest.mark.parametrize("guard", [1e-6, 0.6])
def test_files_do_not_depend_on_threads_and_tiles(scalar_model, picture, monkeypatch, guard):
    monkeypatch.setattr(guarded, "GUARD", guard)
    pixels = picture(70, 80)
    encoded = vqcli.encode(pixels, scalar_model, lossless=True)
    threads = torch.get_num_threads()
    try:
        for tile, number in ((16, 1), (1024, 2)):
            monkeypatch.setattr(lossless, "TILE", tile)
            torch.set_num_threads(number)
            assert vqcli.encode(pixels, scalar_model, lossless=True).data == encoded.data
            assert np.array_equal(vqcli.decode(encoded, scalar_model).pixels, pixels)
    finally:
        torch.set_num_threads(threads)


def test_values_are_those_of_the_plain_net(scalar_model, picture, monkeypatch):
    monkeypatch.setattr(lossless, "TILE", 16)
    image = tiling.encode_image(scalar_model, picture(60, 52))
    net = lossless.exact_net(scalar_model)
    codes = torch.from_numpy(image.codes.astype(np.int64))[None]
    whole = net.decode(codes, torch.tensor([image.quality / 10], dtype=torch.float64))[0].movedim(0, -1) * 255 + 127.5
    levels = lossless.values((net, image, (slice(3, 15), slice(0, 13))))
    assert levels.dtype == np.float64 and levels.shape == (48, 52, 3)
    np.testing.assert_allclose(levels, whole[12:60].numpy(), atol=1e-10, rtol=0)
    assert scalar_model.net.decoder[0].weight.dtype == torch.float32  # the model itself stays what it is


# ---------------------------------------------------------------- damage


def damaged(encoded, record):
    """The file with one wrong byte at the end of a record."""
    payloads = encoded.payloads
    data = bytearray(encoded.data)
    data[len(data) - sum(map(len, payloads[record + 1 :])) - 1] ^= 1
    return bytes(data)


def test_salvage_shows_what_the_codes_decode_to(scalar_model, picture, small_chunks):
    pixels = picture(96, 93)
    encoded = vqcli.encode(pixels, scalar_model, lossless=True)
    assert len(encoded.payloads) == 18
    data = damaged(encoded, 13)  # the lossless residual of the chunk in the middle
    with pytest.raises(DamagedChunks, match="chunk 14 of 18"):
        vqcli.decode(data, scalar_model)
    decoded = vqcli.decode(data, scalar_model, salvage=True)
    assert not decoded.lost.any() and not decoded.lossless
    assert not decoded.exact[8:16, 8:16].any() and decoded.exact.sum() == decoded.exact.size - 64
    where = ~decoded.exact.repeat(4, 0).repeat(4, 1)[:96, :93]
    assert np.array_equal(decoded.pixels[~where], pixels[~where])
    lossy = tiling.decode_image(scalar_model, encoded.image)
    assert np.abs(decoded.pixels.astype(int) - lossy)[where].max() <= 1
    assert not np.array_equal(decoded.pixels, pixels)


def test_lost_codes_cost_the_remainder_around_them(scalar_model, picture, small_chunks):
    pixels = picture(32, 128)
    encoded = vqcli.encode(pixels, scalar_model, lossless=True)
    decoded = vqcli.decode(damaged(encoded, 0), scalar_model, salvage=True)
    assert decoded.lost[:, :8].all() and decoded.lost.sum() == 64
    assert (decoded.pixels[:, :32] == codec_image.GREY).all()
    assert not decoded.exact[:, :16].any() and decoded.exact[:, 16:].all()
    assert np.array_equal(decoded.pixels[:, 64:], pixels[:, 64:])


def test_remainders_that_are_none(scalar_model, picture):
    encoded = vqcli.encode(picture(20, 20), scalar_model, lossless=True)
    codes, rest = encoded.payloads
    wrongs = [b"", b"\0", rest[:-1], rest + b"\0", b"\1" + rest, b"\xff" * 12, rest[:-9] + bytes(9)]
    for wrong in wrongs:
        data = vqz.pack(encoded.header, (codes, wrong))
        with pytest.raises(BadFile, match="cannot be had without loss"):
            vqcli.decode(data, scalar_model)
        assert not vqcli.decode(data, scalar_model, salvage=True).exact.any()


@pytest.mark.parametrize(
    ("change", "says"),
    [(LosslessResidual(0, 1), "checksum"), (LosslessResidual(77, 0), "residual coder 77 is not known")],
)
def test_headers_that_do_not_fit(scalar_model, picture, change, says):
    encoded = vqcli.encode(picture(20, 20), scalar_model, lossless=True)
    with pytest.raises(BadFile, match=says):
        vqcli.decode(vqz.pack(replace(encoded.header, residual=change), encoded.payloads), scalar_model)


def test_chunks_without_bound(scalar_model, picture, monkeypatch):
    encoded = vqcli.encode(picture(20, 20), scalar_model, lossless=True)
    monkeypatch.setattr(image_file, "MAX_CHUNK", 399)
    with pytest.raises(BadFile, match="a chunk is of more than the 399 pixels"):
        vqcli.decode(encoded, scalar_model)


def test_a_file_without_loss_from_a_stream(scalar_model, picture, tmp_path):
    pixels = picture(12, 9)
    stream = io.BytesIO()
    vqcli.decode(vqcli.encode(pixels, scalar_model, lossless=True), scalar_model).save(stream, format="png")
    again = vqcli.encode(io.BytesIO(stream.getvalue()), scalar_model, lossless=True)
    assert again.save(tmp_path / "x.vqz") == len(again.data)
    assert np.array_equal(vqcli.decode(tmp_path / "x.vqz", scalar_model).pixels, pixels)


# ---------------------------------------------------------------- under the decoder's distribution


@pytest.fixture(params=["logistics", "gaussian", "categorical"])
def likely_model(request, tmp_path, picture):
    """A net whose decoder is a distribution, a little trained, so that it is worth something."""
    torch.manual_seed(0)
    start = {} if request.param == "categorical" else {"linear_start": 16.0}
    arguments = {
        "widths": [96, 96], "dim": 48, "blocks": 0, "likelihood": {"kind": request.param}, **start,
        "quantizer": {"kind": "vector", "K": 16, "groups": 4, "levels": 2},
    }  # fmt: skip
    net = registry.build("vqvae2d", arguments)
    x = torch.from_numpy(np.stack([picture(40, 44 + n)[:32, :32] for n in range(4)])).movedim(-1, 1) / 255 - 0.5
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(20):
        optimizer.zero_grad()
        likelihood_loss(net, x).value.backward()
        optimizer.step()
    description = {"family": "vqvae2d", "arguments": arguments, "modality": "image"}
    return loading.load(loading.save(tmp_path / "likely", net.eval(), None, description), "cpu")


def test_the_decoders_distribution_can_code_the_pixels(likely_model, picture, monkeypatch, small_chunks):
    """Either coder returns every pixel; the second takes as many bytes as the model's likelihood says."""
    pixels = picture(40, 44)
    monkeypatch.setattr(lossless, "_has_likelihood", lambda net, image: False)
    assert vqcli.encode(pixels, likely_model, lossless=True).header.residual.coder == lossless.PREDICTED
    monkeypatch.undo()
    monkeypatch.setitem(lossless.CODERS, lossless.PREDICTED, (lambda part, pixels: lambda: b"." * 10**6, None))
    encoded = vqcli.encode(pixels, likely_model, lossless=True)
    assert encoded.header.residual.coder == lossless.LIKELIHOOD
    assert np.array_equal(vqcli.decode(encoded, likely_model).pixels, pixels)
    net = likely_model.net
    with torch.no_grad():
        x = torch.from_numpy(pixels).movedim(-1, 0)[None] / 255 - 0.5
        nats = -net.likelihood.log_prob(net.decoder_output(torch.from_numpy(encoded.codes.astype(np.int64))[None]), x)
    bits = 8 * sum(map(len, encoded.payloads[encoded.header.levels * encoded.header.chunk_count :]))
    assert bits == pytest.approx(float(nats) / np.log(2), rel=0.03)


def test_grey_pictures_of_a_model_for_colour_are_predicted(likely_model, picture):
    pixels = picture(20, 24, 1)
    encoded = vqcli.encode(pixels, likely_model, lossless=True)
    assert encoded.header.residual.coder == lossless.PREDICTED
    assert np.array_equal(vqcli.decode(encoded, likely_model).pixels, pixels)


def test_a_file_that_asks_for_a_likelihood_that_is_not_there(vector_model, picture):
    encoded = vqcli.encode(picture(20, 24), vector_model, lossless=True)
    header = replace(encoded.header, residual=replace(encoded.header.residual, coder=lossless.LIKELIHOOD))
    with pytest.raises(BadFile, match="likelihood"):
        vqcli.decode(vqz.pack(header, encoded.payloads), vector_model)


@pytest.mark.fault("18 hostile files")
def test_a_residual_of_a_model_that_is_never_exact(vector_model, picture, monkeypatch):
    data = vqcli.encode(picture(20, 24), vector_model, lossless=True).data
    monkeypatch.setattr(type(vector_model.net), "stochastic", True)
    with pytest.raises(BadFile, match="cannot have: its decoder samples"):
        vqcli.decode(data, vector_model)
