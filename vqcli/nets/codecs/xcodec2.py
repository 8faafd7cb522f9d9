"""X-Codec 2 and NeuCodec, the decoders: speech from one codebook of 65,536.

    codes, 50 a second -> 8 numbers of 4 values -> latents [2048] -> residual blocks, transformer, residual blocks
         -> short-time spectra -> wave of 16 or 24 kHz

(Ye et al. 2025, "Llasa", https://arxiv.org/abs/2502.04128, section 3.1; Julian et al. 2025,
https://arxiv.org/abs/2509.09550.) 50 codes of 16 bits make 0.8 kbit/s. The encoders hear speech through w2v-BERT,
a large net of its own, and are not here: their own programs make codes, which `vq import` makes a file of. Weights are
other people's (HKUSTAudio/xcodec2-hf, neuphonic/neucodec).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.errors import ModelError
from vqcli.nets.codecs.checkpoint import Checkpoint, Imported
from vqcli.nets.codecs.waveform import SegmentedDecoder
from vqcli.nets.layers import vocos, vqgan

CITATIONS = {
    "xcodec2": "Zhen Ye et al. Llasa: Scaling Train-Time and Inference-Time Compute for Llama-based Speech Synthesis. "
    "2025.",
    "neucodec": "Harry Julian et al. Finite Scalar Quantization Enables Redundant and Transmission-Robust Neural Audio "
    "Compression at Low Bit-rates. 2025.",
}
GROUPS = 32  # of channels that are normalised together, over time
MOST_VALUES = 2**16  # of a code, as files hold them
# what models of transformers could have otherwise, and these have so
KNOWN = {"hidden_act": "silu", "attention_bias": False, "rms_norm_eps": vocos.EPS, "rope_type": "default"}
# parts of names in transformers, and what they are here
RENAMED = (
    (r"^quantizer\.project_out\.", "lattice."),
    (r"^acoustic_decoder\.", ""),
    (r"^fc\.", "embed.0."),
    (r"^embed\.(weight|bias)$", r"embed.1.\1"),
    (r"^prior_net\.", "before."),
    (r"^post_net\.", "after."),
    (r"\.self_attn\.([qkvo])_proj\.", r".\1."),
    (r"\.input_layernorm\.", ".attention_norm."),
    (r"\.post_attention_layernorm\.", ".mlp_norm."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.2."),
    (r"^head\.linear\.", "head.spectra."),
)


class XCodec2(SegmentedDecoder):
    """Codes [B, 1, P] to waveforms [B, 1, N] at `rate_hz`.

    lattice   how many values each number of a code can have
    dim       of latents
    width     of the decoder
    layers    of its transformer, with as many heads and as wide inside as `heads` and `hidden` say
    n, hop    samples of a spectrum, and from one to the next
    """

    encodes = False

    def __init__(
        self,
        rate_hz: int = 16_000,
        lattice: Sequence[int] = (4,) * 8,
        dim: int = 2048,
        width: int = 1024,
        layers: int = 12,
        heads: int = 16,
        hidden: int = 4096,
        n: int = 1280,
        hop: int = 320,
    ) -> None:
        super().__init__()
        K = math.prod(lattice)
        if min(lattice, default=0) < 2 or K > MOST_VALUES:
            raise ValueError(f"codes of {list(lattice)} values")
        self.values = tuple(lattice)
        self.rate_hz, self.stride, self.levels, self.codebook_sizes = rate_hz, hop, 1, (K,)
        block = partial(vqgan.Block, width, width, partial(vqgan.Norm, GROUPS, 0), nn.Conv1d)
        self.lattice = nn.Linear(len(lattice), dim)
        self.embed = nn.ModuleList([nn.Linear(dim, width), nn.Conv1d(width, width, 7, padding=3)])
        self.before, self.after = nn.Sequential(block(), block()), nn.Sequential(block(), block())
        self.layers = nn.Sequential(*(Layer(width, heads, hidden) for _ in range(layers)))
        self.norm = nn.LayerNorm(width, vocos.EPS)
        self.head = vocos.Head(width, n, hop)

    def graphs(self, levels: int) -> NoReturn:
        raise ModelError("X-Codec 2 and NeuCodec are here to decode, and an export has an encoder too")

    def encode(self, wave: Tensor) -> Tensor:
        raise ModelError(
            "X-Codec 2 and NeuCodec are here to decode: to encode takes w2v-BERT, a net of speech, which vq lacks",
            "make codes with their own program; vq import codes.npy --model NAME makes a file of them",
        )

    def decode(self, codes: Tensor) -> Tensor:
        linear, conv = self.embed
        h = self.before(conv(linear(self.lattice(self.points(codes[:, 0]))).transpose(1, 2)))
        h = self.after(self.layers(h.transpose(1, 2)).transpose(1, 2))
        wave: Tensor = self.head(self.norm(h.transpose(1, 2)))
        return wave[:, None]

    def points(self, codes: Tensor) -> Tensor:
        """Numbers from -1 up, [..., len(values)], of codes [...], the first of which counts least."""
        found, step = [], 1
        for L in self.values:
            found.append((codes // step % L - L // 2) / (L // 2))
            step *= L
        return torch.stack(found, -1)


class Layer(nn.Module):
    """x [B, T, width] + attention(norm(x)), then x + MLP(norm(x)), without biases.

    The references turn queries and keys by the number of their head in place of that of their frame; as those of a
    head turn alike, nothing comes of it, and no positions are here.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"{width} numbers do not make {heads} heads")
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.RMSNorm(width, vocos.EPS), nn.RMSNorm(width, vocos.EPS)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, hidden, bias=False), nn.SiLU(), nn.Linear(hidden, width, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.attention_norm(x)
        parts = (layer(rows).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        x = x + self.o(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))
        y: Tensor = x + self.mlp(self.mlp_norm(x))
        return y


def from_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Of transformers' `Xcodec2Model` or `NeuCodecModel`.

    Raises ModelError for what is not whole, or computed otherwise than in these.
    """
    kind = checkpoint.config.get("model_type")
    if kind not in ("xcodec2", "neucodec"):
        return None
    rotary = checkpoint.config.get("rope_parameters")
    config = {**checkpoint.config, **(rotary if isinstance(rotary, Mapping) else {})}
    other = [f"{name} {config[name]}" for name, value in KNOWN.items() if config.get(name, value) != value]
    if other:
        raise ModelError(f"vq does not know X-Codec 2 with {', '.join(other)}")
    parts = r"quantizer\.project_out\.|acoustic_decoder\.(?!rotary_emb\.)"
    weights = {_renamed(name): tensor for name, tensor in checkpoint.tensors.items() if re.match(parts, name)}
    try:
        arguments = _arguments(weights, config)
    except KeyError as error:
        raise ModelError(f"the weights of X-Codec 2 lack {error.args[0]}") from None
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ModelError(f"X-Codec 2 of odd sizes: {error}") from None
    return Imported(arguments, weights, CITATIONS[kind])


def _renamed(name: str) -> str:
    for pattern, ours in RENAMED:
        name = re.sub(pattern, ours, name)
    return name


def _arguments(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes from the tensors, and from the configuration what they do not tell."""
    width, dim = weights["embed.0.weight"].shape
    n = len(weights["head.spectra.bias"]) - 2
    lattice = config.get("quantization_levels", [4] * weights["lattice.weight"].shape[1])
    if not isinstance(lattice, list | tuple) or not all(type(values) is int for values in lattice):
        raise ValueError(f"quantization_levels {lattice}")
    return {
        "rate_hz": config.get("output_sampling_rate", config.get("sampling_rate", 16_000)),
        "lattice": list(lattice),
        "dim": dim,
        "width": width,
        "layers": sum(re.fullmatch(r"layers\.\d+\.attention_norm\.weight", name) is not None for name in weights),
        "heads": config.get("num_attention_heads", 16),
        "hidden": len(weights["layers.0.mlp.0.weight"]),
        "n": n,
        "hop": n // 4,
    }


FAMILY = XCodec2
