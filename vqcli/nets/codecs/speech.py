"""The VQ-VAE for speech as vq uses it: log-mel spectra in, a harmonic-plus-noise decoder out.

Codes for the words, pitch as a code group of its own, residual levels for fidelity, and a voice embedding for each
recording. Input and output are float [B, N] at 16 kHz, N a multiple of `stride`, scaled to -26 dB RMS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqcli.errors import BadFile
from vqcli.media import mel, pitch, voice
from vqcli.media.pitch import transposed
from vqcli.nets.codecs import graphs
from vqcli.nets.codecs.base import Analysis, AudioCodec, Samples, device_of, windows_of
from vqcli.nets.codecs.graphs import BATCH, POSITIONS, Axis, Graph, Graphs, Port
from vqcli.nets.layers.convnext import Blocks
from vqcli.nets.layers.harmonic import HarmonicDecoder, centred_magnitudes, frame_phases, pitch_frames
from vqcli.nets.layers.noise import white_noise
from vqcli.nets.layers.quantizer import Quantized, VectorQuantizer, jitter, straight_through
from vqcli.progress import ProgressCallback

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

    def hidden(self, x: Tensor, layer: int) -> Tensor:
        """Output [B, width, P] of the first `layer` blocks of those that work at positions; 0 is their input."""
        h = self.down(self.before(self.inp(x)))
        for block in self.after.blocks[:layer]:
            h = block(h)
        return h

    def forward(self, x: Tensor) -> Tensor:
        h = self.after(self.down(self.before(self.inp(x))))
        h = self.norm(h.transpose(1, 2))
        with torch.autocast(x.device.type, enabled=False):  # the last step sets the precision of the codes
            return self.out(h.float()).transpose(1, 2)


class SpeechVQVAE(nn.Module, AudioCodec):
    """Speech to codes [B, codebooks, P] and back.

    Level 0 has the codes of the words, `K` of them, and the pitch (media/pitch.py) of each 20 ms of the position; each
    further level has as many residual groups, which add fidelity. See `groups_of_level`.

    frames      10 ms frames for each position: 2 for 50 Hz, 4 for 25 Hz
    levels      residual levels, the first included
    speakers    voices in the table, offered as targets of conversion
    voice_dim   dimensions of a voice embedding
    jitter      share of the positions that take a neighbour's code in training
    """

    window: Tensor
    filters: Tensor
    encoder_margin: int
    decoder_margin: int
    registers: Tensor

    TASK = "speech"
    CLASS_TABLES = ("voices.weight", "registers")  # a row for each speaker
    level_db = voice.LEVEL_DB
    WARPS = tuple(1 + 0.02 * step for step in range(-7, 8))  # of the vocal tract length, in training

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
        self.levels, self.speakers, self.jitter, self.voice_dim = levels, speakers, jitter, voice_dim
        self.pitch_groups = frames // 2
        self.groups_of_level = 1 + self.pitch_groups
        n_codebooks = 1 + (levels - 1) * self.groups_of_level
        self.quantizer = VectorQuantizer(dim, K, levels=n_codebooks, beta=beta)
        first = (K, *(pitch.PITCHES,) * self.pitch_groups)
        self.codebook_sizes = first + (K,) * (n_codebooks - 1)
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

    # input features

    def log_mel(self, wave: Tensor, warps: Tensor | None = None) -> Tensor:
        """Log-mel spectra [B, bands, N / HOP] of waveforms [B, N], each with the filters of its warp [B] if given."""
        with torch.autocast(wave.device.type, enabled=False):
            magnitudes = centred_magnitudes(wave.float(), self.window)
            plain = len(self.WARPS) // 2
            filters = self.filters[plain] if warps is None else self.filters[warps]
            return torch.log((filters @ magnitudes).clamp(min=mel.FLOOR))

    def spectra_of(self, wave: Tensor, profile: Tensor, warps: Tensor | None = None) -> Tensor:
        """Log-mel spectra [B, bands, T] of waveforms, normalised by the profile [B, SIZE] of each recording."""
        mean, spread = profile[:, : mel.BANDS, None], profile[:, mel.BANDS : 2 * mel.BANDS, None]
        x = self.log_mel(wave)
        if warps is not None:  # warped filters have other means: shift by those of the crop
            plain, x = x, self.log_mel(wave, warps)
            mean = mean + (x - plain).mean(2, keepdim=True)
        return (x - mean) / spread

    def latents(self, wave: Tensor, profile: Tensor) -> Tensor:
        """z_e [B, dim, P] of waveforms [B, P * stride]."""
        return self.encoder(self.spectra_of(wave, profile))

    # voices

    def voice_of_profile(self, profile: Tensor) -> tuple[Tensor, Tensor]:
        """Voice embedding [B, voice_dim], as in files, and register [B] (mean log Hz) of profiles [B, SIZE]."""
        means = torch.tensor([*[-3.0] * mel.BANDS, *[0.0] * mel.BANDS, voice.USUAL_LOG_HZ, 0, 0], device=profile.device)
        raw = torch.tanh(self.guess(profile - means).float())  # in 16 bits its ends have no gradient
        steps = torch.round((raw + 1) / 2 * VOICE_STEPS) / VOICE_STEPS * 2 - 1
        return straight_through(raw, steps), profile[:, 2 * mel.BANDS]

    def voice_of_speaker(self, speaker: Tensor) -> tuple[Tensor, Tensor]:
        """Voice [B, voice_dim] and register [B] of speakers [B] int64 of the table."""
        return torch.tanh(self.voices(speaker)), self.registers[speaker]

    # codes

    def encode(self, wave: Tensor, profile: Tensor, pitch_codes: Tensor) -> Tensor:
        """Codes int64 [B, codebooks, P] of waveforms [B, P * stride] and their pitch codes [B, P * pitch_groups]."""
        codes = self.quantizer.codes(self.latents(wave, profile))
        pitches = pitch_codes.long().unflatten(1, (-1, self.pitch_groups)).transpose(1, 2)  # (B, pitch_groups, P)
        return torch.cat([codes[:, :1], pitches, codes[:, 1:]], 1)

    def split(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Latents z_q [B, dim, P] and pitch codes [B, P * pitch_groups] of codes of whole levels, the first or more."""
        vector_codes = torch.cat([codes[:, :1], codes[:, 1 + self.pitch_groups :]], 1)
        return self.quantizer.lookup(vector_codes), self._pitches(codes)

    def _pitches(self, codes: Tensor) -> Tensor:
        return codes[:, 1 : 1 + self.pitch_groups].transpose(1, 2).flatten(1)

    def n_codebooks(self, levels: int) -> int:
        """Number of vector codebooks in the first `levels` levels."""
        return 1 + (levels - 1) * self.groups_of_level

    def forward(
        self, z_e: Tensor, f0: Tensor | None, levels: int, voices: tuple[Tensor, Tensor]
    ) -> tuple[tuple[Tensor, Tensor] | None, Tensor, Quantized]:
        """Envelopes for the decoder's frames f0 [B, T] Hz (None without), the decoder's input z_q [B, dim, P], and the
        quantizer's output."""
        quantized = self.quantizer(z_e, levels=self.n_codebooks(levels))
        z_q = jitter(quantized.z_q, self.jitter) if self.training else quantized.z_q
        return None if f0 is None else self.decoder.envelopes(z_q, f0, *voices), z_q, quantized

    @torch.no_grad()
    def decode(self, codes: Tensor, phases: Tensor, f0: Tensor, noise: Tensor, voices: tuple[Tensor, Tensor]) -> Tensor:
        """Waveform [B, P * stride] of codes [B, codebooks, P] of whole levels; f0, phases [B, P * frames], noise
        of the length of the result (layers/harmonic.py)."""
        z_q, _ = self.split(codes)
        return self.decoder(z_q, f0, phases, noise, *voices)

    # without vq

    def profiles(self, wave: Tensor, pitch_codes: Tensor) -> Tensor:
        """Profiles [B, SIZE] as of voice.profile, of whole waveforms [B, P * stride] and their pitch codes."""
        x = self.log_mel(wave).double()
        loud = wave.double().unflatten(1, (-1, mel.HOP)).square().mean(2) > 10 ** (voice.ACTIVE_DB / 10)
        mean, spread = _moments(x, loud[:, None], float(np.log(mel.FLOOR)))
        hz = hertz(pitch_codes).double()
        log_hz, log_spread = _moments(hz.clamp(min=1).log(), hz > 0, voice.USUAL_LOG_HZ)
        share = (hz > 0).double().mean(1)
        pitches = torch.stack([log_hz, log_spread.sqrt(), share], 1)
        return torch.cat([mean, spread.clamp(min=0.05).sqrt(), pitches], 1).float()

    def graphs(self, levels: int) -> Graphs:
        """The encoder also makes the voice and its register, which a file keeps; pitch and noise are the caller's."""
        n = sum(self.level_codebooks[:levels])

        def encode(wave: Tensor, pitch_codes: Tensor) -> tuple[Tensor, ...]:
            profile = self.profiles(wave, pitch_codes)
            return self.encode(wave, profile, pitch_codes)[:, :n], *self.voice_of_profile(profile)

        def decode(codes: Tensor, values: Tensor, register: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
            z_q, pitches = self.split(codes)
            f0 = pitch_frames(hertz(pitches).double())  # harmonics magnify what another runtime rounds otherwise
            envelopes = self.decoder.envelopes(z_q, f0.float(), values, register)
            return (self.decoder.render(*envelopes, f0, frame_phases(f0), noise),)

        wave = graphs.waveform(
            (BATCH, Axis("positions", self.stride)), self.rate_hz, f"speech of {self.level_db:g} dB RMS"
        )
        pitches = Port(
            "pitch",
            (BATCH, Axis("positions", self.pitch_groups)),
            torch.int64,
            f"0 where unvoiced, else 1 + {(pitch.PITCHES - 2) / np.log(pitch.HIGHEST_HZ / pitch.LOWEST_HZ):.6g} "
            f"ln(Hz / {pitch.LOWEST_HZ:g}), rounded, of each {1000 * pitch.STEP / pitch.RATE_HZ:g} ms",
            (0, pitch.PITCHES - 1),
            _melody,
        )
        codes = graphs.codes(n, max(self.codebook_sizes[:n]), POSITIONS)
        known = (
            Port("voice", (BATCH, self.voice_dim), torch.float32, "embedding of the voice", (-1, 1)),
            Port("register", (BATCH,), torch.float32, "mean ln(Hz) of the voice"),
        )
        return Graphs(
            Graph(encode, (wave, pitches), (codes, *known)),
            Graph(decode, (codes, *known, graphs.noise(self.stride)), (wave,)),
        )

    # recordings (base.AudioCodec)

    @property
    def group_names(self) -> list[str]:
        first = ["words", *["pitch"] * self.pitch_groups]
        return first + ["residual"] * (len(self.codebook_sizes) - len(first))

    def analyse(self, samples: Samples, speakers: Sequence[Mapping[str, Any]]) -> Analysis:
        """Profile, pitch codes and the voice embedding predicted from them."""
        pitches = pitch.to_codes(pitch.track(samples))
        positions = -(-len(samples) // self.stride)
        pitches = np.pad(pitches, (0, positions * self.pitch_groups - len(pitches)))  # the last is padded with silence
        return self.analysis_of(voice.profile(samples, pitches), pitches)

    @torch.inference_mode()
    def analysis_of(self, profile: np.ndarray, pitch: np.ndarray) -> Analysis:
        known = torch.from_numpy(profile)[None].to(device_of(self))
        values, register = self.voice_of_profile(known)
        return Analysis(self.voice_of_values(values[0].cpu().numpy(), float(register[0])), (known, pitch))

    def encode_window(self, wave: Tensor, analysis: Analysis, first: int) -> Tensor:
        pitches = np.zeros(len(wave) // self.stride * self.pitch_groups, np.int64)
        profile, pitch_codes = analysis.known  # [1, SIZE], [P * pitch_groups] of the whole
        known = pitch_codes[first * self.pitch_groups :][: len(pitches)]
        pitches[: len(known)] = known
        return self.encode(wave[None], profile, torch.from_numpy(pitches)[None].to(wave.device))[0]

    def decode_windows(
        self,
        codes: np.ndarray,
        stored: Sequence[bytes],
        part: tuple[int, int],
        *,
        seed: int,
        progress: ProgressCallback,
    ) -> Iterator[np.ndarray]:
        """Window by window, each with its margin; phases and noise are those of the whole recording."""
        device, (start, stop), margin = device_of(self), part, self.decoder_margin
        values, registers = (torch.stack(each).to(device) for each in zip(*map(self._voice, stored), strict=True))
        all_codes = torch.from_numpy(codes)  # of hours: as small as they come, and int64 window by window
        # of all frames: a few numbers each
        f0, phases = excitation(self._pitches(all_codes[:, : self.groups_of_level].long()))
        for first, last in windows_of(self, start, stop):
            outer = slice(max(first - margin, 0), min(last + margin, all_codes.shape[2]))
            at = slice(outer.start * self.frames, outer.stop * self.frames)
            noise = white_noise(len(stored), outer.start * self.stride, outer.stop * self.stride, seed)
            wave = self.decode(
                all_codes[:, :, outer].long().to(device),
                *(phases[:, at].to(device), f0[:, at].to(device), noise.to(device), (values, registers)),
            )  # fmt: skip
            inner = slice((first - outer.start) * self.stride, (last - outer.start) * self.stride)
            progress((last - start) / (stop - start))
            yield wave[:, inner].cpu().numpy()

    def voice_of_row(self, row: int) -> bytes:
        values, register = self.voice_of_speaker(torch.tensor([row], device=device_of(self)))
        return self.voice_of_values(values[0].cpu().numpy(), float(register[0]))

    def voice_of_values(self, values: np.ndarray, log_hz: float) -> bytes:
        """4 bits for each value in -1 .. 1, then the register as a pitch code."""
        steps = np.rint((np.clip(np.nan_to_num(values), -1, 1) + 1) / 2 * VOICE_STEPS).astype(np.uint8)
        packed = steps[::2] << 4 | steps[1::2]
        return packed.tobytes() + pitch.to_codes(np.exp([log_hz])).tobytes()

    def _voice(self, stored: bytes) -> tuple[Tensor, Tensor]:
        """Embedding [voice_dim] and register of the bytes of a voice. Raises BadFile if they are not a voice."""
        if len(stored) != self.voice_dim // 2 + 1 or not 1 <= stored[-1] < pitch.PITCHES:
            raise BadFile("the voice in the file does not belong to its model")
        packed = np.frombuffer(stored[:-1], np.uint8)
        steps = np.stack([packed >> 4, packed & 15], 1).ravel()
        register = float(np.log(pitch.from_codes(np.array([stored[-1]]))[0]))
        return torch.from_numpy(steps.astype(np.float32) / VOICE_STEPS * 2 - 1), torch.tensor(register)

    def convert(self, codes: np.ndarray, stored: bytes, target: bytes, pitch: str, semitones: float) -> np.ndarray:
        """Transposes the pitch codes; the other codes stay, and the decoder changes the voice."""
        moved, groups = codes.copy(), slice(1, 1 + self.pitch_groups)
        (_, own), (_, wanted) = self._voice(stored), self._voice(target)
        shift = semitones + (12 / np.log(2) * float(wanted - own) if pitch == "target" else 0.0)
        moved[groups] = transposed(codes[groups], shift)
        return moved


def _moments(x: Tensor, where: Tensor, usual: float) -> tuple[Tensor, Tensor]:
    """Mean and variance of x [..., T] over time where `where`; `usual` and 0 where that is nowhere."""
    count = where.double().sum(-1)
    weights = where / count.clamp(min=1)[..., None]
    mean = torch.where(count > 0, (x * weights).sum(-1), usual)
    return mean, ((x - mean[..., None]).square() * weights).sum(-1)


def _melody(shape: Sequence[int]) -> Tensor:
    """Pitch codes for an example: up and down, with pauses."""
    time = torch.arange(shape[1])
    return ((20 + 10 * torch.sin(time / 9)) * (time % 40 > 7)).long().expand(*shape)


def hertz(pitch_codes: Tensor) -> Tensor:
    """Pitch in Hz [B, P], 0 where unvoiced, of pitch codes [B, P]."""
    table = torch.from_numpy(pitch.from_codes(np.arange(pitch.PITCHES))).float()
    return table.to(pitch_codes.device)[pitch_codes.long()]


def excitation(pitch_codes: Tensor) -> tuple[Tensor, Tensor]:
    """Pitch of frames [B, 2 P] in Hz and their phases (float64) for pitch codes [B, P]."""
    f0 = pitch_frames(hertz(pitch_codes))
    return f0, frame_phases(f0)


FAMILY = SpeechVQVAE
