"""Baseline image codecs, lossy at equal bytes or lossless."""

from __future__ import annotations

import time
from bisect import bisect_right
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from vqcli.errors import UsageError, near_matches
from vqcli.media import image

USUAL = ("JPEG", "WebP", "AVIF")  # the default baselines


@dataclass(frozen=True)
class Codec:
    format: str  # name in Pillow
    qualities: range  # from the smallest files to the largest
    options: dict[str, Any] = field(default_factory=dict)


JXL = "JPEG-XL"

# Good settings, but not the slowest: WebP's method 6 and AVIF's speed 0 save a few per cent
# for many times the time. The first three store colour at half the resolution.
CODECS = {
    "JPEG": Codec("JPEG", range(1, 96), {"optimize": True, "subsampling": "4:2:0"}),
    "WebP": Codec("WEBP", range(0, 101), {"method": 4}),
    "AVIF": Codec("AVIF", range(0, 101), {"speed": 6, "subsampling": "4:2:0"}),
    JXL: Codec("JXL", range(0, 100), {"effort": 7}),  # with pillow-jxl-plugin, no extra: its licence is the GPL
}

# Lossless, at their smallest.
LOSSLESS = {
    "PNG": Codec("PNG", range(1), {"optimize": True}),
    "WebP": Codec("WEBP", range(100, 101), {"lossless": True, "method": 6}),
}


@dataclass(frozen=True, eq=False)
class CodedImage:
    quality: int
    size_bytes: int
    pixels: np.ndarray  # decoded, uint8, of the original shape
    fits: bool = True  # false if the smallest file of the codec is above the size limit
    data: bytes = field(default=b"", repr=False)  # the file
    seconds: float = 0.0  # to encode it, once


def at_bytes(pixels: np.ndarray, codec: str, size_bytes: int) -> CodedImage:
    """The best quality of `codec` for uint8 [H, W, 1 or 3] whose file is not above `size_bytes`, by bisection.

    Assumes that sizes grow with the quality; where that fails by a few bytes the result is still not above.
    Raises UsageError for an unknown codec.
    """
    qualities = _codec(codec).qualities
    files: dict[int, bytes] = {}
    took_s: dict[int, float] = {}

    def size_at(quality: int) -> int:
        begun = time.perf_counter()
        files[quality] = _encode(pixels, codec, quality)
        took_s[quality] = time.perf_counter() - begun
        return len(files[quality])

    fitting = bisect_right(qualities, size_bytes, key=size_at)
    # the bisection has encoded the last that fits, and, if none does, the first
    quality = qualities[max(fitting - 1, 0)]
    data = files[quality]
    return CodedImage(quality, len(data), _decode(data, pixels), fitting > 0, data, took_s[quality])


def encode_lossless(pixels: np.ndarray, codec: str) -> CodedImage:
    """The lossless file of `codec` for pixels uint8 [H, W, 1 or 3]. Raises UsageError for a codec that has none."""
    known = _codec(codec, LOSSLESS)
    quality = known.qualities[0]
    data = image.encode_bytes(pixels, known.format, quality=quality, **known.options)
    return CodedImage(quality, len(data), _decode(data, pixels))


def _codec(name: str, codecs: dict[str, Codec] = CODECS) -> Codec:
    if name not in codecs:
        raise UsageError(f"no codec {name}", near_matches(name, codecs))
    if name == JXL:
        try:
            import pillow_jxl  # noqa: F401  it adds the format to Pillow
        except ImportError:
            raise UsageError(f"{JXL} needs a plugin of Pillow's", "pip install pillow-jxl-plugin (GPL-3.0)") from None
    return codecs[name]


def _encode(pixels: np.ndarray, codec: str, quality: int) -> bytes:
    return image.encode_bytes(pixels, _codec(codec).format, quality=quality, **_codec(codec).options)


def _decode(data: bytes, original: np.ndarray) -> np.ndarray:
    """Decoded pixels with the channels of `original`: WebP and AVIF store grey as colour."""
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):  # which vq does not read as input
        colour = Image.open(BytesIO(data), formats=["JXL"]).convert("RGB")
        return np.asarray(colour)[..., : original.shape[2]]
    return image.read(BytesIO(data)).pixels[..., : original.shape[2]]
