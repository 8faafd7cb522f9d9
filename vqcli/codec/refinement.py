"""Encoding with effort: the codes of an image are searched for, with the decoder as it is.

The encoder gives each latent in one pass; another choice near to it may cost fewer bits or look better. Codes are moved
by gradient descent on bits + lambda * distortion of this very image, as numbers that become codes in the course of it
(Yang, Bamler and Mandt 2020; nets/layers/code_search.py). The file needs nothing new to decode.

The image is taken in tiles, one after the other, each with a margin of codes around it that stay as they are; so memory
is bounded, and equal inputs give equal files on one machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from vqcli.codec.codes import ImageCodes
from vqcli.codec.tiles import Window
from vqcli.codec.tiling import padded
from vqcli.container.header import TUNES, tune_of
from vqcli.entropy import prior2d, prior2d_net
from vqcli.errors import ModelError, UsageError
from vqcli.nets.layers.code_search import Coded, Costs
from vqcli.nets.layers.convnet2d import from_pixels, in_channels
from vqcli.nets.layers.distortion import distortion, flat_colour, lambda_at
from vqcli.nets.layers.ms_ssim import WINDOW
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo.loading import LoadedModel

LARGEST_EFFORT = 9
STEPS = (0, 4, 8, 14, 22, 32, 45, 65, 95, 140)  # of gradient descent, for each effort
SIDE, MARGIN = 64, 8  # of a tile, in codes; multiples of the coarsest lattice of the entropy model
SSIM = 0.5  # share of MS-SSIM where the model was trained without rate


@dataclass(frozen=True)
class Aim:
    """bits + weight * distortion of all pixels.

    weight  as training had it; None for a model that was trained without rate: such that a per
            cent of the bits is worth one of the distortion
    ssim    share of MS-SSIM
    flat    weight of blotches in flat areas, against squared error
    """

    weight: float | None
    ssim: float
    flat: float = 0.0


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
    """Raise UsageError for an effort that there is not, or above 0 for a model whose codes cannot be searched."""
    if not 0 <= effort <= LARGEST_EFFORT:
        raise UsageError(f"effort {effort} is not within 0 to {LARGEST_EFFORT}")
    if effort and not model.image.searchable:
        raise UsageError(f"model {model.info.name} cannot search for codes", "--model photo-2 or tokens")


def aim_of(model: LoadedModel, quality: int) -> Aim:
    """What the model was trained for at a quality in tenths; 0 for a model that has but one."""
    if not quality:
        return Aim(None, SSIM)
    rate = (model.info.description.get("recipe") or {}).get("rate") or {}
    if not all(isinstance(rate.get(name), float | int) for name in ("lambda_low", "lambda_high", "ssim")):
        raise ModelError(f"model {model.info.name} does not say what it was trained for", "--effort 0")
    tune, within = tune_of(quality / 10)
    weight = lambda_at((within - 1) / max(model.image.qualities - 1, 1), rate["lambda_low"], rate["lambda_high"])
    return Aim(weight, rate["ssim"], rate.get("flat", 0.0)) if tune == TUNES[0] else Aim(weight, 0.0)


class _Tile:
    """Codes of a window that may move, and those around it that stay."""

    def __init__(
        self, model: LoadedModel, pixels: np.ndarray, codes: np.ndarray, tenths: int, inner: Window, outer: Window
    ) -> None:
        net, stride, self.kind = model.image, model.image.stride, codes.dtype
        there = torch.from_numpy(codes[(slice(None), *outer)].astype(np.int64)).to(model.device)
        rows, columns = (slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
        region = padded(pixels, *(slice(s.start * stride, s.stop * stride) for s in outer))
        self.original = in_channels(from_pixels(region[None], model.device), net.channels)
        self.begin = there[:, rows, columns]
        self._weight: float | None = None
        quality = torch.tensor([tenths / 10], device=model.device) if tenths else None
        # the margin is wider than the reach of the encoder
        self.search = net.search(self.original, there, (rows, columns), quality, _costs(model))

    def cost(self, coded: Coded, aim: Aim) -> Tensor:
        """Of the whole tile."""
        image, bits = coded
        return bits + self.lost(image, aim)

    def lost(self, image: Tensor, aim: Aim) -> Tensor:
        """What the distortion of the whole tile weighs against bits."""
        value = distortion(image, self.original, self._ssim(aim)).value.sum()
        if aim.flat:
            value = value + aim.flat * flat_colour(image, self.original).sum()
        return self.weight(aim) * image[0, 0].numel() * value

    def _ssim(self, aim: Aim) -> float:
        return aim.ssim if min(self.original.shape[2:]) >= WINDOW else 0.0  # a smaller image has no MS-SSIM

    def weight(self, aim: Aim) -> float:
        """Of distortion against bits, as the aim says, or such that both count alike where the search begins."""
        if aim.weight is not None:
            return aim.weight
        if self._weight is None:
            with torch.no_grad():
                image, bits = self.search.hard(self.begin)
                lost = distortion(image, self.original, self._ssim(aim)).value.sum() * image[0, 0].numel()
            self._weight = float(bits / lost.clamp_min(1e-6))
        return self._weight

    @torch.enable_grad()
    def refined(self, aim: Aim, steps: int, progress: ProgressCallback) -> np.ndarray:
        """Codes [G, rows, columns] of the window: better ones, or those that are there."""
        search = self.search
        pace = search.pace(steps)
        optimizer = torch.optim.Adam([search.free], pace)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = pace * (1 - step / steps) ** 0.5
            optimizer.zero_grad()
            search.soft(step / max(steps - 1, 1), lambda image: self.lost(image, aim)).backward()
            optimizer.step()
            progress((step + 1) / steps)
        with torch.no_grad():
            begin, found = self.begin, search.found()
            best = found if self.cost(search.hard(found), aim) < self.cost(search.hard(begin), aim) else begin
        return best.cpu().numpy().astype(self.kind)


def _costs(model: LoadedModel) -> Costs | None:
    """Bits of vector codes under the model's entropy model, if it has one."""
    if model.image.qualities or model.entropy_model is None:
        return None
    net = cast(prior2d_net.Net, model.entropy_model[0])  # that of every codec of images
    return lambda codes: torch.from_numpy(prior2d.bits(codes.cpu().numpy(), net)).to(codes.device)


def _part(progress: ProgressCallback, begin: float, length: float) -> ProgressCallback:
    """Progress of a part of the work that begins at a share of it."""
    return lambda share: progress(begin + length * share)


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
