"""Crops, scaling and augmentation of pixels uint8 [H, W, 1 or 3] for batches."""

from __future__ import annotations

import math
import random

import msgspec
import numpy as np
from PIL import Image, ImageEnhance

from vqcli.recipe import Data

WIDER = 0.15  # with data.size: how much longer than that the shorter side may be in training


def on_a_grid(data: Data, stride: int) -> Data:
    """A recipe for images applied to their codes: crops in codes, without resizing, flips and colour."""
    if stride == 1:
        return data
    return msgspec.structs.replace(
        data, size=None, crop=max(1, data.crop // stride), flip=False, shrink=1.0, colour=0.0
    )


def rgb(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 1 or 3] -> [H, W, 3], contiguous."""
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def reduced(pixels: np.ndarray, size: int | None) -> np.ndarray:
    """[H, W, 3] with its shorter side reduced to `size` pixels, if it is longer."""
    height, width = pixels.shape[:2]
    if size is None or min(height, width) <= size:
        return pixels
    ratio = size / min(height, width)
    target = (round(width * ratio), round(height * ratio))
    return np.asarray(Image.fromarray(pixels).resize(target, Image.Resampling.LANCZOS))


def random_crop(pixels: np.ndarray, data: Data, rng: random.Random) -> np.ndarray:
    """A crop [crop, crop, 3] from anywhere, perhaps flipped, perhaps reduced from a larger one.

    With `data.size` the image is first brought to a shorter side of `size` to 1.15 x `size`.
    Only `rng.random` is used: of a seeded generator Python promises no more to stay the same.
    """
    shorter = min(pixels.shape[:2])
    length = shorter if data.size is None else data.size + int(rng.random() * (round(WIDER * data.size) + 1))
    side = data.crop
    if rng.random() < 0.5:
        largest = min(length, round(data.crop / data.shrink) if data.shrink else length)
        side += int(rng.random() * (max(largest, side) - side + 1))
    top, left = (int(rng.random() * (extent * length // shorter - side + 1)) for extent in pixels.shape[:2])
    crop = _cut(pixels, top, left, side, data.crop, shorter / length)
    if data.flip and rng.random() < 0.5:
        crop = crop[:, ::-1]
    return recoloured(crop, data.colour, rng) if data.colour else crop


def recoloured(pixels: np.ndarray, most: float, rng: random.Random) -> np.ndarray:
    """Pixels [H, W, 3] with brightness, contrast and saturation times 1 / (1 + most) to 1 + most, evenly in the log."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance((1 + most) ** (2 * rng.random() - 1))
    return np.asarray(image)


def centre_crop(pixels: np.ndarray, data: Data) -> np.ndarray:
    """The middle [crop, crop, 3] of the image, whose shorter side is `data.size` if that is given."""
    shorter = min(pixels.shape[:2])
    length = data.size or shorter
    top, left = ((extent * length // shorter - data.crop) // 2 for extent in pixels.shape[:2])
    return _cut(pixels, top, left, data.crop, data.crop, shorter / length)


def _cut(pixels: np.ndarray, top: int, left: int, side: int, crop: int, scale: float) -> np.ndarray:
    """The square of `side` at (top, left) of the image reduced by `scale`, as [crop, crop, 3].

    Both reductions are one, and only the square is computed, however long the image is.
    """
    if scale == 1 and side == crop:
        return pixels[top : top + side, left : left + side]
    margin = math.ceil(3 * max(1, scale * side / crop))  # the support of Lanczos beyond the edge
    y, x = (max(0, int(scale * start) - margin) for start in (top, left))
    bottom, right = (math.ceil(scale * (start + side)) + margin for start in (top, left))
    part = pixels[y:bottom, x:right]
    box = (
        *(scale * left - x, scale * top - y),
        *(min(scale * (left + side) - x, part.shape[1]), min(scale * (top + side) - y, part.shape[0])),
    )
    return np.asarray(Image.fromarray(part).resize((crop, crop), Image.Resampling.LANCZOS, box=box))
