"""Add a speaker to a trained speech model: the net is fixed, a row of the speaker table is fitted to some clips.

The voice is stored in a small file next to the model, `voices/NAME.safetensors` (codec/voices.py). `fit_voice` does the
same for one recording, and hands the voice over.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqcli.codec import voices
from vqcli.data.speech import UtteranceBatch, Utterances
from vqcli.errors import ModelError, UsageError
from vqcli.media import pitch
from vqcli.nets.codecs.speech import excitation
from vqcli.recipe import Data
from vqcli.training.speech.spectral_loss import SpectralDistance
from vqcli.training.tasks.speech import as_input, energy_distance
from vqcli.zoo import loading

STEPS = 200
DATA = Data(batch=8, seconds=1.28, balance=1.0)
FEW, FEW_STEPS = Data(batch=4, seconds=1.28), 100  # for one recording: a third of a minute on one core
LEARNING_RATE = 0.02

Progress = Callable[[float, str], None]


def fit(
    model: loading.LoadedModel,
    name: str,
    folder: Path,
    *,
    steps: int = STEPS,
    force: bool = False,
    progress: Progress = lambda share, note: None,
) -> voices.Speaker:
    """Fit a voice called `name` to all clips below a folder, and store it next to the model.

    Raises UsageError for a name that the model has already or without clips, ModelError for a model without a speaker
    table.
    """
    if not model.audio.voice_dim:
        raise ModelError(f"model {model.info.name} cannot be extended by a speaker", "--codec speech can")
    if name in {known.name for known in voices.speakers(model.info)} and not force:
        raise UsageError(f"model {model.info.name} has a speaker {name} already", "choose another name")
    clips = Utterances([folder], held_out=None)
    profiles = np.stack([clip.profile for clip in map(clips.clip, range(len(clips))) if clip])
    values, log_hz = _fitted(model, profiles, lambda first: clips.batch(DATA, 0, first, DATA.batch), steps, progress)
    seconds = sum(each.seconds for each in clips.speakers())
    hz = round(float(np.exp(log_hz)), 1)
    fitted = voices.Speaker(name, -1, round(seconds, 1), hz, source=folder.name)
    voices.save_voice(model.info, fitted, values, force=force)
    return fitted


def fit_voice(
    model: loading.LoadedModel,
    reference: voices.Reference,
    *,
    steps: int = FEW_STEPS,
    progress: Progress = lambda share, note: None,
) -> voices.Voice:
    """The voice of a recording, nearer to it than the predicted one (`voices.of_reference`), in some seconds."""
    crops = _Crops(reference)
    profiles = reference.profile[None]
    values, log_hz = _fitted(model, profiles, lambda first: crops.batch(FEW, first), steps, progress)
    return voices.voice_of_values(model, reference, values, log_hz)


def _fitted(
    model: loading.LoadedModel,
    profiles: np.ndarray,
    batch: Callable[[int], UtteranceBatch],
    steps: int,
    progress: Progress,
) -> tuple[np.ndarray, float]:
    """Voice float32 [voice_dim] and register (mean log Hz) of clips with profiles [N, SIZE], by batches from draw n on.

    It starts from the prediction from the profiles, and minimises the spectral distance with level 0; all weights stay.
    """
    net: Any = model.net
    predicted, registers = net.voice_of_profile(torch.from_numpy(profiles).to(model.device))
    raw = torch.atanh(predicted.detach().mean(0).clamp(-0.98, 0.98)).requires_grad_(True)
    register = registers.detach().mean()
    optimizer, distance = torch.optim.Adam([raw], LEARNING_RATE), SpectralDistance().to(model.device)
    with torch.random.fork_rng(devices=[]):  # the noise of renderings; the caller's draws stay as they are
        torch.manual_seed(0)
        draw = 0
        for step in range(steps):
            clips = batch(draw)
            draw += len(clips)
            samples, melody, profile, _ = as_input(clips, model.device)
            f0, phases = excitation(melody)
            with torch.no_grad():
                z_q = net.quantizer.lookup(net.quantizer.codes(net.latents(samples, profile), levels=1))
            values = torch.tanh(raw).expand(len(samples), -1)
            envelopes = net.decoder.envelopes(z_q, f0, values, register.expand(len(samples)))
            loss, _ = energy_distance(net, distance, samples, envelopes, f0, phases)
            optimizer.zero_grad()
            (raw.grad,) = torch.autograd.grad(loss, [raw])
            optimizer.step()
            progress((step + 1) / steps, f"spectral distance {float(loss.detach()):.3f}")
    return torch.tanh(raw).detach().cpu().numpy(), float(register)


class _Crops:
    """Batches of crops of one recording, the same on every machine."""

    def __init__(self, reference: voices.Reference) -> None:
        self._clip = reference

    def batch(self, data: Data, first: int) -> UtteranceBatch:
        """Draws first .. first + data.batch; what lies beyond the end of the recording is silent."""
        clip, P = self._clip, round(data.seconds * pitch.RATE_HZ / (2 * pitch.STEP)) * 2
        samples = np.zeros((data.batch, P * pitch.STEP), np.float32)
        codes = np.zeros((data.batch, P), np.uint8)
        for row in range(data.batch):
            free = max(0, len(clip.pitch) - P) // 2 + 1
            start = int(random.Random(f"{first + row}").random() * free) * 2
            part = clip.samples[start * pitch.STEP :][: samples.shape[1]]
            samples[row, : len(part)] = part
            melody = clip.pitch[start:][:P]
            codes[row, : len(melody)] = melody
        profiles = np.repeat(clip.profile[None], data.batch, 0)
        return UtteranceBatch(samples, codes, profiles, np.zeros(data.batch, np.int64))
