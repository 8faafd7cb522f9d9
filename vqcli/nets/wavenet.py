"""WaveNet: gated dilated causal convolutions, one position at a time (van den Oord et al. 2016, arXiv 1609.03499).

The stack is the trunk of the waveform decoder here and of priors over codes. Inside, positions come before channels:
the convolutions have two taps, so each is a product of [past, present] by one matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.nets import mulaw
from vqcli.nets.gated import gate


class Layer(nn.Module):
    """One gated convolution with two taps, `dilation` positions apart (eq. 2): h [B, T, R] to gated [B, T, R]."""

    def __init__(self, residual: int, dilation: int, last: bool) -> None:
        super().__init__()
        self.dilation = dilation
        self.taps = nn.Linear(2 * residual, 2 * residual)  # [past, present] -> [tanh's part, sigmoid's part]
        self.mix = None if last else nn.Linear(residual, residual)  # to the residual; the last has no one to go to

    def forward(self, h: Tensor, condition: Tensor | None) -> Tensor:
        """condition [B, T / stride, 2 R] is added to all positions of its step."""
        past = F.pad(h, (0, 0, self.dilation, 0))[:, : h.shape[1]]
        x = self.taps(torch.cat([past, h], 2))  # (B, T, 2 R)
        if condition is not None:
            steps = condition.shape[1]
            x = x.unflatten(1, (steps, -1)).add_(condition[:, :, None].to(x.dtype)).flatten(1, 2)
        return gate(x, 2)


class GatedStack(nn.Module):
    """Causal: what comes out at a position depends on the inputs at it and at `reach` positions before it.

    residual   R, channels from layer to layer
    skip       S, channels that come out
    dilations  one for each layer: its two taps lie so many positions apart
    local      L, channels of a condition that goes along with the positions, at their rate or a lower one; 0 for none
    globals_   G, channels of a condition that holds for all positions, as of a speaker; 0 for none
    """

    def __init__(self, residual: int, skip: int, dilations: Sequence[int], local: int = 0, globals_: int = 0) -> None:
        super().__init__()
        self.residual, self.skip, self.dilations = residual, skip, list(dilations)
        count = len(self.dilations)
        layers = [Layer(residual, dilation, n == count - 1) for n, dilation in enumerate(self.dilations)]
        self.layers: Sequence[Layer] = nn.ModuleList(layers)  # type: ignore[assignment]
        self.to_skip = nn.Linear(count * residual, skip)  # one product of all gates, in place of a sum of many
        # what conditions add in the gates, for all layers at once
        self.from_local = nn.Linear(local, count * 2 * residual, bias=False) if local else None
        self.from_global = nn.Linear(globals_, count * 2 * residual, bias=False) if globals_ else None

    @property
    def reach(self) -> int:
        """Positions before its own that an output depends on."""
        return sum(self.dilations)

    def forward(self, h: Tensor, local: Tensor | None = None, global_: Tensor | None = None) -> Tensor:
        """Skips [B, S, T] of h [B, R, T], given local [B, L, T / stride] and global_ [B, G].

        The stride is whatever the two lengths say. Before the first position there are zeros.
        """
        h = h.transpose(1, 2)
        conditions = self.conditions(local, global_)
        gates = []
        for n, layer in enumerate(self.layers):
            gated = layer(h, None if conditions is None else conditions[:, :, n])
            gates.append(gated)
            if layer.mix is not None:
                h = h + layer.mix(gated)
        return self.to_skip(torch.cat(gates, 2)).transpose(1, 2)

    def conditions(self, local: Tensor | None, global_: Tensor | None) -> Tensor | None:
        """What both add in the gates: [B, T / stride or 1, layers, 2 R]."""
        if (local is None) != (self.from_local is None) or (global_ is None) != (self.from_global is None):
            raise ValueError("the conditions are not those that this stack was made for")
        parts = []
        if self.from_local is not None and local is not None:
            parts.append(self.from_local(local.transpose(1, 2)))
        if self.from_global is not None and global_ is not None:
            parts.append(self.from_global(global_)[:, None])
        return sum(parts).unflatten(2, (len(self.layers), -1)) if parts else None


class WaveNetDecoder(nn.Module):
    """Codes to sound: a distribution over the next sample of 256 mu-law codes, given latents, speaker and the past.

    latent_dim        D of the latents, each of which covers `stride` samples
    speakers          rows of the speaker table
    residual, skip    channels R and S of the stack
    cycles            dilations 1, 2, 4 .. 2^(layers_per_cycle - 1) are gone through so many times
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
            raise ValueError(f"{samples.shape[1]} samples do not go with {z_q.shape[2]} latents of {self.stride}")
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
