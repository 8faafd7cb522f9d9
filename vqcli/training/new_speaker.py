"""Add a speaker to a trained speech model: the net is fixed, a row of the speaker table is fitted to some clips.

The voice is stored in a small file next to the model, `voices/NAME.safetensors` (codec/voices.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from vqcli.codec import voices
from vqcli.data.speech import Utterances
from vqcli.errors import ModelError, UsageError
from vqcli.nets.codecs.speech import excitation
from vqcli.recipe import Data
from vqcli.training.speech.spectral_loss import SpectralDistance
from vqcli.training.tasks.speech import as_input, energy_distance
from vqcli.zoo import loading

STEPS = 200
DATA = Data(batch=8, seconds=1.28, balance=1.0)
LEARNING_RATE = 0.02


def fit(
    model: loading.LoadedModel,
    name: str,
    folder: Path,
    *,
    steps: int = STEPS,
    force: bool = False,
    progress: Callable[[float, str], None] = lambda share, note: None,
) -> voices.Speaker:
    """Fit a voice called `name` to all clips below a folder, and store it next to the model.

    It starts from the prediction from the clips' profiles, and minimises the spectral distance with level 0. Raises
    UsageError for a name that the model has already or without clips, ModelError for a model without a speaker table.
    """
    net = model.net
    if not getattr(net, "voice_dim", 0):
        raise ModelError(f"model {model.info.name} cannot be extended by a speaker", "--codec speech can")
    if name in {known.name for known in voices.speakers(model.info)} and not force:
        raise UsageError(f"model {model.info.name} has a speaker {name} already", "choose another name")
    clips = Utterances([folder], held_out=None)
    torch.manual_seed(0)
    profiles = torch.from_numpy(np.stack([clip.profile for clip in map(clips.clip, range(len(clips))) if clip]))
    predicted, registers = net.voice_of_profile(profiles.to(model.device))
    raw = torch.atanh(predicted.detach().mean(0).clamp(-0.98, 0.98)).requires_grad_(True)
    register = registers.mean()
    optimizer, distance = torch.optim.Adam([raw], LEARNING_RATE), SpectralDistance().to(model.device)
    for step in range(steps):
        samples, pitch, profile, _ = as_input(clips.batch(DATA, 0, step * DATA.batch, DATA.batch), model.device)
        f0, phases = excitation(pitch)
        with torch.no_grad():
            z_q = net.quantizer.lookup(net.quantizer.codes(net.latents(samples, profile), levels=1))
        values = torch.tanh(raw).expand(len(samples), -1)
        envelopes = net.decoder.envelopes(z_q, f0, values, register.expand(len(samples)))
        loss, _ = energy_distance(net, distance, samples, envelopes, f0, phases)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress((step + 1) / steps, f"spectral distance {float(loss.detach()):.3f}")
    seconds = sum(each.seconds for each in clips.speakers())
    hz = round(float(torch.exp(register)), 1)
    fitted = voices.Speaker(name, -1, round(seconds, 1), hz, source=folder.name)
    voices.save_voice(model.info, fitted, torch.tanh(raw).detach().cpu().numpy(), force=force)
    return fitted
