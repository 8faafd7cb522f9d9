"""The last word on the codes of a speech net: a codebook made of the latents as they came to be.

A moving average follows latents while they move; where few directions of them spread far, it spends its codes there.
Here all directions are brought nearer to the same spread, which the last layer of the encoder takes over, and the
codebook is k-means of what clean clips become. The decoder hears the same as before but for the codes' new places:
let it learn on (finish.py).
"""

from __future__ import annotations

import torch

from vqcli.data.speech import Utterances
from vqcli.errors import UsageError
from vqcli.nets.codecs.speech import SpeechVQVAE
from vqcli.recipe import Data
from vqcli.training.speech.clusters import kmeans

CROPS, BATCH, SECONDS = 768, 16, 3.04
POWER = 0.25  # of the variance that each direction is divided by; 1 / 2 would bring all to the same spread


@torch.no_grad()
def settle(model: SpeechVQVAE, clips: Utterances, seed: int = 0) -> None:
    """Give a net of one level its last codebook, made of crops of these clips. Raises UsageError for other nets."""
    if model.levels != 1:
        raise UsageError("residual levels would not fit a new first codebook", "settle models of one level")
    data, device = Data(batch=BATCH, seconds=SECONDS), model.registers.device
    found = []
    for first in range(0, CROPS, BATCH):
        batch = clips.batch(data, seed, first, BATCH)
        samples, profile = (torch.from_numpy(part).to(device) for part in (batch.samples, batch.profile))
        found.append(model.latents(samples, profile).float().transpose(1, 2).flatten(0, 1))
    rows = torch.cat(found)  # (N, dim)
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
