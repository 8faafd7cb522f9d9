"""Compilation of float loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vqcli.entropy import jit as integers


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """As vqcli.entropy.jit.compiled, for floats: division by zero gives infinity instead of an error.

    The check for such errors would keep loops from being vectorised. A product and a sum may be fused, but sums
    keep their order, so a result does not depend on how much is computed at once.
    """
    return integers.compiled(function, error_model="numpy", fastmath={"contract"}, **options)


def part(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `compiled`, to be called by compiled functions alone.

    What unpacks a net's arrays for calls from Python compiles as long as many a function.
    """
    return compiled(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)
