"""Compilation by numba, kept on disk for the next run where that can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use; the result runs without the interpreter's lock.

    Where neither the package's folder nor the user's cache is writable, each process compiles anew (some seconds).
    """
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba has found no place for its cache
        return njit(nogil=True)(function)
