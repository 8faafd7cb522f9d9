"""Integers of what a net makes, the same ones on every machine.

A net in floating point gives each machine another result: other instructions, threads and tiles sum in another order.
In float64 they differ by some 1e-13 of what they make. So two machines round differently only where a number lies as
near as that to a boundary between two integers. The encoder lists what lies within GUARD, a million times as far, with
the way it went, and the list travels with the file. A net in integers, as the entropy model is, would need no list; but
it would be another net, trained and stored beside this one, and this way serves every net as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vqcli.errors import BadFile

GUARD = 1e-6  # of a step: how far two machines may differ
FARTHEST = 1 << 24  # in steps: numbers beyond are taken for it

Listed = dict[int, bool]  # numbers near a boundary: position in the flat array, and whether it was rounded up


def rounded(values: np.ndarray, listed: Mapping[int, bool] | None = None) -> tuple[np.ndarray, Listed]:
    """Values float64, in steps of their grid, as int32 of the same shape; and what was near a boundary.

    An encoder gives no list and gets one. With it a decoder, whose values differ by less than GUARD, gets the same
    integers, and the list back. Raises BadFile for positions that there are not.
    """
    finite = np.nan_to_num(values, nan=0.0, posinf=FARTHEST, neginf=-FARTHEST).clip(-FARTHEST, FARTHEST).ravel()
    floor = np.floor(finite)
    rest = finite - floor
    up = rest >= 0.5
    if listed is None:
        near = np.flatnonzero(np.abs(rest - 0.5) < GUARD)
        listed = dict(zip(near.tolist(), up[near].tolist(), strict=True))
    elif listed:
        if not 0 <= min(listed) <= max(listed) < up.size:
            raise BadFile(f"a list of roundings goes beyond the {up.size} numbers that were rounded")
        up[list(listed)] = list(listed.values())
    return (floor.astype(np.int32) + up).astype(np.int32).reshape(values.shape), dict(listed)
