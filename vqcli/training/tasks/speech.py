"""Train a speech net on crops of utterances."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.data.speech import Utterances
from vqcli.media import mel
from vqcli.nets.codecs.speech import SpeechVQVAE, excitation
from vqcli.nets.layers import distributed
from vqcli.nets.layers.convnext import Blocks
from vqcli.recipe import Recipe
from vqcli.training.export import speech as exports
from vqcli.training.export.finished import FinishedRun
from vqcli.training.losses import Loss
from vqcli.training.speech.clusters import Clusters, masked
from vqcli.training.speech.spectral_loss import SpectralDistance
from vqcli.training.tasks.base import UtteranceTask
from vqcli.zoo import registry, store
from vqcli.zoo.loading import LoadedModel


class SpeechTask(UtteranceTask):
    """Encoder, codebooks, voices and the harmonic decoder, trained together."""

    model: SpeechVQVAE

    @classmethod
    def build(cls, recipe: Recipe, codec: LoadedModel | None, dataset: Utterances) -> SpeechTask:
        return cls(recipe, dataset)

    def __init__(self, recipe: Recipe, clips: Utterances) -> None:
        self.arguments = recipe.model.arguments | {"speakers": len(clips.classes)}
        model = registry.build(recipe.model.family, self.arguments)
        super().__init__(recipe, model.quantizer.codebook_sizes[:1])
        self.model, self.speakers = model, clips.speakers()
        model.registers.copy_(torch.log(torch.tensor([speaker.pitch_hz for speaker in self.speakers])))
        # predicts spectra from the codes: a gradient for the encoder before the decoder has learned to use them
        width, bands = recipe.model.arguments.get("width", 192), model.frames * mel.BANDS
        self.spectra = nn.Sequential(
            nn.Conv1d(model.quantizer.dim, width, 3, padding=1), Blocks(1, width), nn.Conv1d(width, bands, 1)
        )
        self.distance = SpectralDistance()
        options = recipe.speech.clusters
        self.clusters = None
        if options is not None:
            dim = model.quantizer.dim
            self.clusters = Clusters(
                model.encoder, dim, model.frames, options.sizes, options.begin, options.layer, options.discriminants
            )

    def forward(self, samples: Tensor, pitch: Tensor, profile: Tensor, labels: Tensor) -> Loss:
        """The loss of crops [B, N] with pitch codes [B, N / 320], profiles [B, SIZE] and speakers [B]."""
        options, device = self.recipe.speech, samples.device
        if self.training:
            alone = self.model.levels == 1 or float(torch.rand(())) < options.first_level
            levels = 1 if alone else int(torch.randint(2, self.model.levels + 1, ()))
            warps = (
                (distributed.rand(len(samples), device=device) * len(self.model.WARPS)).long() if options.warp else None
            )
            named = distributed.rand(len(samples), device=device) < options.table
            return self._loss(samples, pitch, profile, labels, levels, warps, named)
        total = samples.new_zeros(())
        terms: dict[str, Tensor] = {}
        named = torch.zeros_like(labels, dtype=torch.bool)
        for levels in sorted({1, self.model.levels}):
            loss = self._loss(samples, pitch, profile, labels, levels, None, named)
            # without the commitment loss, which grows as latents become distinct
            total = total + options.sound * loss.terms["sound"] + options.features * loss.terms["features"]
            terms |= {f"{name}_{levels}": term for name, term in loss.terms.items()}
        return Loss(total, terms)

    def _loss(
        self,
        samples: Tensor,
        pitch: Tensor,
        profile: Tensor,
        labels: Tensor,
        levels: int,
        warps: Tensor | None,
        named: Tensor,
    ) -> Loss:
        model, options = self.model, self.recipe.speech
        f0, phases = excitation(pitch)
        speaker = voices(model, profile, labels, named)
        clean = model.spectra_of(samples, profile)
        warped = clean if warps is None else model.spectra_of(samples, profile, warps)
        share = options.clusters.masked if options.clusters is not None and self.training else 0.0
        z_e = model.encoder(masked(warped, share))
        # a step without rendering costs a third, and the encoder still learns from clusters and spectra
        skip_decoder = self.training and float(torch.rand(())) >= options.sound_share
        envelopes, z_q, quantized = model(z_e, None if skip_decoder else f0, levels, speaker)
        features = F.mse_loss(self._spectra(z_q), clean)
        value = options.features * features + sum(quantized.losses.values())
        terms = {"features": features, **quantized.losses}
        if envelopes is not None:
            with torch.autocast(samples.device.type, enabled=False):
                terms["sound"], _ = energy_distance(model, self.distance, samples, envelopes, f0, phases)
            value = value + options.sound * terms["sound"]
        if self.clusters is not None and options.clusters is not None and self.training:
            targets = self.clusters.step(clean, model.encoder)
            if targets is not None:
                terms["clusters"] = self.clusters.loss(z_e, quantized.z_q, targets)
                value = value + options.clusters.weight * terms["clusters"]
        return Loss(value, terms, quantized.codes[:, :1] if self.training else None)

    def _spectra(self, z_q: Tensor) -> Tensor:
        """Normalised log-mel spectra [B, bands, P * frames] predicted from latents [B, dim, P]."""
        B, _, P = z_q.shape
        return self.spectra(z_q).float().view(B, -1, mel.BANDS, P).permute(0, 2, 3, 1).flatten(2)

    def show(self, samples: Tensor, pitch: Tensor, profile: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Spectrograms of crops and of their reconstructions with all levels."""
        f0, phases = excitation(pitch)
        voice = self.model.voice_of_profile(profile)
        (harmonic, noisy), *_ = self.model(self.model.latents(samples, profile), f0, self.model.levels, voice)
        decoded = self.model.decoder.render(harmonic, noisy, f0, phases, torch.randn_like(samples))
        return spectrogram_images(samples), spectrogram_images(decoded)

    def export(self, finished: FinishedRun[Utterances]) -> store.ModelInfo:
        return exports.export(finished, self.model, self.arguments, self.model.group_names, self.speakers)


