"""EnCodec, the causal model of 24 kHz (Défossez et al. 2022, https://arxiv.org/abs/2210.13438).

    wave -> SEANet encoder -> 75 latents [128] a second -> 32 residual codebooks of 1024 -> SEANet decoder -> wave

Every two codebooks make 1.5 kbit/s. Weights are other people's (facebook/encodec_24khz, MIT).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vqcli.errors import ModelError
from vqcli.nets.codecs.checkpoint import Checkpoint, Imported, modern
from vqcli.nets.codecs.waveform import CausalCodec
from vqcli.nets.layers import seanet
from vqcli.nets.layers.residual_vq import ResidualVQ
from vqcli.nets.layers.stream import Stream, through

CITATION = "Alexandre Défossez, Jade Copet, Gabriel Synnaeve, Yossi Adi. High Fidelity Neural Audio Compression. 2022."
WEIGHT = "conv.parametrizations.weight.original1"  # of a convolution: the direction of each filter
NORM = "encoder.0.norm.weight"  # is in the models of encodec_stereo.py only
WARM_UP = 150  # positions, 2 s, after which the LSTM has forgotten where decoding began


class Encodec(CausalCodec):
    """Waveforms [B, 1, N] at `rate_hz` to codes [B, codebooks, P].

    net        sizes of encoder and decoder (layers/seanet.py)
    codebooks  how many, of K vectors each
    """

    decoder_margin = WARM_UP

    def __init__(
        self, net: Mapping[str, Any] | None = None, rate_hz: int = 24_000, codebooks: int = 32, K: int = 1024
    ) -> None:
        super().__init__()
        shape = seanet.Shape(**(net or {}))
        if not shape.causal or shape.channels != 1 or shape.normalization != "weight":
            raise ValueError("only the causal model of one channel")  # encodec_stereo.py has the other
        self.rate_hz, self.stride, self.levels = rate_hz, shape.stride, codebooks
        self.codebook_sizes = (K,) * codebooks
        self.encoder, self.decoder = seanet.encoder(shape), seanet.decoder(shape)
        self.quantizer = ResidualVQ(codebooks, K, shape.dim)

    def encode_part(self, wave: Tensor, stream: Stream) -> Tensor:
        return self.quantizer.encode(through(self.encoder, wave, stream))

    def decode_part(self, codes: Tensor, stream: Stream) -> Tensor:
        return through(self.decoder, self.quantizer.decode(codes), stream)


def from_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Of transformers' `EncodecModel`, or of the authors' own file. Raises ModelError for a model of another kind."""
    found = parts_of(checkpoint)
    if found is None or NORM in found[0]:
        return None
    tensors, books = found
    config = checkpoint.config
    first = f"encoder.0.{WEIGHT}"
    if first not in tensors or tensors[first].shape[1] != 1 or not config.get("use_causal_conv", True):
        raise ModelError("of EnCodec, vq knows the models of 24 and 48 kHz only", "facebook/encodec_24khz")
    arguments = arguments_of(tensors, books, config, WEIGHT) | {"rate_hz": config.get("sampling_rate", 24_000)}
    return Imported(arguments, tensors | {"quantizer.codebooks": torch.stack(books)}, CITATION)


def parts_of(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], list[Tensor]] | None:
    """The tensors of encoder and decoder by our names, and the codebooks [K, D]; None of what is no EnCodec."""
    tensors = {_renamed(name): tensor for name, tensor in checkpoint.tensors.items()}
    books = [tensors[name] for name in (f"quantizer.{n}.embed" for n in range(len(tensors))) if name in tensors]
    if checkpoint.config.get("model_type", "encodec") != "encodec" or not books or "encoder.0.conv.bias" not in tensors:
        return None
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("quantizer.")}, books


def arguments_of(
    tensors: Mapping[str, Tensor], books: Sequence[Tensor], config: Mapping[str, Any], weight: str
) -> dict[str, Any]:
    """Sizes from the tensors, and from the configuration what they do not tell."""
    told = {"growth": config.get("dilation_growth_rate", 2), "padding": config.get("pad_mode", "reflect")}
    return {"net": seanet.sizes(tensors, weight) | told, "codebooks": len(books), "K": len(books[0])}


def _renamed(name: str) -> str:
    """Both forms of a name as ours: layers are numbered alike in all."""
    name = re.sub(r"^(encoder|decoder)\.(model|layers)\.", r"\1.", modern(name))
    name = re.sub(r"^quantizer\.(vq\.)?layers\.(\d+)\._?codebook\.", r"quantizer.\2.", name)
    return name.replace("convtr.", "conv.").replace("conv.conv.", "conv.").replace("conv.norm.", "norm.")


FAMILY = Encodec
