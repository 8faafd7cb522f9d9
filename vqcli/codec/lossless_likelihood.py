"""What a decoder says of pixels, as the integers of entropy/pixel_likelihood.py: the same ones on every machine."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from vqcli.codec.guarded import Listed, rounded
from vqcli.entropy import pixel_likelihood
from vqcli.entropy.pixel_likelihood import Categories, Mixture
from vqcli.nets.layers.likelihood import VALUES, Categorical, Gaussian, Likelihood, LogisticMixture


def parameters(
    likelihood: Likelihood, made: Tensor, listed: Mapping[int, bool] | None = None
) -> tuple[Mixture | Categories, Listed]:
    """What `made` [numbers, H, W] says of the pixels [C, H, W] of an image, and the list of `rounded`.

    `made` is what the decoder makes in float64 on the CPU. Positions of the list count through the arrays of
    entropy/pixel_likelihood.py in their order there.

    Raises ValueError for a lesser precision, which no list could mend.
    """
    if made.dtype != torch.float64:
        raise ValueError(f"a decoder's numbers are to be float64, not {made.dtype}")
    arrays = _on_grid(likelihood, made.detach().cpu()[None])
    whole, listed = rounded(np.concatenate([array.ravel() for array in arrays]), listed)
    ends = np.cumsum([array.size for array in arrays])
    parts = [part.reshape(array.shape) for part, array in zip(np.split(whole, ends[:-1]), arrays, strict=True)]
    if isinstance(likelihood, Categorical):
        return Categories(*parts), listed
    if isinstance(likelihood, LogisticMixture):
        return Mixture("logistic", *parts), listed
    means, log_scales = parts[0][:, None], parts[1][:, None, None, None]
    C, _, H, W = means.shape
    nothing = np.zeros_like(means)  # one component, and channels that know nothing of each other
    return Mixture("normal", nothing, means, nothing + log_scales, np.zeros((C * (C - 1) // 2, H, W), np.int32)), listed


def _on_grid(likelihood: Likelihood, made: Tensor) -> list[np.ndarray]:
    """The likelihood's parameters at one image, `made` [1, numbers, H, W], float64 in steps of their grids."""
    bit = 1 / math.log(2)  # of a nat
    parts: list[Tensor]
    if isinstance(likelihood, LogisticMixture):
        log_weights, means, log_scales, coefficients = (part[0] for part in likelihood.split(made))
        parts = [
            log_weights * (bit * pixel_likelihood.WEIGHT),
            means * pixel_likelihood.GREY_VALUE,
            log_scales * (bit * pixel_likelihood.OCTAVE),
            coefficients * pixel_likelihood.COEFFICIENT,
        ]
    elif isinstance(likelihood, Gaussian):
        means = (likelihood.mean(made)[0] + 0.5) * (VALUES - 1)
        log_scales = likelihood.log_scale.detach().cpu().double()
        parts = [means * pixel_likelihood.GREY_VALUE, log_scales * (bit * pixel_likelihood.OCTAVE)]
    elif isinstance(likelihood, Categorical):
        logits = made[0].unflatten(0, (VALUES, likelihood.channels)).movedim(0, -1)  # (channels, H, W, 256)
        parts = [logits * (bit * pixel_likelihood.LOGIT)]
    else:
        raise TypeError(f"no integers are known for {type(likelihood).__name__}")
    return [part.numpy() for part in parts]
