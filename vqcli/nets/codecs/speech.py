"""The VQ-VAE for speech as vq uses it: log-mel spectra in, a harmonic-plus-noise decoder out.

Codes for the words, the pitch as a code group of its own, residual levels for likeness, and a voice for each recording.
It takes and gives float [B, N] at 16 kHz, N a multiple of `stride`, scaled to -26 dB RMS.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vqcli.media import mel, pitch, voice
from vqcli.nets.layers.convnext import Blocks
from vqcli.nets.layers.harmonic import HarmonicDecoder, centred_spectra, frame_phases, pitch_frames
from vqcli.nets.layers.quantizer import Quantized, VectorQuantizer, jitter, straight_through

VOICE_STEPS = 15  # a dimension of a voice takes 4 bits in a file


class MelEncoder(nn.Module):
    """Normalised log-mel spectra [B, bands, P * frames] -> latents z_e [B, dim, P]."""

    def __init__(self, frames: int, width: int, blocks: Sequence[int], dim: int) -> None:
        super().__init__()
        before, after = blocks
        self.inp = nn.Conv1d(mel.BANDS, width, 5, padding=2)
        self.before = Blocks(before, width)
        # two neighbouring positions overlap by half of their frames
        self.down = nn.Conv1d(width, width, 2 * frames, stride=frames, padding=frames // 2)
        self.after = Blocks(after, width)
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, dim)
        self.reach = self.after.reach + -(-(2 + self.before.reach + frames // 2 + 2) // frames)  # positions

    def forward(self, x: Tensor) -> Tensor:
        h = self.after(self.down(self.before(self.inp(x))))
        h = self.norm(h.transpose(1, 2))
        with torch.autocast(x.device.type, enabled=False):  # the last step sets the precision of the codes
            return self.out(h.float()).transpose(1, 2)


class SpeechVQVAE(nn.Module):
    """Speech to codes [B, groups, P] and back.

    Level 0 has the codes of the words, `K` of them, and the pitch (media/pitch.py) at each 20 ms of the position; each
    further level has as many residual groups, which bring likeness and quality. See `groups_of_level`.

    frames      10 ms frames for each position: 2 for 50 Hz, 4 for 25 Hz
    levels      levels in all
    speakers    voices in the table, offered as targets of conversion
    voice_dim   dimensions of a voice
    jitter      share of the positions that take a neighbour's code in training
    """

    window: Tensor
    filters: Tensor
    unwarp: Tensor
    registers: Tensor

    TASK = "speech"  # the training run of this family (training/tasks)
    CLASS_TABLES = ("voices.weight", "registers")  # a row for each speaker
    WARPS = tuple(1 + 0.02 * step for step in range(-7, 8))  # of the vocal tract, in training

    def __init__(
        self,
        K: int = 512,
        dim: int = 64,
        frames: int = 2,
        levels: int = 3,
        width: int = 192,
        blocks: Sequence[int] = (2, 3),
        decoder_width: int = 192,
        decoder_blocks: int = 8,
        speakers: int = 1,
        voice_dim: int = 32,
        jitter: float = 0.1,
        beta: float = 0.25,
    ) -> None:
        super().__init__()
        if frames % 2 or frames < 2 or levels < 1:
            raise ValueError("an even number of frames for each position, and at least one level")
        self.rate_hz, self.stride, self.frames = mel.RATE_HZ, frames * mel.HOP, frames
        self.levels, self.speakers, self.jitter = levels, speakers, jitter
        self.pitch_groups = frames // 2
        self.groups_of_level = 1 + self.pitch_groups
        books = 1 + (levels - 1) * self.groups_of_level
        self.quantizer = VectorQuantizer(dim, K, levels=books, beta=beta)
        first = (K, *(pitch.PITCHES,) * self.pitch_groups)
        self.codebook_sizes = first + (K,) * (books - 1)
        self.encoder = MelEncoder(frames, width, blocks, dim)
        self.decoder = HarmonicDecoder(dim, voice_dim, frames, decoder_width, decoder_blocks)
        self.voices = nn.Embedding(speakers, voice_dim)
        nn.init.normal_(self.voices.weight, std=0.3)
        self.guess = nn.Sequential(nn.Linear(voice.SIZE, 128), nn.GELU(), nn.Linear(128, voice_dim))
        self.register_buffer("registers", torch.full((speakers,), voice.USUAL_LOG_HZ))  # mean log Hz of each voice
        self.register_buffer("window", torch.hann_window(mel.WINDOW), persistent=False)
        banks = torch.stack([torch.from_numpy(mel.filters(warp=warp)) for warp in self.WARPS])
        self.register_buffer("filters", banks, persistent=False)  # (warps, bands, bins)
        self.encoder_margin = self.encoder.reach + 2
        self.decoder_margin = -(-self.decoder.reach // frames) + 1

    # what the nets hear

    def log_mel(self, wave: Tensor, warps: Tensor | None = None) -> Tensor:
        """Log-mel spectra [B, bands, N / HOP] of waveforms [B, N], each with the filters of its warp [B] if given."""
        with torch.autocast(wave.device.type, enabled=False):
            magnitudes = centred_spectra(wave.float(), self.window).abs()
            plain = len(self.WARPS) // 2
            filters = self.filters[plain] if warps is None else self.filters[warps]
            return torch.log((filters @ magnitudes).clamp(min=mel.FLOOR))

    def spectra_of(self, wave: Tensor, profile: Tensor, warps: Tensor | None = None) -> Tensor:
        """Log-mel spectra [B, bands, T] of waveforms, normalised by the profile [B, SIZE] of each recording."""
        mean, spread = profile[:, : mel.BANDS, None], profile[:, mel.BANDS : 2 * mel.BANDS, None]
        x = self.log_mel(wave)
        if warps is not None:  # other filters have other means: those of the crop have to do
            plain, x = x, self.log_mel(wave, warps)
            mean = mean + (x - plain).mean(2, keepdim=True)
        return (x - mean) / spread

    def latents(self, wave: Tensor, profile: Tensor) -> Tensor:
        """z_e [B, dim, P] of waveforms [B, P * stride]."""
        return self.encoder(self.spectra_of(wave, profile))

    # voices

    def voice_of_profile(self, profile: Tensor) -> tuple[Tensor, Tensor]:
        """Voice [B, voice_dim] in -1 .. 1, as files hold it, and register [B] (mean log Hz) of profiles [B, SIZE]."""
        means = torch.tensor([*[-3.0] * mel.BANDS, *[0.0] * mel.BANDS, voice.USUAL_LOG_HZ, 0, 0], device=profile.device)
        raw = torch.tanh(self.guess(profile - means).float())  # in 16 bits its ends have no slope
        steps = torch.round((raw + 1) / 2 * VOICE_STEPS) / VOICE_STEPS * 2 - 1
        return straight_through(raw, steps), profile[:, 2 * mel.BANDS]

    def voice_of_speaker(self, speaker: Tensor) -> tuple[Tensor, Tensor]:
        """Voice [B, voice_dim] and register [B] of speakers [B] int64 of the table."""
        return torch.tanh(self.voices(speaker)), self.registers[speaker]

    # codes

    def encode(self, wave: Tensor, profile: Tensor, pitch_codes: Tensor) -> Tensor:
        """Codes int64 [B, groups, P] of waveforms [B, P * stride] and their pitch codes [B, P * pitch_groups]."""
        codes = self.quantizer.codes(self.latents(wave, profile))
        tones = pitch_codes.long().unflatten(1, (-1, self.pitch_groups)).transpose(1, 2)  # (B, pitch_groups, P)
        return torch.cat([codes[:, :1], tones, codes[:, 1:]], 1)

    def split(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Latents z_q [B, dim, P] and pitch codes [B, P * pitch_groups] of codes of whole levels, the first or more."""
        tones = codes[:, 1 : 1 + self.pitch_groups].transpose(1, 2).flatten(1)
        books = torch.cat([codes[:, :1], codes[:, 1 + self.pitch_groups :]], 1)
        return self.quantizer.lookup(books), tones

    def books(self, levels: int) -> int:
        """Number of codebooks that so many levels use."""
        return 1 + (levels - 1) * self.groups_of_level

    def forward(
        self, z_e: Tensor, f0: Tensor | None, levels: int, voices: tuple[Tensor, Tensor]
    ) -> tuple[tuple[Tensor, Tensor] | None, Tensor, Quantized]:
        """Envelopes for the decoder's frames f0 [B, T] Hz (None without), z_q [B, dim, P] as the decoder has it, and
        what was quantized."""
        quantized = self.quantizer(z_e, levels=self.books(levels))
        z_q = jitter(quantized.z_q, self.jitter) if self.training else quantized.z_q
        return None if f0 is None else self.decoder.envelopes(z_q, f0, *voices), z_q, quantized

    @torch.no_grad()
    def decode(self, codes: Tensor, phases: Tensor, f0: Tensor, noise: Tensor, voices: tuple[Tensor, Tensor]) -> Tensor:
        """Waveform [B, P * stride] of codes [B, groups of whole levels, P]; f0, phases [B, P * frames], noise as long
        as the result (nets/harmonic.py)."""
        z_q, _ = self.split(codes)
        return self.decoder(z_q, f0, phases, noise, *voices)


def hertz(pitch_codes: Tensor) -> Tensor:
    """Pitch in Hz [B, P], 0 where unvoiced, of pitch codes [B, P]."""
    table = torch.from_numpy(pitch.from_codes(torch.arange(pitch.PITCHES).numpy())).float()
    return table.to(pitch_codes.device)[pitch_codes.long()]


def excitation(pitch_codes: Tensor) -> tuple[Tensor, Tensor]:
    """Pitch of frames [B, 2 P] in Hz and their phases (float64) for pitch codes [B, P]."""
    f0 = pitch_frames(hertz(pitch_codes))
    return f0, frame_phases(f0)
