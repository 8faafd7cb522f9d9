"""VQGAN, as other people train it (Esser, Rombach and Ommer 2021, https://arxiv.org/abs/2012.09841).

    image -> encoder -> 1x1 conv -> z_e -> nearest entry of one codebook, z_q -> 1x1 conv -> decoder -> image

One net, with other sizes, is that of taming-transformers, of the VQ first stages of latent diffusion (Rombach et al.
2022, https://arxiv.org/abs/2112.10752), of MoVQ, whose decoder is normalised by z_q, and of LlamaGen (Sun et al. 2024,
https://arxiv.org/abs/2406.06525), where only the directions of z_e and of the entries count; Janus has the latter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.container.header import LARGEST_K
from vqcli.errors import ModelError
from vqcli.nets.codecs.base import ImageCodec
from vqcli.nets.codecs.checkpoint import Checkpoint, Imported
from vqcli.nets.layers import vqgan
from vqcli.nets.layers.quantizer import nearest_codes

CITATION = "Patrick Esser, Robin Rombach, Björn Ommer. Taming Transformers for High-Resolution Image Synthesis. 2021."
CITATION_MOVQ = (
    "Chuanxia Zheng, Long Tung Vuong, Jianfei Cai, Dinh Phung. "
    "MoVQ: Modulating Quantized Vectors for High-Fidelity Image Generation. 2022."
)
CITATION_LLAMAGEN = (
    "Peize Sun, Yi Jiang, Shoufa Chen, Shilong Zhang, Bingyue Peng, Ping Luo, Zehuan Yuan. "
    "Autoregressive Model Beats Diffusion: Llama for Scalable Image Generation. 2024."
)
QUANTIZERS = ("euclidean", "cosine", "logits")
ROWS = 4096  # latents whose logits are computed at a time


class VQGAN(nn.Module, ImageCodec):
    """Images [B, channels, H, W] in -1 .. 1, H and W multiples of `stride`, to codes [B, 1, h, w].

    net        sizes of encoder and decoder (layers/vqgan.py)
    dim        of the codebook's K entries
    quantizer  which entry is taken: 'euclidean', the nearest; 'cosine', that of the nearest direction; 'logits', that
               of the highest logit, which is linear in z_e (the mode of what a Gumbel softmax draws)
    spatial    whether z_q steers the decoder's normalisation, as in MoVQ
    """

    levels, first, likelihood = 1, None, None
    value_range = (-1.0, 1.0)

    def __init__(
        self,
        net: Mapping[str, Any] | None = None,
        dim: int = 256,
        K: int = 1024,
        quantizer: str = "euclidean",
        spatial: bool = False,
    ) -> None:
        super().__init__()
        if quantizer not in QUANTIZERS:
            raise ValueError(f"a quantizer is one of {', '.join(QUANTIZERS)}")
        shape = vqgan.Shape(**(net or {}))
        self.channels, self.stride, self.latent_dim, self.codebook_sizes = shape.channels, shape.stride, dim, (K,)
        self.encoder = vqgan.Encoder(shape)
        self.quant_conv: nn.Module = nn.Conv2d(shape.z_channels, dim, 1)
        self.codebook, self.cosine = nn.Parameter(torch.randn(K, dim)), quantizer == "cosine"
        self.logits = nn.Linear(dim, K) if quantizer == "logits" else None
        self.post_quant_conv: nn.Module = nn.Conv2d(dim, shape.z_channels, 1)
        self.decoder = vqgan.Decoder(shape, dim if spatial else 0)

    def latents(self, x: Tensor) -> Tensor:
        z_e: Tensor = self.quant_conv(self.encoder(x))
        return z_e

    def quantize(self, z_e: Tensor, quality: Tensor | None = None) -> Tensor:
        rows = z_e.movedim(1, -1).flatten(0, 2)
        if self.logits is None:
            codes = nearest_codes(F.normalize(rows) if self.cosine else rows, self.entries())
        else:
            parts = (rows,) if torch.compiler.is_compiling() else rows.split(ROWS)  # traced, there are any number
            codes = torch.cat([self.logits(some).argmax(1) for some in parts])
        return codes.view(z_e.shape[0], 1, *z_e.shape[2:])

    def decode(self, codes: Tensor, quality: Tensor | None = None, seed: int | None = None) -> Tensor:
        z_q = self.entries()[codes[:, 0]].movedim(-1, 1)
        image: Tensor = self.decoder(self.post_quant_conv(z_q), z_q)
        return image

    def entries(self) -> Tensor:
        """What codes stand for, [K, dim]."""
        return F.normalize(self.codebook) if self.cosine else self.codebook


FIRST_BLOCK = "encoder.levels.{}.blocks.0.conv1.weight"  # of each level
# our names of a checkpoint's parts: what taming-transformers, LlamaGen and diffusers call them
NAMES = {
    "middle.blocks.0": "mid.block_1|mid.0|mid_block.resnets.0",
    "middle.blocks.1": "mid.block_2|mid.2|mid_block.resnets.1",
    "middle.attentions.0": "mid.attn_1|mid.1|mid_block.attentions.0",
    "levels": "down|up|conv_blocks|down_blocks|up_blocks",
    "blocks": "block|res|resnets",
    "attentions": "attn",
    "resample": "downsample.conv|upsample.conv|downsamplers.0.conv|upsamplers.0.conv",
    "shortcut": "nin_shortcut|conv_shortcut",
    "query": "q|to_q",
    "key": "k|to_k",
    "value": "v|to_v",
    "out": "proj_out|to_out.0|proj_attn",
    "norm_out": "conv_norm_out",
    "norm": "group_norm|spatial_norm",
    "scale": "conv_y",  # of MoVQ, as the next one
    "shift": "conv_b",
    "codebook": "quantize.embedding.weight|quantize.embed.weight",
    "logits": "quantize.proj",
}
PATTERNS = {ours: re.compile(rf"(?<![^.])({theirs.replace('.', '[.]')})(?![^.])") for ours, theirs in NAMES.items()}
UP = re.compile(r"^decoder\.up\.(\d{1,2})\.")
FIRST_UP = "decoder.up.0.upsample.conv.weight"  # where levels of the decoder are not counted from the finest one
WITHIN = re.compile(r"^(first_stage_model|gen_vision_model|(model\.)?vqmodel)\.")  # larger models that hold the net
MATRIX = re.compile(r"(\.(query|key|value|out)|^logits)\.weight$")
NET = ("encoder", "decoder", "quant_conv", "post_quant_conv", "quantize")  # what else there is, training needs
COUNTERS = re.compile(r"quantize\.(used|codebook_used|embedding\.(cluster_size|embed_avg))")  # of entries, as it does


def from_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Of diffusers' `VQModel`, of taming-transformers or latent diffusion, of LlamaGen, or of Janus as its authors or
    transformers have it; also within a whole model.

    Sizes are those of the tensors. Raises ModelError for variants of the net that vq does not have.
    """
    config, theirs = checkpoint.config, own(checkpoint.tensors)
    tensors = renamed(theirs)
    known = config.get("_class_name") == "VQModel"
    alike = "_class_name" not in config and "codebook" in tensors and FIRST_BLOCK.format(0) in tensors
    if not (known or alike):
        return None
    _check(config)
    if not known and not any(name.startswith("decoder.") for name in tensors):
        raise ModelError("the weights are of an encoder alone, as transformers has Chameleon's", "vqgan.ckpt has both")
    K, dim = shape(tensors, "codebook", 2)
    net = sizes(tensors) | {"groups": config.get("norm_num_groups", 32)}
    if K > LARGEST_K or net["channels"] not in (1, 3):
        raise ModelError(f"of VQGAN, vq knows models of grey or colour images, with at most {LARGEST_K:,} codes")
    llamagen = FIRST_UP in theirs or any("conv_blocks" in name for name in theirs)
    cosine = llamagen and config.get("codebook_l2_norm", True)
    quantizer = "logits" if "logits.weight" in tensors else "cosine" if cosine else "euclidean"
    spatial = "decoder.norm_out.scale.weight" in tensors
    arguments = {"net": net, "dim": dim, "K": K, "quantizer": quantizer, "spatial": spatial}
    return Imported(arguments, tensors, CITATION_LLAMAGEN if llamagen else CITATION_MOVQ if spatial else CITATION)


