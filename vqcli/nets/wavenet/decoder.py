"""The WaveNet decoder of section 4.3: a distribution over the next sample, given latents, speaker and the past."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.nets.layers import mulaw
from vqcli.nets.layers.wavenet_stack import GatedStack


class WaveNetDecoder(nn.Module):
    """Codes to waveform: a distribution over the next sample's 256 mu-law codes, given latents, speaker and the past.

    latent_dim        D of the latents, each of which covers `stride` samples
    speakers          rows of the speaker table
    residual, skip    channels R and S of the stack
    cycles            repetitions of the dilations 1, 2, 4 .. 2^(layers_per_cycle - 1)
    """

    MARGIN = 2  # latents to each side that a latent's samples depend on

    def __init__(
        self,
        latent_dim: int,
        speakers: int,
        residual: int = 32,
        skip: int = 128,
        cycles: int = 2,
        layers_per_cycle: int = 9,
        stride: int = 64,
        quantization: int = mulaw.CODES,
        speaker_dim: int = 32,
    ) -> None:
        super().__init__()
        self.stride, self.quantization = stride, quantization
        self.context = nn.Sequential(
            nn.Conv1d(latent_dim, latent_dim, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(latent_dim, latent_dim, 3, padding=1),
        )
        self.speaker = nn.Embedding(speakers, speaker_dim)
        self.embedding = nn.Embedding(quantization, residual)
        dilations = [2**n for _ in range(cycles) for n in range(layers_per_cycle)]
        self.stack = GatedStack(residual, skip, dilations, latent_dim, speaker_dim)
        self.hidden = nn.Linear(skip, skip)
        self.out = nn.Linear(skip, quantization)

    def forward(self, z_q: Tensor, speaker: Tensor, samples: Tensor) -> Tensor:
        """Logits [B, 256, T] float32 of each sample, given those before it.

        z_q [B, D, T / stride], speaker int64 [B], samples int64 [B, T] of mu-law codes; silence comes before them.
        """
        if samples.shape[1] != z_q.shape[2] * self.stride:
            raise ValueError(f"{samples.shape[1]} samples do not fit {z_q.shape[2]} latents of {self.stride}")
        before = F.pad(samples, (1, -1), value=self.quantization // 2)
        h = self.embedding(before).transpose(1, 2)  # (B, R, T)
        skips = self.stack(h, *self.condition(z_q, speaker))
        return self.head(skips).float()

    def condition(self, z_q: Tensor, speaker: Tensor) -> tuple[Tensor, Tensor]:
        """The stack's local [B, D, T / stride] and global [B, speaker_dim] conditions."""
        return self.context(z_q), self.speaker(speaker)

    def head(self, skips: Tensor) -> Tensor:
        """Logits [B, 256, T] of skips [B, S, T]."""
        x = F.relu(self.hidden(F.relu(skips.transpose(1, 2))))
        return self.out(x).transpose(1, 2)

    def loss(self, z_q: Tensor, speaker: Tensor, samples: Tensor) -> Tensor:
        """Nats for each sample, on average."""
        logits = self(z_q, speaker, samples)
        return F.cross_entropy(logits.transpose(1, 2).flatten(0, 1), samples.flatten())
