from dataclasses import replace

import numpy as np
import pytest
import torch

from vqcli.codec import exchange, tiles, tiling
from vqcli.codec import image as codec_image
from vqcli.codec import video as codec_video
from vqcli.codec.codes import ImageCodes
from vqcli.codec.image import search_quality
from vqcli.container import vqz
from vqcli.errors import BadFile, UsageError
from vqcli.zoo import loading, registry

MODELS = ["scalar_model", "vector_model"]


@pytest.fixture(params=MODELS)
def model(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("tile", [8, 16, 36])
def test_tiles_give_the_codes_and_pixels_of_the_whole(model, picture, monkeypatch, tile):
    pixels = picture(93, 78)  # neither a multiple of the stride nor of the tile
    whole_latents = tiling.encode_latents(model, pixels)
    whole = tiling.encode_image(model, pixels)
    whole_pixels = tiling.decode_image(model, whole)
    assert all(len(np.unique(group)) > 2 for group in whole.codes)  # not a test of constants
    monkeypatch.setattr(tiling, "TILE", tile)
    torch.testing.assert_close(tiling.encode_latents(model, pixels), whole_latents, rtol=1e-4, atol=1e-5)
    tiled = tiling.encode_image(model, pixels)
    assert (tiled.codes != whole.codes).mean() < 1e-3  # but for ties within float error
    decoded = tiling.decode_image(model, whole)
    assert np.abs(decoded.astype(int) - whole_pixels).max() <= 1


def test_latents_are_those_of_the_plain_net(model, picture):
    pixels = picture(32, 40)
    x = torch.from_numpy(pixels).movedim(-1, 0)[None] / 255 - 0.5
    torch.testing.assert_close(tiling.encode_latents(model, pixels), model.net.encoder(x)[0])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (5, 7), (33, 1), (1, 33), (4, 4), (31, 35)], ids=str)
