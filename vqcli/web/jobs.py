"""Jobs: one runs at a time, in a thread of its own; a bounded number wait, first come, first served."""

from __future__ import annotations

import secrets
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from vqcli.errors import VqError, explained
from vqcli.progress import ProgressCallback
from vqcli.web.files import Facts, Gone

KEPT = 64  # jobs that are remembered, the oldest go first
WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"


class Full(VqError):
    """As many jobs wait as may."""


class Cancelled(Exception):
    """Ends the work of a job from within its progress."""


class Trouble(msgspec.Struct, frozen=True):
    """Why something was refused or failed: what is wrong, what to do, and the kind of error as in vqcli/errors.py."""

    kind: str
    message: str
    hint: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """What a job made: files by what they are, facts in numbers, and what the user should know."""

    files: dict[str, Facts]
    facts: dict[str, Any] = {}
    notes: tuple[str, ...] = ()


class State(msgspec.Struct, frozen=True):
    """A job as it is now.

    state     "waiting", "running", "done", "failed" or "cancelled"
    position  how many jobs come first, 0 if it runs
    progress  the share that is done, 0 to 1
    result    of a job that is done
    error     of one that failed
    """

    id: str
    call: str
    state: str
    position: int
    progress: float
    took_s: float
    result: Outcome | None = None
    error: Trouble | None = None


Work = Callable[[ProgressCallback], tuple[Outcome, Any]]


@dataclass(eq=False)
class Job:
    """Work and what became of it; `view` is what the page shows of it, if anything."""

    call: str
    work: Work | None = field(repr=False)
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    state: str = WAITING
    progress: float = 0.0
    begun: float = 0.0
    took_s: float = 0.0
    result: Outcome | None = None
    error: Trouble | None = None
    view: Any = field(default=None, repr=False)
    cancelled: bool = False

    @property
    def ended(self) -> bool:
        return self.state not in (WAITING, RUNNING)


class Jobs:
    """The queue of a server. `longest_s` is how long a job may run."""

    def __init__(self, most_waiting: int, longest_s: float) -> None:
        self.most_waiting, self.longest_s = most_waiting, longest_s
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="vq-jobs", daemon=True)
        self._thread.start()

    def add(self, call: str, work: Work) -> Job:
        """Put work at the end of the queue. Raises Full."""
        with self._changed:
            if len(self._waiting()) >= self.most_waiting:
                raise Full(f"{self.most_waiting} jobs wait already", "try again when some are done")
            job = Job(call, work)
            self._jobs[job.id] = job
            for id in [id for id, old in self._jobs.items() if old.ended][: max(0, len(self._jobs) - KEPT)]:
                del self._jobs[id]
            self._changed.notify_all()
        return job

    def get(self, id: str) -> Job:
        """Raises Gone."""
        with self._changed:
            if id not in self._jobs:
                raise Gone(f"there is no job {id}", "the oldest are forgotten")
            return self._jobs[id]

    def cancel(self, id: str) -> Job:
        """End a job that waits or runs; the one that runs ends when it next says how far it is. Raises Gone."""
        job = self.get(id)
        with self._changed:
            job.cancelled = True
            if job.state == WAITING:
                job.state, job.work = CANCELLED, None
        return job

    def state(self, job: Job) -> State:
        with self._changed:
            running = any(each.state == RUNNING for each in self._jobs.values())
            position = self._waiting().index(job) + running if job.state == WAITING else 0
            took_s = time.perf_counter() - job.begun if job.state == RUNNING else job.took_s
            return State(
                job.id, job.call, job.state, position, round(job.progress, 4), round(took_s, 3), job.result, job.error
            )

    def close(self) -> None:
        """End the thread: what waits is dropped, and what runs ends when it next says how far it is."""
        with self._changed:
            self._stopped = True
            for job in self._jobs.values():
                job.cancelled = True
            self._changed.notify_all()
        self._thread.join(timeout=2)

    def _waiting(self) -> list[Job]:
        return [job for job in self._jobs.values() if job.state == WAITING]

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._stopped or self._waiting()):
                    self._changed.wait()
                if self._stopped:
                    return
                job = self._waiting()[0]
                job.state, job.begun = RUNNING, time.perf_counter()
            self._do(job)

    def _do(self, job: Job) -> None:
        """Run a job, whatever becomes of it."""

        def progress(share: float) -> None:
            job.progress = share
            if job.cancelled:
                raise Cancelled
            if time.perf_counter() - job.begun > self.longest_s:
                raise VqError(f"the job took longer than {self.longest_s / 60:g} minutes", "send less at a time")

        work, job.work = job.work, None  # which holds files
        outcome, view, error, state = None, None, None, DONE
        try:
            assert work is not None
            outcome, view = work(progress)
        except Cancelled:
            state = CANCELLED
        except Exception as raised:
            state, error = FAILED, trouble(raised)
        with self._changed:
            job.took_s = time.perf_counter() - job.begun
            job.result, job.view, job.error = outcome, view, error
            job.state = state


def trouble(error: Exception) -> Trouble:
    """An error for the client; a defect of vq is also written to stderr, where it arose and all."""
    known = explained(error)
    if known is None:
        traceback.print_exception(error, file=sys.stderr)
        return Trouble("Defect", f"a defect of vq: {type(error).__name__}", "please report it with the file")
    return Trouble(type(known).__name__, str(known), known.hint)
