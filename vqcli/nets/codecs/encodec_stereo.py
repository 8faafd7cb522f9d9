"""EnCodec, the stereo model of 48 kHz (Défossez et al. 2022, https://arxiv.org/abs/2210.13438, section 3.2.1).

    segment of 1 s, one begins each 0.99 s -> divided by its RMS -> SEANet encoder -> 150 latents [128]
        -> 16 residual codebooks of 1024 -> SEANet decoder -> times its RMS -> segments faded into each other

Layers look both ways and norms are over time, so a segment is what is coded alone. One set of codes stands for both
channels; every two codebooks make 3 kbit/s. Weights are other people's (facebook/encodec_48khz).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqcli.errors import BadFile, ModelError
from vqcli.nets.codecs import graphs
from vqcli.nets.codecs.base import WINDOW_S, Analysis, AudioCodec, Samples, device_of
from vqcli.nets.codecs.checkpoint import Checkpoint, Imported
from vqcli.nets.codecs.encodec import CITATION, NORM, arguments_of, parts_of
from vqcli.nets.codecs.framing import Framing
from vqcli.nets.codecs.graphs import BATCH, POSITIONS, Axis, Graph, Graphs, Port
from vqcli.nets.layers import seanet
from vqcli.nets.layers.residual_vq import ResidualVQ
from vqcli.nets.layers.stream import through, whole
from vqcli.progress import ProgressCallback

SCALE = np.dtype("<f4")  # of a segment: its RMS, as files keep it
QUIETEST, LOUDEST = 1e-8, 2.0**16  # the least that is added to the RMS; a scale beyond the other is damaged
SEGMENT_S, OVERLAP = 1.0, 0.01  # where a checkpoint does not tell them


class EncodecStereo(nn.Module, AudioCodec):
    """Waveforms [B, channels, N] at `rate_hz` to codes [B, codebooks, P].

    net        sizes of encoder and decoder (layers/seanet.py)
    segment    samples of a segment, a multiple of the stride
    hop        samples from one segment to the next
    codebooks  how many, of K vectors each
    """

    side_bytes = SCALE.itemsize

    def __init__(
        self,
        net: Mapping[str, Any] | None = None,
        rate_hz: int = 48_000,
        segment: int = 48_000,
        hop: int = 47_520,
        codebooks: int = 16,
        K: int = 1024,
    ) -> None:
        super().__init__()
        shape = seanet.Shape(**{"channels": 2, "causal": False, "normalization": "group", **(net or {})})
        if shape.causal or shape.normalization != "group" or segment % shape.stride:
            raise ValueError("only the model that looks both ways, in segments of whole positions")
        self.rate_hz, self.stride, self.levels, self.channels = rate_hz, shape.stride, codebooks, shape.channels
        self._framing = Framing(shape.stride, segment // shape.stride, hop)
        self.encoder_margin = self.decoder_margin = self._framing.segment
        self.codebook_sizes = (K,) * codebooks
        self.encoder, self.decoder = seanet.encoder(shape), seanet.decoder(shape)
        self.quantizer = ResidualVQ(codebooks, K, shape.dim)

    @property
    def framing(self) -> Framing:
        return self._framing

    def encode_segments(self, waves: Tensor, scales: Tensor) -> Tensor:
        """Codes int64 [B, codebooks, P] of segments [B, channels, n] of those scales [B]."""
        codes: Tensor = self.quantizer.encode(through(self.encoder, waves / scales[:, None, None], whole()))
        return codes

    def decode_segments(self, codes: Tensor, scales: Tensor) -> Tensor:
        """Segments [B, channels, P * stride] of codes [B, codebooks of the first levels, P] and scales [B]."""
        return through(self.decoder, self.quantizer.decode(codes), whole()) * scales[:, None, None]

    def graphs(self, levels: int) -> Graphs:
        """Of one segment, or less, which the caller cuts and fades."""
        n = sum(self.level_codebooks[:levels])

        def encode(waves: Tensor) -> tuple[Tensor, ...]:
            scales = _scale(waves)
            return self.encode_segments(waves, scales)[:, :n], scales

        def decode(codes: Tensor, scales: Tensor) -> tuple[Tensor, ...]:
            return (self.decode_segments(codes, scales),)

        codes = graphs.codes(n, max(self.codebook_sizes[:n]), POSITIONS)
        wave = graphs.waveform((BATCH, self.channels, Axis("positions", self.stride)), self.rate_hz)
        scale = Port("scale", (BATCH,), torch.float32, "RMS of the segment")
        segment, hop = self._framing.segment * self.stride, self._framing.hop
        about = (
            f"It sees one segment of at most {segment} samples; one begins each {hop} samples of a recording, and "
            f"fades into the next within {segment - hop}."
        )
        return Graphs(Graph(encode, (wave,), (codes, scale), about), Graph(decode, (codes, scale), (wave,), about))

    def analyse(self, samples: Samples, speakers: Sequence[Mapping[str, Any]]) -> Analysis:
        """The scale of each segment."""
        scales = [float(_scale(self._segment(samples, at))) for at in range(0, len(samples), self._framing.hop)]
        return Analysis(np.array(scales, SCALE).tobytes())

    def analysis_of(self, profile: np.ndarray, pitch: np.ndarray) -> Analysis:
        raise ModelError("this model codes music of two channels, not utterances", "--codec encodec-24khz")

    def encode_window(self, wave: Tensor, analysis: Analysis, first: int) -> Tensor:
        here = Analysis(analysis.stored[self.side_bytes * (first // self._framing.segment) :])
        return torch.cat(list(self.encode_windows(_Channels(wave.cpu().numpy()), here, wave.device)), 1)

    def encode_windows(self, samples: Samples, analysis: Analysis, device: torch.device) -> Iterator[Tensor]:
        scales = torch.from_numpy(np.frombuffer(analysis.stored, SCALE).astype(np.float32))
        begins = range(0, len(samples), self._framing.hop)
        for run in self._runs([min(len(samples) - at, self._framing.segment * self.stride) for at in begins]):
            waves = torch.stack([self._segment(samples, begins[number]) for number in run])
            codes = self.encode_segments(waves.to(device), scales[run.start : run.stop].to(device))
            yield codes.transpose(0, 1).flatten(1)

    def decode_windows(
        self,
        codes: np.ndarray,
        stored: Sequence[bytes],
        part: tuple[int, int],
        *,
        seed: int,
        progress: ProgressCallback,
    ) -> Iterator[np.ndarray]:
        begins = self._framing.segments(codes.shape[2])
        scales = torch.from_numpy(_scales(stored, len(begins) - 1)).to(device_of(self))
        first, last = np.searchsorted(begins, part[0], "right") - 1, np.searchsorted(begins, part[1])
        fade = _Fade(self._framing, int(begins[1]), len(codes) * self.channels)
        if first:  # the part begins within the end of the segment before it
            fade.add(*self._decoded(codes, scales, begins, range(first - 1, first)))
        for run in self._runs(list(np.diff(begins)[first:last])):
            numbers = range(first + run.start, first + run.stop)
            for wave in self._decoded(codes, scales, begins, numbers):
                yield fade.add(wave)
            progress((numbers.stop - first) / (last - first))

    def _decoded(self, codes: np.ndarray, scales: Tensor, begins: np.ndarray, numbers: range) -> Iterator[np.ndarray]:
        """Each of some segments of one length, float32 [channels, n]."""
        parts = np.stack([codes[:, :, begins[number] : begins[number + 1]] for number in numbers])  # [n, streams, ...]
        flat = torch.from_numpy(parts.reshape(-1, *parts.shape[2:]).astype(np.int64)).to(scales.device)
        waves = self.decode_segments(flat, scales[:, numbers.start : numbers.stop].T.flatten())
        yield from waves.reshape(len(numbers), -1, waves.shape[2]).cpu().numpy()

    def _segment(self, samples: Samples, begin: int) -> Tensor:
        part = samples[begin : begin + self._framing.segment * self.stride]
        return torch.from_numpy(np.ascontiguousarray(part, np.float32))

    def _runs(self, lengths: Sequence[int]) -> Iterator[range]:
        """Segments of one length, numbered from 0, that the net takes at a time: they are a batch."""
        most = max(1, round(WINDOW_S * self.rate_hz / self._framing.hop))
        at = 0
        for _, alike in groupby(lengths):
            end = at + len(list(alike))
            yield from (range(start, min(start + most, end)) for start in range(at, end, most))
            at = end


class _Fade:
    """Segments, one after the other, to a waveform: where two overlap, one fades into the next."""

    def __init__(self, framing: Framing, first: int, channels: int) -> None:
        self._hop = framing.hop
        overlap = max(first * framing.stride - framing.hop, 0)  # of the first segment, as in the reference
        self._gain = np.arange(1, overlap + 1, dtype=np.float32) / np.float32(overlap + 1)
        self._tail = np.zeros((channels, 0), np.float32)  # of the segment before

    def add(self, segment: np.ndarray) -> np.ndarray:
        """The waveform [channels, n] from where this segment begins to where the next one does."""
        n = min(self._tail.shape[1], segment.shape[1])
        gain = self._gain[:n]
        mixed = np.concatenate([self._tail[:, :n] * (1 - gain) + segment[:, :n] * gain, segment[:, n:]], 1)
        self._tail = mixed[:, self._hop :]
        return mixed[:, : self._hop]


@dataclass(frozen=True)
class _Channels:
    """An array [channels, n] as `Samples`."""

    array: np.ndarray

    def __len__(self) -> int:
        return self.array.shape[1]

    def __getitem__(self, part: slice) -> np.ndarray:
        return self.array[:, part]


def _scale(segments: Tensor) -> Tensor:
    """The RMS of the mean of the channels of segments [..., channels, n]."""
    mean = segments.sum(-2) / segments.shape[-2]
    return mean.square().mean(-1).sqrt() + QUIETEST


def _scales(stored: Sequence[bytes], segments: int) -> np.ndarray:
    """float32 [streams, segments]. Raises BadFile for what are no scales; that of a lost segment is 0."""
    if any(len(each) != SCALE.itemsize * segments for each in stored):
        raise BadFile(f"the file does not hold a scale for each of its {segments} segments")
    scales = np.stack([np.frombuffer(each, SCALE).astype(np.float32) for each in stored])
    if not ((scales >= 0) & (scales <= LOUDEST)).all():
        raise BadFile("the scale of a segment in the file is out of range")
    return scales


def from_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Of transformers' `EncodecModel`, or of the authors' own file. Raises ModelError for a model of another kind."""
    found = parts_of(checkpoint)
    if found is None or NORM not in found[0]:
        return None
    tensors, books = found
    config = checkpoint.config
    arguments = arguments_of(tensors, books, config, "conv.weight")
    if config.get("use_causal_conv", False) or not config.get("normalize", True):
        raise ModelError("of EnCodec, vq knows the models of 24 and 48 kHz only", "facebook/encodec_48khz")
    rate_hz = config.get("sampling_rate", 48_000)
    try:
        segment = int(config.get("chunk_length_s", SEGMENT_S) * rate_hz)
        hop = max(1, int((1.0 - config.get("overlap", OVERLAP)) * segment))
    except (TypeError, ValueError, OverflowError):
        raise ModelError("the configuration does not tell the length of segments and how they overlap") from None
    arguments |= {"rate_hz": rate_hz, "segment": segment, "hop": hop}
    return Imported(arguments, tensors | {"quantizer.codebooks": torch.stack(books)}, CITATION)


FAMILY = EncodecStereo
