"""Compilation by numba, kept on disk for the next run where that can be written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit

_FOLDERS = ("entropy", "nets")  # what compiled functions are made of: each other, and constants of the nets


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile on first use; the result runs without the interpreter's lock. `options` are numba's.

    Where neither the package's folder nor the user's cache is writable, each process compiles anew (some seconds).
    """
    try:
        dispatcher = njit(cache=True, nogil=True, **options)(function)
        _follow_sources(dispatcher._cache)
    except (RuntimeError, AttributeError):  # numba has found no place for its cache, or keeps it otherwise by now
        return njit(nogil=True, **options)(function)
    return dispatcher


def _follow_sources(kept: Any) -> None:
    """Make the key of what is kept depend on all sources that it may come from.

    Numba looks at the file of the function alone. What it calls from other files is compiled into it too, and would
    stay as it was when these change, as with a new version of this package.
    """
    key_of = kept._index_key
    kept._index_key = lambda signature, codegen: (*key_of(signature, codegen), _digest())


@cache
def _digest() -> str:
    package = Path(__file__).parent.parent
    sources = sorted(path for folder in _FOLDERS for path in (package / folder).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
