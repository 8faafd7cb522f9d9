"""What every place of pictures looks like from outside (sources.py opens them)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Source(Protocol):
    """Pictures with names that are stable and distinct; entry i of each sequence is about picture i."""

    names: Sequence[str]
    labels: Sequence[str | None]
    held_out: Sequence[bool]  # by split.held_out, of the names as they were first
    decoded: bool  # reading decodes nothing, so keeping the result gains nothing
    stride: int  # pixels, each way, that an entry of an array stands for: 1, or that of a codec where arrays are codes

    def read(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3], not to be written to; any thread may call. Raises BadFile."""
