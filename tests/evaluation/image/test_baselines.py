from importlib.util import find_spec

import numpy as np
import pytest

from vqcli.errors import UsageError
from vqcli.evaluation import metrics
from vqcli.evaluation.image import baselines, ssimulacra2

# JPEG XL takes an extra
CODECS = [codec for codec in baselines.CODECS if codec != baselines.JXL or find_spec("pillow_jxl")]


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Like a photograph: detail at every size, weaker the finer, colours that go along with brightness."""
    generator = np.random.default_rng(0)
    light = np.zeros((96, 128, 1))
    for size in (32, 16, 8, 4, 2, 1):
        coarse = generator.standard_normal((96 // size, 128 // size, 1)) * size
        light += coarse.repeat(size, axis=0).repeat(size, axis=1)
    tint = np.linspace(-30, 30, 128)[None, :, None] * np.array([1, 0, -1])
    return (128 + 1.5 * light + tint).clip(0, 255).astype(np.uint8)


def curve(pixels, codec, qualities):
    """(bytes of the file, decoded pixels) for each quality."""
    files = [baselines._encode(pixels, codec, quality) for quality in qualities]
    return [(len(data), baselines._decode(data, pixels)) for data in files]


@pytest.mark.parametrize("codec", CODECS)
def test_at_bytes_is_the_best_that_fits(photo, codec):
    result = baselines.at_bytes(photo, codec, 3000)
    assert result.fits and result.size_bytes <= 3000
    assert result.pixels.shape == photo.shape
    (same, decoded), (above, _) = curve(photo, codec, [result.quality, result.quality + 1])
    assert same == result.size_bytes
    assert np.array_equal(decoded, result.pixels)
    assert above > 3000


@pytest.mark.parametrize("codec", CODECS)
def test_at_bytes_ends(photo, codec):
    lowest = baselines.at_bytes(photo, codec, 10)
    assert not lowest.fits
    assert lowest.quality == baselines.CODECS[codec].qualities[0] and lowest.size_bytes > 10
    highest = baselines.at_bytes(photo, codec, 10**9)
    assert highest.fits
    assert highest.quality == baselines.CODECS[codec].qualities[-1]
    assert metrics.psnr(photo, highest.pixels) > metrics.psnr(photo, lowest.pixels) + 3


@pytest.mark.parametrize("codec", CODECS)
def test_grey_comes_back_grey(photo, codec):
    grey = photo[..., :1]
    [(_, decoded)] = curve(grey, codec, [90])
    assert decoded.shape == grey.shape
    assert metrics.psnr(grey, decoded) > 30


def test_more_bytes_are_nearer(photo):
    for codec in CODECS:
        sizes, decoded = zip(*curve(photo, codec, [10, 40, 70]), strict=True)
        quality = [metrics.psnr(photo, pixels) for pixels in decoded]
        assert list(sizes) == sorted(sizes) and quality == sorted(quality)


def test_unknown_codec(photo):
    with pytest.raises(UsageError, match="no codec webp") as caught:
        baselines.at_bytes(photo, "webp", 1000)
    assert "WebP" in caught.value.hint


def test_jpeg_xl_at_equal_bytes(picture):
    pytest.importorskip("pillow_jxl")
    for channels in (3, 1):
        pixels = picture(64, 80)[..., :channels]
        coded = baselines.at_bytes(pixels, "JPEG-XL", 2000)
        assert coded.fits and coded.size_bytes <= 2000 and coded.pixels.shape == pixels.shape
        assert np.abs(coded.pixels.astype(int) - pixels).mean() < 20


def test_ssimulacra2_falls_with_quality(picture):
    pytest.importorskip("ssimulacra2")
    pixels = picture(64, 80)
    good, bad = (baselines.at_bytes(pixels, "JPEG", size).pixels for size in (4000, 900))
    assert ssimulacra2.score(pixels, pixels) == pytest.approx(100)
    assert ssimulacra2.score(pixels, good) > ssimulacra2.score(pixels, bad)
