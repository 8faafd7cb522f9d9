"""DAC, the Descript Audio Codec of 16, 24 and 44.1 kHz (Kumar et al. 2023, https://arxiv.org/abs/2306.06546).

    wave -> convolutions, snake -> latents [1024], one for each 320 or 512 samples
         -> 12, 32 or 9 residual codebooks of 1024, each of 8 dimensions -> the mirror image -> wave

Weights are other people's (descript/dac_16khz, dac_24khz, dac_44khz, MIT), which learned from signals of -16 dB.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from vqcli.errors import ModelError
from vqcli.nets.codecs.checkpoint import Checkpoint, Imported, modern
from vqcli.nets.codecs.waveform import WaveformCodec
from vqcli.nets.layers import unpadded
from vqcli.nets.layers.reach import reach
from vqcli.nets.layers.residual_vq import ResidualFactorizedVQ
from vqcli.nets.layers.snake import Snake, decoder_block, encoder_block

CITATION = (
    "Rithesh Kumar, Prem Seetharaman, Alejandro Luebs, Ishaan Kumar, Kundan Kumar. "
    "High-Fidelity Audio Compression with Improved RVQGAN. 2023."
)
RATES = {(320, 12): 16_000, (320, 32): 24_000, (512, 9): 44_100, (512, 18): 44_100}  # by stride and codebooks
NORMED = "parametrizations.weight.original1"  # what a weight is called whose norm is apart
# where transformers' layers are in a block of ours, and in a residual unit
BLOCKS = {
    "encoder": ("res_unit1", "res_unit2", "res_unit3", "snake1", "conv1"),
    "decoder": ("snake1", "conv_t1", "res_unit1", "res_unit2", "res_unit3"),
}
UNIT = ("snake1", "conv1", "snake2", "conv2")


class Dac(WaveformCodec):
    """Waveforms [B, 1, N] at `rate_hz` to codes [B, codebooks, P].

    width          channels of the encoder's first layer, doubled at each stride
    decoder_width  channels of the decoder's first layer, halved at each stride
    strides        of downsampling, in the order of the encoder, each at least 2
    dim            of the latents, None: as many as channels of the encoder's last block
    codebooks      how many, of K vectors of code_dim dimensions each
    normed         whether the weights of convolutions are directions and norms, or as they are used
    """

    def __init__(
        self,
        width: int = 64,
        decoder_width: int = 1536,
        strides: Sequence[int] = (2, 4, 8, 8),
        dim: int | None = None,
        rate_hz: int = 44_100,
        codebooks: int = 9,
        K: int = 1024,
        code_dim: int = 8,
        normed: bool = True,
    ) -> None:
        super().__init__()
        if min(strides, default=0) < 2 or decoder_width % 2 ** len(strides):
            raise ValueError(f"strides {list(strides)} with {decoder_width} channels in the decoder")
        self.rate_hz, self.stride, self.levels = rate_hz, math.prod(strides), codebooks
        self.codebook_sizes = (K,) * codebooks
        widest, narrowest = width * 2 ** len(strides), decoder_width // 2 ** len(strides)
        dim = dim or widest
        self.encoder = nn.Sequential(
            nn.Conv1d(1, width, 7, padding=3),
            *(encoder_block(width * 2**level, stride) for level, stride in enumerate(strides)),
            Snake(widest),
            nn.Conv1d(widest, dim, 3, padding=1),
        )
        self.quantizer = ResidualFactorizedVQ(codebooks, K, dim, code_dim)
        self.decoder = nn.Sequential(
            nn.Conv1d(dim, decoder_width, 7, padding=3),
            *(decoder_block(decoder_width // 2**level, stride) for level, stride in enumerate(reversed(strides))),
            Snake(narrowest),
            nn.Conv1d(narrowest, 1, 7, padding=3),
            nn.Tanh(),
        )
        first, last = reach(self.encoder, 0, 0)
        self.encoder_margin = max(-(first // self.stride), last // self.stride)
        first, last = reach(self.decoder, 0, self.stride - 1)
        self.decoder_margin = max(-first, last)
        for layer in list(self.modules()) if normed else ():
            if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d)):
                weight_norm(layer)

    def latents(self, wave: Tensor) -> Tensor:
        z_e: Tensor = self.encoder(F.pad(wave, (0, -wave.shape[-1] % self.stride)))
        return z_e

    def waveform(self, z_q: Tensor, first: int = 0, seed: int = 0) -> Tensor:
        """Odd strides leave the last few samples open, which become zeros."""
        wave: Tensor = self.decoder(z_q)
        return F.pad(wave, (0, z_q.shape[-1] * self.stride - wave.shape[-1]))

    def decode_alone(self, codes: Tensor) -> Tensor:
        return unpadded.run(self.decoder, self.quantizer.decode(codes))

    def samples_of(self, positions: int, *, alone: bool) -> int:
        return unpadded.length(self.decoder, positions, padded=not alone)


def from_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Of transformers' `DacModel`, or of the authors' own file. Raises ModelError for weights that are not complete."""
    config, tensors = checkpoint.config, _renamed(checkpoint.tensors)
    blocks = _count(tensors, r"encoder\.\d+\.0\.0\.alpha")
    # SNAC calls its layers the same, but has no activation before the last of the encoder
    marks = {"encoder.0.bias", f"encoder.{blocks + 1}.alpha", "quantizer.quantizers.0.codebook.weight"}
    if config.get("model_type", "dac") != "dac" or not blocks or not marks <= tensors.keys():
        return None
    normed = f"encoder.0.{NORMED}" in tensors

    def shape(layer: str, axes: int = 3) -> tuple[int, ...]:
        found = tensors.get(f"{layer}.{NORMED if normed and axes == 3 else 'weight'}")
        if found is None or found.ndim != axes or not found.numel():
            raise ModelError("the weights of this DAC are not complete", f"those of {layer} are missing or odd")
        return tuple(found.shape)

    strides = [shape(f"encoder.{number}.4")[2] // 2 for number in range(1, blocks + 1)]
    codebooks = _count(tensors, r"quantizer\.quantizers\.\d+\.codebook\.weight")
    K, code_dim = shape("quantizer.quantizers.0.codebook", 2)
    arguments = {
        "width": shape("encoder.0")[0],
        "decoder_width": shape("decoder.0")[0],
        "strides": strides,
        "dim": shape(f"encoder.{blocks + 2}")[0],
        "rate_hz": _rate_hz(config, math.prod(strides), codebooks),
        "codebooks": codebooks,
        "K": K,
        "code_dim": code_dim,
        "normed": normed,
    }
    return Imported(arguments, tensors, CITATION)


def _rate_hz(config: Mapping[str, Any], stride: int, codebooks: int) -> int:
    """As the configuration says, in which a converter may have left a string; else that of the released model."""
    said = config.get("sampling_rate") or config.get("sample_rate") or RATES.get((stride, codebooks))
    if isinstance(said, str) and re.fullmatch("[0-9]{1,6}", said):
        said = int(said)
    if not isinstance(said, int) or said <= 0:
        raise ModelError("nothing says of which sampling rate this DAC is", "its config.json does, as sampling_rate")
    return said


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of both forms by our names. The authors number layers as here, with `block` or `model` between."""
    layers = _places(_count(tensors, r"encoder\.block\.\d+\.res_unit1\.snake1\.alpha"))
    renamed = {}
    for name, tensor in tensors.items():
        layer, *parameter = re.split(r"\.(?=alpha|bias|weight|parametrizations)", modern(name), maxsplit=1)
        layer = layers.get(layer) or re.sub(r"\.(block|model)(?=\.\d)", "", layer)
        renamed[".".join([layer, *parameter])] = tensor
    return renamed


def _places(blocks: int) -> dict[str, str]:
    """Our names of the layers of transformers' model, by its own."""
    places: dict[str, str] = {}
    for side, inside in BLOCKS.items():
        places |= {f"{side}.conv1": f"{side}.0"}
        places |= {f"{side}.snake1": f"{side}.{blocks + 1}", f"{side}.conv2": f"{side}.{blocks + 2}"}
        for number, (at, layer) in product(range(blocks), enumerate(inside)):
            there, here = f"{side}.block.{number}.{layer}", f"{side}.{number + 1}.{at}"
            places |= {there: here, **{f"{there}.{part}": f"{here}.{n}" for n, part in enumerate(UNIT)}}
    return places


def _count(names: Mapping[str, Any], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in names)


FAMILY = Dac
