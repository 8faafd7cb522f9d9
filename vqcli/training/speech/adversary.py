"""Discriminators that tell real speech from decoded speech, and the losses of discriminators and decoder.

The codes do not determine the waveform, and a spectral distance is least for the mean of all that fit, which sounds
muffled. A discriminator accepts any realistic one (Goodfellow et al. 2014; least squares as in Mao et al. 2017;
feature matching as in Larsen et al. 2016). It is conditioned on the speaker (a projection, Miyato and Koyama 2018), so
that converted speech, which has no original, is trained to sound like its speaker.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from vqcli.media import mel
from vqcli.nets.layers.spectra import short_time_spectra

Scores = tuple[Tensor, list[Tensor]]  # scores and features


class Discriminator(nn.Module):
    """Scores log-mel spectra of audio [B, N] by segment: scores [B, segments] and features of the layers.

    Bands are channels of convolutions along time: their position in frequency matters for speech.

    n_fft, hop, bands  of the spectrum
    width              channels
    speakers           number of speakers
    rate_hz            of the audio
    """

    window: Tensor
    filters: Tensor

    def __init__(self, n_fft: int, hop: int, bands: int, width: int, speakers: int, rate_hz: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", torch.from_numpy(mel.filters(bands, n_fft, rate_hz)), persistent=False)
        sizes = [(bands, width, 1), (width, width, 2), (width, width, 1), (width, width, 2)]
        self.convs = nn.ModuleList(nn.Conv1d(a, b, 5, stride, padding=2) for a, b, stride in sizes)
        self.score = nn.Conv1d(width, 1, 3, padding=1)
        self.speaker = nn.Embedding(speakers, width)
        nn.init.normal_(self.speaker.weight, std=0.1)

    def forward(self, x: Tensor, speaker: Tensor) -> Scores:
        """x [B, N], speaker int64 [B]."""
        with torch.autocast(x.device.type, enabled=False):
            spectrum = short_time_spectra(x, self.window, self.hop)
            magnitude = (torch.view_as_real(spectrum).square().sum(-1) + 1e-10).sqrt() / self.n_fft**0.5
            h = torch.log((self.filters @ magnitude).clamp(min=1e-3)) / 2 + 1.5  # about -2 .. 2
        features = []
        for conv in self.convs:
            h = F.leaky_relu(conv(h), 0.2)
            features.append(h)
        projection = (h * self.speaker(speaker)[:, :, None]).sum(1) / h.shape[1] ** 0.5  # (B, T')
        return self.score(h)[:, 0] + projection, features


class Adversary(nn.Module):
    """Two discriminators: of high resolution in frequency, and in time."""

    def __init__(self, speakers: int, width: int = 192, rate_hz: int = mel.RATE_HZ) -> None:
        super().__init__()
        sizes = ((1024, 160, mel.BANDS), (256, 64, 40))
        self.judges = nn.ModuleList(Discriminator(*size, width, speakers, rate_hz) for size in sizes)

    def forward(self, x: Tensor, speaker: Tensor) -> list[Scores]:
        return [discriminator(x, speaker) for discriminator in self.judges]

    def with_fixed_weights(self, x: Tensor, speaker: Tensor) -> list[Scores]:
        """Scores with a gradient for x alone, so that one step trains decoder and discriminators by their losses."""
        fixed: Mapping[str, Tensor] = {name: weight.detach() for name, weight in self.named_parameters()}
        scores: list[Scores] = functional_call(self, dict(fixed), (x, speaker))
        return scores


def discriminator_loss(real: list[Scores], generated: list[Scores]) -> Tensor:
    """Loss of the discriminators: 1 is the target for real segments, 0 for generated ones."""
    terms = [
        (1 - a).float().square().mean() + b.float().square().mean()
        for (a, _), (b, _) in zip(real, generated, strict=True)
    ]
    return torch.stack(terms).mean()


def adversarial_loss(generated: list[Scores]) -> Tensor:
    """Loss of the decoder: 1 is the target for its segments."""
    return torch.stack([(1 - score).float().square().mean() for score, _ in generated]).mean()


def feature_matching_loss(real: list[Scores], generated: list[Scores]) -> Tensor:
    """Mean absolute difference of the features, relative to their mean absolute value."""
    terms = [
        (a.detach() - b).float().abs().mean() / a.detach().float().abs().mean().clamp(min=1e-3)
        for (_, features_a), (_, features_b) in zip(real, generated, strict=True)
        for a, b in zip(features_a, features_b, strict=True)
    ]
    return torch.stack(terms).mean()
