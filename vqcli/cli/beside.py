"""A call in a process of its own, while this one goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from functools import partial
from io import StringIO
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from vqcli.cli import console

Result = TypeVar("Result")
_THREADS = "OMP_NUM_THREADS"


@contextmanager
def beside(function: Callable[..., Result], *arguments: Any) -> Iterator[Callable[[], Result]]:
    """Begin `function(*arguments)` in another process; yields what waits for the result.

    That raises the function's error. It calls the function here where there is one core, or where no process can begin
    or live. Threads of torch are shared out meanwhile. What the function says on stderr is said with its result.
    """
    here = partial(function, *arguments)
    if _cores() < 2:
        yield here
        return
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, function, arguments), daemon=True)
    with _half_the_threads():  # of both processes
        try:
            process.start()
        except OSError:
            ours.close()
            theirs.close()
            yield here
            return
        theirs.close()  # so that its end is seen when the process dies
        try:
            yield partial(_result, ours, here)
        finally:
            process.terminate()
            process.join()
            ours.close()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _half_the_threads() -> Iterator[None]:
    """Let torch use half of the cores, so that two processes do not wait for each other in loops.

    What torch and numpy are told before their import holds for all threads of Python, and later for one alone.
    """
    if "torch" in sys.modules or _THREADS in os.environ:
        yield
        return
    os.environ[_THREADS] = str(max(1, _cores() // 2))
    try:
        yield
    finally:
        del os.environ[_THREADS]


def _result(pipe: Connection, here: Callable[[], Result]) -> Result:
    from vqcli.tokens import answers

    try:
        said, done, found = pipe.recv()
    except (EOFError, OSError):  # the process died
        return here()
    if said:
        console.say(said.rstrip())
    if not done:
        raise answers.error_of(*found)
    return found  # type: ignore[no-any-return]


def _serve(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """The other process: the result, or the error as its type, its text and its hint."""
    from vqcli.tokens import answers

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a terminal sends to both: the first process decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # temporary files go
    said, results = StringIO(), []

    def make() -> Any:
        results.append(function(*arguments))

    with redirect_stderr(said):
        error = answers.answer(make)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # from here on there is nothing to tidy up
    pipe.send((said.getvalue(), bool(results), results[0] if results else error))
