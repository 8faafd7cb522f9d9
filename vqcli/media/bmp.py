"""BMPs whose samples are anywhere in a pixel, as masks say, of which Pillow reads the most usual ones only."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile

from vqcli.files import Body
from vqcli.media import depth

MASKED, MASKED_WITH_ALPHA = 3, 6  # values of the field of the compression


def opened(data: Body) -> BmpImageFile | Bitmap:
    """The image, by Pillow if it reads it. Raises what Pillow raises for what neither reads."""
    try:
        return BmpImageFile(data)
    except Exception:
        if (bitmap := bitmap_of(data.getvalue())) is None:
            raise
        return bitmap


def bitmap_of(data: bytes) -> Bitmap | None:
    """An image of 16 or 32 bits a pixel with masks."""
    if len(data) < 70:
        return None
    offset, header, width, height, _, bits, compression = struct.unpack("<IIiiHHI", data[10:34])
    if (
        header < 40
        or bits not in (16, 32)
        or compression not in (MASKED, MASKED_WITH_ALPHA)
        or width <= 0
        or not height
    ):
        return None
    masks = struct.unpack("<4I", data[54:70])
    # the fourth is of the header, or comes after it where the compression says so
    count = 4 if header >= 56 or compression == MASKED_WITH_ALPHA else 3
    if not all(masks[:3]) or any(mask >> bits for mask in masks[:count]):
        return None
    return Bitmap(data, offset, width, height, bits, tuple(mask for mask in masks[:count] if mask))


@dataclass(frozen=True, eq=False)
class Bitmap:
    """A BMP with masks: red, green, blue and alpha if there is any."""

    data: bytes
    offset: int
    width: int
    signed_height: int  # negative from top to bottom
    bits: int
    masks: tuple[int, ...]

    n_frames = 1

    @property
    def height(self) -> int:
        return abs(self.signed_height)

    def __enter__(self) -> Bitmap:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def image(self, notes: list[str]) -> Image.Image:
        """RGB or RGBA, with 8 bits a sample."""
        size = self.bits // 8
        pitch = -(-self.width * size // 4) * 4
        rows = np.frombuffer(self.data, np.uint8, pitch * self.height, self.offset).reshape(self.height, pitch)
        rows = rows if self.signed_height < 0 else rows[::-1]
        pixels = np.ascontiguousarray(rows[:, : self.width * size]).view(f"<u{size}")
        samples = np.empty((*pixels.shape, len(self.masks)), np.uint8)
        for number, mask in enumerate(self.masks):
            shift = (mask & -mask).bit_length() - 1
            samples[..., number] = depth.scaled((pixels & mask) >> shift, 0, mask >> shift)
        return Image.fromarray(samples)
