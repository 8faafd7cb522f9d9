"""The interfaces of codecs (`ImageCodec`, `AudioCodec`) that the rest of vq relies on.

A family is a file of this folder. Its name is what the headers of models call it, `FAMILY` in it is its class:

    class MyVQVAE(nn.Module, ImageCodec):
        def __init__(self, K: int = 512) -> None: ...    # the arguments of a recipe's [model.arguments]

    FAMILY = MyVQVAE

A class inherits a contract to declare it and to take its defaults; having all members is enough. `check` runs whenever
a model is loaded.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from vqcli.errors import ModelError
from vqcli.nets.codecs import graphs
from vqcli.nets.codecs.framing import Framing
from vqcli.nets.codecs.graphs import Graph, Graphs
from vqcli.nets.layers.code_search import CodeSearch, Costs, Place
from vqcli.nets.layers.likelihood import Likelihood
from vqcli.progress import ProgressCallback

VALUE_RANGE = (-0.5, 0.5)  # of black and white


class Codec(Protocol):
    """The members of all codecs.

    stride          pixels, each way, or samples that a position of the codes stands for
    levels          residual levels, of which files can drop the last ones
    codebook_sizes  K of each codebook, level by level
    encoder_margin  positions to each side that a code depends on, None: the whole input
    decoder_margin  positions to each side that the output of a position depends on, None: all codes
    encodes         whether it can encode, rather than raise a ModelError that says why not
    TASK            the file of training/tasks that trains this family
    CLASS_TABLES    names of the tables with a row for each class or speaker
    """

    stride: int
    levels: int
    codebook_sizes: tuple[int, ...]
    encoder_margin: int | None = None
    decoder_margin: int | None = None
    encodes: bool = True
    TASK: ClassVar[str] = "codec"
    CLASS_TABLES: ClassVar[tuple[str, ...]] = ()

    @property
    def level_codebooks(self) -> tuple[int, ...]:
        """How many codebooks each level has: equally many, unless a family says otherwise."""
        return (len(self.codebook_sizes) // self.levels,) * self.levels

    def graphs(self, levels: int) -> Graphs:
        """Encoder and decoder, with the first levels, as other runtimes can have them. Raises ModelError for none."""
        raise ModelError(f"{type(self).__name__} has no encoder and decoder that run without vq")


class ImageCodec(Codec, Protocol):
    """Images [B, channels, H, W] in `value_range`, H and W multiples of `stride`, to codes [B, codebooks, h, w].

    channels     1 grey or 3 colour
    latent_dim   D of the latents
    qualities    whole quality steps, 0 for a net that has but one quality
    tunes        what the encoder can aim at (TUNES), () for a net that has but one aim
    frame_size   height and width of the images that it is for, None for any
    value_range  of black and white, of input and output
    stochastic   whether decoding samples
    likelihood   p(x | z), None if the decoder outputs an image and no distribution
    first        the codec whose codes the latents of this one stand for; None if they stand for an image
    searchable   whether `search` can look for better codes than the encoder's
    """

    channels: int
    latent_dim: int
    likelihood: Likelihood | None  # no default: a class attribute would hide the net's submodule
    first: ImageCodec | None
    qualities: int = 0
    tunes: tuple[str, ...] = ()
    frame_size: tuple[int, int] | None = None
    value_range: tuple[float, float] = VALUE_RANGE
    stochastic: bool = False
    searchable: bool = False

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the codes of an image; a partial position at the border counts as a whole one."""
        return -(-height // self.stride), -(-width // self.stride)

    @abstractmethod
    def latents(self, x: Tensor) -> Tensor:
        """z_e [B, latent_dim, h, w] of images."""
        raise NotImplementedError

    @abstractmethod
    def quantize(self, z_e: Tensor, quality: Tensor | None = None) -> Tensor:
        """Codes [B, codebooks, h, w] int64 of latents, at a quality [B] if the net has qualities."""
        raise NotImplementedError

    @abstractmethod
    def decode(self, codes: Tensor, quality: Tensor | None = None, seed: int | None = None) -> Tensor:
        """Images of codes [B, codebooks of the first levels, h, w]; `seed` is for stochastic nets."""
        raise NotImplementedError

    def decoder_output(self, codes: Tensor, quality: Tensor | None = None) -> Tensor:
        """Parameters of the likelihood [B, numbers, H, W] for codes; called only for nets that have one."""
        raise NotImplementedError

    def search(
        self, x: Tensor, codes: Tensor, place: Place, quality: Tensor | None = None, costs: Costs | None = None
    ) -> CodeSearch:
        """A search for codes of an image [1, channels, H, W], among its codes int64 [codebooks, h, w] those at `place`.

        `costs` are those of an entropy model, for nets that hold none. Called only for nets that are searchable.
        """
        raise NotImplementedError

    def graphs(self, levels: int) -> Graphs:
        n = sum(self.level_codebooks[:levels])

        def encode(x: Tensor, quality: Tensor | None = None) -> tuple[Tensor, ...]:
            return (self.quantize(self.latents(x), quality)[:, :n],)

        def decode(codes: Tensor, quality: Tensor | None = None) -> tuple[Tensor, ...]:
            return (self.decode(codes, quality),)

        image = graphs.image(self.channels, self.stride, self.value_range)
        codes = graphs.codes(n, max(self.codebook_sizes[:n]), graphs.ROWS, graphs.COLUMNS)
        more = (graphs.quality(self.qualities, self.tunes),) if self.qualities else ()
        return Graphs(Graph(encode, (image, *more), (codes,)), Graph(decode, (codes, *more), (image,)))


class Samples(Protocol):
    """A channel of a recording, [n] by slices of time, or those that are coded together, [channels, n].

    A long one is a memory map, scaled slice by slice.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice) -> np.ndarray: ...


@dataclass(frozen=True)
class Analysis:
    """What a family computes from a whole channel, or from those coded together, before it encodes windows of it.

    stored  side information for decoding that the file keeps, of equal length for every channel; `side_bytes` for
            each segment, if a net has that
    known   what else encoding needs
    """

    stored: bytes
    known: Any = None


class AudioCodec(Codec, Protocol):
    """Waveforms float [B, P * stride] at `rate_hz` to codes [B, codebooks, P] and back.

    A net of several `channels` codes them together: where others have a channel, [n], it has [channels, n].

    channels    that one set of codes stands for
    side_bytes  of side information for each segment (`framing`); 0: there is none but for a whole channel
    level_db   RMS of active speech that inputs are scaled to; the file keeps the original's. None: no scaling
    voice_dim  dimensions of a voice embedding that can be fitted to a new speaker, 0 if none can
    speakers   rows of the speaker table, 0 if it has none
    autoregressive  whether the decoder makes samples one after the other, which takes long
    """

    rate_hz: int
    channels: int = 1
    side_bytes: int = 0
    level_db: float | None = None
    voice_dim: int = 0
    speakers: int = 0
    autoregressive: bool = False

    @property
    def framing(self) -> Framing:
        """Where positions lie in time: one after the other, unless a family says otherwise."""
        return Framing(self.stride)

    @property
    def group_names(self) -> list[str]:
        """The name of each group of codes."""
        return ["sound"] * len(self.codebook_sizes)

    @abstractmethod
    def analyse(self, samples: Samples, speakers: Sequence[Mapping[str, Any]]) -> Analysis:
        """The analysis of a whole channel; `speakers` are those listed in the model's description."""
        raise NotImplementedError

    @abstractmethod
    def analysis_of(self, profile: np.ndarray, pitch: np.ndarray) -> Analysis:
        """The same for an utterance whose voice profile [SIZE] and pitch codes are known, as in a data set."""
        raise NotImplementedError

    @abstractmethod
    def encode_window(self, wave: Tensor, analysis: Analysis, first: int) -> Tensor:
        """Codes int64 [codebooks, P] of a waveform [P * stride] that begins at position `first` of the channel."""
        raise NotImplementedError

    def encode_windows(self, samples: Samples, analysis: Analysis, device: torch.device) -> Iterator[Tensor]:
        """Codes int64 [codebooks, n] of a whole channel, window by window; a partial position at its end counts.

        Each window has a margin as wide as the reach of the encoder; silence follows the end.
        """
        P, margin = -(-len(samples) // self.stride), self.encoder_margin
        for start, stop in [(0, P)] if margin is None else windows_of(self, 0, P):
            first, last = max(start - (margin or 0), 0), stop + (margin or 0)
            part = samples[first * self.stride : last * self.stride]
            wave = np.pad(part, (0, (last - first) * self.stride - len(part))).astype(np.float32)
            codes = self.encode_window(torch.from_numpy(wave).to(device), analysis, first)
            yield codes[:, start - first : stop - first]

    @abstractmethod
    def decode_windows(
        self,
        codes: np.ndarray,
        stored: Sequence[bytes],
        part: tuple[int, int],
        *,
        seed: int,
        progress: ProgressCallback,
    ) -> Iterator[np.ndarray]:
        """Waveforms float32 [channels, n] of codes [channels, codebooks, P], window by window of `part`.

        `part` begins with a segment, and ends with one or with the codes.

        stored  of each channel (`Analysis.stored`)

        Raises BadFile for bytes that do not belong to this model.
        """
        raise NotImplementedError

    def voice_of_row(self, row: int) -> bytes:
        """The voice of a row of the speaker table, as `Analysis.stored` holds it."""
        raise ModelError("this model has no table of speakers", "--model speech has one")

    def voice_of_values(self, values: np.ndarray, log_hz: float) -> bytes:
        """A fitted voice, float32 [voice_dim] in -1 .. 1 and its mean log Hz, as `Analysis.stored` holds it."""
        raise ModelError("this model cannot decode with fitted voices", "--model speech can")

    def convert(self, codes: np.ndarray, stored: bytes, target: bytes, pitch: str, semitones: float) -> np.ndarray:
        """Codes [codebooks, P] for another voice: 'target' moves the melody to its register, 'keep' leaves it."""
        return codes


@runtime_checkable
class DecodesAlone(Protocol):
    """A codec of audio whose decoder also takes windows without padding, as files of other programs have them."""

    def decode_alone(self, codes: Tensor) -> Tensor:
        """Waveforms [B, 1, samples_of(P, alone=True)] of codes [B, codebooks of the first levels, P]."""

    def samples_of(self, positions: int, *, alone: bool) -> int:
        """Samples that the decoder makes of so many positions, of a window that is decoded alone or of a signal."""


CONTRACTS: dict[str, type] = {"image": ImageCodec, "audio": AudioCodec}  # by the modality of a model


def members(contract: type) -> list[str]:
    """The names of a contract's members."""
    parts = [part for part in contract.__mro__ if getattr(part, "_is_protocol", False) and part is not Protocol]
    names = {name for part in parts for name in (*vars(part), *vars(part).get("__annotations__", {}))}
    return sorted(name for name in names if not name.startswith("_"))


def check(net: object, modality: str) -> None:
    """Raise ModelError that names the members of its contract that a net lacks, or a modality that has none."""
    if not isinstance(modality, str) or modality not in CONTRACTS:
        raise ModelError(f"there are no codecs of {modality}", f"{' or '.join(CONTRACTS)}")
    contract = CONTRACTS[modality]
    missing = [name for name in members(contract) if not _has(net, name)]
    if missing:
        raise ModelError(f"{type(net).__name__} is no {contract.__name__}: it lacks {', '.join(missing)}")


def _has(net: object, name: str) -> bool:
    """Whether a net implements a member, rather than inheriting the abstract one."""
    try:
        return not getattr(getattr(net, name), "__isabstractmethod__", False)
    except AttributeError:
        return False
    except ModelError:  # a property that is not available
        return True


def device_of(net: torch.nn.Module) -> torch.device:
    return next(net.parameters()).device


WINDOW_S = 10.0  # of audio that a net processes at a time


def windows_of(net: AudioCodec, start: int, stop: int) -> list[tuple[int, int]]:
    """Windows of WINDOW_S that divide the positions start .. stop."""
    step = max(1, round(WINDOW_S * net.rate_hz / net.stride))
    return [(at, min(at + step, stop)) for at in range(start, stop, step)]
