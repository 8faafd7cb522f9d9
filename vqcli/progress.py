"""How long work says how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypedDict

ProgressCallback = Callable[[float], None]  # called with the share that is done, 0 to 1
Watcher = Callable[[str], AbstractContextManager[object]]  # given what is done, open while it is

_watcher: Watcher = nullcontext


def silent(share: float) -> None:
    """The default for `progress`: says nothing."""


class Running(TypedDict, total=False):
    """Where long work runs and whom it tells how far it is: `device`, by default "auto", and `progress`."""

    device: str
    progress: ProgressCallback


def watch(watcher: Watcher) -> None:
    """Call `watcher` for the steps of this process, in place of the one before; any thread may begin one."""
    global _watcher
    _watcher = watcher


@contextmanager
def step(what: str) -> Iterator[None]:
    """Work that no caller asked for by name and that may take seconds, such as "loading model photo-2"."""
    with _watcher(what):
        yield


def duration(seconds: float) -> str:
    """42 s, 12 min, 1 h 28 min."""
    minutes = int(seconds // 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
