"""Weights as files hold them, smaller than nets do.

Floats take 16 bits, or where a recipe says so 8 bits a weight with a scale for each row. Then whatever the file holds,
weights and tables of integers, is deflated (RFC 1950) where that saves something. A deflated table is two tensors of
the file: `name`, empty, has the type and, after a first size of 0, the shape; `name.deflated`, uint8, is the stream
of its bytes, all lowest ones first.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SCALE = ".scale"  # suffix of the tensor [rows] that belongs to one of 8 bits
LARGEST = 127
DEFLATED = ".deflated"  # suffix of the stream that belongs to an empty table
ENTRY_BYTES = 128  # of the stream in the header; a table that saves no more than that stays as it is
LARGEST_BYTES = 2**28  # of all deflated tables of a file together
KINDS = "iuf"  # of numpy's types, that can be deflated: integers and floats


def to_bytes(arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> bytes:
    """A file of deflated arrays with a description in its header (zoo.py); `read` gives the arrays back."""
    from safetensors.numpy import save

    return save(deflated(arrays), {"vq": json.dumps(description, sort_keys=True)})


def described(data: bytes, description: Mapping[str, Any]) -> bytes:
    """A file with another description; its arrays stay as they are."""
    from safetensors.numpy import load, save

    return save(load(data), {"vq": json.dumps(description, sort_keys=True)})


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, inflated. Raises ValueError if it is none or one of its tables is not sound, or OSError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
    except (SafetensorError, TypeError, AttributeError) as error:  # the latter two for types that numpy lacks
        raise ValueError(str(error)) from None
    if foreign := {str(array.dtype) for array in arrays.values() if array.dtype.isbuiltin != 1}:
        # a package may teach numpy types of its own, so that what loads would depend on what is installed
        raise ValueError(f"arrays of {', '.join(sorted(foreign))}")
    return inflated(arrays)


def packed(tensors: Mapping[str, Tensor], eight_bits: Collection[str] = ()) -> dict[str, np.ndarray]:
    """What is written; matrices whose names begin with one of `eight_bits` become integers, each row with its scale."""
    found: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        weights = tensor.detach().cpu()
        if weights.dim() > 1 and weights.is_floating_point() and name.startswith(tuple(eight_bits)):
            rows = weights.float().flatten(1)
            # the scale as it is written, so that rounding goes by what reading multiplies with
            scale = (rows.abs().amax(1) / LARGEST).clamp(min=1e-6).half()
            whole = (rows / scale.float()[:, None]).round().clamp(-LARGEST, LARGEST)
            found[name] = whole.char().reshape(weights.shape).contiguous().numpy()
            found[name + SCALE] = scale.numpy()
        else:
            found[name] = (weights.half() if weights.is_floating_point() else weights).contiguous().numpy()
    return found


def unpacked(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The weights as float32. Raises ValueError if an array and its scale do not fit together."""
    import torch

    found: dict[str, Tensor] = {}
    for name, array in arrays.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in arrays:
            continue
        weights, scale = torch.from_numpy(array.astype(np.float32)), arrays.get(name + SCALE)
        if scale is None:
            found[name] = weights
        elif array.ndim > 1 and scale.shape == array.shape[:1]:
            found[name] = weights * torch.from_numpy(scale.astype(np.float32)).reshape(-1, *(1,) * (array.ndim - 1))
        else:
            raise ValueError(f"the scale of {name} does not fit it")
    return found


def deflated(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of numbers as they are written; `inflated` is the mirror."""
    found: dict[str, np.ndarray] = {}
    room = LARGEST_BYTES
    for name, given in arrays.items():
        found[name] = array = np.asarray(given, order="C")
        if name.endswith(DEFLATED) or array.dtype.kind not in KINDS or not ENTRY_BYTES < array.nbytes <= room:
            continue
        # high bytes are much alike, low ones are not: apart from each other they take less
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        stream = _deflate(little.reshape(-1, 1).view(np.uint8).T.tobytes())
        if len(stream) + ENTRY_BYTES < array.nbytes:
            room -= array.nbytes
            found[name] = np.empty((0, *array.shape), array.dtype)
            found[name + DEFLATED] = np.frombuffer(stream, np.uint8)
    return found


def inflated(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a file. Raises ValueError for a stream that is not that of its table, or for too large tables."""
    found: dict[str, np.ndarray] = {}
    room = LARGEST_BYTES
    for name, array in arrays.items():
        if name.endswith(DEFLATED) and name.removesuffix(DEFLATED) in arrays:
            continue
        stream = arrays.get(name + DEFLATED)
        if stream is None:
            found[name] = array
            continue
        if array.shape[:1] != (0,) or array.dtype.kind not in KINDS or stream.dtype != np.uint8:
            raise ValueError(f"{name} is no deflated table")
        size_bytes = math.prod(array.shape[1:]) * array.dtype.itemsize
        room -= size_bytes
        if room < 0:
            raise ValueError(f"{name} would make its tables larger than {LARGEST_BYTES} bytes")
        planes = np.frombuffer(_inflate(name, stream.tobytes(), size_bytes), np.uint8)
        little = planes.reshape(array.dtype.itemsize, -1).T.tobytes()
        found[name] = np.frombuffer(little, array.dtype.newbyteorder("<")).astype(array.dtype).reshape(array.shape[1:])
    return found


def _deflate(data: bytes) -> bytes:
    """The shorter of two streams: weights seldom repeat, and looking for what does only costs them bits."""
    streams = []
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY):
        encoder = zlib.compressobj(9, strategy=strategy)
        streams.append(encoder.compress(data) + encoder.flush())
    return min(streams, key=len)


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
