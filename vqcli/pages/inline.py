"""Arrays as data URIs, so that a page holds all that it shows."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO

import numpy as np

from vqcli.media import audio, image

MIME = {"JPEG": "image/jpeg", "WebP": "image/webp", "AVIF": "image/avif"}  # codecs whose files browsers decode
# about 45 dB to the pixels themselves, at a fifth of the bytes of a PNG; colour at full resolution
SHOWN = {"quality": 88, "speed": 9, "subsampling": "4:4:4"}


def uri(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def photograph(pixels: np.ndarray) -> str:
    """Pixels uint8 [H, W, 1 or 3] of a photograph, within about 45 dB."""
    return uri(image.encode_bytes(pixels, "AVIF", **SHOWN), "image/avif")


def drawing(pixels: np.ndarray) -> str:
    """Pixels uint8 [H, W, 1 or 3] of few colours or of small images, exactly."""
    return uri(image.encode_bytes(pixels, "WEBP", lossless=True, method=4), "image/webp")


def strip(frames: Sequence[np.ndarray]) -> str:
    """Frames uint8 [H, W, 3] one below the other, which the page shows one by one."""
    return uri(image.encode_bytes(np.concatenate(list(frames)), "WEBP", quality=90, method=4), "image/webp")


def recording(samples: np.ndarray, rate_hz: int) -> str:
    """Mono float [N] without loss."""
    stream = BytesIO()
    audio.write(stream, np.asarray(samples, np.float32)[None], rate_hz, format="flac")
    return uri(stream.getvalue(), "audio/flac")
