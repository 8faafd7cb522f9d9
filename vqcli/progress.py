"""How long work says how far it has come."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

ProgressCallback = Callable[[float], None]  # called with the share that is done, 0 to 1


def silent(share: float) -> None:
    """The default for `progress`: says nothing."""


class Running(TypedDict, total=False):
    """Where long work runs and whom it tells how far it is: `device`, by default "auto", and `progress`."""

    device: str
    progress: ProgressCallback