def own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the net, where it is a part of a larger model."""
    parts = {WITHIN.sub("", name): tensor for name, tensor in tensors.items() if WITHIN.match(name)} or tensors
    return {name: part for name, part in parts.items() if name.split(".")[0] in NET and not COUNTERS.fullmatch(name)}


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The net's tensors by our names; 1x1 convolutions that we have as matrices become such."""
    last = max((int(match[1]) for match in map(UP.match, tensors) if match), default=0)
    order = range(last + 1) if FIRST_UP in tensors else range(last, -1, -1)
    found = {}
    for theirs, tensor in tensors.items():
        name = UP.sub(lambda match: f"decoder.levels.{order[int(match[1])]}.", theirs.replace(".norm_layer.", "."))
        for ours, pattern in PATTERNS.items():
            name = pattern.sub(ours, name)
        found[name] = tensor.flatten(1) if MATRIX.search(name) and tensor.dim() == 4 else tensor
    return found


def _check(config: Mapping[str, Any]) -> None:
    """Raise ModelError for what the tensors do not tell and the net does not have."""
    if config.get("act_fn", "silu") not in ("silu", "swish"):
        raise ModelError(f"of VQGAN, vq knows the activation SiLU only, not {config['act_fn']}")
    sizes = config.get("ddconfig")
    for name in ("tanh_out", "give_pre_end"):
        if isinstance(sizes, Mapping) and sizes.get(name):
            raise ModelError(f"vq's VQGAN has no {name}")


def shape(tensors: Mapping[str, Tensor], name: str, dims: int) -> tuple[int, ...]:
    """That of a tensor which must be there."""
    if name not in tensors:
        raise ModelError(f"the checkpoint of a VQGAN lacks {name}")
    sides = tuple(tensors[name].shape)
    if len(sides) != dims or 0 in sides:
        raise ModelError(f"{name} of a VQGAN cannot have the shape {list(sides)}")
    return sides


def sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of vqgan.Shape."""

    def count(name: str) -> int:
        return next(number for number in range(len(tensors) + 1) if name.format(number) not in tensors)

    levels = range(max(1, count(FIRST_BLOCK)))
    attention = "encoder.{}.attentions.0.query.weight"
    return {
        "channels": shape(tensors, "encoder.conv_in.weight", 4)[1],
        "widths": [shape(tensors, FIRST_BLOCK.format(level), 4)[0] for level in levels],
        "blocks": count("encoder.levels.0.blocks.{}.conv1.weight"),
        "attention": [level for level in levels if attention.format(f"levels.{level}") in tensors],
        "middle": attention.format("middle") in tensors,
        "z_channels": shape(tensors, "encoder.conv_out.weight", 4)[0],
    }


FAMILY = VQGAN
