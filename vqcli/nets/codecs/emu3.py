"""The tokenizer of Emu3 for images (Wang et al. 2024, https://arxiv.org/abs/2409.18869).

It is a VQGAN with a decoder as MoVQ has it, and convolutions over time around its codebook: four frames become one
position in time, and an image stands for four equal frames. They are causal, so the first of the decoded frames, which
is the image, depends on no other one: it alone is computed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.errors import ModelError
from vqcli.nets.codecs import vqgan2d
from vqcli.nets.codecs.checkpoint import Checkpoint, Imported

CITATION = "Xinlong Wang et al. (Emu3 team, BAAI). Emu3: Next-Token Prediction is All You Need. 2024."
EARLIER = 2  # frames before a position in time, zero before the first one


class TimeConv(nn.Conv3d):
    """A convolution of [B, C, T, h, w] that sees no later frame than its last."""

    def __init__(self, into: int, width: int, kernel: tuple[int, int], stride: int = 1) -> None:
        over_time, side = kernel
        super().__init__(into, width, (over_time, side, side), (stride, 1, 1), padding=(0, side // 2, side // 2))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 0, 0, 0, EARLIER, 0)))


class TimeBlock(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))), with the mean and variance of the training data in the norms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm3d(width), nn.BatchNorm3d(width)
        self.conv1, self.conv2 = TimeConv(width, width, (3, 3)), TimeConv(width, width, (3, 3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return y


class Emu3(vqgan2d.VQGAN):
    """Images [B, 3, H, W] in -1 .. 1, H and W multiples of `stride`, to codes [B, 1, h, w].

    net       sizes of encoder and decoder (layers/vqgan.py); its z_channels are `dim`
    dim       of the codebook's K entries
    halvings  of the number of frames, by as many convolutions over time
    blocks    over time, in the encoder and in the decoder
    """

    def __init__(
        self,
        net: Mapping[str, Any] | None = None,
        dim: int = 4,
        K: int = 32_768,
        halvings: int = 2,
        blocks: int = 2,
    ) -> None:
        net = net or {"widths": [256, 512, 512, 1024], "attention": [3], "z_channels": dim}
        if net.get("z_channels") != dim:
            raise ValueError("the latents of Emu3 have as many channels as its codebook")
        super().__init__(net, dim, K, spatial=True)
        self.quant_conv, self.post_quant_conv = TimeConv(dim, dim, (3, 1)), TimeConv(dim, dim, (3, 1))
        self.halvings = nn.ModuleList(TimeConv(dim, dim, (4, 3), stride=2) for _ in range(halvings))
        self.doublings = nn.ModuleList(TimeConv(dim, dim, (3, 3)) for _ in range(halvings))
        self.encoder_blocks, self.decoder_blocks = (
            nn.Sequential(*(TimeBlock(dim) for _ in range(blocks))) for _ in range(2)
        )

    def latents(self, x: Tensor) -> Tensor:
        h = self.encoder(x)[:, :, None].expand(-1, -1, 2 ** len(self.halvings), -1, -1)
        for conv in self.halvings:
            h = F.silu(conv(h))
        z_e: Tensor = self.quant_conv(self.encoder_blocks(h))[:, :, 0]
        return z_e

    def decode(self, codes: Tensor, quality: Tensor | None = None, seed: int | None = None) -> Tensor:
        z_q = self.entries()[codes].movedim(-1, 1)  # [B, dim, 1, h, w]
        both = self.decoder_blocks(torch.cat([self.post_quant_conv(z_q), z_q]))
        for conv in self.doublings:
            both = F.silu(conv(both))  # of the first frame of two
        batch = codes.shape[0]  # chunk and len() would tie a traced net to the batch that it is traced with
        h, z_q = both[:batch, :, 0], both[batch:, :, 0]
        image: Tensor = self.decoder(h, z_q)
        return image


MARK = "encoder.time_res_stack.0.conv1.conv.weight"
# our names, or those of taming-transformers, of what transformers calls otherwise
NAMES = (
    (r"^encoder\.time_conv\.(\d+)\.conv\.conv\.", r"halvings.\1."),
    (r"^decoder\.time_conv\.(\d+)\.conv\.conv\.", r"doublings.\1."),
    (r"^(encoder|decoder)\.time_res_stack\.(\d+)\.", r"\1_blocks.\2."),
    (r"(conv1|conv2|quant_conv)\.conv\.", r"\1."),
    (r"\b(down|up)_block\.(down|up)\.", r"\2."),
    (r"\battn_norms\.(\d+)\.", r"attn.\1.norm."),
    (r"\bmiddle_block\.attn_norm\.", "mid.attn_1.norm."),
    (r"\bmiddle_block\.", "mid."),
    (r"\.([qkv])_proj\.", r".\1."),
    (r"\.out_proj\.", ".proj_out."),
)


def from_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Of transformers' `Emu3VQVAE`, also within a whole Emu3. Sizes are those of the tensors.

    Raises ModelError for variants of the net that vq does not have.
    """
    theirs = vqgan2d.own(checkpoint.tensors)
    if MARK not in theirs:
        return None
    config = checkpoint.config.get("vq_config", checkpoint.config)
    if isinstance(config, Mapping) and config.get("num_attention_heads", 1) != 1:
        raise ModelError("of Emu3, vq knows attention with one head only")
    tensors = vqgan2d.renamed({_renamed(name): tensor for name, tensor in theirs.items()})
    K, dim = vqgan2d.shape(tensors, "codebook", 2)
    net = vqgan2d.sizes(tensors)
    if K > vqgan2d.LARGEST_K or net["channels"] != 3:
        raise ModelError(f"of Emu3, vq knows models of colour images, with at most {vqgan2d.LARGEST_K:,} codes")
    halvings, blocks = (
        next(n for n in range(len(tensors)) if name.format(n) not in tensors)
        for name in ("halvings.{}.weight", "encoder_blocks.{}.conv1.weight")
    )
    arguments = {"net": net, "dim": dim, "K": K, "halvings": halvings, "blocks": blocks}
    return Imported(arguments, tensors, CITATION)


def _renamed(name: str) -> str:
    for theirs, ours in NAMES:
        name = re.sub(theirs, ours, name)
    return name


FAMILY = Emu3
