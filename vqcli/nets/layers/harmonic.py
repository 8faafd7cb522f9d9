"""A harmonic-plus-noise decoder: latents, pitch and a voice to a waveform, at frame rate.

A frame-rate net predicts spectral envelopes of a harmonic and of a noise part. The excitations, a band-limited pulse
train at the pitch and white noise, are filtered by them in the short-time Fourier domain (after the source-filter
model, and Serra and Smith 1990). It is not autoregressive, so decoding is many times faster than real time.

Everything is a function of its window: the phase at the start of each frame and the noise are given, so windows of a
long recording fit together sample by sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.media import mel
from vqcli.nets.layers import operators
from vqcli.nets.layers.convnext import Blocks
from vqcli.nets.layers.spectra import short_time_spectra

RATE_HZ, HOP, N_FFT = mel.RATE_HZ, mel.HOP, 640
MARGIN = (N_FFT - HOP) // 2  # samples that a frame's window reaches beyond its own
HIGHEST_HARMONIC_HZ = 7600.0
LOWEST_HZ = 50.0  # below it is no speech: filtered out
LARGEST_LOG_GAIN = 6.0


def pitch_frames(hz: Tensor) -> Tensor:
    """Pitch of positions of two frames each, [B, P] -> frames [B, 2 P], Hz, 0 where unvoiced.

    Between the middles of voiced positions the logarithm is linear; the steps of the codes are smoothed before.
    """
    voiced = hz > 0
    log_hz = torch.log(hz.clamp(min=1.0))

    def neighbour(values: Tensor, shift: int) -> Tensor:
        """Of the position before (-1) or after (1), itself where that one has no voice."""
        other, there = _shifted(values, shift), _shifted(voiced.to(values.dtype), shift) > 0
        return torch.where(there, other, values)

    smooth = (2 * log_hz + neighbour(log_hz, -1) + neighbour(log_hz, 1)) / 4
    first = 0.75 * smooth + 0.25 * neighbour(smooth, -1)
    second = 0.75 * smooth + 0.25 * neighbour(smooth, 1)
    frames = torch.stack([first, second], 2).exp() * voiced[..., None]
    return frames.flatten(1)  # (B, 2 P)


def _shifted(x: Tensor, step: int) -> Tensor:
    """x [B, T] of the frame before (-1) or after (1), 0 beyond the ends."""
    return F.pad(x[:, :-1], (1, 0)) if step < 0 else F.pad(x[:, 1:], (0, 1))


def _towards(f0: Tensor) -> tuple[Tensor, Tensor]:
    """Pitch at the edges that each frame shares with the one before and after it; its own next to an unvoiced one."""
    voiced = f0 > 0
    before, after = _shifted(f0, -1), _shifted(f0, 1)
    before, after = torch.where(before > 0, before, f0), torch.where(after > 0, after, f0)
    return torch.where(voiced, (before + f0) / 2, f0), torch.where(voiced, (after + f0) / 2, f0)


def frame_phases(f0: Tensor) -> Tensor:
    """Phase in cycles, 0 .. 1, float64 [B, T], at the start of each frame of f0 [B, T] Hz; each voiced run starts at 0.

    Inside a frame the pitch runs linearly from the edge before to the middle to the edge after.
    """
    f0 = f0.double()
    before, after = _towards(f0)
    cycles = (before + 2 * f0 + after) / 4 * HOP / RATE_HZ  # (B, T), of each frame
    total = cycles.cumsum(1)
    start = total - cycles
    onset = (f0 > 0) & (_shifted(f0, -1) == 0)
    # by the number of the run, over all items: what is before the first run of an item has no phase
    starts = F.pad(start[onset], (1, 0))
    begun = starts[onset.flatten().cumsum(0)].view(start.shape)
    return (start - begun) % 1


def pulse_train(f0: Tensor, phases: Tensor) -> Tensor:
    """All harmonics of f0 [B, T] Hz at equal strength and unit density, [B, T * HOP]; 0 where unvoiced.

    A Dirichlet kernel: the sum of cosines below HIGHEST_HARMONIC_HZ in closed form.
    """
    before, after = _towards(f0)
    half = torch.arange(1, HOP // 2 + 1, device=f0.device, dtype=f0.dtype) - 0.5
    rise = half / (HOP / 2)
    f = torch.cat([before[..., None].lerp(f0[..., None], rise), f0[..., None].lerp(after[..., None], rise)], 2)
    cycles = phases.to(f0.dtype)[..., None] + f.cumsum(2) / RATE_HZ  # (B, T, HOP)
    angle = (cycles % 1) * (2 * math.pi)
    count = torch.floor(HIGHEST_HARMONIC_HZ / f0.clamp(min=40.0))[..., None]
    s = torch.sin(angle / 2)
    near = s.abs() < 1e-4
    pulses = torch.where(near, 2 * count, torch.sin((2 * count + 1) * angle / 2) / torch.where(near, 1.0, s) - 1)
    return (pulses * torch.sqrt(f0 / RATE_HZ)[..., None]).flatten(1)


def centred_spectra(x: Tensor, window: Tensor) -> Tensor:
    """Complex [B, bins, T] of x [B, T * HOP]; frame j is centred on sample (j + 1/2) * HOP."""
    return short_time_spectra(_edged(x, len(window)), window, HOP)


def centred_magnitudes(x: Tensor, window: Tensor) -> Tensor:
    """Their absolute values."""
    if torch.compiler.is_compiling():
        return operators.magnitudes(_edged(x, len(window)), window, HOP)
    return centred_spectra(x, window).abs()


def _edged(x: Tensor, n_fft: int) -> Tensor:
    """x with the zeros beyond its ends that the windows of the first and last frame see."""
    margin = (n_fft - HOP) // 2
    return F.pad(x, (margin, n_fft - HOP - margin))


def overlap_add(spectra: Tensor, window: Tensor) -> Tensor:
    """[B, T * HOP] of spectra [B, bins, T], the inverse of `centred_spectra` away from the ends, which fade."""
    n_fft, T = len(window), spectra.shape[2]
    frames = torch.fft.irfft(spectra, n_fft, dim=1) * window[:, None]  # (B, n_fft, T)
    length = T * HOP + n_fft - HOP
    return _without_edges(F.fold(frames, (1, length), (1, n_fft), stride=(1, HOP))[:, 0, 0], window)


def _without_edges(x: Tensor, window: Tensor) -> Tensor:
    """[B, T * HOP] of the sum of windows, with the zeros of `_edged` and the scale of overlapping windows undone."""
    margin = (len(window) - HOP) // 2
    overlap = window.square().sum() / HOP  # the same at every sample for these windows
    return x[:, margin : margin + x.shape[1] - (len(window) - HOP)] / overlap


def filtered(excitations: Sequence[Tensor], gains: Sequence[Tensor], window: Tensor) -> Tensor:
    """The sum of signals [B, T * HOP], each filtered by gains [B, bins, T] in the short-time Fourier domain."""
    if torch.compiler.is_compiling():
        edged = [_edged(x, len(window)) for x in excitations]
        return _without_edges(operators.filtered(edged, gains, window, HOP), window)
    parts = [centred_spectra(x, window) * gain for x, gain in zip(excitations, gains, strict=True)]
    return overlap_add(sum(parts[1:], parts[0]), window)


class HarmonicDecoder(nn.Module):
    """Latents [B, dim, P], pitch, a voice [B, voice] -> waveform [B, P * frames * HOP] at -26 dB RMS.

    frames  10 ms frames for each position of the codes
    """

    window: Tensor
    bins: Tensor
    high_pass: Tensor

    def __init__(
        self, dim: int, voice: int, frames: int = 2, width: int = 192, blocks: int = 8, bands: int = 80
    ) -> None:
        super().__init__()
        self.frames, self.bands = frames, bands
        self.latent, self.pitch = nn.Linear(dim, width), nn.Linear(3, width)
        self.place = nn.Parameter(torch.randn(frames, width) * 0.1)  # embedding of the frame within its position
        self.voice = nn.Sequential(nn.Linear(voice, 64), nn.GELU())
        self.inp, self.norm = nn.Conv1d(width, width, 5, padding=2), nn.LayerNorm(width)
        self.blocks = Blocks(blocks, width, 64)
        self.out_norm, self.out = nn.LayerNorm(width), nn.Linear(width, 2 * bands)
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.constant_(self.out.bias, -4.0)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)
        matrix = torch.from_numpy(mel.bands_to_bins(bands, N_FFT))
        high_pass = torch.linspace(0, RATE_HZ / 2, N_FFT // 2 + 1) >= LOWEST_HZ
        self.register_buffer("bins", matrix, persistent=False)
        self.register_buffer("high_pass", high_pass[:, None].float(), persistent=False)
        self.reach = 2 + self.blocks.reach + -(-MARGIN // HOP) + 2  # frames to either side; 2 for the smoothed pitch

    def envelopes(self, z: Tensor, f0: Tensor, voice: Tensor, register: Tensor) -> tuple[Tensor, Tensor]:
        """Log magnitudes [B, bands, T] of the harmonic and of the noise part, for frames of f0 [B, T].

        register  [B], mean of the voice's log f0: pitch is a feature both as it is and relative to the register
        """
        T = f0.shape[1]
        voiced = (f0 > 0).float()
        log_f0 = torch.log(f0.clamp(min=50.0) / 150) * voiced
        relative = log_f0 - (register[:, None] - math.log(150)) * voiced
        features = torch.stack([voiced, log_f0, relative], 2)
        h = self.latent(z.transpose(1, 2)).repeat_interleave(self.frames, 1)  # (B, T, width)
        h = h + self.place.repeat(T // self.frames, 1) + self.pitch(features)
        h = self.norm(self.inp(h.transpose(1, 2)).transpose(1, 2)).transpose(1, 2)
        h = self.blocks(h, self.voice(voice)).transpose(1, 2)
        harmonic, noise = self.out(self.out_norm(h)).transpose(1, 2).float().chunk(2, 1)
        return harmonic, noise

    def forward(self, z: Tensor, f0: Tensor, phases: Tensor, noise: Tensor, voice: Tensor, register: Tensor) -> Tensor:
        """Waveform [B, T * HOP] of latents z [B, dim, P], f0 [B, T] and phases [B, T] of its frames (T = P * frames),
        white noise [B, T * HOP], a voice [B, voice] and its register [B]."""
        return self.render(*self.envelopes(z, f0, voice, register), f0, phases, noise)

    def render(self, harmonic: Tensor, noisy: Tensor, f0: Tensor, phases: Tensor, noise: Tensor) -> Tensor:
        """Filter the two excitations by their envelopes."""
        gains = [
            (self.bins @ envelope).clamp(max=LARGEST_LOG_GAIN).exp() * self.high_pass for envelope in (harmonic, noisy)
        ]
        return filtered((pulse_train(f0, phases).to(noise.dtype), noise), gains, self.window)
