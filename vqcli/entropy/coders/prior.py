"""The entropy model: a net in integers predicts frequencies of the codes, the range coder writes or reads them."""

from __future__ import annotations

import numpy as np

from vqcli.entropy.coders import EntropyNet, Given
from vqcli.errors import UsageError

ID = 3
USES_NET = True
NEEDS_STATISTICS = False


def usable(given: Given) -> bool:
    net = given.net
    return net is not None and (net.covers_levels or tuple(given.codebook_sizes) == net.codebook_sizes)


def encode(codes: np.ndarray, given: Given) -> bytes:
    """Bytes of codes [G, *grid]. Raises UsageError without a net."""
    return _net(given).encode(codes, given.quality, given.below)


def decode(data: bytes, shape: tuple[int, ...], given: Given) -> np.ndarray:
    """Codes int32 of `shape` [G, *grid]. Raises BadFile for bytes of anything else, UsageError without a net."""
    return _net(given).decode(data, shape, given.quality, given.below)


def _net(given: Given) -> EntropyNet:
    if given.net is None:
        raise UsageError("the prior coder needs a prior, and this model has none", "use auto, or train one: vq train")
    return given.net
