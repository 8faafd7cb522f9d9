"""Codecs of plain waveforms, as other people make them: a file holds nothing but codes, and each channel its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqcli.errors import BadFile
from vqcli.nets.codecs.base import Analysis, AudioCodec, Samples, device_of, windows_of
from vqcli.nets.layers.stream import Stream, whole
from vqcli.progress import ProgressCallback


class WaveformCodec(nn.Module, AudioCodec):
    """Each level has one codebook, or as many as `level_codebooks` says; files can drop the last levels.

    A subclass gives `encode` and `decode` of whole signals. Where its layers look no further than a margin, windows of
    a signal are coded with that margin; a causal one keeps its state (`CausalCodec`).
    """

    level_db = None

    def encode(self, wave: Tensor) -> Tensor:
        """Codes int64 [B, codebooks, P] of waveforms [B, 1, N]; a partial position at the end counts."""
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        """Waveforms [B, 1, P * stride] of codes [B, codebooks of the first levels, P]."""
        raise NotImplementedError

    def decode_window(self, codes: Tensor, first: int, seed: int) -> Tensor:
        """The same, of codes that begin at position `first` of a signal, for nets with noise: of seed and place."""
        return self.decode(codes)

    def analyse(self, samples: Samples, speakers: Sequence[Mapping[str, Any]]) -> Analysis:
        return Analysis(b"")

    def analysis_of(self, profile: np.ndarray, pitch: np.ndarray) -> Analysis:
        return Analysis(b"")

    def encode_window(self, wave: Tensor, analysis: Analysis, first: int) -> Tensor:
        return self.encode(wave[None, None])[0]

    def encode_windows(self, samples: Samples, analysis: Analysis, device: torch.device) -> Iterator[Tensor]:
        """With margins that end where the signal ends: layers pad it there, as they do when they see all of it."""
        P, margin = -(-len(samples) // self.stride), self.encoder_margin
        for start, stop in [(0, P)] if margin is None else windows_of(self, 0, P):
            first, last = (0, P) if margin is None else (max(start - margin, 0), min(stop + margin, P))
            part = np.asarray(samples[first * self.stride : last * self.stride], np.float32)
            codes = self.encode(torch.from_numpy(part).to(device)[None, None])[0]
            yield codes[:, start - first : stop - first]

    def decode_windows(
        self,
        codes: np.ndarray,
        stored: Sequence[bytes],
        part: tuple[int, int],
        *,
        seed: int,
        progress: ProgressCallback,
    ) -> Iterator[np.ndarray]:
        if any(stored):
            raise BadFile("the voice in the file does not belong to its model, which knows none")
        start, stop = part
        done = start
        for wave in self.decode_parts(torch.from_numpy(codes), part, device_of(self), seed):
            done += wave.shape[-1] // self.stride
            progress((done - start) / (stop - start))
            yield wave[:, 0].cpu().numpy()

    def decode_parts(self, codes: Tensor, part: tuple[int, int], device: torch.device, seed: int) -> Iterator[Tensor]:
        """Waveforms [channels, 1, n * stride] of codes [channels, codebooks, P], window by window of `part`.

        Codes are integers of any type: those of hours are as small as they come.
        """
        margin, P = self.decoder_margin, codes.shape[2]
        for start, stop in [part] if margin is None else windows_of(self, *part):
            first, last = (0, P) if margin is None else (max(start - margin, 0), min(stop + margin, P))
            wave = self.decode_window(codes[:, :, first:last].long().to(device), first, seed)
            yield wave[:, :, (start - first) * self.stride : (stop - first) * self.stride]


class CausalCodec(WaveformCodec):
    """No layer looks ahead: a signal is coded part by part, with what the layers keep of the parts before.

    A subclass gives `encode_part` and `decode_part`, and as `decoder_margin` how many positions before a part its state
    comes from where decoding begins at that part.
    """

    encoder_margin = None
    decoder_margin: int

    def encode_part(self, wave: Tensor, stream: Stream) -> Tensor:
        """Codes int64 [B, codebooks, P] of the next part of waveforms [B, 1, N]."""
        raise NotImplementedError

    def decode_part(self, codes: Tensor, stream: Stream) -> Tensor:
        """Waveforms [B, 1, P * stride] of the next part of codes [B, codebooks of the first levels, P]."""
        raise NotImplementedError

    def warm_up(self, codes: Tensor, stream: Stream) -> None:
        """Give the layers of the decoder their state, from the codes before a part."""
        self.decode_part(codes, stream)

    def encode(self, wave: Tensor) -> Tensor:
        return self.encode_part(wave, whole())

    def decode(self, codes: Tensor) -> Tensor:
        return self.decode_part(codes, whole())

    def encode_windows(self, samples: Samples, analysis: Analysis, device: torch.device) -> Iterator[Tensor]:
        P, stream = -(-len(samples) // self.stride), Stream()
        for start, stop in windows_of(self, 0, P):
            stream.last = stop == P
            wave = np.asarray(samples[start * self.stride : stop * self.stride], np.float32)
            yield self.encode_part(torch.from_numpy(wave).to(device)[None, None], stream)[0]
            stream.first = False

    def decode_parts(self, codes: Tensor, part: tuple[int, int], device: torch.device, seed: int) -> Iterator[Tensor]:
        begin, P, stream = max(part[0] - self.decoder_margin, 0), codes.shape[2], Stream()
        if begin < part[0]:
            self.warm_up(codes[:, :, begin : part[0]].long().to(device), stream)
            stream.first = False
        for start, stop in windows_of(self, *part):
            stream.last = stop == P
            yield self.decode_part(codes[:, :, start:stop].long().to(device), stream)
            stream.first = False
