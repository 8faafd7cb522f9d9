"""Waveforms -> codes -> waveforms, through a model.

Recordings of any length: what holds for a whole recording (loudness, and what the family analyses) is gathered first;
then the net sees windows with a margin as wide as its reach, so that windowed codes equal those of the whole (up to
ties within float error) and memory is bounded by the window. What becomes of the codes in a file is in audio_file.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from vqcli.codec.codes import AudioCodes, code_type
from vqcli.errors import BadFile
from vqcli.media import audio, loudness, voice
from vqcli.media.audio import Recording
from vqcli.nets.codecs.base import DecodesAlone
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo.loading import LoadedModel

LONGEST_ALONE_S = 600  # of a window that is decoded on its own
CONTEXT = 100  # positions before a part that suffice to decode it as within the whole


def positions(model: LoadedModel, samples: int) -> int:
    """Number of code positions of so many samples at the model's rate."""
    return -(-samples // model.audio.stride)


@torch.inference_mode()
def encode_audio(model: LoadedModel, recording: Recording, progress: ProgressCallback = silent) -> AudioCodes:
    """Codes of each channel of a recording at the model's rate."""
    channels = [_Channel(model, samples) for samples in recording.samples]
    P = positions(model, recording.samples.shape[1])
    sizes = model.audio.codebook_sizes
    codes = np.empty((len(channels), len(sizes), P), code_type(sizes))
    for number, channel in enumerate(channels):
        stop = 0
        for found in channel.codes():
            start, stop = stop, stop + found.shape[1]
            codes[number, :, start:stop] = found
            progress((number + stop / P) / len(channels))
    return AudioCodes(
        codes,
        rate_hz=recording.source_rate_hz,
        samples=recording.source_samples,
        channels=recording.source_channels,
        loudness_db=tuple(round(channel.loudness_db, 1) for channel in channels),
        voice=tuple(channel.analysis.stored for channel in channels),
    )


@torch.inference_mode()
def decode_audio(
    model: LoadedModel,
    codes: AudioCodes,
    *,
    start: int = 0,
    stop: int | None = None,
    progress: ProgressCallback = silent,
    seed: int = 0,
) -> Iterator[np.ndarray]:
    """Waveforms float32 [channels, n] at the model's rate, block by block, of the positions start .. stop.

    Loudness is restored. Fewer groups than the model has stand for its first levels. What stands before `start` serves
    as context: CONTEXT positions suffice. `seed` decides the noise of the voice, or what a WaveNet samples.
    """
    net = model.audio
    part = start, codes.codes.shape[2] if stop is None else stop
    gains = np.ones((len(codes.codes), 1), np.float32)
    if net.level_db is not None:
        gains[:, 0] = [10 ** ((db - net.level_db) / 20) for db in codes.loudness_db]
    if codes.gain_db:
        gains[:, 0] *= [10 ** (db / 20) for db in codes.gain_db]
    if codes.window:
        blocks = _decode_alone(model, codes, part, progress)
    else:
        blocks = net.decode_windows(codes.codes, codes.voice, part, seed=seed, progress=progress)
    for block in blocks:
        yield block * gains


def loudness_db(model: LoadedModel, codes: AudioCodes) -> np.ndarray:
    """Loudness by ITU-R BS.1770 of each coded channel as it decodes, float [channels]."""
    meter = loudness.Meter(model.audio.rate_hz, len(codes.codes))
    for block in decode_audio(model, codes):
        meter.add(block)
    return meter.loudness_db()


def unit(model: LoadedModel, window: int) -> tuple[int, int]:
    """Positions, and samples at the model's rate, of what codes consist of: positions, or windows that decode alone.

    Raises BadFile if the model has no such windows.
    """
    if not window:
        return 1, model.audio.stride
    net: Any = model.net
    most = LONGEST_ALONE_S * net.rate_hz // net.stride
    samples = net.samples_of(window, alone=True) if isinstance(net, DecodesAlone) and 0 < window <= most else 0
    if not samples:
        raise BadFile(f"model {model.info.name} does not decode windows of {window} positions on their own")
    return window, samples


def _decode_alone(
    model: LoadedModel, codes: AudioCodes, part: tuple[int, int], progress: ProgressCallback
) -> Iterator[np.ndarray]:
    """Waveforms [channels, n] of the windows of a part, which begins and ends with one."""
    net: Any = model.net
    if any(codes.voice):
        raise BadFile("the voice in the file does not belong to its model, which knows none")
    for at in range(*part, codes.window):
        window = torch.from_numpy(codes.codes[:, :, at : at + codes.window].astype(np.int64))
        yield net.decode_alone(window.to(model.device))[:, 0].cpu().numpy()
        progress((at + codes.window - part[0]) / (part[1] - part[0]))


class _Channel:
    """One channel on its way to codes: all that takes hearing the whole of it, then any window."""

    def __init__(self, model: LoadedModel, samples: np.ndarray) -> None:
        self._model, self._net = model, model.audio
        self.loudness_db = loudness.active_rms_db(samples)
        level_db = self._net.level_db
        self._samples = _Scaled(samples, np.float32(1 if level_db is None else voice.gain(self.loudness_db, level_db)))
        self.analysis = self._net.analyse(self._samples, model.info.description.get("speakers", []))

    def codes(self) -> Iterator[np.ndarray]:
        """Codes [groups, n], window by window."""
        for codes in self._net.encode_windows(self._samples, self.analysis, self._model.device):
            yield codes.cpu().numpy()


class _Scaled:
    """An array times a number, part by part as it is asked for: a long recording is a memory map."""

    def __init__(self, samples: np.ndarray, gain: np.float32) -> None:
        self._samples, self._gain = samples, gain

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, part: slice) -> np.ndarray:
        found: np.ndarray = np.asarray(self._samples[part]) * self._gain
        audio.release(self._samples)
        return found
