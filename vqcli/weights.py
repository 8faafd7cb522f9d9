"""Weights as files hold them, smaller than nets do.

Floats take 16 bits, or where a recipe says so 8 bits a weight with a scale for each row. Large tables of integers are
deflated (RFC 1950) where that saves something. Such a table is two tensors of the file: `name`, empty, tells the type
and, after a first size of 0, the shape; `name.deflated`, uint8, is the stream of its bytes, all lowest ones first.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SCALE = ".scale"  # suffix of the tensor [rows] that belongs to one of 8 bits
LARGEST = 127
DEFLATED = ".deflated"  # suffix of the stream that belongs to an empty table
WORTH = 0.9  # of its bytes; a table whose stream is longer stays as it is
SMALLEST_BYTES = 1024  # of a table to be deflated: two entries in the header eat what less would save
LARGEST_BYTES = 2**28  # of all deflated tables of a file together


def packed(tensors: Mapping[str, Tensor], eight_bits: Collection[str] = ()) -> dict[str, Tensor]:
    """What is written; matrices whose names begin with one of `eight_bits` become integers, each row with its scale."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        weights = tensor.detach().cpu()
        if weights.dim() > 1 and weights.is_floating_point() and name.startswith(tuple(eight_bits)):
            rows = weights.float().flatten(1)
            # the scale as it is written, so that rounding goes by what reading multiplies with
            scale = (rows.abs().amax(1) / LARGEST).clamp(min=1e-6).half()
            whole = (rows / scale.float()[:, None]).round().clamp(-LARGEST, LARGEST)
            found[name] = whole.char().reshape(weights.shape).contiguous()
            found[name + SCALE] = scale
        else:
            found[name] = weights.half().contiguous()
    return found


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights as float32. Raises ValueError if a tensor and its scale do not fit together."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in tensors:
            continue
        scale = tensors.get(name + SCALE)
        if scale is None:
            found[name] = tensor.float()
        elif tensor.dim() > 1 and scale.shape == tensor.shape[:1]:
            found[name] = tensor.float() * scale.float().reshape(-1, *(1,) * (tensor.dim() - 1))
        else:
            raise ValueError(f"the scale of {name} does not fit it")
    return found


def deflated(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tables of integers as they are written; `inflated` is the mirror."""
    found: dict[str, np.ndarray] = {}
    room = LARGEST_BYTES
    for name, array in arrays.items():
        found[name] = array
        if array.dtype.kind not in "iu" or not SMALLEST_BYTES <= array.nbytes <= room:
            continue
        # high bytes are much alike, low ones are not: apart from each other they take less
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        stream = zlib.compress(little.reshape(-1, 1).view(np.uint8).T.tobytes(), 9)
        if len(stream) < WORTH * array.nbytes:
            room -= array.nbytes
            found[name] = np.empty((0, *array.shape), array.dtype)
            found[name + DEFLATED] = np.frombuffer(stream, np.uint8).copy()
    return found


def inflated(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tables of a file. Raises ValueError for a stream that is not that of its table, or for too large tables."""
    found: dict[str, np.ndarray] = {}
    room = LARGEST_BYTES
    for name, array in arrays.items():
        if name.endswith(DEFLATED) and name.removesuffix(DEFLATED) in arrays:
            continue
        stream = arrays.get(name + DEFLATED)
        if stream is None:
            found[name] = array
            continue
        if array.shape[:1] != (0,) or array.dtype.kind not in "iu" or stream.dtype != np.uint8:
            raise ValueError(f"{name} is no deflated table")
        size_bytes = math.prod(array.shape[1:]) * array.dtype.itemsize
        room -= size_bytes
        if room < 0:
            raise ValueError(f"{name} would make its tables larger than {LARGEST_BYTES} bytes")
        planes = np.frombuffer(_inflate(name, stream.tobytes(), size_bytes), np.uint8)
        little = planes.reshape(array.dtype.itemsize, -1).T.tobytes()
        found[name] = np.frombuffer(little, array.dtype.newbyteorder("<")).astype(array.dtype).reshape(array.shape[1:])
    return found


def _inflate(name: str, stream: bytes, size_bytes: int) -> bytes:
    """Exactly so many bytes. Raises ValueError if the stream holds more, fewer, or something else."""
    decoder = zlib.decompressobj()
    try:
        data = decoder.decompress(stream, size_bytes + 1)  # one more, so that the end of the stream is reached
    except zlib.error as error:
        raise ValueError(f"{name} cannot be inflated: {error}") from None
    if len(data) != size_bytes or not decoder.eof or decoder.unused_data:
        raise ValueError(f"the stream of {name} is not that of its {size_bytes} bytes")
    return data
