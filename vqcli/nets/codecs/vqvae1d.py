"""The paper's VQ-VAE of a waveform (section 4.3): strided convolutions, a WaveNet decoder.

It takes and gives float [B, N] at 16 kHz, N a multiple of `stride`, scaled to -26 dB RMS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.media import mel
from vqcli.nets.layers.mulaw import compress_tensor
from vqcli.nets.layers.quantizer import Quantized, VectorQuantizer, jitter
from vqcli.nets.wavenet.decoder import WaveNetDecoder


class WaveEncoder(nn.Module):
    """Strided convolutions with a window of twice the stride, ReLU between (section 4.3): wave [B, 1, N] -> z_e.

    The latents are normalised over the batch (as the report does on MNIST).
    """

    def __init__(self, strides: Sequence[int], width: int, dim: int) -> None:
        super().__init__()
        widths = [1, *[width] * len(strides)]
        self.convs = nn.ModuleList(
            nn.Conv1d(into, width, 2 * stride, stride=stride) for into, stride in zip(widths, strides, strict=False)
        )
        self.strides = tuple(strides)
        self.out = nn.Conv1d(width, dim, 3, padding=1)
        # a WaveNet does well without codes for long, and the latents that no one asks for shrink to a point
        self.norm = nn.BatchNorm1d(dim, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        for stride, conv in zip(self.strides, self.convs, strict=True):
            x = F.relu(conv(F.pad(x, (stride // 2, stride - stride // 2))))
        with torch.autocast(x.device.type, enabled=False):  # the last step sets the precision of the codes
            return self.norm(F.conv1d(x.float(), self.out.weight, self.out.bias, padding=1))


class WaveVQVAE(nn.Module):
    """The paper's speech model: waveform to codes [B, 1, P], and a WaveNet that draws the waveform from them.

    strides   of the encoder's convolutions; their product is the samples for each code: six of 2 make 64
    speakers  rows of the WaveNet's speaker table
    wavenet   arguments of its decoder (nets/wavenet.py)
    """

    TASK = "vqvae1d"  # the training run of this family (training/tasks)
    CLASS_TABLES = ("decoder.speaker.weight",)  # a row for each speaker

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
        """Nats for each sample of waveforms [B, P * stride] under the decoder, and what was quantized."""
        quantized = self.quantizer(self.encoder(wave[:, None]))
        z_q = jitter(quantized.z_q, self.jitter) if self.training else quantized.z_q
        return self.decoder.loss(z_q, speaker, compress_tensor(wave)), quantized

    @torch.no_grad()
    def encode(self, wave: Tensor) -> Tensor:
        """Codes int64 [B, 1, P] of waveforms [B, P * stride]."""
        return self.quantizer.codes(self.encoder(wave[:, None]))
