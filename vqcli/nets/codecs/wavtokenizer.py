"""WavTokenizer, with a single codebook (Ji et al. 2024, https://arxiv.org/abs/2408.16532).

    wave of 24 kHz -> SEANet encoder -> 40 or 75 latents [512] a second -> a codebook of 4096
         -> residual blocks, attention, ConvNeXt blocks -> short-time spectra -> wave

A code each 600 or 320 samples makes 0.48 or 0.9 kbit/s. Weights are other people's (novateur/WavTokenizer, MIT, and
others of that name).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vqcli.errors import ModelError
from vqcli.nets.codecs.checkpoint import Checkpoint, Imported, modern
from vqcli.nets.codecs.waveform import SegmentedDecoder, StreamedEncoder
from vqcli.nets.layers import seanet, vocos
from vqcli.nets.layers.residual_vq import ResidualVQ
from vqcli.nets.layers.stream import Stream, through

CITATION = (
    "Shengpeng Ji, Ziyue Jiang, Wen Wang, Yifu Chen, Minghui Fang, Jialong Zuo, Qian Yang, Xize Cheng, Zehan Wang, "
    "Ruiqi Li, Ziang Zhang, Xiaoda Yang, Rongjie Huang, Yidi Jiang, Qian Chen, Siqi Zheng, Zhou Zhao. "
    "WavTokenizer: an Efficient Acoustic Discrete Codec Tokenizer for Audio Language Modeling. 2024."
)
NET: dict[str, Any] = {"dim": 512, "ratios": (6, 5, 5, 4), "causal": False}
FEWEST = 10  # codes a second: windows of encoding are long enough for its layers
LARGEST_KERNEL = 9
# what models of transformers' WavTokenizerModel could have otherwise, and WavTokenizer has so
KNOWN = {"audio_channels": 1, "use_causal_conv": False, "norm_type": "weight_norm", "norm_eps": vocos.EPS}
WEIGHT = "conv.parametrizations.weight.original1"  # of a convolution of the encoder: the direction of each filter
# parts of names, transformers' and the authors', and what they are here
RENAMED = (
    (r"^feature_extractor\.encodec\.quantizer\.vq\.layers\.0\._codebook\.", "quantizer."),
    (r"^encoder_model\.quantizer\.codebook\.", "quantizer."),
    (r"^encoder_model\.encoder\.layers\.", "encoder."),
    (r"^feature_extractor\.encodec\.encoder\.model\.", "encoder."),
    (r"\.conv\.conv\.", ".conv."),
    (r"^backbone\.pos_net\.", "backbone.context."),
    (r"\.q\.", ".query."),
    (r"\.k\.", ".key."),
    (r"\.v\.", ".value."),
    (r"\.proj_out\.", ".out."),
    (r"^backbone\.convnext\.", "backbone.blocks."),
    (r"\.dwconv\.", ".depthwise."),
    (r"\.pwconv1\.", ".up."),
    (r"\.pwconv2\.", ".down."),
    (r"\.gamma$", ".gain"),
    (r"\.final_layer_norm\.", ".norm_out."),
    (r"^head\.(?:linear|out)\.", "head.spectra."),
)


class WavTokenizer(SegmentedDecoder, StreamedEncoder):
    """Waveforms [B, 1, N] at `rate_hz` to codes [B, 1, P].

    net        sizes of the encoder where they are not those of 40 codes a second (layers/seanet.py)
    K          vectors of the codebook, each as wide as a latent
    width      of the decoder
    blocks     of the decoder, of `expansion` times that width inside
    groups     of channels that are normalised together, over time
    n          samples of a spectrum
    """

    def __init__(
        self,
        net: Mapping[str, Any] | None = None,
        rate_hz: int = 24_000,
        K: int = 4096,
        width: int = 768,
        blocks: int = 12,
        expansion: int = 3,
        groups: int = 32,
        n: int = 2400,
    ) -> None:
        super().__init__()
        shape = seanet.Shape(**(NET | dict(net or {})))
        if shape.channels != 1 or shape.normalization != "weight":
            raise ValueError("only models of one channel with normalised weights")
        if shape.stride * FEWEST > rate_hz or max(shape.kernels) > LARGEST_KERNEL:
            raise ValueError(f"{shape.stride} samples of {rate_hz} Hz a code, kernels of {list(shape.kernels)}")
        self.rate_hz, self.stride, self.levels, self.codebook_sizes = rate_hz, shape.stride, 1, (K,)
        self.encoder = seanet.encoder(shape)
        self.quantizer = ResidualVQ(1, K, shape.dim)
        self.backbone = vocos.Backbone(shape.dim, width, blocks, expansion, groups)
        self.head = vocos.Head(width, n, shape.stride)

    def encode_part(self, wave: Tensor, stream: Stream) -> Tensor:
        return self.quantizer.encode(through(self.encoder, wave, stream))

    def decode(self, codes: Tensor) -> Tensor:
        wave: Tensor = self.head(self.backbone(self.quantizer.decode(codes)))
        return wave[:, None]


def from_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Of transformers' `WavTokenizerModel`, or of the authors' own file.

    Raises ModelError for what is not whole, or computed otherwise than in WavTokenizer.
    """
    config = checkpoint.config if checkpoint.config.get("model_type") == "wavtokenizer" else {}
    tensors = {_renamed(name): tensor for name, tensor in checkpoint.tensors.items()}
    if not config and not {"quantizer.embed", "head.spectra.weight"} <= tensors.keys():
        return None
    other = [f"{name} {config[name]}" for name, value in KNOWN.items() if config.get(name, value) != value]
    if other:
        raise ModelError(f"vq does not know WavTokenizer with {', '.join(other)}")
    try:
        weights = _weights(tensors)
        arguments = _arguments(weights, config)
    except KeyError as error:
        raise ModelError(f"the weights of WavTokenizer lack {error.args[0]}") from None
    except (ValueError, TypeError, IndexError, RuntimeError, ArithmeticError) as error:
        raise ModelError(f"the weights of WavTokenizer have odd shapes: {str(error).splitlines()[0]}") from None
    return Imported(arguments, weights, CITATION)


