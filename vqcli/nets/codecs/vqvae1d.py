"""The paper's VQ-VAE of a waveform (section 4.3): strided convolutions, a WaveNet decoder.

Input and output are float [B, N] at 16 kHz, N a multiple of `stride`, scaled to -26 dB RMS.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.errors import BadFile, ModelError
from vqcli.media import mel, voice
from vqcli.nets.codecs.base import Analysis, AudioCodec, Samples, device_of
from vqcli.nets.layers.mulaw import compress_tensor
from vqcli.nets.layers.quantizer import Quantized, VectorQuantizer, jitter
from vqcli.nets.wavenet import decoder_numba as compiled
from vqcli.nets.wavenet.decoder import WaveNetDecoder
from vqcli.nets.wavenet.segments import sample_long
from vqcli.progress import ProgressCallback

LIKELY_S = 1.0  # of a recording, by which the most likely speaker is chosen
LIKELY = 16  # speakers among which it is chosen


class WaveEncoder(nn.Module):
    """Strided convolutions with a window of twice the stride, ReLU between (section 4.3): wave [B, 1, N] -> z_e.

    The latents are normalised over the batch (as Kumar et al. 2018 do on MNIST).
    """

    def __init__(self, strides: Sequence[int], width: int, dim: int) -> None:
        super().__init__()
        widths = [1, *[width] * len(strides)]
        self.convs = nn.ModuleList(
            nn.Conv1d(into, width, 2 * stride, stride=stride) for into, stride in zip(widths, strides, strict=False)
        )
        self.strides = tuple(strides)
        self.out = nn.Conv1d(width, dim, 3, padding=1)
        # early in training a WaveNet does without codes, and unused latents would collapse to a point
        self.norm = nn.BatchNorm1d(dim, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        for stride, conv in zip(self.strides, self.convs, strict=True):
            x = F.relu(conv(F.pad(x, (stride // 2, stride - stride // 2))))
        with torch.autocast(x.device.type, enabled=False):  # the last step sets the precision of the codes
            return self.norm(F.conv1d(x.float(), self.out.weight, self.out.bias, padding=1))


class WaveVQVAE(nn.Module, AudioCodec):
    """The paper's speech model: waveform to codes [B, 1, P], and a WaveNet that samples the waveform given them.

    strides   of the encoder's convolutions; their product is the samples for each code: six of 2 make 64
    speakers  rows of the WaveNet's speaker table
    wavenet   arguments of its decoder (nets/wavenet.py)
    """

    TASK = "vqvae1d"
    CLASS_TABLES = ("decoder.speaker.weight",)  # a row for each speaker
    level_db = voice.LEVEL_DB
    autoregressive = True

    def __init__(
        self,
        K: int = 512,
        dim: int = 64,
        strides: Sequence[int] = (2,) * 6,
        width: int = 128,
        speakers: int = 1,
        jitter: float = 0.0,
        beta: float = 0.25,
        wavenet: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.rate_hz, self.stride, self.jitter = mel.RATE_HZ, math.prod(strides), jitter
        self.levels, self.speakers, self.codebook_sizes = 1, speakers, (K,)
        self.quantizer = VectorQuantizer(dim, K, beta=beta)
        self.encoder = WaveEncoder(strides, width, dim)
        self.decoder = WaveNetDecoder(dim, speakers, stride=self.stride, **(wavenet or {}))
        self.encoder_margin, self.decoder_margin = 3, WaveNetDecoder.MARGIN

    def forward(self, wave: Tensor, speaker: Tensor) -> tuple[Tensor, Quantized]:
        """Nats for each sample of waveforms [B, P * stride] under the decoder, and the quantizer's output."""
        quantized = self.quantizer(self.encoder(wave[:, None]))
        z_q = jitter(quantized.z_q, self.jitter) if self.training else quantized.z_q
        return self.decoder.loss(z_q, speaker, compress_tensor(wave)), quantized

    @torch.no_grad()
    def encode(self, wave: Tensor) -> Tensor:
        """Codes int64 [B, 1, P] of waveforms [B, P * stride]."""
        return self.quantizer.codes(self.encoder(wave[:, None]))

    def graphs(self, levels: int) -> NoReturn:
        raise ModelError(
            "its decoder, a WaveNet, makes samples one after the other, which no graph does", "speech has one"
        )

    # recordings (base.AudioCodec)

    @torch.inference_mode()
    def analyse(self, samples: Samples, speakers: Sequence[Mapping[str, Any]]) -> Analysis:
        """The row of the speaker table under which the loudest second is most likely, among those with most speech."""
        rows = sorted(range(len(speakers)), key=lambda row: -speakers[row]["seconds"])[:LIKELY] or [0]
        N = min(round(LIKELY_S * self.rate_hz), len(samples)) // self.stride * self.stride
        if not N or len(rows) == 1:
            return Analysis(self.voice_of_row(rows[0]))
        starts = range(0, len(samples) - N + 1, N)
        start = max(starts, key=lambda at: float(np.square(np.asarray(samples[at : at + N])).sum()))  # not in a pause
        device = device_of(self)
        wave = torch.from_numpy(np.asarray(samples[start : start + N]))[None].to(device).clamp(-1, 1)
        losses = [float(self(wave, torch.tensor([row], device=device))[0]) for row in rows]
        return Analysis(self.voice_of_row(rows[int(np.argmin(losses))]))

    def analysis_of(self, profile: np.ndarray, pitch: np.ndarray) -> Analysis:
        return Analysis(self.voice_of_row(0))

    def encode_window(self, wave: Tensor, analysis: Analysis, first: int) -> Tensor:
        return self.encode(wave[None])[0]

    def decode_windows(
        self,
        codes: np.ndarray,
        stored: Sequence[bytes],
        part: tuple[int, int],
        *,
        seed: int,
        progress: ProgressCallback,
    ) -> Iterator[np.ndarray]:
        """Sampled from the WaveNet, in parallel segments."""
        sampler = compiled.compile_net(self.decoder) if device_of(self).type == "cpu" else self.decoder
        channels = []
        for number, (channel, row) in enumerate(zip(codes, map(self._row, stored), strict=True)):

            def done(share: float, number: int = number) -> None:
                progress((number + share) / len(codes))

            latents = _Latents(self, channel)
            channels.append(
                sample_long(sampler, latents, row, seed + number, part=part, rate_hz=self.rate_hz, progress=done)
            )
        for blocks in zip(*channels, strict=True):
            yield np.stack(blocks)

    def voice_of_row(self, row: int) -> bytes:
        return row.to_bytes(2, "little")

    def _row(self, stored: bytes) -> int:
        """The speaker row in `stored`. Raises BadFile if the table has no such row."""
        row = int.from_bytes(stored, "little")
        if len(stored) != 2 or row >= self.speakers:
            raise BadFile("the speaker in the file does not belong to its model")
        return row


class _Latents:
    """z_q [D, P] of the codes [codebooks, P] of one channel, looked up as they are sliced: hours would not fit."""

    def __init__(self, net: WaveVQVAE, codes: np.ndarray) -> None:
        self._net, self._codes = net, codes
        self.shape: tuple[int, ...] = (net.quantizer.dim, codes.shape[1])

    def __getitem__(self, index: tuple[slice, slice]) -> Tensor:
        codes = torch.from_numpy(self._codes[:, index[1]].astype(np.int64)).to(self._net.quantizer.codebook.device)
        return self._net.quantizer.lookup(codes[None])[0][index[0]]


FAMILY = WaveVQVAE
