"""Mimi, a causal codec of speech (Défossez et al. 2024, "Moshi", https://arxiv.org/abs/2410.00037, section 3.3).

    wave of 24 kHz -> SEANet encoder -> 25 frames [512] a second -> transformer -> 12.5 latents a second
         -> one semantic and 31 acoustic codebooks of 2048 -> 25 frames -> transformer -> SEANet decoder -> wave

Each codebook makes 137.5 bit/s. Weights are other people's (kyutai/mimi, CC-BY 4.0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from vqcli.errors import ModelError
from vqcli.nets.codecs.checkpoint import Checkpoint, Imported
from vqcli.nets.codecs.waveform import CausalCodec
from vqcli.nets.layers import causal_transformer, seanet
from vqcli.nets.layers.causal_transformer import CausalTransformer
from vqcli.nets.layers.residual_vq import SplitVQ
from vqcli.nets.layers.stream import Stream, through

CITATION = (
    "Alexandre Défossez, Laurent Mazaré, Manu Orsini, Amélie Royer, Patrick Pérez, Hervé Jégou, Edouard Grave, "
    "Neil Zeghidour. Moshi: a speech-text foundation model for real-time dialogue. 2024."
)
NET: dict[str, Any] = {
    **{"width": 64, "dim": 512, "ratios": (8, 6, 5, 4), "kernels": (7, 3, 3), "shortcut": False, "lstm": 0},
    **{"padding": "constant", "normalization": "none"},
}
# what models of transformers' MimiModel could have otherwise, and Mimi has so
KNOWN = {
    **{"audio_channels": 1, "use_causal_conv": True, "pad_mode": "constant", "trim_right_ratio": 1.0},
    **{"attention_bias": False, "hidden_act": "gelu", "norm_eps": 1e-5, "rope_type": "default"},
}
# parts of names, transformers' and the authors', and what they are here; layers are numbered alike in all
RENAMED = (
    (r"(?:conv(?:tr)?\.)+", "conv."),
    (r"^(encoder|decoder)\.(?:layers|model)\.", r"\1."),
    (r"_transformer\.(?:transformer\.)?layers\.", "_transformer.layers."),
    (r"\.self_attn\.", ".attention."),
    (r"\.attention\.q_proj\.", ".attention.query."),
    (r"\.attention\.k_proj\.", ".attention.key."),
    (r"\.attention\.v_proj\.", ".attention.value."),
    (r"\.attention\.(?:o|out)_proj(?:s\.0)?\.", ".attention.out."),
    (r"\.attention\.in_proj(?:s\.0)?[._]weight$", ".attention.fused"),
    (r"\.(?:input_layernorm|norm1)\.", ".attention_norm."),
    (r"\.(?:post_attention_layernorm|norm2)\.", ".mlp_norm."),
    (r"\.(?:self_attn_layer_scale|layer_scale_1)\.scale$", ".attention_scale"),
    (r"\.(?:mlp_layer_scale|layer_scale_2)\.scale$", ".mlp_scale"),
    (r"\.(?:mlp\.fc|linear)1\.", ".mlp.0."),
    (r"\.(?:mlp\.fc|linear)2\.", ".mlp.2."),
    (r"^quantizer\.(?:semantic_residual_vector_quantizer|rvq_first)\.", "quantizer.semantic."),
    (r"^quantizer\.(?:acoustic_residual_vector_quantizer|rvq_rest)\.", "quantizer.acoustic."),
    (r"\.(?:vq\.)?layers\.(\d+)\._?codebook\.", r".\1."),
    (r"\.embed(?:ding)?_sum$", ".sum"),
    (r"\.cluster_usage$", ".usage"),
)
LEAST_USAGE = 1e-5  # of a vector, where its sum is divided by how often it was used


class Mimi(CausalCodec):
    """Waveforms [B, 1, N] at `rate_hz` to codes [B, codebooks, P].

    net          sizes of encoder and decoder where they are not Mimi's (layers/seanet.py)
    transformer  sizes of both transformers (layers/causal_transformer.py)
    ratio        frames of encoder and decoder to a position
    codebooks    how many semantic and acoustic ones, of K vectors [dim] each
    """

    def __init__(
        self,
        net: Mapping[str, Any] | None = None,
        transformer: Mapping[str, Any] | None = None,
        ratio: int = 2,
        rate_hz: int = 24_000,
        codebooks: Sequence[int] = (1, 31),
        K: int = 2048,
        dim: int = 256,
    ) -> None:
        super().__init__()
        shape = seanet.Shape(**(NET | dict(net or {})))
        if not shape.causal or shape.channels != 1 or shape.lstm:
            raise ValueError("only causal models of one channel, without an LSTM")
        inner, edge = causal_transformer.Shape(**(transformer or {})), replace(shape, padding="replicate")
        self.semantic, self.acoustic = codebooks
        self.rate_hz, self.stride, self.levels = rate_hz, shape.stride * ratio, sum(codebooks)
        self.codebook_sizes = (K,) * self.levels
        self.encoder, self.decoder = seanet.encoder(shape), seanet.decoder(shape)
        self.encoder_transformer = CausalTransformer(inner, shape.dim)
        self.decoder_transformer = CausalTransformer(inner, shape.dim)
        self.downsample = seanet.Conv(edge, shape.dim, shape.dim, 2 * ratio, ratio, bias=False)
        self.upsample = seanet.Upsampling(shape, shape.dim, shape.dim, ratio, groups=shape.dim, bias=False)
        self.quantizer = SplitVQ(self.semantic, self.acoustic, K, dim, shape.dim)
        self.decoder_reach = seanet.reach(self.decoder)  # in frames
        self.decoder_margin = seanet.reach([self.upsample], self.decoder_transformer.reach + self.decoder_reach)

    @property
    def group_names(self) -> list[str]:
        return ["semantic"] * self.semantic + ["acoustic"] * self.acoustic

    def latents_part(self, wave: Tensor, stream: Stream) -> Tensor:
        return through((*self.encoder, self.encoder_transformer, self.downsample), wave, stream)

    def waveform_part(self, z_q: Tensor, stream: Stream) -> Tensor:
        return through(self.decoder, self._frames(z_q, stream), stream)

    def warm_up(self, codes: Tensor, stream: Stream) -> None:
        """The transformer remembers long; the convolutions after it, which take most of the time, need few frames."""
        frames = self._frames(self.quantizer.decode(codes), stream)
        through(self.decoder, frames[..., -self.decoder_reach :], stream)

    def _frames(self, z_q: Tensor, stream: Stream) -> Tensor:
        """What the decoder makes the waveform of: [B, dim of the net, P * ratio]."""
        return through((self.upsample, self.decoder_transformer), z_q, stream)


def from_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Of transformers' `MimiModel`, or of the authors' file (tokenizer-*.safetensors).

    The authors' file has no configuration: one beside it is of a language model, and the sizes are those of Mimi.
    Raises ModelError for what is not whole, or computed otherwise than in Mimi.
    """
    config = dict(checkpoint.config) if checkpoint.config.get("model_type") == "mimi" else {}
    tensors = {_renamed(name): tensor for name, tensor in checkpoint.tensors.items()}
    if not config and "quantizer.semantic.0.sum" not in tensors:
        return None
    rotary = config.get("rope_parameters")
    config |= rotary if isinstance(rotary, Mapping) else {}
    other = [f"{name} {config[name]}" for name, value in KNOWN.items() if config.get(name, value) != value]
    if other:
        raise ModelError(f"vq does not know Mimi with {', '.join(other)}", "kyutai/mimi")
    try:
        arguments = _arguments(tensors, config)
        books = {f"quantizer.{kind}.codebooks": _codebooks(tensors, kind) for kind in ("semantic", "acoustic")}
        weights = _parted(tensors, arguments["transformer"]["heads"])
    except KeyError as error:
        raise ModelError(f"the weights of Mimi lack {error.args[0]}") from None
    except (ValueError, TypeError, IndexError, RuntimeError, ArithmeticError) as error:
        raise ModelError(f"the weights of Mimi have odd shapes: {str(error).splitlines()[0]}") from None
    return Imported(arguments, weights | books, CITATION)


