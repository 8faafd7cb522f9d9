"""The image VQ-VAE (the paper, section 4.1): strided convolutions, residual blocks, a quantizer, and back.

One family serves the paper's net (widths (256, 256), two blocks, kernel 4, ReLU), the report's and the
photo codec (kernel 5 with divisive normalisation): all sizes are arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.nets.quantizer import Quantized, Quantizer, ScalarQuantizer, VectorQuantizer

QUANTIZERS: dict[str, type[Quantizer]] = {"vector": VectorQuantizer, "scalar": ScalarQuantizer}


def from_pixels(pixels: np.ndarray, device: torch.device) -> Tensor:
    """Pixels uint8 [B, H, W, C] as nets take them: float [B, C, H, W] in -0.5 .. 0.5."""
    return torch.tensor(pixels, device=device).movedim(-1, 1).float() / 255 - 0.5


def to_pixels(x: Tensor) -> np.ndarray:
    """What nets make, float [B, C, H, W], as pixels uint8 [B, H, W, C]."""
    return ((x.float() + 0.5) * 255).round().clamp(0, 255).byte().movedim(1, -1).cpu().numpy()


class ResidualBlock(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x)))), as section 4.1 describes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(F.relu(self.conv(F.relu(x))))


class GDN(nn.Module):
    """Divisive normalisation x / (b + G |x|) across channels, or its inverse x * (b + G |x|).

    The simplified form of Ballé et al. 2016 (without the square root), made for codes that follow rate and
    distortion. Both are squares of what is learned, which keeps them positive and lets the many small entries of G
    move slowly: a step of their own size on a whole row at once would blow the net up. b stays at FLOOR or above:
    near zero the quotient would turn into a sign function, whose gradient has no bound.
    """

    FLOOR = 0.1

    def __init__(self, width: int, inverse: bool = False) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.ones(width))
        self.weight = nn.Parameter((torch.eye(width) * 0.1 + 1e-4).sqrt())
        self.inverse = inverse

    def forward(self, x: Tensor) -> Tensor:
        norm = F.conv2d(x.abs(), self.weight.square()[..., None, None], self.bias.square() + self.FLOOR)
        return x * norm if self.inverse else x / norm


def _activation(kind: str, width: int, inverse: bool = False) -> nn.Module:
    return GDN(width, inverse) if kind == "gdn" else nn.ReLU()


class Float32(nn.Module):
    """Runs the layer in float32 under autocast: the first and last steps set the precision of codes and pixels."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.layer(x.float())


class ImageVQVAE(nn.Module):
    """Pictures [B, channels, H, W] in -0.5 .. 0.5, H and W multiples of `stride`, to codes [B, groups, h, w] and back.

    widths      channels after each strided convolution; their number is the number of halvings
    dim         D, channels of the latents
    blocks      residual blocks at the lowest resolution of the encoder; decoder_blocks of the decoder
    kernel      4 (the paper) or 5
    activation  'relu' (the paper) or 'gdn'
    quantizer   arguments of the quantizer, with 'kind': 'vector' or 'scalar'
    """

    def __init__(
        self,
        widths: Sequence[int] = (256, 256),
        dim: int = 64,
        blocks: int = 2,
        decoder_blocks: int | None = None,
        kernel: int = 4,
        activation: str = "relu",
        channels: int = 3,
        quantizer: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        widths = list(widths)
        decoder_blocks = blocks if decoder_blocks is None else decoder_blocks
        options = dict(quantizer or {"kind": "vector", "K": 512})
        self.channels, self.stride = channels, 2 ** len(widths)
        self.quantizer: Quantizer = QUANTIZERS[options.pop("kind")](dim=dim, **options)
        self.codebook_sizes, self.levels = self.quantizer.codebook_sizes, self.quantizer.levels
        self.encoder = self._encoder(channels, widths, dim, blocks, kernel, activation)
        self.decoder = self._decoder(channels, widths, dim, decoder_blocks, kernel, activation)
        # How far, in codes, an input reaches: tiles with this margin give the codes and pixels of the whole picture.
        # Each halving adds at most (kernel // 2) pixels at its own scale, each 3x3 convolution one code.
        self.encoder_margin = 1 + blocks + kernel // 2
        self.decoder_margin = 1 + decoder_blocks + kernel // 2

    @staticmethod
    def _encoder(
        channels: int, widths: list[int], dim: int, blocks: int, kernel: int, activation: str
    ) -> nn.Sequential:
        layers: list[nn.Module] = []
        for i, (into, out) in enumerate(pairwise([channels, *widths])):
            conv = nn.Conv2d(into, out, kernel, stride=2, padding=(kernel - 1) // 2)
            layers += [Float32(conv) if i == 0 else conv, _activation(activation, out)]
        if activation == "relu" and blocks:
            layers.pop()  # the blocks begin with a ReLU of their own
        layers += [ResidualBlock(widths[-1]) for _ in range(blocks)]
        if activation == "relu" and blocks:
            layers.append(nn.ReLU())
        return nn.Sequential(*layers, Float32(nn.Conv2d(widths[-1], dim, 3, padding=1)))

    @staticmethod
    def _decoder(
        channels: int, widths: list[int], dim: int, blocks: int, kernel: int, activation: str
    ) -> nn.Sequential:
        layers: list[nn.Module] = [nn.Conv2d(dim, widths[-1], 3, padding=1)]
        layers += [ResidualBlock(widths[-1]) for _ in range(blocks)]
        upward = [*reversed(widths), channels]
        for i, (into, out) in enumerate(pairwise(upward)):
            conv = nn.ConvTranspose2d(into, out, kernel, stride=2, padding=(kernel - 1) // 2, output_padding=kernel % 2)
            layers += [_activation(activation, into, inverse=True), Float32(conv) if i == len(widths) - 1 else conv]
        return nn.Sequential(*layers)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the codes of a picture; what is left over at the border counts as a whole one."""
        return -(-height // self.stride), -(-width // self.stride)

    def forward(self, x: Tensor, quality: Tensor | None = None, levels: int | None = None) -> tuple[Tensor, Quantized]:
        """Reconstruction [B, channels, H, W] and what the quantizer made of x; quality [B] for nets that have one."""
        quantized = self.quantizer(self.encoder(x), quality, levels)
        return self.decoder(quantized.z_q), quantized

    @torch.no_grad()
    def encode(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        """Codes [B, groups, H / stride, W / stride] int64 of pictures."""
        return self.quantizer.codes(self.encoder(x), quality)

    @torch.no_grad()
    def decode(self, codes: Tensor, quality: Tensor | None = None) -> Tensor:
        """Pictures of codes [B, groups or fewer whole levels, h, w]; values may leave -0.5 .. 0.5 a little."""
        return self.decoder(self.quantizer.lookup(codes, quality))
