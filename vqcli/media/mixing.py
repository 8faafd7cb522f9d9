"""Several channels to one, by the places of their loudspeakers."""

from __future__ import annotations

import numpy as np

# ITU-R BS.775-4, annex 4: centre and surround channels go to left and right 3 dB down; one channel is their mean.
_SIDE, _CENTRE, _SURROUND, _LOW = 0.5, 0.5**0.5, 0.5**1.5, 0.0
# By the bits of a WAVE file's channel mask: FL FR FC LFE BL BR FLC FRC BC SL SR, and those above.
_BY_BIT = (_SIDE, _SIDE, _CENTRE, _LOW, _SURROUND, _SURROUND, _SIDE, _SIDE, _SIDE, _SURROUND, _SURROUND)
_MASKS = {2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}  # where a file says nothing
# The order of Vorbis and Opus (Vorbis I, 4.3.9; RFC 7845, 5.1.1.2), as places in that of WAVE.
_VORBIS = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 4, 5, 3),
    7: (0, 2, 1, 5, 6, 4, 3),
    8: (0, 2, 1, 6, 7, 4, 5, 3),
}
_LEAST_KEPT = 0.25  # of the energy that channels independent of each other would have in the mix


def weights(channels: int, mask: int | None = None, vorbis: bool = False) -> np.ndarray:
    """What each channel has of the mix, float32 [channels]: by the usual places for so many, or by a WAVE mask.

    Channels without places, of a mask of 0 or more than 8, all have the same. `vorbis`: in the order of that codec.
    """
    if mask is None:
        mask = _MASKS.get(channels, 0)
    found = [_BY_BIT[bit] if bit < len(_BY_BIT) else _SURROUND for bit in range(32) if mask >> bit & 1]
    if channels == 1 or len(found) != channels or not any(found):
        return np.full(channels, 1 / channels, np.float32)
    order = _VORBIS.get(channels, range(channels)) if vorbis else range(channels)
    return np.array([found[place] for place in order], np.float32)


class Mixer:
    """Mixes blocks, and notices channels that cancel each other."""

    def __init__(self, weights: np.ndarray) -> None:
        self._weights = weights
        self._energy, self._mixed = np.zeros(len(weights)), 0.0

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Samples float32 [n, channels] as [n, 1]."""
        mixed: np.ndarray = block @ self._weights[:, None]
        self._energy += np.einsum("nc,nc->c", block, block, dtype=np.float64)
        self._mixed += float(np.einsum("nc,nc->", mixed, mixed, dtype=np.float64))
        return mixed

    def notes(self) -> list[str]:
        """What was mixed, and how much was lost."""
        said = [f"{len(self._weights)} channels mixed down to one (--channels keeps them)"]
        independent = float(self._weights.astype(np.float64) ** 2 @ self._energy)
        if self._mixed < _LEAST_KEPT * independent:
            said.append(f"channels cancel each other: {1 - self._mixed / independent:.0%} of their energy is lost")
        return said
