"""Train a second stage on the codes of the first (the paper, 4.2): bits of its PixelCNN decoder, and commitment."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor, nn

from vqcli.data.dataset import Dataset
from vqcli.errors import UsageError
from vqcli.nets.codecs.twostage2d import Stages
from vqcli.nets.layers.convnet2d import to_pixels
from vqcli.nets.layers.quantizer import VectorQuantizer
from vqcli.recipe import Recipe
from vqcli.training.export import codec as exports
from vqcli.training.export.finished import FinishedRun
from vqcli.training.losses import Loss, auxiliary_bits
from vqcli.training.tasks.base import Task, require_codec
from vqcli.zoo import loading, registry, store
from vqcli.zoo.loading import LoadedModel


class TwoStageTask(Task):
    """A second stage on top of a trained model. The heads of the auxiliary loss are dropped after the run."""

    model: Stages

    def __init__(self, recipe: Recipe, codec: LoadedModel) -> None:
        first = codec.net
        if not getattr(first, "FIRST_STAGE", False) or not isinstance(first.quantizer, VectorQuantizer):
            raise UsageError(
                f"{codec.info.name} cannot be a first stage", "use a model of family vqvae2d with vector codes"
            )
        arguments = {**recipe.model.arguments, "first": codec.info.description["arguments"]}
        model = registry.build(recipe.model.family, arguments)
        model.first.load_state_dict(first.state_dict())
        if model.frame_size != (recipe.data.crop, recipe.data.crop):
            sides = f"{model.frame_size[0]} pixels each way, and data.crop is {recipe.data.crop}"
            raise UsageError(f"this second stage takes images of {sides}", "--set model.arguments.side or data.crop")
        super().__init__(recipe, model.codebook_sizes)
        self.model, self.arguments, self.codec = model, arguments, codec.info
        self.direct = nn.ModuleList(nn.Conv2d(model.decoder.condition, K, 1) for K in first.codebook_sizes)

    @classmethod
    def build(cls, recipe: Recipe, codec: LoadedModel | None, dataset: Dataset) -> TwoStageTask:
        return cls(recipe, require_codec(codec, "a second stage"))

    def forward(self, pixels: Tensor, labels: Tensor) -> Loss:
        """The loss of images [B, 3, H, W] in -0.5 .. 0.5; labels [B] are not used.

        In evaluation mode it also has the bits with the latents of other images (`shuffled`).
        """
        model = self.model
        codes = model.first.encode(pixels)
        z_q, losses, second = model.bottleneck(codes)
        condition = model.condition(z_q)
        bits = model.decoder.loss(codes, None, condition) / math.log(2)
        auxiliary = auxiliary_bits(self.direct, condition, codes)
        terms = {"bits_per_code": bits, "direct": auxiliary, **losses}
        if not self.training and len(pixels) > 1:
            terms["shuffled"] = model.decoder.loss(codes, None, condition.roll(1, 0)) / math.log(2)
        return Loss(bits + model.auxiliary * auxiliary + sum(losses.values()), terms, second)

    def show(self, pixels: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        model = self.model
        z_q, _, _ = model.bottleneck(model.first.encode(pixels))
        return to_pixels(pixels), to_pixels(model.first.decode(model.sample_given(z_q)))

    def export(self, finished: FinishedRun[Dataset]) -> store.ModelInfo:
        # the file contains the first stage, so the model is complete
        description = finished.description | {"arguments": self.arguments, "first": self.codec.name}
        description["recipe"] = description["recipe"] | {"codec": self.codec.name}  # the name, not the path
        info = loading.save(finished.folder, self.model, None, description)
        return exports.measure_and_describe(finished, self, self.model, info, description)


TASK = TwoStageTask
