"""Codes bit-packed in ceil(log2 K) bits each: the paper's uniform prior, and an upper bound for the other coders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vqcli.entropy.coders import Given
from vqcli.errors import BadFile

ID = 0
USES_NET = False
NEEDS_STATISTICS = False


def usable(given: Given) -> bool:
    return True


def encode(codes: np.ndarray, given: Given) -> bytes:
    """Bytes of codes [G, *grid]: group after group, most significant bit first, zero bits to fill the last byte."""
    parts = []
    for group, K in zip(codes, given.codebook_sizes, strict=True):
        kind = np.uint16 if bits_per_code(K) <= 16 else np.uint32
        shifts = np.arange(bits_per_code(K) - 1, -1, -1, dtype=kind)
        parts.append((group.astype(kind).reshape(-1, 1) >> shifts & 1).astype(np.uint8).ravel())
    return np.packbits(np.concatenate(parts)).tobytes()


def decode(data: bytes, shape: tuple[int, ...], given: Given) -> np.ndarray:
    """Codes int32 of `shape` [G, *grid].

    Raises BadFile for a wrong length, codes beyond their codebook, or stray bits.
    """
    expected = size_bytes(shape, given.codebook_sizes)
    if len(data) != expected:
        raise BadFile(f"{len(data)} bytes of packed codes where {expected} belong")
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    codes = np.empty(shape, np.int32)
    start = 0
    for group, K in zip(codes, given.codebook_sizes, strict=True):
        width = bits_per_code(K)
        end = start + group.size * width
        place = 1 << np.arange(width - 1, -1, -1, dtype=np.int32)
        group[...] = (bits[start:end].reshape(group.size, width) @ place).reshape(group.shape)
        start = end
        if group.size and group.max() >= K:
            raise BadFile(f"a packed code is beyond its codebook of {K}")
    if bits[start:].any():
        raise BadFile("stray bits after the packed codes")
    return codes


def bits_per_code(K: int) -> int:
    return (K - 1).bit_length()


def size_bytes(shape: tuple[int, ...], codebook_sizes: Sequence[int]) -> int:
    """Bytes of codes [G, *grid] of this shape."""
    positions = int(np.prod(shape[1:], dtype=np.int64))
    return (positions * sum(bits_per_code(K) for K in codebook_sizes) + 7) // 8
