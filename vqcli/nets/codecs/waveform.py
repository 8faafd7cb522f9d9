"""Codecs of plain waveforms, as other people make them: a file holds nothing but codes, and each channel its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqcli.errors import BadFile
from vqcli.nets.codecs import graphs
from vqcli.nets.codecs.base import Analysis, AudioCodec, Samples, device_of, windows_of
from vqcli.nets.codecs.graphs import BATCH, POSITIONS, Axis, Graph, Graphs
from vqcli.nets.layers.residual_vq import Losses
from vqcli.nets.layers.stream import Stream, whole
from vqcli.progress import ProgressCallback

# of decoders that see the whole signal
SEGMENT_S = 60.0  # of it at once: time and memory of attention grow with the square
MARGIN_S = 3.0  # beyond a segment: as long as the crops that these nets learn from, and wider than their convolutions
FADE_S = 0.5  # from one segment to the next


class WaveformCodec(nn.Module, AudioCodec):
    """Each level has one codebook, or as many as `level_codebooks` says; files can drop the last levels.

    A subclass gives `quantizer` (layers/residual_vq.py), `latents` and `waveform`, of whole signals; or, if it is there
    to decode only, `decode`. Where its layers look no further than a margin, windows of a signal are coded with that
    margin; others keep a state (`StreamedEncoder`, `CausalCodec`), or take segments of a signal for wholes
    (`SegmentedDecoder`).
    """

    TASK = "waveform"
    level_db = None
    quantizer: Any

    def latents(self, wave: Tensor) -> Tensor:
        """z_e of waveforms [B, 1, N]; a partial position at the end counts."""
        raise NotImplementedError

    def waveform(self, z_q: Tensor, first: int = 0, seed: int = 0) -> Tensor:
        """Waveforms [B, 1, N] of z_q from position `first` of a signal on: noise is of seed and place."""
        raise NotImplementedError

    def forward(self, wave: Tensor, levels: Tensor) -> tuple[Tensor, Losses]:
        """What becomes of waveforms [B, 1, N] by the first levels int64 [B] of each, with a gradient for all weights;
        and the losses of the quantizer, which is float32 whatever the precision around it."""
        z_e = self.latents(wave)
        with torch.autocast(wave.device.type, enabled=False):
            z_q, losses = self.quantizer(z_e.float(), levels)
        seed = int(torch.randint(2**31, ())) if self.training else 0
        return self.waveform(z_q, 0, seed)[..., : wave.shape[-1]], losses

    def encode(self, wave: Tensor) -> Tensor:
        """Codes int64 [B, codebooks, P] of waveforms [B, 1, N]."""
        codes: Tensor = self.quantizer.encode(self.latents(wave))
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Waveforms [B, 1, P * stride] of codes [B, codebooks of the first levels, P]."""
        return self.decode_window(codes, 0, 0)

    def decode_window(self, codes: Tensor, first: int, seed: int) -> Tensor:
        """The same, of codes that begin at position `first` of a signal."""
        return self.waveform(self.quantizer.decode(codes), first, seed)

    def graphs(self, levels: int) -> Graphs:
        n = sum(self.level_codebooks[:levels])
        codes = graphs.codes(n, max(self.codebook_sizes[:n]), POSITIONS)
        wave = graphs.waveform((BATCH, 1, Axis("positions", self.stride)), self.rate_hz)
        return Graphs(
            Graph(lambda x: (self.encode(x)[:, :n],), (wave,), (codes,)),
            Graph(lambda x: (self.decode(x),), (codes,), (wave,)),
        )

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


