"""The context coder with adaptive counts, which start from the model's or from flat ones."""

from __future__ import annotations

import numpy as np

from vqcli.entropy.coders import Given

ID = 2
USES_NET = False
NEEDS_STATISTICS = False


def usable(given: Given) -> bool:
    return True


def encode(codes: np.ndarray, given: Given) -> bytes:
    """Bytes of codes [G, *grid]."""
    from vqcli.entropy import context, statistics

    known = given.statistics or statistics.flat(given.codebook_sizes)
    return context.encode(codes, given.codebook_sizes, known, adaptive=True)


def decode(data: bytes, shape: tuple[int, ...], given: Given) -> np.ndarray:
    """Codes int32 of `shape` [G, *grid]. Raises BadFile for bytes of anything else."""
    from vqcli.entropy import context, statistics

    known = given.statistics or statistics.flat(given.codebook_sizes)
    return context.decode(data, shape, given.codebook_sizes, known, adaptive=True)
