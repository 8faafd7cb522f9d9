"""Positions of the boxers in frames of Atari Boxing (data/games.py), to compare decoded frames with originals.

One boxer is white and the other black, and nothing else in the ring is either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vqcli.data.games import SIDE
from vqcli.errors import UsageError

GAME = "boxing"
RING = slice(15, 70), slice(17, 67)  # rows and columns within the ropes: score, clock and the name below are left out
WHITE, BLACK = 170, 60  # the darkest value of white in any channel, the lightest of black
LEAST = 20  # pixels of a boxer, who has at least 43 in the original frames
NEAR = 8.0  # pixels, about half of a boxer's height


@dataclass(frozen=True)
class Places:
    """Distances of the boxers in decoded frames to those in the originals.

    found_true, found_drawn  shares of the frames that show both boxers
    distance                 pixels, mean over the boxers found in both; `distance_other`: to those of another frame
    kept                     share of the frames where both are found within NEAR pixels of their positions
    kept_other               of their positions in another frame
    """

    found_true: float
    found_drawn: float
    distance: float
    distance_other: float
    kept: float
    kept_other: float


def find(frames: np.ndarray) -> np.ndarray:
    """Row and column of the white and the black boxer, float64 [N, 2, 2], in frames uint8 [N, SIDE, SIDE, 3].

    The centroid of the pixels of that colour, NaN if there are too few. Raises UsageError for frames of another size.
    """
    if frames.shape[1:] != (SIDE, SIDE, 3):
        raise UsageError(
            f"frames {list(frames.shape[1:])} are not frames of boxing", f"they are {SIDE} x {SIDE}, in colour"
        )
    ring = frames[:, *RING]
    colours = np.stack([ring.min(3) >= WHITE, ring.max(3) <= BLACK], 1)  # (N, 2, rows, columns)
    count = colours.sum((2, 3))  # (N, 2)
    rows, columns = (np.arange(part.start, part.stop) for part in RING)
    sums = np.stack([colours.sum(3) @ rows, colours.sum(2) @ columns], 2)  # (N, 2, 2)
    return np.where(count[..., None] >= LEAST, sums / np.maximum(count, 1)[..., None], np.nan)


def compare(true: np.ndarray, decoded: np.ndarray, others: np.ndarray) -> Places:
    """Places in frames uint8 [N, SIDE, SIDE, 3] and in their decoded frames; others[i] is a frame other than i."""
    places, found = find(true), find(decoded)
    own, other = (np.linalg.norm(found - where, axis=2) for where in (places, places[others]))  # (N, 2)
    return Places(
        found_true=_both(~np.isnan(places[..., 0])),
        found_drawn=_both(~np.isnan(found[..., 0])),
        distance=_mean(own),
        distance_other=_mean(other),
        kept=_both(own <= NEAR),
        kept_other=_both(other <= NEAR),
    )


def _both(boxers: np.ndarray) -> float:
    return float(boxers.all(1).mean())


def _mean(distances: np.ndarray) -> float:
    found = distances[~np.isnan(distances)]
    return float(found.mean()) if len(found) else float("nan")
