"""Finetune a codec of waveforms, as other people train them, on own clips: encoder, codebooks and decoder together.

The loss is a distance of spectra and of samples, the quantizer's terms, and that of an adversary if the recipe has one.
In a share of the items only the first levels, of a random number, code the latents, so that files can still drop levels
(quantizer dropout: Zeghidour et al. 2021, https://arxiv.org/abs/2107.03312, section III-C).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqcli.data.clips import ClipBatch, Waveforms
from vqcli.data.source import Given
from vqcli.errors import UsageError
from vqcli.media import voice
from vqcli.nets.codecs.waveform import WaveformCodec
from vqcli.nets.layers import distributed
from vqcli.recipe import Recipe
from vqcli.recipe import Waveform as Weights
from vqcli.training.datasets import base as datasets
from vqcli.training.export import waveform as exports
from vqcli.training.export.finished import FinishedRun
from vqcli.training.losses import Loss
from vqcli.training.speech.adversary import Adversary, adversarial_loss, discriminator_loss, feature_matching_loss
from vqcli.training.speech.spectral_loss import SpectralDistance
from vqcli.training.tasks.base import Task
from vqcli.training.tasks.speech import spectrogram_images
from vqcli.zoo import registry, store
from vqcli.zoo.loading import LoadedModel

LEVEL = 10 ** (voice.LEVEL_DB / 20)  # RMS that crops are compared at: quiet ones count as much as loud ones
LARGEST_GAIN = 30.0


class WaveformTask(Task):
    """A codec of waveforms and its adversary."""

    ITEMS, CLASSES = "clips", "speakers"
    model: WaveformCodec

    @classmethod
    def open(cls, recipe: Recipe, codec: LoadedModel | None, source: Given, held_out: bool) -> Waveforms:
        with torch.device("meta"):  # for its sizes, without memory
            net = registry.build(recipe.model.family, recipe.model.arguments)
        if not isinstance(net, WaveformCodec) or not net.encodes:
            raise UsageError(
                f"this recipe trains codecs of waveforms, and not {recipe.model.family}", "--from encodec-24khz"
            )
        return datasets.waveforms(net, recipe, source, held_out)

    @classmethod
    def build(cls, recipe: Recipe, codec: LoadedModel | None, dataset: Waveforms) -> WaveformTask:
        if codec is not None:
            raise UsageError(
                f"{recipe.model.family} is not trained on the codes of a model", "--from in place of --codec"
            )
        return cls(recipe, len(dataset.classes))

    def __init__(self, recipe: Recipe, speakers: int) -> None:
        super().__init__(recipe)
        self.model = registry.build(recipe.model.family, recipe.model.arguments)
        self.weights, rate_hz = recipe.waveform or Weights(), self.model.rate_hz
        self.distance = SpectralDistance(rate_hz=rate_hz)
        self.adversary = None
        if recipe.adversary is not None:
            self.adversary = Adversary(speakers, recipe.adversary.width, rate_hz)

    @staticmethod
    def as_input(batch: ClipBatch, device: torch.device) -> tuple[Tensor, ...]:
        """Samples [B, N] and speakers [B] of a batch, on the device."""
        return torch.from_numpy(batch.samples).to(device), torch.from_numpy(batch.labels).to(device)

    def forward(self, samples: Tensor, labels: Tensor) -> Loss:
        """The loss of crops [B, N] of speakers [B]; in evaluation the distances with one level, half and all."""
        if self.training:
            return self._loss(samples, labels)
        N, value = self.model.levels, samples.new_zeros(())
        terms: dict[str, Tensor] = {}
        for levels in sorted({1, -(-N // 2), N}):
            given, decoded, _ = self._decoded(samples, torch.full_like(labels, levels))
            distances = self._distances(given, decoded)
            value = value + distances["sound"] + self.weights.wave * distances["wave"]
            terms |= {f"{name}_{levels}": term for name, term in distances.items()}
        return Loss(value, terms)

    def _loss(self, samples: Tensor, labels: Tensor) -> Loss:
        weights, adversary, options = self.weights, self.adversary, self.recipe.adversary
        given, decoded, quantized = self._decoded(samples, self._levels(len(samples), samples.device))
        terms = self._distances(given, decoded) | quantized._asdict()
        value = terms["sound"] + weights.wave * terms["wave"]
        value = value + weights.codebook * quantized.codebook + weights.commitment * quantized.commitment
        if adversary is not None and options is not None:
            real = adversary(given, labels)
            terms["adversary"] = discriminator_loss(real, adversary(decoded.detach(), labels))
            scores = adversary.with_fixed_weights(decoded, labels)
            terms |= {"fooling": adversarial_loss(scores), "matching": feature_matching_loss(real, scores)}
            value = (
                value + options.fooling * terms["fooling"] + options.matching * terms["matching"] + terms["adversary"]
            )
        return Loss(value, terms)

    def _levels(self, B: int, device: torch.device) -> Tensor:
        """Of how many levels each item makes use, int64 [B]: all, or in a share of the items a random number."""
        N = self.model.levels
        fewer = 1 + (distributed.rand(B, device=device) * N).long().clamp(max=N - 1)
        return torch.where(distributed.rand(B, device=device) < self.weights.dropout, fewer, N)

    def _decoded(self, samples: Tensor, levels: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Crops [B, N] and what becomes of them, both times what brings the crops to LEVEL; the quantizer's losses."""
        decoded, losses = self.model(samples[:, None], levels)
        gain = LEVEL / samples.square().mean(1, keepdim=True).sqrt().clamp(min=LEVEL / LARGEST_GAIN)
        return samples * gain, decoded[:, 0].float() * gain, losses

    def _distances(self, given: Tensor, decoded: Tensor) -> dict[str, Tensor]:
        with torch.autocast(given.device.type, enabled=False):
            sound = self.distance(self.distance.spectra(given), self.distance.spectra(decoded))
        return {"sound": sound, "wave": F.l1_loss(decoded, given) / LEVEL}

    def show(self, samples: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Spectrograms of crops and of their reconstructions with all levels."""
        given, decoded, _ = self._decoded(samples, torch.full_like(labels, self.model.levels))
        return spectrogram_images(given), spectrogram_images(decoded)

    def export(self, finished: FinishedRun[Waveforms]) -> store.ModelInfo:
        return exports.export(finished, self.model)


TASK = WaveformTask
