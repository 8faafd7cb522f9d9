"""p(x | z) of images: distributions over the 256 values of each channel of each pixel.

A decoder outputs some numbers for each pixel, the parameters of a likelihood. All three give every value 0 .. 255 a
probability mass, so that their logarithms are comparable, unlike densities of continuous values.

    gaussian      a mean for each channel, one scale for all pixels of a channel
    logistics     a mixture of discretised logistics for each channel (Salimans et al. 2017, PixelCNN++)
    categorical   256 logits for each channel (probably the paper's, section 4.1)
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VALUES = 256


def to_grey_values(x: Tensor) -> Tensor:
    """Pixels in -0.5 .. 0.5 as whole grey values 0 .. 255 (float)."""
    return torch.round((x.float() + 0.5) * (VALUES - 1))


def from_grey_values(values: Tensor) -> Tensor:
    return values / (VALUES - 1) - 0.5


def _wide(output: Tensor) -> Tensor:
    """In float32 at the least; float64 stays, for what must be the same on every machine."""
    return output if output.dtype == torch.float64 else output.float()


def bits_per_dim(nats: Tensor, x: Tensor) -> Tensor:
    """Nats for each image of x [B, ...] as bits for each of its values."""
    return nats / (math.log(2) * x[0].numel())


class Likelihood(nn.Module):
    """p(x | z) of images x [B, channels, H, W], whose parameters are a decoder's `output` [B, numbers, H, W]."""

    channels: int
    numbers: int  # parameters for each pixel: output channels of a decoder

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """log p(x | z) in nats, [B]: the sum over all pixels and channels. x in -0.5 .. 0.5, of whole grey values."""
        raise NotImplementedError

    def mean(self, output: Tensor) -> Tensor:
        """The expected image [B, channels, H, W] in -0.5 .. 0.5."""
        raise NotImplementedError

    def of_means(self, kernel: Tensor) -> Tensor:
        """A kernel [n, channels, ...] with images as output, as a kernel [n, numbers, ...] with them as means."""
        raise NotImplementedError


