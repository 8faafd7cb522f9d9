"""SSIMULACRA 2: how alike two images look (Sneyers 2022); 90 is hard to tell apart, 70 good, 50 medium, 30 low.

Needs the extra `perception`. Its package follows libjxl's algorithm, but blurs by another filter: the pair of images
that the Rust port publishes at 17.4 comes to 21.2 here (of the second image only a copy in JPEG XL could be had).
Compare its scores with each other, not with those of other programs.
"""

from __future__ import annotations

import importlib.util
from io import BytesIO

import numpy as np
from PIL import Image

from vqcli.errors import UsageError


def require() -> None:
    """Raise UsageError if the extra is not installed: call it before the work."""
    if importlib.util.find_spec("ssimulacra2") is None:
        raise UsageError("SSIMULACRA 2 needs an extra that is not installed", "pip install 'vqcli[perception]'")


def score(original: np.ndarray, decoded: np.ndarray) -> float:
    """The score of pixels uint8 [H, W, 1 or 3], 100 for equal ones and below 0 for very unlike ones."""
    from ssimulacra2 import compute_ssimulacra2

    return float(compute_ssimulacra2(*map(_png, (original, decoded))))


def _png(pixels: np.ndarray) -> BytesIO:
    stream = BytesIO()
    Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))).save(stream, "PNG")
    stream.seek(0)
    return stream