def voices(model: SpeechVQVAE, profile: Tensor, labels: Tensor, named: Tensor) -> tuple[Tensor, Tensor]:
    """Voices and registers of items: rows of the speaker table where `named`, else predicted from the profiles."""
    (row, table_register), (predicted, register) = model.voice_of_speaker(labels), model.voice_of_profile(profile)
    return torch.where(named[:, None], row, predicted), torch.where(named, table_register, register)


def energy_distance(
    model: SpeechVQVAE,
    distance: SpectralDistance,
    samples: Tensor,
    envelopes: tuple[Tensor, Tensor],
    f0: Tensor,
    phases: Tensor,
) -> tuple[Tensor, Tensor]:
    """Energy distance of renderings of envelopes to samples [B, N] (spectral_loss.py), and one of the renderings."""
    one, two = (model.decoder.render(*envelopes, f0, phases, torch.randn_like(samples)) for _ in range(2))
    target, first, second = distance.spectra(samples), distance.spectra(one), distance.spectra(two)
    return distance(target, first) + distance(target, second) - distance(first, second), one


def spectrogram_images(samples: Tensor) -> np.ndarray:
    """Spectrograms uint8 [B, bands * 2, T, 3] of audio [B, N]: dark is quiet, low frequencies are at the bottom."""
    spectra = np.stack([mel.log_mel(item) for item in samples.cpu().numpy()])
    grey = np.clip((spectra + 7) / 8 * 255, 0, 255).astype(np.uint8)[:, ::-1]
    return np.repeat(grey, 2, axis=1)[..., None].repeat(3, axis=3)


as_input = SpeechTask.as_input  # for clips without a task
TASK = SpeechTask
