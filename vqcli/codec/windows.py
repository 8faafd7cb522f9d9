"""Waveforms -> codes -> waveforms, through a model.

Recordings of any length: what holds for a whole recording (loudness, profile, pitch) is gathered first; then the net
sees windows with a margin as wide as its reach, so that windowed codes equal those of the whole (up to ties within
float error) and memory is bounded by the window. What becomes of the codes in a file is in audio_file.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vqcli.codec.codes import AudioCodes
from vqcli.errors import BadFile
from vqcli.media import audio, pitch, voice
from vqcli.media.audio import Recording
from vqcli.nets.codecs import speech
from vqcli.nets.codecs.speech import SpeechVQVAE
from vqcli.nets.codecs.vqvae1d import WaveVQVAE
from vqcli.nets.wavenet import decoder_numba as compiled
from vqcli.nets.wavenet.segments import generate_long
from vqcli.progress import Report, silent
from vqcli.zoo.loading import LoadedModel

WINDOW_S = 10.0  # of sound that the net sees at a time
CONTEXT = 100  # positions before a part that suffice to decode it as within the whole


@dataclass(frozen=True)
class Voice:
    """What a speech net speaks with: values [voice_dim] in -1 .. 1, and its register, the mean of log Hz."""

    values: Tensor
    register: float


def positions(model: LoadedModel, samples: int) -> int:
    """Number of code positions of so many samples at the model's rate."""
    return -(-samples // model.net.stride)


@torch.inference_mode()
def encode_audio(model: LoadedModel, recording: Recording, report: Report = silent) -> AudioCodes:
    """Codes of each channel of a recording at the model's rate."""
    net = model.net
    channels = [_Channel(model, samples) for samples in recording.samples]
    P = positions(model, recording.samples.shape[1])
    codes = np.empty((len(channels), len(net.codebook_sizes), P), np.uint16)
    for number, channel in enumerate(channels):
        for start, stop in _windows(model, P):
            codes[number, :, start:stop] = channel.codes(start, stop)
            report((number + stop / P) / len(channels))
    return AudioCodes(
        codes,
        rate_hz=recording.source_rate_hz,
        samples=recording.source_samples,
        channels=recording.source_channels,
        loudness_db=tuple(round(channel.loudness_db, 1) for channel in channels),
        voice=tuple(channel.voice for channel in channels),
    )


@torch.inference_mode()
def decode_audio(
    model: LoadedModel,
    codes: AudioCodes,
    *,
    start: int = 0,
    stop: int | None = None,
    report: Report = silent,
    seed: int = 0,
) -> Iterator[np.ndarray]:
    """Waveforms float32 [channels, n] at the model's rate, block by block, of the positions start .. stop.

    Loudness is restored. Fewer groups than the model has stand for its first levels. What stands before `start` serves
    as context: CONTEXT positions suffice. `seed` decides the noise of the voice, or what a WaveNet draws.
    """
    stop = codes.codes.shape[2] if stop is None else stop
    gains = np.array([10 ** ((db - voice.LEVEL_DB) / 20) for db in codes.loudness_db], np.float32)[:, None]
    if isinstance(model.net, WaveVQVAE):
        blocks = _drawn(model, codes, start, stop, seed, report)
    else:
        blocks = _rendered(model, codes, start, stop, seed, report)
    for block in blocks:
        yield block * gains


def voice_bytes(values: np.ndarray, register: float) -> bytes:
    """A voice as files hold it: 4 bits for each value in -1 .. 1, then the register as a pitch code."""
    steps = np.rint((np.clip(values, -1, 1) + 1) / 2 * speech.VOICE_STEPS).astype(np.uint8)
    packed = steps[::2] << 4 | steps[1::2]
    return packed.tobytes() + pitch.to_codes(np.exp([register])).tobytes()


def voice_of(model: LoadedModel, stored: bytes) -> Voice:
    """The voice of its bytes. Raises BadFile if they are none."""
    dim = model.net.voices.embedding_dim
    if len(stored) != dim // 2 + 1 or not 1 <= stored[-1] < pitch.PITCHES:
        raise BadFile("the voice in the file does not belong to its model")
    packed = np.frombuffer(stored[:-1], np.uint8)
    steps = np.stack([packed >> 4, packed & 15], 1).ravel()
    values = steps.astype(np.float32) / speech.VOICE_STEPS * 2 - 1
    return Voice(torch.from_numpy(values), float(np.log(pitch.from_codes(np.array([stored[-1]]))[0])))


class _Channel:
    """One channel on its way to codes: all that takes hearing the whole of it, then any window."""

    def __init__(self, model: LoadedModel, samples: np.ndarray) -> None:
        self._model, self._samples = model, samples
        self.loudness_db = audio.active_rms_db(samples)
        self._gain = np.float32(voice.gain(self.loudness_db))
        self.voice = b""
        if isinstance(model.net, SpeechVQVAE):
            P = positions(model, len(samples))
            self._pitch = self._track(P * model.net.stride)
            self._profile = torch.from_numpy(voice.profile(_Scaled(samples, self._gain), self._pitch))[None]
            values, register = model.net.voice_of_profile(self._profile.to(model.device))
            self.voice = voice_bytes(values[0].cpu().numpy(), float(register[0]))
        else:
            self.voice = row_bytes(_likely_row(model, _Scaled(samples, self._gain)))

    def codes(self, start: int, stop: int) -> np.ndarray:
        """Codes [groups, stop - start] of some positions."""
        net, device = self._model.net, self._model.device
        margin = net.encoder_margin
        first, last = max(start - margin, 0), stop + margin
        wave = torch.from_numpy(self._wave(first * net.stride, last * net.stride))[None].to(device)
        if isinstance(net, SpeechVQVAE):
            each = net.pitch_groups
            tones = np.zeros((last - first) * each, np.int64)
            known = self._pitch[first * each : last * each]
            tones[: len(known)] = known
            codes = net.encode(wave, self._profile.to(device), torch.from_numpy(tones)[None].to(device))
        else:
            codes = net.encode(wave)
        return codes[0, :, start - first : stop - first].cpu().numpy()

    def _wave(self, start: int, stop: int) -> np.ndarray:
        """Samples as the net hears them; silence follows the end."""
        part = np.asarray(self._samples[start:stop]) * self._gain
        return np.pad(part, (0, stop - start - len(part))).astype(np.float32)

    def _track(self, length: int) -> np.ndarray:
        """Pitch codes of `length` samples, the last position filled up with silence."""
        codes = pitch.to_codes(pitch.track(_Scaled(self._samples, self._gain)))
        return np.pad(codes, (0, length // pitch.STEP - len(codes)))


class _Scaled:
    """An array times a number, part by part as it is asked for: a long recording is a memory map."""

    def __init__(self, samples: np.ndarray, gain: np.float32) -> None:
        self._samples, self._gain = samples, gain

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, part: slice) -> np.ndarray:
        return np.asarray(self._samples[part]) * self._gain


def _windows(model: LoadedModel, P: int, start: int = 0) -> list[tuple[int, int]]:
    step = max(1, round(WINDOW_S * model.net.rate_hz / model.net.stride))
    return [(at, min(at + step, P)) for at in range(start, P, step)]


def _rendered(
    model: LoadedModel, codes: AudioCodes, start: int, stop: int, seed: int, report: Report
) -> Iterator[np.ndarray]:
    """By the harmonic decoder: every window with its margin, phases and noise as in the whole."""
    net, device = model.net, model.device
    voices = [voice_of(model, stored) for stored in codes.voice]
    values = torch.stack([each.values for each in voices]).to(device)
    registers = torch.tensor([each.register for each in voices], device=device)
    every = torch.from_numpy(codes.codes.astype(np.int64))
    f0, phases = speech.excitation(net.split(every[:, : net.groups_of_level])[1])  # of all frames: a few numbers each
    margin, frames = net.decoder_margin, net.frames
    windows = _windows(model, stop, start)
    for first, last in windows:
        outer = slice(max(first - margin, 0), min(last + margin, every.shape[2]))
        at = slice(outer.start * frames, outer.stop * frames)
        noise = _noise(len(voices), outer.start * net.stride, outer.stop * net.stride, seed)
        made = net.decode(
            every[:, :, outer].to(device), phases[:, at].to(device), f0[:, at].to(device), noise.to(device),
            (values, registers),
        )  # fmt: skip
        inner = slice((first - outer.start) * net.stride, (last - outer.start) * net.stride)
        report((last - start) / (stop - start))
        yield made[:, inner].cpu().numpy()


NOISE_BLOCK = 2**14  # samples


def _noise(channels: int, start: int, stop: int, seed: int) -> Tensor:
    """White noise [channels, stop - start]: sample n is the same whatever window it is asked for in."""
    blocks = range(start // NOISE_BLOCK, -(-stop // NOISE_BLOCK))
    made = [
        np.random.default_rng([seed, block]).standard_normal((channels, NOISE_BLOCK), np.float32) for block in blocks
    ]
    offset = start - blocks[0] * NOISE_BLOCK
    return torch.from_numpy(np.concatenate(made, 1)[:, offset : offset + stop - start])


def _drawn(
    model: LoadedModel, codes: AudioCodes, start: int, stop: int, seed: int, report: Report
) -> Iterator[np.ndarray]:
    """By the WaveNet, in segments side by side."""
    net, device = model.net, model.device
    drawer = compiled.pack(net.decoder) if device.type == "cpu" else net.decoder
    channels = []
    for number, (channel, stored) in enumerate(zip(codes.codes, codes.voice, strict=True)):

        def done(share: float, number: int = number) -> None:
            report((number + share) / len(codes.codes))

        channels.append(
            generate_long(
                drawer, _Latents(net, channel), row_of(model, stored), seed + number, part=(start, stop),
                rate_hz=net.rate_hz, report=done,
            )
        )  # fmt: skip
    for blocks in zip(*channels, strict=True):
        yield np.stack(blocks)


class _Latents:
    """z_q [D, P] of the codes [groups, P] of one channel, looked up as they are sliced: hours would not fit."""

    def __init__(self, net: WaveVQVAE, codes: np.ndarray) -> None:
        self._net, self._codes = net, codes
        self.shape: tuple[int, ...] = (net.quantizer.dim, codes.shape[1])

    def __getitem__(self, index: tuple[slice, slice]) -> Tensor:
        codes = torch.from_numpy(self._codes[:, index[1]].astype(np.int64)).to(self._net.quantizer.codebook.device)
        return self._net.quantizer.lookup(codes[None])[0][index[0]]


def row_bytes(row: int) -> bytes:
    """A row of a WaveNet's speaker table as files hold it."""
    return row.to_bytes(2, "little")


def row_of(model: LoadedModel, stored: bytes) -> int:
    """The row of its bytes. Raises BadFile if the model has none such."""
    row = int.from_bytes(stored, "little")
    if len(stored) != 2 or row >= model.net.speakers:
        raise BadFile("the speaker in the file does not belong to its model")
    return row


LIKELY_S = 1.0  # of a recording by which the most likely speaker is chosen
LIKELY = 16  # speakers that are tried: those with the most speech


def _likely_row(model: LoadedModel, samples: _Scaled) -> int:
    """The row of the table under which a recording, as the net hears it, is most likely: who else should speak?"""
    net, known = model.net, model.info.description.get("speakers", [])
    rows = sorted(range(len(known)), key=lambda row: -known[row]["seconds"])[:LIKELY] or [0]
    N = min(round(LIKELY_S * net.rate_hz), len(samples)) // net.stride * net.stride
    if not N or len(rows) == 1:
        return rows[0]
    starts = range(0, len(samples) - N + 1, N)
    start = max(starts, key=lambda at: float(np.square(np.asarray(samples[at : at + N])).sum()))  # not in a pause
    wave = torch.from_numpy(np.asarray(samples[start : start + N]))[None].to(model.device)
    losses = [float(net(wave.clamp(-1, 1), torch.tensor([row], device=model.device))[0]) for row in rows]
    return rows[int(np.argmin(losses))]
