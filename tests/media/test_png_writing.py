import io

import numpy as np
import pytest
from PIL import Image

from vqcli.media import png_writing


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("heights", [[1], [200], [3, 64, 65, 1]])
def test_pillow_reads_what_was_written(channels: int, heights: list[int]) -> None:
    generator = np.random.default_rng(0)
    y, x = np.mgrid[: sum(heights), :37]
    smooth = (np.stack([3 * x + y, 2 * y, x * y // 9][:channels], -1) % 256).astype(np.uint8)
    noise = generator.integers(0, 256, smooth.shape, np.uint8)
    for pixels in (smooth, noise, np.zeros_like(smooth), np.where(y[..., None] % 2, smooth, noise)):
        stream = io.BytesIO()
        png_writing.write(stream, np.split(pixels, np.cumsum(heights)[:-1]), 37, len(pixels), channels)
        found = np.asarray(Image.open(stream)).reshape(pixels.shape)
        assert np.array_equal(found, pixels)


def test_smooth_images_take_about_what_pillow_makes_of_them(picture) -> None:
    pixels, stream, other = np.tile(picture(8, 300), (40, 1, 1)), io.BytesIO(), io.BytesIO()
    png_writing.write(stream, [pixels], 300, 320, 3)
    Image.fromarray(pixels).save(other, "PNG", compress_level=6)
    assert len(stream.getvalue()) < 1.1 * len(other.getvalue())
