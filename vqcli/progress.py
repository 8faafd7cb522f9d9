"""How long work says how far it has come."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[float], None]  # called with the share that is done, 0 to 1


def silent(share: float) -> None:
    """The default for `report`: says nothing."""
