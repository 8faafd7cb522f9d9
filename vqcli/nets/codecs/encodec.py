"""EnCodec, the causal model of 24 kHz (Défossez et al. 2022, https://arxiv.org/abs/2210.13438).

    wave -> SEANet encoder -> 75 latents [128] a second -> 32 residual codebooks of 1024 -> SEANet decoder -> wave

Every two codebooks make 1.5 kbit/s. Weights are other people's (facebook/encodec_24khz, MIT).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from vqcli.errors import ModelError
from vqcli.nets.codecs.base import Analysis, Samples, windows_of
from vqcli.nets.codecs.checkpoint import Checkpoint, Imported, modern
from vqcli.nets.codecs.waveform import WaveformCodec
from vqcli.nets.layers import seanet
from vqcli.nets.layers.residual_vq import ResidualVQ

CITATION = "Alexandre Défossez, Jade Copet, Gabriel Synnaeve, Yossi Adi. High Fidelity Neural Audio Compression. 2022."
WEIGHT = "conv.parametrizations.weight.original1"  # of a convolution: the direction of each filter
WARM_UP = 150  # positions, 2 s, after which the LSTM has forgotten where decoding began


class Encodec(WaveformCodec):
    """Waveforms [B, 1, N] at `rate_hz` to codes [B, codebooks, P].

    net        sizes of encoder and decoder (layers/seanet.py)
    codebooks  how many, of K vectors each
    """

    encoder_margin, decoder_margin = None, WARM_UP

    def __init__(
        self, net: Mapping[str, Any] | None = None, rate_hz: int = 24_000, codebooks: int = 32, K: int = 1024
    ) -> None:
        super().__init__()
        shape = seanet.Shape(**(net or {}))
        if not shape.causal or shape.channels != 1 or shape.normalization != "weight":
            raise ValueError("only the causal model of one channel")
        self.rate_hz, self.stride, self.levels = rate_hz, shape.stride, codebooks
        self.codebook_sizes = (K,) * codebooks
        self.encoder, self.decoder = seanet.encoder(shape), seanet.decoder(shape)
        self.quantizer = ResidualVQ(codebooks, K, shape.dim)

    def encode(self, wave: Tensor) -> Tensor:
        return self.quantizer.encode(seanet.through(self.encoder, wave, seanet.whole()))

    def decode(self, codes: Tensor) -> Tensor:
        return seanet.through(self.decoder, self.quantizer.decode(codes), seanet.whole())

    def encode_windows(self, samples: Samples, analysis: Analysis, device: torch.device) -> Iterator[Tensor]:
        """One after the other; the layers keep what they need of those before, so codes are those of the whole."""
        P, stream = -(-len(samples) // self.stride), seanet.Stream()
        for start, stop in windows_of(self, 0, P):
            stream.first, stream.last = start == 0, stop == P
            wave = torch.from_numpy(samples[start * self.stride : stop * self.stride]).float().to(device)
            yield self.quantizer.encode(seanet.through(self.encoder, wave[None, None], stream))[0]

    def decode_parts(self, codes: Tensor, part: tuple[int, int], device: torch.device, seed: int) -> Iterator[Tensor]:
        """One after the other, after positions before the part from which the layers get their state."""
        begin, P = max(part[0] - WARM_UP, 0), codes.shape[2]
        stream = seanet.Stream()
        for start, stop in [(begin, part[0])] * (begin < part[0]) + windows_of(self, *part):
            stream.first, stream.last = start == begin, stop == P
            z_q = self.quantizer.decode(codes[:, :, start:stop].to(device))
            wave = seanet.through(self.decoder, z_q, stream)
            if start >= part[0]:
                yield wave


def from_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Of transformers' `EncodecModel`, or of the authors' own file. Raises ModelError for the model of 48 kHz."""
    config = checkpoint.config
    tensors = {_renamed(name): tensor for name, tensor in checkpoint.tensors.items()}
    books = [tensors[name] for name in (f"quantizer.{n}.embed" for n in range(len(tensors))) if name in tensors]
    first = f"encoder.0.{WEIGHT}"
    if config.get("model_type", "encodec") != "encodec" or not books or "encoder.0.conv.bias" not in tensors:
        return None
    if f"encoder.1.block.1.{WEIGHT}" not in tensors and first in tensors:
        raise ModelError("the weights of this EnCodec are not complete", "fetch them again")
    if first not in tensors or tensors[first].shape[1] != 1 or not config.get("use_causal_conv", True):
        raise ModelError("of EnCodec, vq knows the causal model of one channel only", "facebook/encodec_24khz")
    arguments = {
        "net": _sizes(tensors, config),
        "rate_hz": config.get("sampling_rate", 24_000),
        "codebooks": len(books),
        "K": len(books[0]),
    }
    weights = {name: tensor for name, tensor in tensors.items() if not name.startswith("quantizer.")}
    return Imported(arguments, weights | {"quantizer.codebooks": torch.stack(books)}, CITATION)


def _renamed(name: str) -> str:
    """Both forms of a name as ours: layers are numbered alike in all."""
    name = re.sub(r"^(encoder|decoder)\.(model|layers)\.", r"\1.", modern(name))
    name = re.sub(r"^quantizer\.(vq\.)?layers\.(\d+)\._?codebook\.", r"quantizer.\2.", name)
    return name.replace("conv.conv.", "conv.").replace("convtr.convtr.", "conv.")


def _sizes(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of seanet.Shape: sizes from the tensors, and from the configuration what they do not tell."""
    convs = sorted(
        (int(name.split(".")[1]), tensor.shape)
        for name, tensor in tensors.items()
        if re.fullmatch(rf"encoder\.\d+\.{re.escape(WEIGHT)}", name)
    )
    (_, first), *downs, (_, last) = convs
    inner = tensors[f"encoder.1.block.1.{WEIGHT}"].shape
    return {
        "width": first[0],
        "dim": last[0],
        "ratios": [shape[2] // 2 for _, shape in reversed(downs)],
        "kernels": [first[2], last[2], inner[2]],
        "blocks": downs[0][0] - 2,  # between the first convolution, and an activation before the next
        "compress": first[0] // inner[0],
        "shortcut": f"encoder.1.shortcut.{WEIGHT}" in tensors,
        "lstm": sum(re.fullmatch(r"encoder\.\d+\.lstm\.weight_ih_l\d+", name) is not None for name in tensors),
        "growth": config.get("dilation_growth_rate", 2),
        "padding": config.get("pad_mode", "reflect"),
    }


FAMILY = Encodec
