"""SNAC, the multi-scale codec of 24, 32 and 44.1 kHz (Siuzdak et al. 2024, https://arxiv.org/abs/2410.14411).

    wave -> convolutions, snake, local attention -> a latent for each 512 or 384 samples, a frame
         -> 3 or 4 residual codebooks of 4096, the first for 4 or 8 frames at a time, the last for each
         -> local attention, convolutions with noise -> wave

Weights are other people's (hubertsiuzdak/snac_24khz, snac_32khz, snac_44khz, MIT).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from vqcli.errors import ModelError
from vqcli.nets.codecs import graphs
from vqcli.nets.codecs.checkpoint import Checkpoint, Imported, modern
from vqcli.nets.codecs.graphs import Graph, Graphs
from vqcli.nets.codecs.waveform import WaveformCodec
from vqcli.nets.layers.local_attention import LocalAttention
from vqcli.nets.layers.noise import Noise, Noisy, Place, Supplied
from vqcli.nets.layers.reach import reach
from vqcli.nets.layers.residual_vq import MultiScaleVQ
from vqcli.nets.layers.snake import Snake, encoder_block, noisy_block

CITATION = "Hubert Siuzdak, Florian Grötschla, Luca A. Lanzendörfer. SNAC: Multi-Scale Neural Audio Codec. 2024."
RATES = {(512, 3): 24_000}  # by samples of a frame and levels; the other two models are alike in both
WINDOW = 32  # frames that attend to one another, in the released models that have attention
LARGEST = 4096  # frames of a position, and codebooks, which is what a file can hold
NORMED = "parametrizations.weight.original1"  # of a weight whose norm is apart


class Snac(WaveformCodec):
    """Waveforms [B, 1, N] at `rate_hz` to codes [B, codebooks, P].

    A position is the fewest frames that all strides of levels, and blocks of attention, divide: a level has a codebook
    for each of its codes in them, one after the other in time.

    width            channels of the encoder's first layer, doubled at each stride
    strides          of downsampling, in the order of the encoder, each at least 2
    decoder_width    channels of the decoder's first layer, halved at each stride
    decoder_strides  of upsampling, in the order of the decoder
    window           frames that attend to one another, None: no attention
    level_strides    frames that a code of each level stands for
    K                vectors of a level, of code_dim dimensions each
    noise            whether the decoder adds noise
    depthwise        whether convolutions over time keep channels apart
    """

    def __init__(
        self,
        width: int = 48,
        strides: Sequence[int] = (2, 4, 8, 8),
        decoder_width: int = 1024,
        decoder_strides: Sequence[int] = (8, 8, 4, 2),
        window: int | None = None,
        level_strides: Sequence[int] = (4, 2, 1),
        rate_hz: int = 24_000,
        K: int = 4096,
        code_dim: int = 8,
        noise: bool = True,
        depthwise: bool = True,
    ) -> None:
        super().__init__()
        hop, self.frames = math.prod(strides), math.lcm(*level_strides, window or 1)
        if min((*strides, *decoder_strides), default=0) < 2 or math.prod(decoder_strides) != hop:
            raise ValueError(f"strides {list(strides)} of the encoder, {list(decoder_strides)} of the decoder")
        if decoder_width % 2 ** len(decoder_strides):
            raise ValueError(f"{decoder_width} channels halved {len(decoder_strides)} times")
        self._codebooks = tuple(self.frames // stride for stride in level_strides)
        if min(level_strides) < 1 or max(self.frames, sum(self._codebooks)) > LARGEST:
            raise ValueError(f"levels of {list(level_strides)} frames a code, attention of {window}")
        self.rate_hz, self.stride, self.levels = rate_hz, hop * self.frames, len(level_strides)
        self.codebook_sizes = (K,) * sum(self._codebooks)
        dim = width * 2 ** len(strides)
        self.encoder = _encoder(width, strides, window, depthwise)
        self.quantizer = MultiScaleVQ(level_strides, K, dim, code_dim)
        self.decoder = _decoder(dim, decoder_width, decoder_strides, window, noise, depthwise)
        first, last = reach(self.encoder, 0, self.frames - 1)
        self.encoder_margin = max(-(first // self.stride), last // self.stride)
        first, last = reach(self.decoder, 0, self.stride - 1)
        self.decoder_margin = max(-(first // self.frames), last // self.frames)
        for layer in list(self.modules()):
            if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d)):
                weight_norm(layer)

    @property
    def level_codebooks(self) -> tuple[int, ...]:
        return self._codebooks

    def encode(self, wave: Tensor) -> Tensor:
        levels = self.quantizer.encode(self.encoder(F.pad(wave, (0, -wave.shape[-1] % self.stride))))
        # a level's codes [B, n P] lie position by position
        planes = [row.unflatten(1, (-1, n)).mT for row, n in zip(levels, self._codebooks, strict=True)]
        return torch.cat(planes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        return self.decode_window(codes, 0, 0)

    def decode_window(self, codes: Tensor, first: int, seed: int) -> Tensor:
        return self._decode(codes, Place(seed, first * self.frames))

    def graphs(self, levels: int) -> Graphs:
        """The decoder takes its noise from the caller."""
        found = super().graphs(levels)
        rates = [layer.rate for layer in self.decoder.modules() if isinstance(layer, Noise)]
        if not rates:
            return found

        def decode(codes: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
            return (self._decode(codes, Supplied(noise, rates)),)

        inputs = (*found.decoder.inputs, graphs.noise(self.frames * sum(rates)))
        return Graphs(found.encoder, Graph(decode, inputs, found.decoder.outputs))

    def _decode(self, codes: Tensor, noise: Place | Supplied) -> Tensor:
        levels = 1 + list(accumulate(self._codebooks)).index(codes.shape[1])
        rows = [planes.mT.flatten(1) for planes in codes.split(self._codebooks[:levels], 1)]
        wave: Tensor = self.decoder(self.quantizer.decode(rows), noise)
        return wave


def _encoder(width: int, strides: Sequence[int], window: int | None, depthwise: bool) -> nn.Sequential:
    """[B, 1, N] to [B, dim, T]."""
    layers: list[nn.Module] = [nn.Conv1d(1, width, 7, padding=3)]
    for stride in strides:
        layers.append(encoder_block(width, stride, width if depthwise else 1))
        width *= 2
    if window is not None:
        layers.append(LocalAttention(width, window))
    layers.append(nn.Conv1d(width, width, 7, padding=3, groups=width if depthwise else 1))
    return nn.Sequential(*layers)


def _decoder(dim: int, width: int, strides: Sequence[int], window: int | None, noise: bool, depthwise: bool) -> Noisy:
    """[B, dim, T] to [B, 1, N]."""
    if depthwise:
        layers: list[nn.Module] = [nn.Conv1d(dim, dim, 7, padding=3, groups=dim), nn.Conv1d(dim, width, 1)]
    else:
        layers = [nn.Conv1d(dim, width, 7, padding=3)]
    if window is not None:
        layers.append(LocalAttention(width, window))
    for number, stride in enumerate(strides):
        half, rate = width // 2, math.prod(strides[: number + 1])
        source = Noise(half, number, rate) if noise else None
        layers.append(noisy_block(width, stride, half if depthwise else 1, source))
        width = half
    return Noisy(*layers, Snake(width), nn.Conv1d(width, 1, 7, padding=3), nn.Tanh())


def from_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Of the authors' own file.

    Its configuration says what the tensors do not: the rate, the window of attention, and the frames of a code. Raises
    ModelError for weights that are not complete, or a configuration of another model.
    """
    tensors = {_renamed(name): tensor for name, tensor in checkpoint.tensors.items() if ".rel_pos." not in name}
    blocks = _count(tensors, r"encoder\.\d+\.0\.0\.alpha")
    levels = _count(tensors, r"quantizer\.quantizers\.\d+\.codebook\.weight")
    # DAC calls its layers the same, but has an activation where this has attention or its last convolution
    marks = {f"encoder.{blocks + 1}.{name}" for name in ("bias", "norm.weight", "to_qkv.weight")}
    if not blocks or not levels or not marks & tensors.keys():
        return None

    def shape(layer: str, name: str = NORMED, axes: int = 3) -> tuple[int, ...]:
        found = tensors.get(f"{layer}.{name}")
        if found is None or found.ndim != axes or not found.numel():
            raise ModelError("the weights of this SNAC are not complete", f"those of {layer} are missing or odd")
        return tuple(found.shape)

    attention = f"encoder.{blocks + 2}.bias" in tensors
    depthwise = shape(f"encoder.{blocks + 1 + attention}")[1] == 1
    first = 1 + depthwise + attention  # block of the decoder
    ups = [f"decoder.{first + n}.1" for n in range(_count(tensors, r"decoder\.\d+\.0\.alpha"))]
    K, code_dim = shape("quantizer.quantizers.0.codebook", "weight", 2)
    strides = [shape(f"encoder.{number}.4")[2] // 2 for number in range(1, blocks + 1)]
    arguments = {
        "width": shape("encoder.0")[0],
        "strides": strides,
        "decoder_width": shape(f"decoder.{int(depthwise)}")[0],
        "decoder_strides": [shape(up)[2] // 2 for up in ups],
        "noise": _count(tensors, r"decoder\.\d+\.2\.linear\..*") > 0,
        "depthwise": depthwise,
        **{"K": K, "code_dim": code_dim},
        **_configured(checkpoint.config, attention, math.prod(strides), levels),
    }
    return Imported(arguments, tensors, CITATION)


def _configured(config: Mapping[str, Any], attention: bool, hop: int, levels: int) -> dict[str, Any]:
    """What the configuration says, or what the released models have in common."""
    rate_hz = config.get("sampling_rate", RATES.get((hop, levels)))
    if not _positive(rate_hz):
        raise ModelError("nothing says of which sampling rate this SNAC is", "its config.json does, as sampling_rate")
    window = config.get("attn_window_size", WINDOW) if attention else None
    if attention and not _positive(window):
        raise ModelError("this SNAC has attention, and its configuration none", "attn_window_size in its config.json")
    strides = config.get("vq_strides", [2**n for n in reversed(range(levels))])
    if not isinstance(strides, list) or len(strides) != levels or not all(map(_positive, strides)):
        raise ModelError(
            f"this SNAC has {levels} levels, and its configuration others", "vq_strides in its config.json"
        )
    return {"rate_hz": rate_hz, "window": window, "level_strides": strides}


def _positive(number: object) -> bool:
    return type(number) is int and number > 0


def _renamed(name: str) -> str:
    """The authors number layers as here, with `block` or `model` between."""
    return re.sub(r"\.(block|model)(?=\.\d)", "", modern(name))


def _count(names: Mapping[str, Any], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in names)


FAMILY = Snac
