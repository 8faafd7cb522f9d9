"""Compilation of float loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vqcli.entropy import jit as integers


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """As vqcli.entropy.jit.compiled, for floats: division by zero gives infinity instead of an error.

    The check for such errors would keep loops from being vectorised. A product and a sum may be fused, but sums
    keep their order, so a result does not depend on how much is computed at once.
    """
    return integers.compiled(function, error_model="numpy", fastmath={"contract"})
