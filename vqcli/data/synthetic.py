"""Images drawn on the fly: text, screenshots, line art, gradients, dark skies and patterns, for the training of codecs.

Photographs hold few of them, and a codec that has never seen them rings around letters, shows blotches on skies and
makes anything of a chessboard.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

LETTERS = string.ascii_letters + string.digits + ".,;:!?()[]{}<>/+-=*&%$#@'\"" + " " * 12
DARKEST, LARGEST_NOISE = 70, 6.0  # of skies, in 0 .. 255


def draw(rng: random.Random, side: int) -> np.ndarray:
    """An image uint8 [side, side, 3] of a kind drawn at random; only `rng` decides what is in it."""
    kinds: tuple[Callable[[random.Random, int], np.ndarray], ...] = (
        text,
        screenshot,
        line_art,
        gradient,
        dark_sky,
        pattern,
    )
    return kinds[_below(rng, len(kinds))](rng, side)


def text(rng: random.Random, side: int) -> np.ndarray:
    """Lines of random letters in one or two sizes, dark on light or the reverse."""
    paper, ink = _contrasting(rng)
    image = Image.new("RGB", (side, side), paper)
    _write(rng, ImageDraw.Draw(image), (0, 0, side, side), ink)
    return np.asarray(image)


def screenshot(rng: random.Random, side: int) -> np.ndarray:
    """Windows: flat boxes with frames, bars, buttons and text."""
    image = Image.new("RGB", (side, side), _colour(rng))
    pen = ImageDraw.Draw(image)
    for _ in range(2 + _below(rng, 4)):
        left, top = _below(rng, side) - side // 6, _below(rng, side) - side // 6
        box = (left, top, left + 24 + _below(rng, side), top + 16 + _below(rng, side))
        paper, ink = _contrasting(rng)
        pen.rectangle(box, fill=paper, outline=ink if rng.random() < 0.5 else None, width=1 + _below(rng, 2))
        if rng.random() < 0.7:
            _write(rng, pen, (box[0] + 4, box[1] + 3, box[2] - 4, box[3] - 3), ink)
    return np.asarray(image)


def line_art(rng: random.Random, side: int) -> np.ndarray:
    """Lines, arcs and polygons; half of them anti-aliased, by drawing at twice the size."""
    scale = 1 + _below(rng, 2)
    paper, ink = _contrasting(rng)
    image = Image.new("RGB", (side * scale, side * scale), paper)
    pen = ImageDraw.Draw(image)
    for _ in range(4 + _below(rng, 24)):
        points = [(_below(rng, side * scale), _below(rng, side * scale)) for _ in range(2 + _below(rng, 3))]
        width, colour = scale * (1 + _below(rng, 3)), ink if rng.random() < 0.7 else _colour(rng)
        if rng.random() < 0.3:
            (a, b), (c, d) = points[:2]
            pen.ellipse((min(a, c), min(b, d), max(a, c), max(b, d)), outline=colour, width=width)
        elif rng.random() < 0.2:
            pen.polygon([*points, points[0]], fill=colour)
        else:
            pen.line(points, fill=colour, width=width)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def gradient(rng: random.Random, side: int) -> np.ndarray:
    """A smooth change between two colours, perhaps with the noise of a camera."""
    return _blend(rng, side, _colour(rng), _colour(rng))


def dark_sky(rng: random.Random, side: int) -> np.ndarray:
    """The same between two dark colours near each other."""
    dark = tuple(_below(rng, DARKEST) for _ in range(3))
    other = tuple(min(255, max(0, value + _below(rng, 31) - 15)) for value in dark)
    return _blend(rng, side, dark, other)  # type: ignore[arg-type]


def pattern(rng: random.Random, side: int) -> np.ndarray:
    """Squares of one size, of two colours by turns or by chance, or of any: chessboards, codes to scan, noise."""
    square = 1 + _below(rng, 16)
    count = -(-side // square)
    noise = np.random.default_rng(_below(rng, 2**31))
    if rng.random() < 0.3:
        cells = noise.integers(0, 256, (count, count, 3))
    else:
        two = np.array(_contrasting(rng))
        by_turns = np.add.outer(np.arange(count), np.arange(count)) % 2
        cells = two[by_turns if rng.random() < 0.4 else noise.integers(0, 2, (count, count))]
    return cells.repeat(square, 0).repeat(square, 1)[:side, :side].astype(np.uint8)


def _blend(rng: random.Random, side: int, a: Colour, b: Colour) -> np.ndarray:
    angle, noise = 2 * np.pi * rng.random(), max(0.0, rng.random() - 0.4) * LARGEST_NOISE / 0.6
    y, x = np.mgrid[:side, :side] / side - 0.5
    along = np.clip(np.cos(angle) * x + np.sin(angle) * y + 0.5, 0, 1)[..., None]
    values = np.array(a) + along ** (0.5 + rng.random()) * (np.array(b) - np.array(a))
    grain = np.random.default_rng(_below(rng, 2**31)).normal(0, noise, values.shape) if noise else 0.0
    return np.clip(np.round(values + grain), 0, 255).astype(np.uint8)


def _write(rng: random.Random, pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], ink: Colour) -> None:
    """Lines of text in the box, in one size."""
    left, top, right, bottom = box
    size = 8 + _below(rng, 22)
    font = _font(size)
    for line in range(top, bottom - size, size + 2 + _below(rng, 6)):
        words = "".join(LETTERS[_below(rng, len(LETTERS))] for _ in range(max(1, 2 * (right - left) // size)))
        pen.text((left + _below(rng, 3), line), words, fill=ink, font=font)


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _contrasting(rng: random.Random) -> tuple[Colour, Colour]:
    """Two colours of a background and what is drawn on it: mostly near white and black, or the reverse."""
    if rng.random() < 0.3:
        return _colour(rng), _colour(rng)
    light: Colour = (255 - _below(rng, 32),) * 3 if rng.random() < 0.7 else tuple(200 + c // 5 for c in _colour(rng))  # type: ignore[assignment]
    dark: Colour = (_below(rng, 64),) * 3 if rng.random() < 0.7 else tuple(c // 3 for c in _colour(rng))  # type: ignore[assignment]
    return (light, dark) if rng.random() < 0.7 else (dark, light)


def _colour(rng: random.Random) -> Colour:
    return _below(rng, 256), _below(rng, 256), _below(rng, 256)


def _below(rng: random.Random, n: int) -> int:
    """A whole number in 0 .. n - 1; only `random` of a seeded generator is promised to stay the same."""
    return int(rng.random() * n)
