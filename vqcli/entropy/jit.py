"""Compilation by numba, cached on disk where that is writable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit

_FOLDERS = ("entropy", "nets")  # sources that compiled functions depend on


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile on first use; the result runs without the interpreter's lock. `options` are numba's.

    Where neither the package's folder nor the user's cache is writable, each process compiles anew (some seconds).
    """
    try:
        dispatcher = njit(cache=True, nogil=True, **options)(function)
        _follow_sources(dispatcher._cache)
    except (RuntimeError, AttributeError):  # numba has no place for its cache, or another implementation of it
        return njit(nogil=True, **options)(function)
    return dispatcher


def _follow_sources(cache: Any) -> None:
    """Make the keys of a function's cache depend on all sources that may be compiled into it.

    Numba checks the file of the function alone. Functions that it calls from other files are compiled into it too, and
    would stay outdated when these change, as with a new version of this package.
    """
    key_of = cache._index_key
    cache._index_key = lambda signature, codegen: (*key_of(signature, codegen), _digest())


@cache
def _digest() -> str:
    package = Path(__file__).parent.parent
    sources = sorted(path for folder in _FOLDERS for path in (package / folder).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