class StreamedEncoder(WaveformCodec):
    """An encoder that sees a signal part by part, with what its layers keep of the parts before.

    A subclass gives `latents_part`. Where layers look ahead, codes come later than the samples that they are of, and
    the rest with the last part; the first, 10 s of a longer signal, has to be enough for the layers to begin with.
    """

    encoder_margin = None

    def latents_part(self, wave: Tensor, stream: Stream) -> Tensor:
        """z_e that the next part of waveforms [B, 1, N] makes known."""
        raise NotImplementedError

    def latents(self, wave: Tensor) -> Tensor:
        return self.latents_part(wave, whole())

    def encode_part(self, wave: Tensor, stream: Stream) -> Tensor:
        """Codes int64 [B, codebooks, P] of these."""
        codes: Tensor = self.quantizer.encode(self.latents_part(wave, stream))
        return codes

    def encode_windows(self, samples: Samples, analysis: Analysis, device: torch.device) -> Iterator[Tensor]:
        P, stream = -(-len(samples) // self.stride), Stream()
        for start, stop in windows_of(self, 0, P):
            stream.last = stop == P
            wave = np.asarray(samples[start * self.stride : stop * self.stride], np.float32)
            yield self.encode_part(torch.from_numpy(wave).to(device)[None, None], stream)[0]
            stream.first = False


class CausalCodec(StreamedEncoder):
    """No layer looks ahead: a signal is coded part by part, with what the layers keep of the parts before.

    A subclass gives `waveform_part` too, and as `decoder_margin` how many positions before a part its state comes from
    where decoding begins at that part.
    """

    decoder_margin: int

    def waveform_part(self, z_q: Tensor, stream: Stream) -> Tensor:
        """Waveforms of what the next part of codes stands for."""
        raise NotImplementedError

    def waveform(self, z_q: Tensor, first: int = 0, seed: int = 0) -> Tensor:
        return self.waveform_part(z_q, whole())

    def decode_part(self, codes: Tensor, stream: Stream) -> Tensor:
        """Waveforms [B, 1, P * stride] of the next part of codes [B, codebooks of the first levels, P]."""
        return self.waveform_part(self.quantizer.decode(codes), stream)

    def warm_up(self, codes: Tensor, stream: Stream) -> None:
        """Give the layers of the decoder their state, from the codes before a part."""
        self.decode_part(codes, stream)

    def decode_parts(self, codes: Tensor, part: tuple[int, int], device: torch.device, seed: int) -> Iterator[Tensor]:
        begin, P, stream = max(part[0] - self.decoder_margin, 0), codes.shape[2], Stream()
        if begin < part[0]:
            self.warm_up(codes[:, :, begin : part[0]].long().to(device), stream)
            stream.first = False
        for start, stop in windows_of(self, *part):
            stream.last = stop == P
            yield self.decode_part(codes[:, :, start:stop].long().to(device), stream)
            stream.first = False


class SegmentedDecoder(WaveformCodec):
    """A decoder with layers that see all they are given at once, such as attention or norms over time.

    Up to SEGMENT_S of a signal are decoded as a whole. A longer one is cut into segments of equal length, each decoded
    with MARGIN_S of its neighbours as if that was a signal, and around a cut one fades into the next for FADE_S. Where
    the cuts are depends on the length of the signal alone: every part of it is decoded as within the whole.
    """

    @property
    def decoder_margin(self) -> int:  # type: ignore[override]
        return self._positions(SEGMENT_S) + self._positions(MARGIN_S) + self._positions(FADE_S)

    def _positions(self, seconds: float) -> int:
        return max(1, round(seconds * self.rate_hz / self.stride))

    def decode_parts(self, codes: Tensor, part: tuple[int, int], device: torch.device, seed: int) -> Iterator[Tensor]:
        P, margin, half = codes.shape[2], self._positions(MARGIN_S), self._positions(FADE_S / 2)
        segments = -(-P // self._positions(SEGMENT_S))
        cuts = [P * number // segments for number in range(segments + 1)]
        ramp = (torch.arange(2 * half * self.stride, device=device) + 0.5) / (2 * half * self.stride)
        before = None  # what the segment before has around the cut
        for start, stop in pairwise(cuts):
            if stop + half <= part[0] or start - half >= part[1]:
                continue
            first, last = max(start - margin, 0), min(stop + margin, P)
            wave = self.decode(codes[:, :, first:last].long().to(device))
            begin, end = start - half if start else 0, stop - half if stop < P else P
            wave, after = wave[..., (begin - first) * self.stride :], wave[..., (end - first) * self.stride :]
            if before is not None:
                wave[..., : len(ramp)] = before + ramp * (wave[..., : len(ramp)] - before)
            before = after[..., : len(ramp)].clone()
            inner = slice(max(part[0], begin) - begin, min(part[1], end) - begin)
            if inner.start < inner.stop:
                yield wave[..., inner.start * self.stride : inner.stop * self.stride]
