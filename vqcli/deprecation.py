"""Names that were public once and have better ones now: they go on for one release, with a warning."""

from __future__ import annotations

import warnings
from typing import Any


def warn(old: str, new: str) -> None:
    """Say where it is used that a name is about to go."""
    warnings.warn(f"{old} is now {new}; the old name goes with the next release", DeprecationWarning, stacklevel=3)


def renamed(old: str, new: str) -> Any:
    """The old name of an attribute, as a property that warns."""

    def get(self: Any) -> Any:
        warn(f"{type(self).__name__}.{old}", f".{new}")
        return getattr(self, new)

    return property(get, doc=f"Deprecated: see `{new}`.")
