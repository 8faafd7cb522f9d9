"""Finetune decoder and voices of a speech model against an adversary. Its codes stay as they are, unless the recipe
asks to refit the codebook (`speech.settle`)."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqcli.data.clips import WELL_KNOWN_S
from vqcli.data.speech import Utterances
from vqcli.errors import UsageError
from vqcli.nets.codecs.speech import SpeechVQVAE, excitation, hertz
from vqcli.nets.layers import distributed
from vqcli.nets.layers.harmonic import frame_phases, pitch_frames
from vqcli.recipe import Adversary as Weights
from vqcli.recipe import Recipe
from vqcli.training.export import speech as exports
from vqcli.training.export.finished import FinishedRun
from vqcli.training.losses import Loss
from vqcli.training.speech.adversary import Adversary, adversarial_loss, discriminator_loss, feature_matching_loss
from vqcli.training.speech.codebook_refit import refit_codebook
from vqcli.training.speech.spectral_loss import SpectralDistance
from vqcli.training.tasks.base import UtteranceTask
from vqcli.training.tasks.speech import energy_distance, spectrogram_images, voices
from vqcli.zoo import store
from vqcli.zoo.loading import LoadedModel


class FinetuneTask(UtteranceTask):
    """Spectral distance to the original plus an adversarial loss; converted speech has the adversarial loss alone."""

    model: SpeechVQVAE
    _targets: Tensor

    @classmethod
    def build(cls, recipe: Recipe, codec: LoadedModel | None, dataset: Utterances) -> FinetuneTask:
        if codec is None:
            raise UsageError("finetuning needs a model to start from", "--codec NAME")
        return cls(recipe, dataset, codec)

    def __init__(self, recipe: Recipe, clips: Utterances, codec: LoadedModel) -> None:
        super().__init__(recipe)
        self.weights = recipe.adversary or Weights()
        if [speaker["name"] for speaker in codec.info.description["speakers"]] != list(clips.classes):
            raise UsageError(f"the speakers of these clips are not those of {codec.info.name}", "use the same data")
        self.arguments, self.speakers = codec.info.description["arguments"], clips.speakers()
        self.before = {key: codec.info.description.get(key, 0) for key in ("steps", "trained_seconds")}
        self.description = codec.info.description.get("recipe", {}).get("description", recipe.description)
        self.model = copy.deepcopy(codec.net)
        if recipe.speech.settle:
            refit_codebook(self.model, clips)
        for part in (self.model.decoder, self.model.voices, self.model.guess):
            part.requires_grad_(True)
        seconds = [speaker.seconds for speaker in self.speakers]
        known = [row for row, length in enumerate(seconds) if length >= WELL_KNOWN_S] or range(len(seconds))
        self.register_buffer("_targets", torch.tensor(list(known)), persistent=False)  # speakers to convert to
        self.distance = SpectralDistance()
        self.adversary = Adversary(len(clips.classes), self.weights.width)

    def forward(self, samples: Tensor, pitch: Tensor, profile: Tensor, labels: Tensor) -> Loss:
        """The loss of crops [B, N] with pitch codes [B, N / 320], profiles [B, SIZE] and speakers [B]."""
        model, options, weights = self.model, self.recipe.speech, self.weights
        B, device = len(samples), samples.device
        with torch.no_grad():
            codes = model.quantizer.codes(model.latents(samples, profile))
        alone = model.levels == 1 or float(torch.rand(())) < options.first_level
        levels = 1 if alone else int(torch.randint(2, model.levels + 1, ()))
        named = distributed.rand(B, device=device) < options.table
        f0, phases = excitation(pitch)
        z_q = model.quantizer.lookup(codes[:, : model.n_codebooks(levels)])
        envelopes = model.decoder.envelopes(z_q, f0, *voices(model, profile, labels, named))
        with torch.autocast(device.type, enabled=False):
            distance, decoded = energy_distance(model, self.distance, samples, envelopes, f0, phases)
        converted, targets = self._converted(codes, pitch, profile, labels, round(weights.converted * B))
        generated, speakers = torch.cat([decoded, converted]), torch.cat([labels, targets])
        real = self.adversary(samples, labels)
        discriminator = discriminator_loss(real, self.adversary(generated.detach(), speakers))
        scores = self.adversary.with_fixed_weights(generated, speakers)
        adversarial = adversarial_loss(scores)
        matching = feature_matching_loss(real, [(score[:B], [h[:B] for h in inner]) for score, inner in scores])
        content = self._content_loss(samples[: len(converted)], converted)
        value = options.sound * distance + weights.fooling * adversarial + weights.matching * matching + discriminator
        terms = {"sound": distance, "fooling": adversarial, "matching": matching, "words": content}
        return Loss(value + weights.words * content, terms | {"adversary": discriminator})

    def _content_loss(self, samples: Tensor, converted: Tensor) -> Tensor:
        """Mean squared difference of the latents of converted audio [B, N] and of the originals, over their variance.

        Both are normalised by the profile of the crop itself, as converted audio has no other.
        """
        target, converted_latents = (
            self.model.latents(x, crop_profile(self.model.log_mel(x))) for x in (samples, converted)
        )
        target = target.detach()
        return F.mse_loss(converted_latents, target) / target.var().clamp(min=1e-4)

    def _converted(
        self, codes: Tensor, pitch: Tensor, profile: Tensor, labels: Tensor, count: int
    ) -> tuple[Tensor, Tensor]:
        """The first `count` items converted to well-known voices, by level 0: audio [count, N] and speakers [count]."""
        model = self.model
        targets = self._targets[(distributed.rand(count, device=labels.device) * len(self._targets)).long()]
        voice, register = model.voice_of_speaker(targets)
        ratio = torch.exp(register - profile[:count, -3])
        f0 = pitch_frames(hertz(pitch[:count]) * ratio[:, None])
        envelopes = model.decoder.envelopes(model.quantizer.lookup(codes[:count, :1]), f0, voice, register)
        noise = torch.randn(count, f0.shape[1] * model.stride // model.frames, device=f0.device)
        with torch.autocast(f0.device.type, enabled=False):
            return model.decoder.render(*envelopes, f0, frame_phases(f0), noise), targets

    def show(self, samples: Tensor, pitch: Tensor, profile: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Spectrograms of crops, and of each converted to another voice."""
        codes = self.model.quantizer.codes(self.model.latents(samples, profile))
        converted, _ = self._converted(codes, pitch, profile, labels, len(samples))
        return spectrogram_images(samples), spectrogram_images(converted)

    def export(self, finished: FinishedRun[Utterances]) -> store.ModelInfo:
        before = finished.description
        facts = {key: before[key] + value for key, value in self.before.items()}  # of training and finetuning together
        facts["recipe"] = before["recipe"] | {"description": self.description}  # of the model that is finetuned
        groups = self.model.group_names
        return exports.export(finished, self.model, self.arguments, groups, self.speakers, facts)


def crop_profile(spectra: Tensor) -> Tensor:
    """The spectral part of a profile (media/voice.py), [B, SIZE], of the log-mel spectra [B, bands, T] of a crop."""
    spread = spectra.var(2).clamp(min=0.05).sqrt()
    return F.pad(torch.cat([spectra.mean(2), spread], 1), (0, 3))


TASK = FinetuneTask