def _renamed(name: str) -> str:
    name = modern(name)
    for pattern, ours in RENAMED:
        name = re.sub(pattern, ours, name)
    return name


def _weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of the net here: the authors' file also has a decoder that is not used, and discriminators.

    Norms of the decoder have a row for each bandwidth that could be; after training, the first is for all.
    """
    found = {"quantizer.codebooks": tensors["quantizer.embed"][None]}
    for name, tensor in tensors.items():
        if not re.match(r"encoder\.\d+\.|backbone\.|head\.spectra\.", name):
            continue
        norm = re.fullmatch(r"(backbone\.(?:blocks\.\d+\.)?norm)\.(scale|shift)\.weight", name)
        if norm:
            found[f"{norm[1]}.{'weight' if norm[2] == 'scale' else 'bias'}"] = tensor[0]
        else:
            attention = re.fullmatch(r"backbone\.context\.2\.(query|key|value|out)\.weight", name)
            found[name] = tensor.squeeze(2) if attention else tensor
    return found


def _arguments(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes from the tensors, and from the configuration what they do not tell."""
    inner, width = weights["backbone.blocks.0.up.weight"].shape
    return {
        "net": seanet.sizes(weights, WEIGHT)
        | {"growth": config.get("dilation_growth_rate", 2), "padding": config.get("pad_mode", "reflect")},
        "rate_hz": config.get("sampling_rate", 24_000),
        "K": weights["quantizer.codebooks"].shape[1],
        "width": width,
        "blocks": sum(re.fullmatch(r"backbone\.blocks\.\d+\.gain", name) is not None for name in weights),
        "expansion": inner // width,
        "groups": config.get("decoder_attention_num_groups", 32),
        "n": len(weights["head.spectra.bias"]) - 2,
    }


FAMILY = WavTokenizer
