"""Two stages of codes (the paper, section 4.2, figure 5): a second VQ-VAE over the codes of a first one.

The second encoder compresses the first stage's grid into a few latents, each with a codebook of its own. The decoder is
a distribution over that grid, a PixelCNN conditioned on the latents, so decoding samples: the latents determine what is
where, sampling fills in the detail. Such a strong decoder could ignore the latents; the paper's and this one do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, Self

import numpy as np
import torch
from torch import Tensor, nn

from vqcli.errors import ModelError
from vqcli.nets.codecs.base import ImageCodec
from vqcli.nets.codecs.vqvae2d import ImageVQVAE
from vqcli.nets.layers.convnet2d import ResidualBlock
from vqcli.nets.layers.quantizer import VectorQuantizer
from vqcli.nets.priors.autoregressive import AS_LEARNED, Sampling
from vqcli.nets.priors.pixelcnn import PixelCNN
from vqcli.nets.priors.pixelcnn_sampler import sampler_of

SEED = 0  # the default for sampling in `decode`


class Stages(nn.Module, ImageCodec):
    """What a second stage has whatever its latents are: the first stage, an encoder of its codes, a PixelCNN of them.

    first      arguments of the first stage (vqvae2d), whose weights stay as they are
    side       pixels of an image, each way: the second stage knows grids of one size only
    out        numbers that the encoder gives for an image; `wide` those that the decoder takes
    widths     channels of the second stage at the grid, at a half and at a quarter of it
    condition  channels of the map of latents that conditions the PixelCNN
    decoder    further arguments of that PixelCNN
    auxiliary  weight of the bits of codes predicted from that map alone (training/losses.py)
    """

    TASK = "twostage2d"
    levels = 1
    likelihood = None
    encoder_margin = decoder_margin = 0
    first: ImageVQVAE

    def __init__(
        self,
        first: dict[str, Any],
        side: int,
        out: int,
        wide: int,
        widths: Sequence[int] = (64, 96, 128),
        condition: int = 64,
        decoder: dict[str, Any] | None = None,
        auxiliary: float = 1.0,
    ) -> None:
        super().__init__()
        self.first = ImageVQVAE(**first).requires_grad_(False)
        self.channels, self.stride, self.frame_size = self.first.channels, side, (side, side)
        self.latent_dim, self.auxiliary = wide, auxiliary
        grid = self.first.grid(side, side)
        sizes = [tuple(length // 2**n for length in grid) for n in range(3)]
        full, half, quarter = widths
        self.squeeze = nn.Sequential(
            nn.Conv2d(self.first.quantizer.dim, full, 3, padding=1), nn.ReLU(),
            nn.Conv2d(full, half, 4, stride=2, padding=1), ResidualBlock(half), nn.ReLU(),
            nn.Conv2d(half, quarter, 4, stride=2, padding=1), ResidualBlock(quarter), nn.ReLU(),
            nn.Conv2d(quarter, out, sizes[2]),  # each latent sees the whole image
        )  # fmt: skip
        self.spread = nn.Sequential(
            nn.ConvTranspose2d(wide, quarter, sizes[2]), ResidualBlock(quarter), nn.ReLU(),
            nn.Upsample(sizes[1]), nn.Conv2d(quarter, half, 3, padding=1), ResidualBlock(half), nn.ReLU(),
            nn.Upsample(sizes[0]), nn.Conv2d(half, full, 3, padding=1), ResidualBlock(full), nn.ReLU(),
            nn.Conv2d(full, condition, 3, padding=1),
        )  # fmt: skip
        self.decoder = PixelCNN(self.first.codebook_sizes, condition=condition, **(decoder or {}))

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.first.eval()
        return self

    def bottleneck(self, codes: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """Latents [B, latent_dim, 1, 1] of the first stage's codes [B, codebooks, h, w] as the decoder takes them, the
        losses of having them, and their codes if they have any."""
        raise NotImplementedError

    def condition(self, z_q: Tensor) -> Tensor:
        """The map [B, condition, h, w] of latents that conditions the decoder."""
        condition: Tensor = self.spread(z_q)
        return condition

    def nats(self, first_codes: Tensor, z_q: Tensor) -> Tensor:
        """-log p(codes of the first stage | latents) of each item, [B]."""
        return self.decoder.nats(first_codes, None, self.condition(z_q))

    @torch.no_grad()
    def sample_given(self, z_q: Tensor, seed: int = SEED, sampling: Sampling = AS_LEARNED) -> Tensor:
        """Sampled codes of the first stage [B, codebooks, h, w] for latents [B, latent_dim, 1, 1]."""
        condition = self.condition(z_q).cpu().numpy()
        shape = (len(z_q), len(self.first.codebook_sizes), *condition.shape[2:])
        uniforms = np.random.default_rng(seed).random(shape[1:])
        sampled = sampler_of(self.decoder)(
            np.zeros(shape, np.int64), np.zeros(shape, bool), np.broadcast_to(uniforms, shape), None, sampling,
            condition=condition,
        )  # fmt: skip
        return torch.from_numpy(sampled).to(z_q.device)


class TwoStage(Stages):
    """Images [B, 3, side, side] in -0.5 .. 0.5 to codes [B, latents, 1, 1] and back; used like a single VQ-VAE.

    latents  number for each image, each of `dim` channels with a codebook of K; further arguments those of Stages
    """

    stochastic = True

    def __init__(
        self,
        first: dict[str, Any],
        side: int = 84,
        latents: int = 3,
        K: int = 512,
        dim: int = 32,
        quantizer: dict[str, Any] | None = None,
        **common: Any,
    ) -> None:
        wide = dim * latents
        super().__init__(first, side, wide, wide, **common)
        # or the commitment term would shrink unused latents
        self.squeeze.append(nn.BatchNorm2d(wide, affine=False))
        self.quantizer = VectorQuantizer(wide, K, groups=latents, **(quantizer or {}))
        self.codebook_sizes = self.quantizer.codebook_sizes

    def graphs(self, levels: int) -> NoReturn:
        raise ModelError("its decoder samples codes one after the other, which no graph does", "--model of one stage")

    def bottleneck(self, codes: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        quantized = self.quantizer(self.latents_of_codes(codes))
        return quantized.z_q, quantized.losses, quantized.codes

    def latents(self, x: Tensor) -> Tensor:
        """z_e [B, latents * dim, 1, 1] of images."""
        return self.latents_of_codes(self.first.encode(x))

    def quantize(self, z_e: Tensor, quality: Tensor | None = None) -> Tensor:
        """Codes [B, latents, 1, 1] int64 of latents."""
        return self.quantizer.codes(z_e)

    def latents_of_codes(self, codes: Tensor) -> Tensor:
        """Latents z_e of the first stage's codes [B, codebooks, h, w]."""
        z_e: Tensor = self.squeeze(self.first.quantizer.lookup(codes))
        return z_e

    @torch.no_grad()
    def encode(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        """Codes [B, latents, 1, 1] int64 of images."""
        return self.quantize(self.latents(x))

    @torch.no_grad()
    def decode(self, codes: Tensor, quality: Tensor | None = None, seed: int | None = None) -> Tensor:
        """Images of codes [B, latents, 1, 1]. Equal seeds give equal images on a device, in any batch."""
        return self.first.decode(self.sample_first_codes(codes, SEED if seed is None else seed))

    @torch.no_grad()
    def sample_first_codes(self, codes: Tensor, seed: int = SEED, sampling: Sampling = AS_LEARNED) -> Tensor:
        """Sampled codes of the first stage [B, codebooks, h, w] for codes of the second."""
        return self.sample_given(self.quantizer.lookup(codes), seed, sampling)


FAMILY = TwoStage
