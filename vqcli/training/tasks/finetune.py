"""The finish of a speech model: its decoder and voices learn on, against an adversary. Its codes stay as they are,
unless a settled codebook is asked for."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqcli.data.speech import WELL_KNOWN_S, Utterances
from vqcli.errors import UsageError
from vqcli.nets.codecs.speech import SpeechVQVAE, excitation, hertz
from vqcli.nets.layers import distributed
from vqcli.nets.layers.harmonic import frame_phases, pitch_frames
from vqcli.recipe import Adversary as Weights
from vqcli.recipe import Recipe
from vqcli.training.export import speech as exports
from vqcli.training.export.finished import Finished
from vqcli.training.losses import Loss
from vqcli.training.speech.adversary import Adversary, fooling_loss, matching_loss, own_loss
from vqcli.training.speech.codebook_refit import settle
from vqcli.training.speech.spectral_loss import SpectralDistance
from vqcli.training.tasks.base import ClipTask
from vqcli.training.tasks.speech import energy_distance, pictures, voices
from vqcli.zoo import store
from vqcli.zoo.loading import LoadedModel


class FinishTask(ClipTask):
    """Distance to the original, and to speech as such; converted speech is judged by the latter alone."""

    model: SpeechVQVAE
    _targets: Tensor

    @classmethod
    def begin(cls, recipe: Recipe, codec: LoadedModel | None, dataset: Utterances) -> FinishTask:
        if codec is None:
            raise UsageError("a finish needs the model that it finishes", "--codec NAME")
        return cls(recipe, dataset, codec)

    def __init__(self, recipe: Recipe, clips: Utterances, codec: LoadedModel) -> None:
        super().__init__(recipe)
        self.weights = recipe.adversary or Weights()
        if [speaker["name"] for speaker in codec.info.description["speakers"]] != list(clips.classes):
            raise UsageError(f"the speakers of these clips are not those of {codec.info.name}", "give the same data")
        self.arguments, self.speakers = codec.info.description["arguments"], clips.speakers()
        self.before = {key: codec.info.description.get(key, 0) for key in ("steps", "trained_seconds")}
        self.what = codec.info.description.get("recipe", {}).get("description", recipe.description)
        self.model = copy.deepcopy(codec.net)
        if recipe.speech.settle:
            settle(self.model, clips)
        for part in (self.model.decoder, self.model.voices, self.model.guess):
            part.requires_grad_(True)
        seconds = [speaker.seconds for speaker in self.speakers]
        known = [row for row, length in enumerate(seconds) if length >= WELL_KNOWN_S] or range(len(seconds))
        self.register_buffer("_targets", torch.tensor(list(known)), persistent=False)  # of conversion
        self.distance = SpectralDistance()
        self.adversary = Adversary(len(clips.classes), self.weights.width)

    def forward(self, samples: Tensor, pitch: Tensor, profile: Tensor, labels: Tensor) -> Loss:
        """The loss of crops [B, N] with pitch codes [B, N / 320], profiles [B, SIZE] and speakers [B]."""
        model, options, weights = self.model, self.recipe.speech, self.weights
        B, device = len(samples), samples.device
        with torch.no_grad():
            books = model.quantizer.codes(model.latents(samples, profile))
        alone = model.levels == 1 or float(torch.rand(())) < options.first_level
        levels = 1 if alone else int(torch.randint(2, model.levels + 1, ()))
        named = distributed.rand(B, device=device) < options.table
        f0, phases = excitation(pitch)
        z_q = model.quantizer.lookup(books[:, : model.n_codebooks(levels)])
        envelopes = model.decoder.envelopes(z_q, f0, *voices(model, profile, labels, named))
        with torch.autocast(device.type, enabled=False):
            sound, made = energy_distance(model, self.distance, samples, envelopes, f0, phases)
        converted, targets = self._converted(books, pitch, profile, labels, round(weights.converted * B))
        every, whose = torch.cat([made, converted]), torch.cat([labels, targets])
        real = self.adversary(samples, labels)
        own = own_loss(real, self.adversary(every.detach(), whose))
        judged = self.adversary.without_learning(every, whose)
        fooling = fooling_loss(judged)
        matching = matching_loss(real, [(score[:B], [h[:B] for h in inner]) for score, inner in judged])
        words = self._lost_words(samples[: len(converted)], converted)
        value = options.sound * sound + weights.fooling * fooling + weights.matching * matching + own
        terms = {"sound": sound, "fooling": fooling, "matching": matching, "words": words, "adversary": own}
        return Loss(value + weights.words * words, terms)

    def _lost_words(self, samples: Tensor, converted: Tensor) -> Tensor:
        """How far the latents of converted sounds [B, N] lie from those of the originals, beside their spread.

        Both are normalised by what the crop itself sounds like: no one knows the profile of the converted clip.
        """
        wanted, found = (self.model.latents(x, crop_profile(self.model.log_mel(x))) for x in (samples, converted))
        wanted = wanted.detach()
        return F.mse_loss(found, wanted) / wanted.var().clamp(min=1e-4)

    def _converted(
        self, books: Tensor, pitch: Tensor, profile: Tensor, labels: Tensor, count: int
    ) -> tuple[Tensor, Tensor]:
        """The first `count` items in well-known voices, by level 0: sounds [count, N] and whose they are [count]."""
        model = self.model
        targets = self._targets[(distributed.rand(count, device=labels.device) * len(self._targets)).long()]
        voice, register = model.voice_of_speaker(targets)
        ratio = torch.exp(register - profile[:count, -3])
        f0 = pitch_frames(hertz(pitch[:count]) * ratio[:, None])
        envelopes = model.decoder.envelopes(model.quantizer.lookup(books[:count, :1]), f0, voice, register)
        noise = torch.randn(count, f0.shape[1] * model.stride // model.frames, device=f0.device)
        with torch.autocast(f0.device.type, enabled=False):
            return model.decoder.render(*envelopes, f0, frame_phases(f0), noise), targets

    def show(self, samples: Tensor, pitch: Tensor, profile: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Spectrograms of crops, and of the words of each in another voice."""
        books = self.model.quantizer.codes(self.model.latents(samples, profile))
        converted, _ = self._converted(books, pitch, profile, labels, len(samples))
        return pictures(samples), pictures(converted)

    def export(self, finished: Finished[Utterances]) -> store.ModelInfo:
        before = finished.description
        facts = {key: before[key] + value for key, value in self.before.items()}  # the whole way of these weights
        facts["recipe"] = before["recipe"] | {"description": self.what}  # it is still what it was before
        groups = self.model.group_names
        return exports.export(finished, self.model, self.arguments, groups, self.speakers, facts)


def crop_profile(spectra: Tensor) -> Tensor:
    """What a profile (media/voice.py) says of spectra, [B, SIZE], for log-mel spectra [B, bands, T] of a crop alone."""
    spread = spectra.var(2).clamp(min=0.05).sqrt()
    return F.pad(torch.cat([spectra.mean(2), spread], 1), (0, 3))


TASK = FinishTask
