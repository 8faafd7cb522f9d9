"""Codes <-> bytes on integers, without loss, by coders whose numbers in a file never change.

    packed      0   ceil(log2 K) bits a code
    histogram   1   counts that ship with the model, by context
    adaptive    2   counts that learn along the file, from the model's or from nothing
    prior       3   the exact prior: a net in integers that lies beside the model (prior.py, sequences.py)

Codes are integer arrays [G, *grid]; a codebook size for each group bounds them. Grids of one or three
dimensions are coded as rows of their last; but the exact prior of pictures, which knows where a picture ends, codes
each frame of video by itself, its bytes behind their number (a varint). Where codes come level by level, the exact
prior predicts a level from those `below`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vqcli.container.fields import Reader, require, varint
from vqcli.entropy import packed
from vqcli.errors import BadFile, UsageError, near_matches

if TYPE_CHECKING:
    from vqcli.entropy.prior1d_net import SequenceNet
    from vqcli.entropy.prior2d_net import Net
    from vqcli.entropy.statistics import Statistics

IDS = {"packed": 0, "histogram": 1, "adaptive": 2, "prior": 3}
NAMES = {number: name for name, number in IDS.items()}


def encode(
    coder: str,
    codes: np.ndarray,
    codebook_sizes: Sequence[int],
    statistics: Statistics | None,
    net: Net | SequenceNet | None = None,
    quality: int = 0,
    below: np.ndarray | None = None,
) -> bytes:
    """Bytes of codes [G, *grid] by the coder of that name.

    `net`, the quality in tenths, and the codes of all lower levels [groups, *grid] are for `prior`. Raises UsageError
    if it needs counts or a prior and there are none.
    """
    if coder == "packed":
        return packed.encode(codes, codebook_sizes)
    if coder == "prior":
        return _encode_by(_net(net), codes, quality, below)
    from vqcli.entropy import context

    shape, model = _as_plane(codes.shape), _statistics(coder, codebook_sizes, statistics)
    return context.encode(codes.reshape(shape), codebook_sizes, model, adaptive=coder == "adaptive")


def decode(
    coder: str,
    data: bytes,
    shape: tuple[int, ...],
    codebook_sizes: Sequence[int],
    statistics: Statistics | None,
    net: Net | SequenceNet | None = None,
    quality: int = 0,
    below: np.ndarray | None = None,
) -> np.ndarray:
    """Codes int32 of `shape` [G, *grid]; all else as `encode` has it.

    Raises BadFile if the bytes are not those of such codes.
    """
    if coder == "packed":
        return packed.decode(data, shape, codebook_sizes)
    if coder == "prior":
        return _decode_by(_net(net), data, shape, quality, below).reshape(shape)
    from vqcli.entropy import context

    model = _statistics(coder, codebook_sizes, statistics)
    adaptive = coder == "adaptive"
    return context.decode(data, _as_plane(shape), codebook_sizes, model, adaptive=adaptive).reshape(shape)


def name_of(number: int) -> str:
    if number not in NAMES:
        raise BadFile(f"coder {number} is not known to this vq", "a newer vq may read it")
    return NAMES[number]


def candidates(coder: str, statistics: Statistics | None, net: Net | SequenceNet | None = None) -> list[str]:
    """The coders to try for `coder`, which may be 'auto'. Raises UsageError for an unknown one."""
    if coder == "auto":
        missing = {name for name, needs in (("histogram", statistics), ("prior", net)) if needs is None}
        return [name for name in IDS if name not in missing]
    if coder not in IDS:
        raise UsageError(f"no coder {coder}", near_matches(coder, ["auto", *IDS]))
    return [coder]


def _statistics(coder: str, codebook_sizes: Sequence[int], statistics: Statistics | None) -> Statistics:
    if statistics is not None:
        return statistics
    if coder == "histogram":
        raise UsageError("the histogram coder needs counts, and this model ships none", "use adaptive or packed")
    from vqcli.entropy.statistics import flat

    return flat(codebook_sizes)


def _encode_by(net: Net | SequenceNet, codes: np.ndarray, quality: int, below: np.ndarray | None) -> bytes:
    from vqcli.entropy import prior1d, prior2d
    from vqcli.entropy.prior1d_net import SequenceNet

    plane = codes.reshape(_as_plane(codes.shape))
    if isinstance(net, SequenceNet):
        return prior1d.encode(plane, net, _plane(below))
    if codes.ndim < 4:
        return prior2d.encode(plane, quality, net)
    frames = (prior2d.encode(frame, quality, net) for frame in codes.swapaxes(0, 1))
    return b"".join(varint(len(frame)) + frame for frame in frames)


def _decode_by(
    net: Net | SequenceNet, data: bytes, shape: tuple[int, ...], quality: int, below: np.ndarray | None
) -> np.ndarray:
    from vqcli.entropy import prior1d, prior2d
    from vqcli.entropy.prior1d_net import SequenceNet

    if isinstance(net, SequenceNet):
        return prior1d.decode(data, _as_plane(shape), net, _plane(below))
    if len(shape) < 4:
        return prior2d.decode(data, _as_plane(shape), quality, net)
    G, frames, rows, columns = shape
    reader = Reader(data, "a chunk of video")
    codes = [prior2d.decode(reader.take(reader.varint()), (G, rows, columns), quality, net) for _ in range(frames)]
    require(not len(reader), "a chunk of video goes on after its last frame")
    return np.stack(codes, axis=1)


def _net(net: Net | SequenceNet | None) -> Net | SequenceNet:
    if net is None:
        raise UsageError("the prior coder needs a prior, and this model has none", "use auto, or train one: vq train")
    return net


def _plane(below: np.ndarray | None) -> np.ndarray | None:
    return None if below is None else below.reshape(_as_plane(below.shape))


def _as_plane(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return shape[0], int(np.prod(shape[1:-1], dtype=np.int64)), shape[-1]
