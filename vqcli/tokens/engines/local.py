"""Processes of this machine, one shard at a time each; one worker is this process itself.

A process that dies is replaced, and its shard made again. When this process dies, the others see the end of their pipe
and leave; what they were writing gets its name whole or not at all.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from vqcli.errors import UsageError, VqError
from vqcli.tokens import engines
from vqcli.tokens.answers import answer, record_of
from vqcli.tokens.plan import Moved, Record, Shard

if TYPE_CHECKING:
    from vqcli.tokens.work import Task

WORK = "vqcli.tokens.work"  # what workers import
MOST = 4  # workers on an accelerator, unless the user chooses
TRIES = 3  # of a shard whose worker dies


def prepare(workers: int | None, address: str | None = None) -> None:
    """Let the process from which workers are forked import what they need, while this one does so too.

    Raises UsageError for an address: there is none.
    """
    if address is not None:
        raise UsageError("--address is for --engine ray, and this is local", "leave it out")
    if workers != 1 and _method() == "forkserver":
        multiprocessing.get_context("forkserver").set_forkserver_preload([WORK])
        forkserver.ensure_running()


def run(
    task: Task, shards: Iterable[Shard], workers: int | None, address: str | None, moved: Moved
) -> Iterator[Record]:
    """The records of shards as they are done. `workers` None: one a core, MOST at most with an accelerator."""
    from vqcli.tokens.work import Worker

    count = workers or _workers(task)
    if count == 1:
        worker = None
        for shard in shards:
            worker = worker or Worker(task)
            yield worker.make(shard, partial(moved, shard.number))
        return
    pool = _Pool(task, moved)
    try:
        yield from pool.run(iter(shards), count)
    finally:
        pool.close()


def _method() -> str:
    """How workers begin: forked from a process that has no threads and has imported torch, or anew."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def _workers(task: Task) -> int:
    from vqcli.zoo.loading import pick_device

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if pick_device(task.device).type == "cpu" else min(cores, MOST)


class _Pool:
    """Worker processes by their pipe, and the shard that each works on."""

    def __init__(self, task: Task, moved: Moved) -> None:
        self._context: Any = multiprocessing.get_context(_method())
        self._task, self._moved = task, moved
        self._processes: dict[Connection, Any] = {}
        self._working: dict[Connection, Shard] = {}
        self._lost: Counter[int] = Counter()

    def run(self, shards: Iterator[Shard], count: int) -> Iterator[Record]:
        again: list[Shard] = []
        while True:
            while len(self._working) < count and (shard := again.pop() if again else next(shards, None)):
                self._give(shard)
            if not self._working:
                return
            for pipe in wait(list(self._working)):
                assert isinstance(pipe, Connection)
                shard = self._working.pop(pipe)
                try:
                    found = pipe.recv()
                except (EOFError, ConnectionResetError):
                    again.append(self._dead(pipe, shard))
                    continue
                if isinstance(found, int):
                    self._working[pipe] = shard
                    self._moved(shard.number, found)
                    continue
                yield record_of(found)

    def _give(self, shard: Shard) -> None:
        """A shard to a worker that waits, or to a new one."""
        pipe = next((pipe for pipe in self._processes if pipe not in self._working), None)
        if pipe is None:
            pipe, theirs = self._context.Pipe()
            process = self._context.Process(
                target=_serve, args=(theirs, self._task, engines.environment()), daemon=True
            )
            process.start()
            theirs.close()  # so that its end is seen when the process dies
            self._processes[pipe] = process
        self._working[pipe] = shard
        with suppress(OSError):  # a worker that died while it waited: its pipe says so
            pipe.send(shard)

    def _dead(self, pipe: Connection, shard: Shard) -> Shard:
        """The shard of a worker that died. Raises VqError when that has happened too often."""
        process = self._processes.pop(pipe)
        process.join()
        pipe.close()
        self._lost[shard.number] += 1
        if self._lost[shard.number] == TRIES:
            raise VqError(
                f"shard {shard.number}: {TRIES} workers died of it, the last with status {process.exitcode}",
                "too little memory? fewer --workers, or a smaller --per-shard",
            )
        return shard

    def close(self) -> None:
        for pipe, process in self._processes.items():
            if pipe in self._working:
                process.terminate()
            pipe.close()  # which ends one that waits
        for process in self._processes.values():
            process.join()


def _serve(pipe: Connection, task: Task, environment: dict[str, str]) -> None:
    """A worker process: shards in, records out, until the pipe ends; in between, how many items of a shard are
    done. An error is its type, its text and its hint."""
    from vqcli.tokens.work import Worker

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the terminal sends to all: the first process decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # temporary files go
    os.environ.update(environment)
    worker = None

    def make(shard: Shard) -> Record:
        nonlocal worker
        worker = worker or Worker(task)
        return worker.make(shard, pipe.send)

    while True:
        try:
            shard = pipe.recv()
        except (EOFError, OSError):
            return
        found = answer(partial(make, shard))
        try:
            pipe.send(found)
        except OSError:
            return
