"""The image VQ-VAE (the paper, section 4.1): strided convolutions, residual blocks, a quantizer, and back.

One family serves the paper's net (widths (256, 256), two blocks, kernel 4, ReLU), that of Kumar et al. 2018 and the
photo codec (kernel 5 with divisive normalisation): all sizes are arguments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from vqcli.nets.codecs.base import ImageCodec
from vqcli.nets.layers import likelihood as likelihoods
from vqcli.nets.layers.code_search import Costs, Place, VectorSearch
from vqcli.nets.layers.convnet2d import Shape
from vqcli.nets.layers.linear_init import init_linear
from vqcli.nets.layers.quantizer import Quantized, Quantizer, ScalarQuantizer, VectorQuantizer

QUANTIZERS: dict[str, type[Quantizer]] = {"vector": VectorQuantizer, "scalar": ScalarQuantizer}


class ImageVQVAE(nn.Module, ImageCodec):
    """Images [B, channels, H, W] in -0.5 .. 0.5, H and W multiples of `stride`, to codes [B, codebooks, h, w] and back.

    widths, dim, kernel, activation, normalised: see convnet2d.Shape
    linear_start  begin as a lossless linear map with this gain (linear_init.py); 0: from random weights
    blocks      residual blocks at the lowest resolution of the encoder; decoder_blocks of the decoder
    quantizer   arguments of the quantizer, with 'kind': 'vector' or 'scalar'
    likelihood  arguments of p(x | z), with 'kind' (likelihood.py); without one the decoder outputs the image itself
    """

    first = None
    FIRST_STAGE = True  # twostage2d.py builds on it

    def __init__(
        self,
        widths: Sequence[int] = (256, 256),
        dim: int = 64,
        blocks: int = 2,
        decoder_blocks: int | None = None,
        kernel: int = 4,
        activation: str = "relu",
        normalised: bool = False,
        linear_start: float = 0.0,
        channels: int = 3,
        quantizer: dict[str, Any] | None = None,
        likelihood: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        decoder_blocks = blocks if decoder_blocks is None else decoder_blocks
        options = dict(quantizer or {"kind": "vector", "K": 512})
        shape = Shape(tuple(widths), dim, kernel, activation, normalised)
        self.channels, self.stride = channels, shape.stride
        self.quantizer: Quantizer = QUANTIZERS[options.pop("kind")](dim=dim, **options)
        self.codebook_sizes, self.levels = self.quantizer.codebook_sizes, self.quantizer.levels
        self.latent_dim, self.qualities = dim, self.quantizer.qualities
        self.likelihood = likelihoods.make(channels, likelihood)
        self.encoder = shape.encoder(channels, blocks)
        out = self.likelihood.numbers if self.likelihood else channels
        # parameters of a likelihood are no pixels, so the last layer need not be exact
        self.decoder = shape.decoder(out, decoder_blocks, exact=self.likelihood is None)
        if linear_start:
            init_linear(
                self.encoder,
                self.decoder,
                channels,
                self.likelihood,
                gain=linear_start,
                groups=len(self.codebook_sizes),
            )
        self.encoder_margin, self.decoder_margin = shape.reach(blocks), shape.reach(decoder_blocks)

    def forward(self, x: Tensor, quality: Tensor | None = None, levels: int | None = None) -> tuple[Tensor, Quantized]:
        """The outputs of the decoder, [B, channels or likelihood.numbers, H, W], and of the quantizer.

        quality [B] for nets that have one.
        """
        quantized = self.quantizer(self.encoder(x), quality, levels)
        return self.decoder(quantized.z_q), quantized

    def to_image(self, output: Tensor) -> Tensor:
        """The image [B, channels, H, W] of the decoder's output."""
        return output if self.likelihood is None else self.likelihood.mean(output)

    def uniform_nats(self, height: int, width: int) -> float:
        """-log p(z) of the codes of an image under the uniform prior: the KL term of section 3.2, a constant."""
        return math.prod(self.grid(height, width)) * sum(map(math.log, self.codebook_sizes))

    @torch.no_grad()
    def encode(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        """Codes [B, codebooks, H / stride, W / stride] int64 of images; in 16 bits flat areas would get other codes."""
        with torch.autocast(x.device.type, enabled=False):
            return self.quantizer.codes(self.encoder(x), quality)

    def latents(self, x: Tensor) -> Tensor:
        """z_e [B, dim, H / stride, W / stride] of images."""
        z_e: Tensor = self.encoder(x)
        return z_e

    def quantize(self, z_e: Tensor, quality: Tensor | None = None) -> Tensor:
        """Codes [B, codebooks, h, w] int64 of latents."""
        return self.quantizer.codes(z_e, quality)

    @torch.no_grad()
    def decode(self, codes: Tensor, quality: Tensor | None = None, seed: int | None = None) -> Tensor:
        """Images of codes [B, codebooks or fewer whole levels, h, w]; values may leave -0.5 .. 0.5 a little."""
        return self.to_image(self.decoder_output(codes, quality))

    @torch.no_grad()
    def decoder_output(self, codes: Tensor, quality: Tensor | None = None) -> Tensor:
        """The decoder's output for codes, as `forward` returns it."""
        output: Tensor = self.decoder(self.quantizer.lookup(codes, quality))
        return output

    @property
    def searchable(self) -> bool:  # type: ignore[override]
        """Where an embedding is a code of its own, and the decoder's output the image itself."""
        return isinstance(self.quantizer, VectorQuantizer) and self.levels == 1 and self.likelihood is None

    def search(
        self, x: Tensor, codes: Tensor, place: Place, quality: Tensor | None = None, costs: Costs | None = None
    ) -> VectorSearch:
        with torch.no_grad():
            z_e = self.latents(x)[(..., *place)]
        codebook = cast(VectorQuantizer, self.quantizer).codebook.detach()[0]
        return VectorSearch(z_e, codes, place, codebook, self.decoder, costs)


FAMILY = ImageVQVAE
