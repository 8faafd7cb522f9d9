"""The interface of all sources of images (sources.py opens them)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from vqcli.files.remote import Remote


class Source(Protocol):
    """Images with names that are stable and distinct; entry i of each sequence is about image i."""

    names: Sequence[str]
    labels: Sequence[str | None]
    held_out: Sequence[bool]  # by split.held_out, of the original names
    decoded: bool  # reading decodes nothing, so caching is useless
    stride: int  # pixels, each way, that an entry of an array stands for: 1, or that of a codec where arrays are codes

    def read(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3], not to be written to; any thread may call. Raises BadFile."""


Given = Source | Sequence[Path | Remote]  # what a run is trained on: images, or paths of files and folders
