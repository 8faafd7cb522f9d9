"""What a run of a speech net trains: its loss on crops of clips, and what to look at."""

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
from vqcli.training.export.finished import Finished
from vqcli.training.losses import Loss
from vqcli.training.speech.clusters import Clusters, masked
from vqcli.training.speech.spectral_loss import SpectralDistance
from vqcli.training.tasks.base import ClipTask
from vqcli.zoo import registry, store
from vqcli.zoo.loading import LoadedModel


class SpeechTask(ClipTask):
    """Codes, voices and the harmonic decoder, trained together."""

    model: SpeechVQVAE

    @classmethod
    def begin(cls, recipe: Recipe, codec: LoadedModel | None, dataset: Utterances) -> SpeechTask:
        return cls(recipe, dataset)

    def __init__(self, recipe: Recipe, clips: Utterances) -> None:
        self.arguments = recipe.model.arguments | {"speakers": len(clips.classes)}
        model = registry.build(recipe.model.family, self.arguments)
        super().__init__(recipe, model.quantizer.codebook_sizes[:1])
        self.model, self.speakers = model, clips.speakers()
        model.registers.copy_(torch.log(torch.tensor([speaker.pitch_hz for speaker in self.speakers])))
        # says what the codes should tell, before the decoder has learned to listen
        width, bands = recipe.model.arguments.get("width", 192), model.frames * mel.BANDS
        self.spectra = nn.Sequential(
            nn.Conv1d(model.quantizer.dim, width, 3, padding=1), Blocks(1, width), nn.Conv1d(width, bands, 1)
        )
        self.distance = SpectralDistance()
        told = recipe.speech.clusters
        self.clusters = None
        if told is not None:
            dim = model.quantizer.dim
            self.clusters = Clusters(model.encoder, dim, model.frames, told.sizes, told.begin)

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
            # not by the commitment, which grows as latents become distinct
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
        speaking = voices(model, profile, labels, named)
        clean = model.spectra_of(samples, profile)
        heard = clean if warps is None else model.spectra_of(samples, profile, warps)
        share = options.clusters.masked if options.clusters is not None and self.training else 0.0
        z_e = model.encoder(masked(heard, share))
        # what is not rendered costs a third: the encoder learns from clusters and spectra too
        silent = self.training and float(torch.rand(())) >= options.sound_share
        envelopes, z_q, quantized = model(z_e, None if silent else f0, levels, speaking)
        features = F.mse_loss(self._spectra(z_q), clean)
        value = options.features * features + sum(quantized.losses.values())
        terms = {"features": features, **quantized.losses}
        if envelopes is not None:
            with torch.autocast(samples.device.type, enabled=False):
                terms["sound"], _ = energy_distance(model, self.distance, samples, envelopes, f0, phases)
            value = value + options.sound * terms["sound"]
        if self.clusters is not None and options.clusters is not None and self.training:
            named_clusters = self.clusters.listen(clean, model.encoder)
            if named_clusters is not None:
                terms["clusters"] = self.clusters.loss(z_e, quantized.z_q, named_clusters)
                value = value + options.clusters.weight * terms["clusters"]
        return Loss(value, terms, quantized.codes[:, :1] if self.training else None)

    def _spectra(self, z_q: Tensor) -> Tensor:
        """Normalised log-mel spectra [B, bands, P * frames] predicted from latents [B, dim, P]."""
        B, _, P = z_q.shape
        return self.spectra(z_q).float().view(B, -1, mel.BANDS, P).permute(0, 2, 3, 1).flatten(2)

    def show(self, samples: Tensor, pitch: Tensor, profile: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Spectrograms of crops and of what the codes of all levels make of them."""
        f0, phases = excitation(pitch)
        guessed = self.model.voice_of_profile(profile)
        (harmonic, noisy), *_ = self.model(self.model.latents(samples, profile), f0, self.model.levels, guessed)
        made = self.model.decoder.render(harmonic, noisy, f0, phases, torch.randn_like(samples))
        return pictures(samples), pictures(made)

    def export(self, finished: Finished[Utterances]) -> store.ModelInfo:
        return exports.export(finished, self.model, self.arguments, self.model.group_names, self.speakers)


def voices(model: SpeechVQVAE, profile: Tensor, labels: Tensor, named: Tensor) -> tuple[Tensor, Tensor]:
    """Voices and registers of items: rows of the table for those that are `named`, else what their profiles suggest."""
    (row, own), (guess, heard) = model.voice_of_speaker(labels), model.voice_of_profile(profile)
    return torch.where(named[:, None], row, guess), torch.where(named, own, heard)


def energy_distance(
    model: SpeechVQVAE,
    distance: SpectralDistance,
    samples: Tensor,
    envelopes: tuple[Tensor, Tensor],
    f0: Tensor,
    phases: Tensor,
) -> tuple[Tensor, Tensor]:
    """How far renderings of envelopes lie from samples [B, N], and one of the two whose noise differs (spectral.py)."""
    one, two = (model.decoder.render(*envelopes, f0, phases, torch.randn_like(samples)) for _ in range(2))
    wanted, first, second = distance.spectra(samples), distance.spectra(one), distance.spectra(two)
    return distance(wanted, first) + distance(wanted, second) - distance(first, second), one


def pictures(samples: Tensor) -> np.ndarray:
    """Spectrograms uint8 [B, bands * 2, T, 3] of sounds [B, N]: dark is quiet, low notes are at the bottom."""
    spectra = np.stack([mel.log_mel(sound) for sound in samples.cpu().numpy()])
    grey = np.clip((spectra + 7) / 8 * 255, 0, 255).astype(np.uint8)[:, ::-1]
    return np.repeat(grey, 2, axis=1)[..., None].repeat(3, axis=3)


as_input = SpeechTask.as_input  # for who has clips but no task
TASK = SpeechTask
