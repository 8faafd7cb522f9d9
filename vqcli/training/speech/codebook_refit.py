"""Refit the codebook of a speech net to its final latents.

During training the codebook is a moving average of latents that still change, and few directions of large variance get
most of the codes. Here the directions are rescaled towards equal variance, in the last layer of the encoder and the
first of the decoder, and the codebook is k-means of the latents of clean clips. The decoder has the same input as
before but for the new codebook: finetune it afterwards (tasks/finetune.py).
"""

from __future__ import annotations

import torch

from vqcli.data.speech import Utterances
from vqcli.errors import UsageError
from vqcli.nets.codecs.speech import SpeechVQVAE
from vqcli.recipe import Data
from vqcli.training.speech.clusters import kmeans

CROPS, BATCH, SECONDS = 768, 16, 3.04
POWER = 0.25  # of the variance that each direction is divided by; 1 / 2 would make all variances equal


@torch.no_grad()
def refit_codebook(model: SpeechVQVAE, clips: Utterances, seed: int = 0) -> None:
    """Refit the codebook of a net of one level to crops of these clips. Raises UsageError for other nets."""
    if model.levels != 1:
        raise UsageError(
            "residual levels would not fit a new first codebook", "speech.settle is for models of one level"
        )
    data, device = Data(batch=BATCH, seconds=SECONDS), model.registers.device
    parts = []
    for first in range(0, CROPS, BATCH):
        batch = clips.batch(data, seed, first, BATCH)
        samples, profile = (torch.from_numpy(part).to(device) for part in (batch.samples, batch.profile))
        parts.append(model.latents(samples, profile).float().transpose(1, 2).flatten(0, 1))
    rows = torch.cat(parts)  # (N, dim)
    mean = rows.mean(0)
    variances, directions = torch.linalg.eigh(torch.cov(rows.T))
    scales = variances.clamp(min=1e-6 * float(variances.max())) ** POWER
    into, back = directions / scales, (directions * scales).T  # z' = (z - mean) into, z = z' back + mean

    out, latent, quantizer = model.encoder.out, model.decoder.latent, model.quantizer
    out.bias.copy_((out.bias - mean) @ into)
    out.weight.copy_(into.T @ out.weight)
    latent.bias.add_(latent.weight @ mean)
    latent.weight.copy_(latent.weight @ back.T)
    torch.manual_seed(seed)
    quantizer.codebook.data[0, 0] = kmeans((rows - mean) @ into, quantizer.K)
