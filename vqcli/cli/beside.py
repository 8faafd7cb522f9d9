"""A call in a process of its own, while this one goes on.

Over the pipe come the jobs that the other process would show, which this one does, and last its result.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from functools import partial
from io import StringIO
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from vqcli import progress
from vqcli.cli import console
from vqcli.cli.bars import Bars, Job

Result = TypeVar("Result")
_THREADS = "OMP_NUM_THREADS"
OFTEN_S = 0.1  # how often a job says how far it is


@contextmanager
def beside(function: Callable[..., Result], *arguments: Any) -> Iterator[Callable[[], Result]]:
    """Begin `function(*arguments)` in another process; yields what waits for the result.

    That raises the function's error. It calls the function here where there is one core, or where no process can begin
    or live. Threads of torch are shared out meanwhile. The function's bars are shown with those of this process; what
    it says on stderr is said with its result.
    """
    here = partial(function, *arguments)
    if _cores() < 2:
        yield here
        return
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, console.volume, function, arguments), daemon=True)
    with _half_the_threads():  # of both processes
        try:
            process.start()
        except OSError:
            ours.close()
            theirs.close()
            yield here
            return
        theirs.close()  # so that its end is seen when the process dies
        received: list[Any] = []
        listener = threading.Thread(target=_listen, args=(ours, received), daemon=True)
        listener.start()
        try:
            yield partial(_result, listener, received, here)
        finally:
            process.terminate()
            process.join()
            listener.join()
            ours.close()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _half_the_threads() -> Iterator[None]:
    """Let torch use half of the cores, so that two processes do not wait for each other in loops.

    What is set before torch and numpy are imported holds for all threads of Python, and later for one alone.
    """
    if "torch" in sys.modules or _THREADS in os.environ:
        yield
        return
    os.environ[_THREADS] = str(max(1, _cores() // 2))
    try:
        yield
    finally:
        del os.environ[_THREADS]


def _listen(pipe: Connection, received: list[Any]) -> None:
    """Show the jobs of the other process until its result comes, which is put into `received`, or until it dies."""
    shown: dict[int, tuple[Job, ExitStack]] = {}
    try:
        while True:
            key, content = pipe.recv()
            if key is None:
                received.append(content)
                return
            if content is None:
                shown.pop(key)[1].close()
            elif key not in shown:
                shown[key] = (content, ExitStack())
                shown[key][1].enter_context(console.bars.job(content))
            else:
                job = shown[key][0]
                job.advance(content.share, content.note)
                console.bars.update(job)
    except (EOFError, OSError):
        return
    finally:
        for _, stack in shown.values():
            stack.close()


class _Shown(Bars):
    """The bars of the other process, which go over the pipe."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe = pipe
        self._sent: dict[Job, float] = {}  # when each job was last sent

    def drawn(self) -> bool:
        return True

    @contextmanager
    def job(self, job: Job, *, after_silence: bool = False) -> Iterator[Job]:
        self._tell(job)
        try:
            yield job
        finally:
            with self._lock:
                self._pipe.send((id(job), None))
                del self._sent[job]

    def update(self, job: Job) -> None:
        if time.monotonic() - self._sent[job] > OFTEN_S:
            self._tell(job)

    def _tell(self, job: Job) -> None:
        with self._lock:
            self._sent[job] = time.monotonic()
            self._pipe.send((id(job), job))


def _result(listener: threading.Thread, received: list[Any], here: Callable[[], Result]) -> Result:
    from vqcli.tokens import answers

    listener.join()
    if not received:  # the process died
        return here()
    said, done, found = received[0]
    if said:
        console.say(said.rstrip())
    if not done:
        raise answers.error_of(*found)
    return found  # type: ignore[no-any-return]


def _serve(pipe: Connection, volume: console.Volume, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """The other process: the result, or the error as its type, its text and its hint."""
    from vqcli.tokens import answers

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a terminal sends to both: the first process decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # temporary files go
    said, results = StringIO(), []
    console.set_volume(volume)
    console.bars = _Shown(pipe)
    progress.watch(console.step)

    def make() -> Any:
        results.append(function(*arguments))

    with redirect_stderr(said):
        error = answers.answer(make)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # from here on there is nothing to tidy up
    pipe.send((None, (said.getvalue(), bool(results), results[0] if results else error)))