def test_any_size_comes_back_in_its_size(model, picture, monkeypatch, size, channels):
    monkeypatch.setattr(tiling, "TILE", 16)
    pixels = picture(*size, channels)
    image = tiling.encode_image(model, pixels)
    assert image.codes.dtype == np.uint16
    assert image.codes.shape[1:] == tuple(-(-side // model.net.stride) for side in size)
    assert (image.size, image.channels) == ((size[1], size[0]), channels)
    decoded = tiling.decode_image(model, image)
    assert decoded.shape == pixels.shape and decoded.dtype == np.uint8


def test_cropped_pixels_are_those_of_the_picture_continued_by_its_border(scalar_model, picture):
    pixels = picture(13, 10)
    continued = np.pad(pixels, ((0, 3), (0, 2), (0, 0)), mode="edge")
    image, larger = (tiling.encode_image(scalar_model, p, quality=3) for p in (pixels, continued))
    assert np.array_equal(image.codes, larger.codes)
    assert np.array_equal(tiling.decode_image(scalar_model, image), tiling.decode_image(scalar_model, larger)[:13, :10])


def test_grey_is_the_codes_of_equal_channels(model, picture):
    grey = picture(20, 24, 1)
    image = tiling.encode_image(model, grey)
    colour = tiling.encode_image(model, grey.repeat(3, axis=2))
    assert np.array_equal(image.codes, colour.codes)
    mean = tiling.decode_image(model, colour).astype(float).mean(2, keepdims=True)
    decoded = tiling.decode_image(model, image)
    unclipped = (mean > 8) & (mean < 247)
    assert np.abs(decoded - mean)[unclipped].max(initial=0) <= 8
    assert decoded.shape == grey.shape


@pytest.mark.parametrize("tile", [16, 1024])
def test_report_rises_to_one(scalar_model, picture, monkeypatch, tile):
    monkeypatch.setattr(tiling, "TILE", tile)
    shares: list[float] = []
    image = tiling.encode_image(scalar_model, picture(40, 50), progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1
    shares.clear()
    tiling.decode_image(scalar_model, image, shares.append)
    assert shares == sorted(shares) and shares[-1] == 1


@pytest.mark.parametrize(("quality", "tenths"), [(None, 20), (1, 10), (3, 30), (1.23, 12), (2.96, 30)])
def test_quality_in_tenths(scalar_model, quality, tenths):
    assert tiling.resolve_quality(scalar_model, quality) == tenths


def test_qualities_that_are_not_there(scalar_model, vector_model, picture):
    for quality in (0, 0.9, 3.1, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="within 1 to 3"):
            tiling.resolve_quality(scalar_model, quality)
    assert tiling.resolve_quality(vector_model, None) == 0
    with pytest.raises(UsageError, match="one quality"):
        tiling.resolve_quality(vector_model, 1)
    with pytest.raises(UsageError, match="one rate"):
        search_quality(vector_model, picture(8, 8), 1.0)


def test_higher_qualities_use_more_codes(scalar_model, picture):
    images = [tiling.encode_image(scalar_model, picture(64, 64), quality=quality) for quality in (1, 2, 3)]
    spreads = [image.codes.astype(float).std() for image in images]
    assert spreads == sorted(spreads) and spreads[0] < spreads[-1]


def test_a_grid_that_is_not_the_pictures(scalar_model):
    with pytest.raises(BadFile, match="3 x 3"):
        tiling.decode_image(scalar_model, ImageCodes(np.zeros((3, 3, 3), np.uint16), (8, 8), 3, 10))


@pytest.fixture
def whole_model(tmp_path):
    """A net with attention and normalisation over the image, of stride 2."""
    arguments = {"net": {"widths": [8, 8], "attention": [1], "z_channels": 4, "groups": 4}, "dim": 4, "K": 16}
    torch.manual_seed(0)
    net = registry.build("vqgan2d", arguments)
    with torch.no_grad():  # entries near latents, so that codes differ
        net.codebook.copy_(net.latents(torch.rand(1, 3, 8, 8) * 2 - 1)[0].flatten(1).T)
    description = {"family": "vqgan2d", "modality": "image", "arguments": arguments}
    return loading.load(loading.save(tmp_path / "gan", net, None, description), "cpu")


@pytest.fixture
def small_whole(monkeypatch):
    """Images of more than 900 pixels are large, and seen in tiles of 8 positions, 16 pixels, with a margin of 2."""
    monkeypatch.setattr(tiling, "LARGEST_WHOLE", 900)
    monkeypatch.setattr(tiling, "OVERLAPPING", 16)
    monkeypatch.setattr(tiling, "MARGIN", 4)


def test_weights_of_tiles_add_up_to_one():
    for length, side, margin in ((33, 8, 2), (9, 8, 2), (100, 16, 4), (7, 4, 1), (8, 8, 2), (64, 13, 3)):
        parts = tiles.cuts(length, tiles.Tiles(side, margin))
        assert all(part.stop - part.start <= side + 2 * margin for part in parts)
        seen = []
        bands = tiles.blended(
            (length, length),
            tiles.Tiles(side, margin),
            3,
            lambda outer: torch.ones(1, *(3 * (s.stop - s.start) for s in outer)),
            seen.append,
        )
        rows, values = zip(*bands, strict=True)
        assert [part.start for part in rows[1:]] == [part.stop for part in rows[:-1]]
        assert (rows[0].start, rows[-1].stop) == (0, length) and seen[-1] == 1
        torch.testing.assert_close(torch.cat(values, 1), torch.ones(1, 3 * length, 3 * length))


def test_overlaps_are_blended_linearly():
    """Two tiles that see 0 and 1 make a slope as wide as the overlap, with no step at its ends."""
    see = lambda outer: torch.full((1, 1, outer[1].stop - outer[1].start), float(outer[1].start > 0))  # noqa: E731
    ((_, values),) = tiles.blended((1, 16), tiles.Tiles(8, 2), 1, see, lambda share: None)
    assert values[0, 0].tolist() == [0] * 6 + [0.125, 0.375, 0.625, 0.875] + [1] * 6


@pytest.mark.parametrize("side, margin", [(4, 0), (8, 3), (3, 1), (0, 0)])
def test_tiles_that_cannot_be(side, margin):
    with pytest.raises(ValueError, match="margin"):
        tiles.Tiles(side, margin)


@pytest.mark.usefixtures("small_whole")
def test_large_images_are_seen_in_overlapping_tiles(whole_model, picture):
    """A net that must see an image whole sees a large one in tiles, which the file names."""
    assert tiling.encode_image(whole_model, picture(30, 30)).tiles is None
    pixels = picture(61, 45)
    image = tiling.encode_image(whole_model, pixels)
    assert image.tiles == tiles.Tiles(8, 2) and image.codes.shape == (1, 31, 23) and len(np.unique(image.codes)) > 4
    torch.testing.assert_close(
        tiling.quantize(whole_model, tiling.encode_latents(whole_model, pixels), pixels, 0).codes, image.codes
    )
    decoded = tiling.decode_image(whole_model, image)
    assert decoded.shape == pixels.shape
    encoded = codec_image.encode(pixels, whole_model)
    assert encoded.header.metadata == {"tiles": "8,2"}
    file = vqz.unpack(encoded.data)
    again = codec_image.decode(file, whole_model)
    assert again.image.tiles == image.tiles and np.array_equal(again.pixels, decoded)


def test_the_tiles_of_a_file_are_kept(whole_model, picture, monkeypatch, small_whole):
    """Later versions may choose other tiles; a file decodes in its own."""
    pixels = picture(61, 45)
    encoded = codec_image.encode(pixels, whole_model, metadata={"of": "a test"})
    decoded = codec_image.decode(vqz.unpack(encoded.data), whole_model).pixels
    monkeypatch.setattr(tiling, "MARGIN", 2)
    assert np.array_equal(codec_image.decode(vqz.unpack(encoded.data), whole_model).pixels, decoded)
    other = codec_image.encode(pixels, whole_model)
    assert other.header.metadata == {"tiles": "8,1"}
    assert not np.array_equal(codec_image.decode(vqz.unpack(other.data), whole_model).pixels, decoded)
    array, facts = exchange.array_of(encoded.image), exchange.facts_of(encoded.image, whole_model)
    assert exchange.restored(array, facts, whole_model).tiles == tiles.Tiles(8, 2)
    assert exchange.restored(array, None, whole_model).tiles == tiles.Tiles(8, 1)


def test_clips_of_large_frames_have_tiles(whole_model, picture, small_whole):
    frames = np.stack([picture(40, 46), picture(40, 46)[::-1]])
    encoded = codec_video.encode(frames, whole_model)
    assert encoded.header.metadata == {"tiles": "8,2"}
    decoded = list(codec_video.decode(vqz.unpack(encoded.data), whole_model).frames())
    for pixels, made in zip(frames, decoded, strict=True):
        image = tiling.encode_image(whole_model, pixels)
        assert np.array_equal(tiling.decode_image(whole_model, image), made)


@pytest.mark.parametrize(
    "text", [None, "", "8", "8,3", "0,0", "08,2", "8,2 ", "8;2", "800,2", "9" * 500 + ",2", "8,-2"]
)
def test_files_of_tiles_that_cannot_be(whole_model, picture, small_whole, text):
    encoded = codec_image.encode(picture(61, 45), whole_model)
    header = replace(encoded.header, metadata={} if text is None else {"tiles": text})
    file = vqz.unpack(vqz.pack(header, encoded.payloads))
    with pytest.raises(BadFile, match="tiles"):
        codec_image.decode(file, whole_model)


def test_the_key_is_reserved_where_it_has_a_meaning(whole_model, vector_model, picture):
    with pytest.raises(UsageError, match="vq's own"):
        codec_image.encode(picture(8, 8), whole_model, metadata={"tiles": "mine"})
    encoded = codec_image.encode(picture(8, 8), vector_model, metadata={"tiles": "mine"})
    assert codec_image.decode(vqz.unpack(encoded.data), vector_model).header.metadata == {"tiles": "mine"}


def test_a_whole_view_is_never_exact(whole_model, picture):
    with pytest.raises(UsageError, match="never exact"):
        codec_image.encode(picture(8, 8), whole_model, lossless=True)
