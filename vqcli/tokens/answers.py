"""What a worker answers: the record of a shard, or an error in words, as it crosses to the process that waits for it.

answer(lambda: worker.make(shard))        in the worker
record_of(found)                          where the answer arrives
"""

from __future__ import annotations

import traceback
from collections.abc import Callable

from vqcli import errors
from vqcli.errors import VqError, explained
from vqcli.tokens.plan import Record

Answer = Record | tuple[str, str, str]  # of an error its type, its text and its hint; the type is "" for a defect


def answer(make: Callable[[], Record]) -> Answer:
    """What `make` returns, or the error that it raises."""
    try:
        return make()
    except Exception as error:
        known = explained(error)
        if known is None:
            return "", traceback.format_exc(), ""
        return type(known).__name__, str(known), known.hint


def record_of(found: Answer) -> Record:
    """The record. Raises the error of the worker."""
    if not isinstance(found, Record):
        raise error_of(*found)
    return found


def error_of(kind: str, text: str, hint: str) -> Exception:
    """The error of a worker, here."""
    if not kind:
        return RuntimeError(f"in a worker:\n{text}")
    found = getattr(errors, kind, VqError)
    if found in (errors.DamagedChunks, errors.ForeignOption):
        found = found.__mro__[1]
    error: Exception = found(text, hint)
    return error