class Gaussian(Likelihood):
    """Mass of a normal distribution between v - 1/2 and v + 1/2; the first and last value take the tails.

    Its logarithm is -(v - mean)^2 / (2 scale^2) but for constants: what a squared error stands for (eq. 3).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = self.numbers = channels
        self.log_scale = nn.Parameter(torch.full((channels,), math.log(16.0)))  # in grey values

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        values, scale = to_grey_values(x), self.log_scale.exp()[:, None, None]
        offset = values - self._grey_values(output)
        lower = torch.where(values == 0, -torch.inf, (offset - 0.5) / scale)
        upper = torch.where(values == VALUES - 1, torch.inf, (offset + 0.5) / scale)
        # both in the lower tail, where their logarithms keep their digits
        flipped = offset > 0
        lower, upper = torch.where(flipped, -upper, lower), torch.where(flipped, -lower, upper)
        high, low = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
        gap = (high - low).clamp(min=1e-6)
        return (high + torch.log(-torch.expm1(-gap))).flatten(1).sum(1)

    def mean(self, output: Tensor) -> Tensor:
        return _wide(output)

    def of_means(self, kernel: Tensor) -> Tensor:
        return kernel

    @staticmethod
    def _grey_values(output: Tensor) -> Tensor:
        return (_wide(output) + 0.5) * (VALUES - 1)


class LogisticMixture(Likelihood):
    """Logistics between v - 1/2 and v + 1/2, mixed; the first and last value take the tails.

    A channel's means shift with the deviations of earlier channels from their own means, by coefficients of each pixel,
    as the channels of a pixel are correlated. `components` are those of a channel.
    """

    SCALE = 8.0  # grey values, for a decoder output of 0
    LOG_SCALES = (-3.0, 5.5)  # of scales in grey values

    def __init__(self, channels: int, components: int = 3) -> None:
        super().__init__()
        self.channels, self.components = channels, components
        self.pairs = channels * (channels - 1) // 2
        self.numbers = 3 * channels * components + self.pairs

    def split(self, output: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log weights, means and log scales [B, channels, components, H, W], coefficients [B, pairs, H, W].

        Means and scales are in grey values; coefficients are of (2, 1), (3, 1), (3, 2): channel and earlier one.
        """
        parts, coefficients = output.split([self.numbers - self.pairs, self.pairs], 1)
        weights, means, scales = _wide(parts).unflatten(1, (3, self.channels, self.components)).unbind(1)
        log_scales = (scales + math.log(self.SCALE)).clamp(*self.LOG_SCALES)
        return weights.log_softmax(2), (means + 0.5) * (VALUES - 1), log_scales, torch.tanh(_wide(coefficients))

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        log_weights, means, log_scales, coefficients = self.split(output)
        values = to_grey_values(x)
        deviations = values - (log_weights.exp() * means).sum(2)  # of each channel from its mean, [B, channels, H, W]
        shift = torch.stack(self._shifts(deviations, coefficients), 1)
        offset = (values - shift)[:, :, None] - means
        precision = torch.exp(-log_scales)
        upper, lower = (offset + 0.5) * precision, (offset - 0.5) * precision
        below, above = F.logsigmoid(upper), F.logsigmoid(-lower)  # of all up to v, of all from v on
        # log(sigmoid(upper) - sigmoid(lower)), written so that it keeps its gradient however far out a value lies
        inside = below + above + torch.log(-torch.expm1(-precision))
        v = values[:, :, None]
        log_p = torch.where(v == 0, below, torch.where(v == VALUES - 1, above, inside))
        return torch.logsumexp(log_weights + log_p, 2).flatten(1).sum(1)

    def _shifts(self, deviations: Tensor, coefficients: Tensor) -> list[Tensor]:
        """The shift of the means of each channel by the channels before it."""
        pair, shifts = 0, []
        for channel in range(self.channels):
            shift = torch.zeros_like(deviations[:, 0])
            for before in range(channel):
                shift = shift + coefficients[:, pair] * deviations[:, before]
                pair += 1
            shifts.append(shift)
        return shifts

    def mean(self, output: Tensor) -> Tensor:
        log_weights, means, _, _ = self.split(output)
        # means may lie beyond the first and last value, as these take the tails
        return from_grey_values((log_weights.exp() * means.clamp(0, VALUES - 1)).sum(2))

    def of_means(self, kernel: Tensor) -> Tensor:
        n = kernel.shape[1] * self.components
        wide = kernel.new_zeros(len(kernel), self.numbers, *kernel.shape[2:])
        wide[:, n : 2 * n] = kernel.repeat_interleave(self.components, 1)
        return wide


class Categorical(Likelihood):
    """A softmax over the 256 values of each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels, self.numbers = channels, VALUES * channels

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        nats = F.cross_entropy(self._logits(output), to_grey_values(x).long(), reduction="none")
        return -nats.flatten(1).sum(1)

    def mean(self, output: Tensor) -> Tensor:
        logits = self._logits(output)
        values = torch.arange(VALUES, device=output.device, dtype=logits.dtype)
        return from_grey_values(torch.einsum("bvchw,v->bchw", logits.softmax(1), values))

    def of_means(self, kernel: Tensor) -> Tensor:
        raise ValueError("a categorical likelihood has no means to initialise")

    def _logits(self, output: Tensor) -> Tensor:
        """[B, 256, channels, H, W]."""
        return _wide(output).unflatten(1, (VALUES, self.channels))


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "logistics": LogisticMixture,
    "categorical": Categorical,
}


def make(channels: int, options: dict[str, Any] | None) -> Likelihood | None:
    """The likelihood of a net's arguments: `kind` and what its constructor takes; None for none."""
    if options is None:
        return None
    arguments = dict(options)
    return LIKELIHOODS[arguments.pop("kind")](channels, **arguments)