def _renamed(name: str) -> str:
    for pattern, ours in RENAMED:
        name = re.sub(pattern, ours, name)
    return name


def _arguments(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes from the tensors, and from the configuration what they do not tell."""
    K, dim = tensors["quantizer.semantic.0.sum"].shape
    transformer = causal_transformer.Shape(
        layers=_count(tensors, r"encoder_transformer\.layers\.\d+\.mlp\.0\.weight"),
        heads=config.get("num_attention_heads", 8),
        hidden=len(tensors["encoder_transformer.layers.0.mlp.0.weight"]),
        window=config.get("sliding_window", 250),
        period=config.get("rope_theta", 10_000.0),
    )
    return {
        "net": seanet.sizes(tensors, "conv.weight") | {"growth": config.get("dilation_growth_rate", 2)},
        "transformer": asdict(transformer),
        "ratio": tensors["downsample.conv.weight"].shape[2] // 2,
        "rate_hz": config.get("sampling_rate", 24_000),
        "codebooks": [_count(tensors, rf"quantizer\.{kind}\.\d+\.sum") for kind in ("semantic", "acoustic")],
        "K": K,
        "dim": dim,
    }


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in tensors)


def _codebooks(tensors: Mapping[str, Tensor], kind: str) -> Tensor:
    """Codebooks [n, K, dim]: a checkpoint has the sum of what each vector stood for, and how much that was."""
    books = []
    for place in (f"quantizer.{kind}.{n}" for n in range(_count(tensors, rf"quantizer\.{kind}\.\d+\.sum"))):
        total, usage = tensors[f"{place}.sum"].float(), tensors[f"{place}.usage"].float()
        if total.shape[:1] != usage.shape:
            raise ValueError(f"{place} has {len(total)} vectors, and the usage of others")
        books.append(total / usage.clamp(min=LEAST_USAGE)[:, None])
    return torch.stack(books)


def _parted(tensors: Mapping[str, Tensor], heads: int) -> dict[str, Tensor]:
    """All but codebooks; the authors' projections, which are one matrix in their file, as three.

    There, neighbouring rows of a head are a pair that rotary positions turn; here one is of its first half, one of its
    second.
    """
    parts = {}
    for name, tensor in tensors.items():
        if name.endswith(".fused"):
            place = name.removesuffix("fused")
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                pairs = rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
                parts[f"{place}{part}.weight"] = rows if part == "value" else pairs
        elif not re.match(r"quantizer\.\w+\.\d+\.", name):
            parts[name] = tensor
    return parts


FAMILY = Mimi
