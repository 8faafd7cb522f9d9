"""What a run trains: the nets with weights, the loss of a batch, and what to show of it.

A codec is trained on pictures; a prior on the codes that a finished codec makes of them, with all the crops and flips
of the recipe: a small set of pictures gives many sets of codes.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vqcli.codec.codes import books
from vqcli.data.clips import ClipBatch, Clips
from vqcli.data.dataset import Batch, Dataset
from vqcli.errors import ModelError, UsageError
from vqcli.nets.codecs.vae2d import Baseline
from vqcli.nets.layers.convnet2d import from_pixels, in_channels, to_pixels
from vqcli.nets.layers.quantizer import VectorQuantizer
from vqcli.nets.layers.rate import ScalarRate
from vqcli.nets.priors.exact1d import SequencePrior
from vqcli.nets.priors.pixelcnn import PixelCNN
from vqcli.nets.priors.wavenet import WaveNetPrior
from vqcli.recipe import Recipe
from vqcli.training import speech
from vqcli.training.code_clips import CodeClips
from vqcli.training.finish import FinishTask
from vqcli.training.frames import FramesTask, Windows
from vqcli.training.losses import Loss, bound_loss, likelihood_loss, rate_distortion_loss, reconstruction_loss
from vqcli.training.task import Task
from vqcli.training.twostage import TwoStageTask
from vqcli.zoo import loading, registry

BASELINES = ("vae2d", "vimco2d")
OF_TIME = ("wavenet", "exact1d")  # families of priors over codes in time


class CodecTask(Task):
    """A model of pictures, and for scalar codes the rate model that is not shipped."""

    def __init__(self, recipe: Recipe) -> None:
        model = registry.build(recipe.model.family, recipe.model.arguments)
        quantizer = model.quantizer
        # scalar codes have room at the borders of their codebooks on purpose
        super().__init__(recipe, quantizer.codebook_sizes if isinstance(quantizer, VectorQuantizer) else ())
        self.model = model
        self.rate = ScalarRate(quantizer.dim, quantizer.qualities) if recipe.rate else None

    def forward(self, pixels: Tensor, labels: Tensor) -> Loss:
        """The loss of pictures [B, 3, H, W] in -0.5 .. 0.5; labels [B] do not matter."""
        x = in_channels(pixels, self.model.channels)
        if self.rate is not None and self.recipe.rate is not None:
            return rate_distortion_loss(self.model, self.rate, self.recipe.rate, x)
        return reconstruction_loss(self.model, x) if self.model.likelihood is None else likelihood_loss(self.model, x)

    def show(self, pixels: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        x = in_channels(pixels, self.model.channels)
        return to_pixels(pixels), to_pixels(in_channels(self.model.picture(self.model(x)[0]), 3))


class BaselineTask(Task):
    """A baseline without codes, trained on the bound that it gives."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.model: Baseline = registry.build(recipe.model.family, recipe.model.arguments)

    def forward(self, pixels: Tensor, labels: Tensor) -> Loss:
        """The loss of pictures [B, 3, H, W] in -0.5 .. 0.5; labels [B] do not matter."""
        return bound_loss(self.model, in_channels(pixels, self.model.channels))

    def show(self, pixels: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        made = self.model.bound(in_channels(pixels, self.model.channels)).made
        return to_pixels(pixels), to_pixels(in_channels(self.model.picture(made), 3))


class PriorTask(Task):
    """A prior over the codes of a codec that is finished: it makes the codes, and learns nothing."""

    def __init__(self, recipe: Recipe, codec: loading.LoadedModel, classes: tuple[str, ...]) -> None:
        super().__init__(recipe)
        arguments = dict(recipe.model.arguments)
        if recipe.model.family in ("pixelcnn", "wavenet"):
            arguments["labels"] = len(classes)
        if recipe.model.family == "exact":
            if codec.net.quantizer.levels > 1:
                raise ModelError(f"model {codec.info.name} has residual levels, which an exact prior cannot tell apart")
            arguments["qualities"] = codec.net.quantizer.qualities
        sizes, _ = books(codec)
        self.arguments, self.classes = {"codebook_sizes": sizes, **arguments}, classes
        self.prior = registry.build(recipe.model.family, self.arguments)
        self._codec = (codec,)  # in a tuple, so that its weights are not those of the task

    @property
    def codec(self) -> loading.LoadedModel:
        return self._codec[0]

    def forward(self, pixels: Tensor, labels: Tensor) -> Loss:
        codes, quality = self.codes(pixels)
        if isinstance(self.prior, PixelCNN | WaveNetPrior):
            bits = self.prior.loss(codes, labels if self.classes else None) / math.log(2)
        elif isinstance(self.prior, SequencePrior):
            bits = self.prior.loss(codes)
        else:
            bits = self.prior.loss(codes, quality)
        return Loss(bits, {"bits_per_code": bits})

    @torch.no_grad()
    def codes(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Codes of pictures: [B, groups, *grid] and None, or [2 B, groups, *grid] and qualities [2 B].

        If the codec has qualities, each picture comes at two random ones: the encoder costs as much as the prior.
        """
        if not pixels.is_floating_point():
            return pixels, None  # codes already
        quantizer, quality = self.codec.net.quantizer, None
        with torch.autocast(pixels.device.type, enabled=False):  # in 16 bits, flat areas get other codes
            z_e = self.codec.net.encoder(in_channels(pixels, self.codec.net.channels))
        if quantizer.qualities:
            steps = 10 * (quantizer.qualities - 1) + 1  # in tenths, as files have it
            quality = 1 + torch.randint(steps, (2 * len(pixels),), device=pixels.device) / 10
            z_e = z_e.repeat(2, 1, 1, 1)
        return quantizer.codes(z_e, quality), quality


def make(
    recipe: Recipe,
    codec: loading.LoadedModel | None,
    dataset: Dataset | Clips | CodeClips | Windows,
    device: torch.device,
) -> Task:
    """The task of a recipe, on its device. Raises UsageError if a prior by class misses the class of some picture."""
    if isinstance(dataset, Windows):
        assert codec is not None
        return FramesTask(recipe, codec, dataset.classes).to(device)
    if isinstance(dataset, CodeClips):
        assert codec is not None
        if recipe.model.family not in OF_TIME:
            raise UsageError(
                f"{recipe.model.family} does not learn from codes of clips", f"{' or '.join(OF_TIME)} does"
            )
        return PriorTask(recipe, codec, dataset.classes if recipe.model.family == "wavenet" else ()).to(device)
    if isinstance(dataset, Clips):
        return _of_clips(recipe, codec, dataset).to(device)
    if codec is None:
        return (BaselineTask if recipe.model.family in BASELINES else CodecTask)(recipe).to(device)
    if recipe.model.family == "twostage2d":
        return TwoStageTask(recipe, codec).to(device)
    without = int((dataset.labels < 0).sum()) if dataset.classes else 0
    if without and recipe.model.family == "pixelcnn":
        raise UsageError(
            f"{without} of {len(dataset)} pictures lie in no class folder", "put all into class folders, or none"
        )
    return PriorTask(recipe, codec, dataset.classes).to(device)


def _of_clips(recipe: Recipe, codec: loading.LoadedModel | None, clips: Clips) -> Task:
    family = recipe.model.family
    if family == "speech" and recipe.adversary is not None:
        if codec is None:
            raise UsageError("a finish needs the model that it finishes", "--codec NAME")
        return FinishTask(recipe, clips, codec)
    if family == "speech":
        return speech.SpeechTask(recipe, clips)
    if family == "vqvae1d":
        return speech.WaveTask(recipe, clips)
    raise UsageError(f"{family} does not learn from clips", "name a folder of pictures")


def as_input(batch: Batch | ClipBatch, device: torch.device) -> tuple[Tensor, ...]:
    """What a task takes, on the device: of clips as training/speech.py says, of pictures pixels and labels.

    uint8 [B, H, W, 3] becomes float [B, 3, H, W] in -0.5 .. 0.5; codes uint16 [B, *grid, groups] become int64
    [B, groups, *grid]; labels are int64 [B], of windows of video [B, context].
    """
    if isinstance(batch, ClipBatch):
        return speech.as_input(batch, device)
    labels = torch.from_numpy(batch.labels).to(device)
    if batch.pixels.dtype == np.uint16:
        return torch.from_numpy(batch.pixels.astype(np.int64)).to(device).movedim(-1, 1), labels
    return from_pixels(batch.pixels, device), labels
