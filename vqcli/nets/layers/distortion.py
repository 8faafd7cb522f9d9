"""What bits are weighed against: squared error mixed with MS-SSIM, and its weight at each quality."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vqcli.nets.layers.ms_ssim import ms_ssim

SSIM_SCALE = 2500.0  # 1 - MS-SSIM times this is about the squared error of an image of usable quality
FLAT_WINDOW, FLAT_DEVIATION = 16, 4.0  # pixels; largest standard deviation of luma in 0 .. 255
VISIBLE = 1.0  # squared error of a colour in 0 .. 255 that nobody sees
LUMA = (0.299, 0.587, 0.114)
COLOURS = ((-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # Cb and Cr

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


def flat_colour(image: Tensor, original: Tensor) -> Tensor:
    """How blotched flat areas of images [B, 3, H, W] in -0.5 .. 0.5 are: the mean visible squared error of colour, [B].

    Of the means of Cb and Cr over windows of 16 x 16 every 8, in 0 .. 255, as `evaluation.metrics.flat_colour_error`
    measures them. It is next to nothing of the squared error, and what the eye sees first.
    """
    if min(image.shape[-2:]) < FLAT_WINDOW:
        return image.new_zeros(len(image))
    to_luma, to_colours = (255 * image.new_tensor(rows) for rows in ((LUMA,), COLOURS))
    luma = F.conv2d(original, to_luma[..., None, None])
    deviation = _pooled(luma.square()) - _pooled(luma).square()
    colours = torch.einsum("kc,bcij->bkij", to_colours, _pooled(image - original))
    visible = F.relu(colours.square().sum(1, keepdim=True) - VISIBLE)
    return (visible * (deviation <= FLAT_DEVIATION**2)).mean((1, 2, 3))


def _pooled(maps: Tensor) -> Tensor:
    return F.avg_pool2d(maps, FLAT_WINDOW, FLAT_WINDOW // 2)


def lambda_at(position: Number, low: float, high: float) -> Number:
    """The weight of distortion at a position 0 .. 1 from the lowest quality to the highest: geometric."""
    return low * (high / low) ** position
