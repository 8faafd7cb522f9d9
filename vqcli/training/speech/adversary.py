"""A second net that tells speech from what a decoder makes of codes, and the losses by which both learn from it.

Distances between spectra have one answer for what codes leave open: the mean, which sounds muffled. A discriminator
asks for any answer that could be real (Goodfellow et al. 2014; least squares as in Mao et al. 2017; comparing its
inner values as in Larsen et al. 2016). It also hears whose voice it should be (a projection, Miyato and Koyama 2018),
so converted speech, which has no original to be compared with, learns to sound like its speaker.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from vqcli.media import mel
from vqcli.nets.layers.spectra import short_time_spectra

Judged = tuple[Tensor, list[Tensor]]


class Discriminator(nn.Module):
    """Judges log-mel spectra of sounds [B, N], stretch by stretch: scores [B, stretches] and inner values.

    Bands are channels of convolutions along time: speech lies where it lies in frequency.

    n_fft, hop, bands  of the spectrum
    width              channels
    speakers           whose voices it may be told
    """

    window: Tensor
    filters: Tensor

    def __init__(self, n_fft: int, hop: int, bands: int, width: int, speakers: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", torch.from_numpy(mel.filters(bands, n_fft)), persistent=False)
        sizes = [(bands, width, 1), (width, width, 2), (width, width, 1), (width, width, 2)]
        self.convs = nn.ModuleList(nn.Conv1d(a, b, 5, stride, padding=2) for a, b, stride in sizes)
        self.score = nn.Conv1d(width, 1, 3, padding=1)
        self.speaker = nn.Embedding(speakers, width)
        nn.init.normal_(self.speaker.weight, std=0.1)

    def forward(self, x: Tensor, speaker: Tensor) -> Judged:
        """x [B, N], speaker int64 [B]."""
        with torch.autocast(x.device.type, enabled=False):
            spectrum = short_time_spectra(x, self.window, self.hop)
            magnitude = (torch.view_as_real(spectrum).square().sum(-1) + 1e-10).sqrt() / self.n_fft**0.5
            h = torch.log((self.filters @ magnitude).clamp(min=1e-3)) / 2 + 1.5  # about -2 .. 2
        inner = []
        for conv in self.convs:
            h = F.leaky_relu(conv(h), 0.2)
            inner.append(h)
        fits = (h * self.speaker(speaker)[:, :, None]).sum(1) / h.shape[1] ** 0.5  # (B, T')
        return self.score(h)[:, 0] + fits, inner


class Adversary(nn.Module):
    """Two discriminators: fine in frequency, and fine in time."""

    def __init__(self, speakers: int, width: int = 192) -> None:
        super().__init__()
        self.judges = nn.ModuleList(
            [Discriminator(1024, 160, mel.BANDS, width, speakers), Discriminator(256, 64, 40, width, speakers)]
        )

    def forward(self, x: Tensor, speaker: Tensor) -> list[Judged]:
        return [judge(x, speaker) for judge in self.judges]

    def without_learning(self, x: Tensor, speaker: Tensor) -> list[Judged]:
        """What it says, with a gradient for x alone: so one step can teach both nets, each its own lesson."""
        still: Mapping[str, Tensor] = {name: weight.detach() for name, weight in self.named_parameters()}
        judged: list[Judged] = functional_call(self, dict(still), (x, speaker))
        return judged


def own_loss(real: list[Judged], made: list[Judged]) -> Tensor:
    """What the adversary minimises: real stretches should score 1, made ones 0."""
    terms = [
        (1 - a).float().square().mean() + b.float().square().mean() for (a, _), (b, _) in zip(real, made, strict=True)
    ]
    return torch.stack(terms).mean()


def fooling_loss(made: list[Judged]) -> Tensor:
    """What the decoder minimises: its stretches should score 1."""
    return torch.stack([(1 - score).float().square().mean() for score, _ in made]).mean()


def matching_loss(real: list[Judged], made: list[Judged]) -> Tensor:
    """Mean difference of the inner values, beside their size."""
    terms = [
        (a.detach() - b).float().abs().mean() / a.detach().float().abs().mean().clamp(min=1e-3)
        for (_, inner_a), (_, inner_b) in zip(real, made, strict=True)
        for a, b in zip(inner_a, inner_b, strict=True)
    ]
    return torch.stack(terms).mean()
