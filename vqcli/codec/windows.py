"""Waveforms -> codes -> waveforms, through a model.

Recordings of any length: what holds for a whole recording (loudness, and what the family analyses) is gathered first;
then the net sees windows with a margin as wide as its reach, so that windowed codes equal those of the whole (up to
ties within float error) and memory is bounded by the window. What becomes of the codes in a file is in audio_file.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from vqcli.codec.codes import AudioCodes, code_type
from vqcli.errors import BadFile
from vqcli.files import release
from vqcli.media import audio, loudness, voice
from vqcli.media.audio import Recording
from vqcli.nets.codecs.base import DecodesAlone
from vqcli.nets.codecs.framing import Alone, Framing
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo.loading import LoadedModel

LONGEST_ALONE_S = 600  # of a window that is decoded on its own
COMPARED_S = 20  # of a recording whose loudness is compared with that of its codes
MOST_RAISED_DB = 6.0  # by what that raises or lowers it
CONTEXT = 100  # positions before a part that suffice to decode it as within the whole


@torch.inference_mode()
def encode_audio(model: LoadedModel, recording: Recording, progress: ProgressCallback = silent) -> AudioCodes:
    """Codes of each channel of a recording at the model's rate, or of as many as its net codes together.

    Where there are fewer than those, the last one stands in for the others.
    """
    count, together = len(recording.samples), model.audio.channels
    groups = [[min(row, count - 1) for row in range(at, at + together)] for at in range(0, count, together)]
    channels = [_Channel(model, recording.samples, rows) for rows in groups]
    P, sizes = model.audio.framing.positions(recording.samples.shape[1]), model.audio.codebook_sizes
    codes = np.empty((len(channels), len(sizes), P), code_type(sizes))
    for number, channel in enumerate(channels):
        stop = 0
        for found in channel.codes():
            start, stop = stop, stop + found.shape[1]
            codes[number, :, start:stop] = found
            progress((number + stop / P) / len(channels))
    coded = AudioCodes(
        codes,
        rate_hz=recording.source_rate_hz,
        samples=recording.source_samples,
        channels=recording.source_channels,
        loudness_db=tuple(round(channel.loudness_db, 1) for channel in channels),
        voice=tuple(channel.analysis.stored for channel in channels),
    )
    if model.audio.level_db is None or model.audio.autoregressive:
        return coded
    return _as_loud(model, recording, coded, np.sum([channel.powers for channel in channels], axis=0))


def _as_loud(model: LoadedModel, recording: Recording, coded: AudioCodes, powers: np.ndarray) -> AudioCodes:
    """The same with the loudness by which the loudest part decodes as loud as it was, in the band that it had.

    A net makes voices of its own loudness, and sound beyond the band of a recording of a lower rate, which is lost on
    the way back. `powers` [n] of each 20 ms, of all channels.
    """
    net, rate_hz = model.audio, min(recording.source_rate_hz, model.audio.rate_hz)
    blocks = min(len(powers), COMPARED_S * 50)
    sums = np.cumsum(np.pad(powers, (1, 0)))
    start = int(np.argmax(sums[blocks:] - sums[: len(sums) - blocks])) * (net.rate_hz // 50) // net.stride
    stop = min(coded.codes.shape[2], start + -(-blocks * (net.rate_hz // 50) // net.stride))
    parts = audio.resampled(decode_audio(model, coded, start=start, stop=stop), net.rate_hz, rate_hz)
    decoded = np.concatenate(list(parts), 1)
    levels_db = []
    for level_db, samples, back in zip(coded.loudness_db, recording.samples, decoded, strict=True):
        was_db = loudness.active_rms_db(samples[start * net.stride : stop * net.stride], net.rate_hz)
        is_db = loudness.active_rms_db(back, rate_hz)
        heard = min(was_db, is_db, level_db) > voice.QUIETEST_DB
        levels_db.append(level_db + float(np.clip(was_db - is_db, -MOST_RAISED_DB, MOST_RAISED_DB)) * heard)
    return replace(coded, loudness_db=tuple(round(level_db, 1) for level_db in levels_db))


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
    gains[np.array(codes.loudness_db) <= loudness.SILENCE_DB] = 0  # or single bits would remain
    if codes.gain_db:
        gains[:, 0] *= [10 ** (db / 20) for db in codes.gain_db]
    gains = gains.repeat(net.channels, 0)
    if codes.window:
        blocks = _decode_alone(model, codes, part, progress)
    else:
        blocks = net.decode_windows(codes.codes, codes.voice, part, seed=seed, progress=progress)
    for block in blocks:
        yield _as_recorded(block * gains, codes, net.channels)


def _as_recorded(block: np.ndarray, codes: AudioCodes, together: int) -> np.ndarray:
    """The channels of the recording, from those that were coded together: each, or their mean for all."""
    if together == 1 or len(block) == codes.channels:
        return block
    return block.mean(0, keepdims=True) if len(codes.codes) == 1 else block[: codes.channels]


def loudness_db(model: LoadedModel, codes: AudioCodes) -> np.ndarray:
    """Loudness by ITU-R BS.1770 of each coded channel as it decodes, float [channels]."""
    meter = loudness.Meter(model.audio.rate_hz, len(codes.codes))
    for block in decode_audio(model, codes):
        meter.add(block)
    return meter.loudness_db()


def framing(model: LoadedModel, window: int) -> Framing:
    """Where positions lie: as the model has them, or in windows of so many positions that decode alone.

    Raises BadFile if the model has no such windows.
    """
    if not window:
        return model.audio.framing
    net: Any = model.net
    most = LONGEST_ALONE_S * net.rate_hz // net.stride
    samples = net.samples_of(window, alone=True) if isinstance(net, DecodesAlone) and 0 < window <= most else 0
    if not samples:
        raise BadFile(f"model {model.info.name} does not decode windows of {window} positions on their own")
    return Alone(net.stride, window, samples)


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
    """A channel, or some that are coded together, on the way to codes: all that takes hearing the whole, then windows.

    Their loudness is that of the loudest.
    """

    def __init__(self, model: LoadedModel, samples: np.ndarray, rows: list[int]) -> None:
        self._model, self._net = model, model.audio
        self.powers = max(
            (loudness.block_powers(samples[row], self._net.rate_hz) for row in {*rows}), key=loudness.active_db
        )
        self.loudness_db = loudness.active_db(self.powers)
        level_db = self._net.level_db
        gain = np.float32(1 if level_db is None else voice.gain(self.loudness_db, level_db))
        self._samples = _Scaled(samples, rows if len(rows) > 1 else rows[0], gain)
        self.analysis = self._net.analyse(self._samples, model.info.description.get("speakers", []))

    def codes(self) -> Iterator[np.ndarray]:
        """Codes [groups, n], window by window."""
        for codes in self._net.encode_windows(self._samples, self.analysis, self._model.device):
            yield codes.cpu().numpy()


class _Scaled:
    """One or more rows of an array times a number, part by part as asked for: a long recording is a memory map."""

    def __init__(self, samples: np.ndarray, rows: int | list[int], gain: np.float32) -> None:
        self._samples, self._rows, self._gain = samples, rows, gain

    def __len__(self) -> int:
        return self._samples.shape[1]

    def __getitem__(self, part: slice) -> np.ndarray:
        found: np.ndarray = np.asarray(self._samples[self._rows, part]) * self._gain
        release(self._samples)
        return found
