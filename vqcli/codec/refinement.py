"""Encoding with effort: the codes of an image are searched for, with the decoder and its entropy model as they are.

The encoder gives each latent in one pass; another choice near to it may cost fewer bits or look better. Latents are
moved by gradient descent on what training minimised, bits + lambda * distortion, of this very image, through a rounding
that begins soft and becomes hard (Yang, Bamler and Mandt 2020; soft rounding: Agustsson and Theis 2020). The file needs
nothing new to decode.

The image is taken in tiles, one after the other, each with a margin of codes around it that stay as they are; so memory
is bounded, and equal inputs give equal files on one machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vqcli.codec.codes import ImageCodes
from vqcli.codec.tiling import Window, padded
from vqcli.container.header import TUNES, tune_of
from vqcli.errors import UsageError
from vqcli.nets.layers.convnet2d import from_pixels, in_channels
from vqcli.nets.layers.distortion import distortion, lambda_at
from vqcli.nets.layers.ms_ssim import WINDOW
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo.loading import LoadedModel

LARGEST_EFFORT = 9
STEPS = (0, 8, 14, 22, 32, 45, 60, 80, 110, 150)  # of gradient descent, for each effort
SIDE, MARGIN = 64, 8  # of a tile, in codes; multiples of the coarsest lattice of the entropy model
LEARNING_RATE = 0.01  # of latents, in units of codes
SHARPNESS = (1.0, 14.0)  # of the rounding, at the first and the last step


@dataclass(frozen=True)
class Aim:
    """bits + weight * distortion of all pixels, as training minimised it; `ssim` is the share of MS-SSIM."""

    weight: float
    ssim: float


def refined(
    model: LoadedModel, pixels: np.ndarray, image: ImageCodes, effort: int, progress: ProgressCallback = silent
) -> ImageCodes:
    """Codes that cost less, or look better, than those of the encoder, of pixels uint8 [H, W, 1 or 3].

    effort  1 (least) to 9 (most)
    """
    aim = aim_of(model, image.quality)
    codes = image.codes.copy()
    tiles = list(_tiles(codes.shape[1:]))
    for n, (inner, outer) in enumerate(tiles):
        part = _part(progress, n / len(tiles), 1 / len(tiles))
        better = _Tile(model, pixels, codes, image.quality, inner, outer).refined(aim, STEPS[effort], part)
        codes[(slice(None), *inner)] = better
    return replace(image, codes=codes)


def check(model: LoadedModel, effort: int) -> None:
    """Raise UsageError for an effort that there is not, or above 0 for a model without an entropy model of its own."""
    if not 0 <= effort <= LARGEST_EFFORT:
        raise UsageError(f"effort {effort} is not within 0 to {LARGEST_EFFORT}")
    if effort and not hasattr(model.net, "rate"):
        raise UsageError(f"model {model.info.name} has no entropy model of its own to search with", "--model photo-2")


def aim_of(model: LoadedModel, quality: int) -> Aim:
    """What the model was trained for at a quality in tenths."""
    rate = model.info.description["recipe"]["rate"]
    tune, within = tune_of(quality / 10)
    weight = lambda_at((within - 1) / max(model.image.qualities - 1, 1), rate["lambda_low"], rate["lambda_high"])
    return Aim(weight, rate["ssim"] if tune == TUNES[0] else 0.0)


class _Tile:
    """Codes of a window that may move, and those around it that stay."""

    def __init__(
        self, model: LoadedModel, pixels: np.ndarray, codes: np.ndarray, tenths: int, inner: Window, outer: Window
    ) -> None:
        self.net, self.kind = model.net, codes.dtype
        self.limit = self.net.quantizer.limit[:, None, None]
        self.quality = torch.tensor([tenths / 10], device=model.device)
        there = torch.from_numpy(codes[(slice(None), *outer)].astype(np.int32)).to(model.device)
        self.values = there[None] - self.limit  # [1, G, rows, columns], from the middle of the codebook
        rows, columns = (slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
        self.place = ..., rows, columns
        region = padded(pixels, *(slice(s.start * self.net.stride, s.stop * self.net.stride) for s in outer))
        self.original = in_channels(from_pixels(region[None], model.device), self.net.channels)
        with torch.no_grad():  # the margin is wider than the reach of the encoder
            self.latents = self.net.scaled(self.net.latents(self.original), self.quality)[self.place]

    def cost(self, values: Tensor, aim: Aim) -> Tensor:
        """Of the whole tile with these values [1, G, rows, columns] in its window."""
        whole = self.values.clone()
        whole[self.place] = values
        height, width = self.original.shape[2:]
        ssim = aim.ssim if min(height, width) >= WINDOW else 0.0  # a smaller image has no MS-SSIM
        lost = distortion(self.net.reconstruct(whole, self.quality), self.original, ssim).value
        area = height * width
        return (self.net.rate.bits(whole, self.quality) + aim.weight * area * lost).sum()

    @torch.enable_grad()
    def refined(self, aim: Aim, steps: int, progress: ProgressCallback) -> np.ndarray:
        """Codes [G, rows, columns] of the window: better ones, or those that are there."""
        begin = self.values[self.place].clone()
        latents = self.latents.clone().requires_grad_()
        optimizer = torch.optim.Adam([latents], LEARNING_RATE)
        low, high = SHARPNESS
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps) ** 0.5
            optimizer.zero_grad()
            self.cost(soft_round(latents, low * (high / low) ** (step / max(steps - 1, 1))), aim).backward()
            optimizer.step()
            progress((step + 1) / steps)
        with torch.no_grad():
            found = torch.minimum(torch.maximum(latents.round(), -self.limit), self.limit)
            best = found if self.cost(found, aim) < self.cost(begin, aim) else begin
        return (best + self.limit)[0].cpu().numpy().astype(self.kind)


def _part(progress: ProgressCallback, begin: float, length: float) -> ProgressCallback:
    """Progress of a part of the work that begins at a share of it."""
    return lambda share: progress(begin + length * share)


def soft_round(x: Tensor, sharpness: float) -> Tensor:
    """x rounded, the more so the sharper: x itself for small ones, round(x) for large ones; exact at whole numbers."""
    middle = x.detach().floor() + 0.5
    scale = float(np.tanh(sharpness / 2))
    return middle + torch.tanh(sharpness * (x - middle)) / (2 * scale)


def _tiles(grid: tuple[int, ...]) -> Iterator[tuple[Window, Window]]:
    """Tiles of a grid, each with its margin."""
    rows, columns = grid
    for top in range(0, rows, SIDE):
        for left in range(0, columns, SIDE):
            inner = slice(top, min(top + SIDE, rows)), slice(left, min(left + SIDE, columns))
            outer = tuple(
                slice(max(s.start - MARGIN, 0), min(s.stop + MARGIN, side)) for s, side in zip(inner, grid, strict=True)
            )
            yield inner, outer  # type: ignore[misc]
