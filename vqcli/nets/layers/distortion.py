"""What bits are weighed against: squared error mixed with MS-SSIM, and its weight at each quality."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from vqcli.nets.layers.ms_ssim import ms_ssim

SSIM_SCALE = 2500.0  # 1 - MS-SSIM times this is about the squared error of an image of usable quality

Number = TypeVar("Number", float, Tensor)


class Distortion(NamedTuple):
    """Of each image of a batch, [B].

    value   (1 - ssim) * error + ssim * SSIM_SCALE * unlike
    error   mean squared error in 0 .. 255
    unlike  1 - MS-SSIM; zeros where nothing asks for it
    """

    value: Tensor
    error: Tensor
    unlike: Tensor


def distortion(image: Tensor, original: Tensor, ssim: Tensor | float) -> Distortion:
    """Of images [B, C, H, W] in -0.5 .. 0.5; `ssim` in 0 .. 1, one or [B], is the share of MS-SSIM."""
    error = (image - original).square().flatten(1).mean(1) * 255**2
    if isinstance(ssim, float) and not ssim:
        return Distortion(error, error, torch.zeros_like(error))
    unlike = 1 - ms_ssim(image, original)
    return Distortion((1 - ssim) * error + ssim * SSIM_SCALE * unlike, error, unlike)


def lambda_at(position: Number, low: float, high: float) -> Number:
    """The weight of distortion at a position 0 .. 1 from the lowest quality to the highest: geometric."""
    return low * (high / low) ** position
