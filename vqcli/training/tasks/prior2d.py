"""Train priors over the grids of codes that a trained codec makes of images.

Augmentation (crops, flips) is applied to the images before they are encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqcli.codec import tiling
from vqcli.container.header import QUALITIES_OF_TUNE
from vqcli.data.dataset import Dataset
from vqcli.data.source import Given
from vqcli.entropy import prior2d
from vqcli.entropy.prior2d_net import Net
from vqcli.errors import ModelError, UsageError
from vqcli.nets.priors import rounding
from vqcli.recipe import Recipe
from vqcli.training.datasets import base as datasets
from vqcli.training.datasets import code_files, code_shards
from vqcli.training.export.codec import COUNTING_SHARE, SAMPLES
from vqcli.training.export.finished import FinishedRun
from vqcli.training.losses import Loss
from vqcli.training.tasks.base import PriorTask, require_codec
from vqcli.zoo import registry
from vqcli.zoo.loading import LoadedModel


class GridPriorTask(PriorTask):
    """A prior over grids of codes: encoded from images on the fly, or read from .vqz files or shards of vq tokenize."""

    @classmethod
    def open(cls, recipe: Recipe, codec: LoadedModel | None, source: Given, held_out: bool) -> Dataset:
        codec = require_codec(codec, "a prior")
        if isinstance(source, Sequence) and any(map(code_shards.is_set, source)):
            source = code_shards.CodeShards(source, codec)
        elif isinstance(source := datasets.of_here(source), list) and code_files.vqz_files(source):
            source = code_files.CodeFiles(source, codec)
        return datasets.images(recipe, source, held_out)

    @classmethod
    def build(cls, recipe: Recipe, codec: LoadedModel | None, dataset: Dataset) -> GridPriorTask:
        """Raises UsageError if the prior is conditioned on the class and some image has none."""
        codec, family = require_codec(codec, "a prior"), registry.family_of(recipe.model.family)
        arguments = dict(recipe.model.arguments)
        if getattr(family, "BY_CLASS", False):
            without = int((dataset.labels < 0).sum()) if dataset.classes else 0
            if without:
                raise UsageError(
                    f"{without} of {len(dataset)} images lie in no class folder",
                    "put all into class folders, or none",
                )
            arguments["labels"] = len(dataset.classes)
        if getattr(family, "BY_QUALITY", False):
            if codec.net.levels > 1:
                raise ModelError(
                    f"model {codec.info.name} has residual levels, which an entropy model does not support"
                )
            arguments["qualities"] = codec.net.qualities * max(len(codec.net.tunes), 1)
        return cls(recipe, codec, dataset.classes, arguments)

    def forward(self, pixels: Tensor, labels: Tensor) -> Loss:
        """The loss of images [B, 3, H, W] in -0.5 .. 0.5, or of codes int64 [B, n_codebooks, H, W]; labels [B]."""
        codes, quality = self.codes(pixels)
        labels = labels.repeat(len(codes) // len(pixels))  # a codec with qualities encodes each image twice
        bits = self.prior.bits_per_code(codes, labels, quality)
        return Loss(bits, {"bits_per_code": bits})

    @torch.no_grad()
    def codes(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Codes of images: [B, n_codebooks, *grid] and None, or [2 B, n_codebooks, *grid] and qualities [2 B].

        If the codec has qualities, each image is used at two random ones, as the encoder costs as much as the prior.
        """
        if not pixels.is_floating_point():
            return pixels, None  # codes already
        codec, quality = self.codec.image, None
        with torch.autocast(pixels.device.type, enabled=False):  # in 16 bits, flat areas get other codes
            z_e = tiling.latents_of(codec, pixels)
        if codec.qualities:
            many, steps = (2 * len(pixels),), 10 * (codec.qualities - 1) + 1  # in tenths, as files have it
            tune = torch.randint(max(len(codec.tunes), 1), many, device=pixels.device)
            quality = 1 + torch.randint(steps, many, device=pixels.device) / 10 + QUALITIES_OF_TUNE * tune
            z_e = z_e.repeat(2, 1, 1, 1)
        return codec.quantize(z_e, quality), quality

    def integer_net(self) -> Net | None:
        return rounding.rounded(self.prior) if self.prior.EXACT else None

    @torch.no_grad()
    def measure(self, finished: FinishedRun[Dataset], net: Net | None) -> dict[str, Any]:
        """Bits for a held-out code under the prior, under the code frequencies, and under a uniform prior.

        For an entropy model, which is an integer net, they are the bits of the bytes that it codes to; also the bits of
        the float net it was rounded from.
        """
        validation, budget, data = finished.validation, finished.budget, self.recipe.data
        assert validation is not None
        sizes = self.codec.net.codebook_sizes
        counts = [np.full(K, 0.5) for K in sizes]
        for step in budget.part(COUNTING_SHARE).limit(range(-(-SAMPLES // data.batch))):
            batch = finished.dataset.batch(data, 0, step * data.batch, data.batch)
            codes, _ = self.codes(self.as_input(batch, validation.device)[0])
            for n, count in enumerate(counts):
                count += np.bincount(codes[:, n].flatten().cpu().numpy(), minlength=len(count))
        held_out, quality = self.codes(self.as_input(validation.batch, validation.device)[0])
        order_0 = [-np.log2(count / count.sum())[held_out[:, n].cpu().numpy()].mean() for n, count in enumerate(counts)]
        images = len(validation.batch)
        if net is None:
            bits = {"bits_per_code": validation.measure(self)["bits_per_code"]}
        else:
            bits, coded = self._coded(held_out, quality, net, finished)
            images = -(-coded * images // len(held_out))  # a codec with qualities encodes each image at two
        # bits of the codes alone, over the values of the pixels they encode
        share = len(sizes) / (self.codec.net.channels * self.codec.net.stride**2)
        return {
            "on": f"{images} held-out pictures",
            **{name: round(value, 4) for name, value in bits.items()},
            "bits_per_dim": round(bits["bits_per_code"] * share, 4),
            "order_0": round(float(np.mean(order_0)), 4),
            "uniform": round(float(np.mean(np.log2(sizes))), 4),
        }

    def _coded(
        self, codes: Tensor, quality: Tensor | None, net: Net, finished: FinishedRun[Dataset]
    ) -> tuple[dict[str, float], int]:
        """Bits for a code by the integer and the float net, and how many of codes [B, n_codebooks, H, W] were coded."""
        tenths = [0] * len(codes) if quality is None else quality.mul(10).round().int().tolist()
        floats, written = [], []
        for i in finished.budget.limit(range(len(codes))):
            one = None if quality is None else quality[i : i + 1]
            floats.append(float(self.prior.bits_per_code(codes[i : i + 1], None, one)))
            written.append(len(prior2d.encode(codes[i].cpu().numpy(), tenths[i], net)))
        bits = 8 * sum(written) / (len(written) * codes[0].numel())
        return {"bits_per_code": bits, "float_bits_per_code": float(np.mean(floats))}, len(written)


TASK = GridPriorTask
