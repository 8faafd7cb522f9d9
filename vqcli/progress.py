"""How long work says how far it has come."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

Report = Callable[[float], None]  # called with the share that is done, 0 to 1


def silent(share: float) -> None:
    """The default for `report`: says nothing."""


class Running(TypedDict, total=False):
    """Where long work runs and whom it tells how far it is: `device`, by default "auto", and `report`."""

    device: str
    report: Report
