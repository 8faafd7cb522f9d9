"""Rows and grids of images for comparison, and codes as colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vqcli.errors import UsageError


def side_by_side(images: Sequence[np.ndarray], labels: Sequence[str] | None = None, gap: int = 8) -> np.ndarray:
    """Images uint8 [H, W_i, 1 or 3] of one height in a row on white, `gap` pixels apart, captions above: RGB."""
    if len({len(image) for image in images}) != 1 or (labels is not None and len(labels) != len(images)):
        raise UsageError("images in a row need one height, and a label for each or none")
    columns: list[np.ndarray] = []
    for index, image in enumerate(images):
        height, width, _ = image.shape
        column = np.broadcast_to(image, (height, width, 3))
        if labels is not None:
            caption = Image.new("RGB", (width, 22), "white")
            ImageDraw.Draw(caption).text((1, 2), labels[index], "black", ImageFont.load_default(14))
            column = np.concatenate([np.asarray(caption), column])
        columns += [np.full((len(column), gap, 3), 255, np.uint8), column]
    return np.concatenate(columns[1:], axis=1)


def grid(rows: Sequence[Sequence[np.ndarray]], names: Sequence[str] | None = None, gap: int = 4) -> np.ndarray:
    """Images uint8 [H, W, 3] of one size in rows on white, `gap` pixels apart, a name left of each row: RGB."""
    height = rows[0][0].shape[0]
    lines = [side_by_side(row, gap=gap) for row in rows]
    if names is not None:
        font = ImageFont.load_default(14)
        wide = max(round(font.getlength(name)) for name in names) + 10
        for index, name in enumerate(names):
            label = Image.new("RGB", (wide, height), "white")
            ImageDraw.Draw(label).text((wide - 6, height // 2), name, "black", font, anchor="rm")
            lines[index] = np.concatenate([np.asarray(label), lines[index]], axis=1)
    width = max(line.shape[1] for line in lines)
    lines = [
        np.pad(line, ((gap, 0), (gap, gap + width - line.shape[1]), (0, 0)), constant_values=255) for line in lines
    ]
    return np.pad(np.concatenate(lines), ((0, gap), (0, 0), (0, 0)), constant_values=255)


def codes_image(codes: np.ndarray, size: int, scale: int) -> np.ndarray:
    """Codes [rows, columns] in 0 to `size` - 1 as squares of `scale` pixels: RGB. A code has one colour everywhere."""
    if codes.size and not 0 <= codes.min() <= codes.max() < size:
        raise UsageError(f"codes must lie in 0 to {size - 1}")
    hashes = (np.arange(size, dtype=np.uint64) + 1) * 2654435761 % 2**32  # Knuth's: neighbours differ strongly
    palette = 32 + (hashes[:, None] >> np.array([8, 16, 24], np.uint64)) % 256 * 7 // 8  # [K, 3], not too dark
    return palette.astype(np.uint8)[codes].repeat(scale, axis=0).repeat(scale, axis=1)
