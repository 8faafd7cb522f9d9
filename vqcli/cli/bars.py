"""Bars on stderr for what takes more than a second: one display for the process, whose lines come and go.

A line is there for each job that is under way: with a bar and the time left if it says how far it is, else with the
time that has passed. Terminals alone have bars.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from vqcli.progress import duration

APPEARS_S = 1.0


@dataclass(eq=False)
class Job:
    """Work under way, and how far it is.

    share    that is done, 0 to 1; None for work that does not say
    count    of items, 0 if it is not of items; `unit` is what they are called
    total    of bytes, 0 if it is not of bytes
    around   it is all that the process does: shown while nothing else is
    """

    label: str
    count: int = 0
    unit: str = ""
    total: int = 0
    around: bool = False
    share: float | None = None
    note: str = ""
    begun: float = field(default_factory=time.monotonic)
    first: tuple[float, float] = (0.0, 0.0)  # when it first said how far it was, and how far

    def advance(self, share: float, note: str = "") -> None:
        if self.share is None:  # what was resumed does not begin at 0, and what was loaded before is no work of it
            self.first = (time.monotonic(), share) if share > 0 else (self.begun, 0.0)
        self.share, self.note = share, note

    def said(self) -> str:
        """How far it is in items and bytes, the time left, or that which has passed."""
        from vqcli.files import size_text

        now = time.monotonic()
        if self.share is None:
            return f"{duration(now - self.begun)} so far"
        done = self.share + 1e-9
        parts = [f"{int(done * self.count)} of {self.count} {self.unit}"] if self.count else []
        parts += [f"{size_text(int(done * self.total))} of {size_text(self.total)}"] if self.total else []
        since, at = self.first
        if self.share > at:
            parts.append(f"{duration((now - since) * max(0.0, 1 - self.share) / (self.share - at))} left")
        return ", ".join([*parts, self.note] if self.note else parts)


class Bars:
    """The display. Its methods may be called in any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._live: Any = None
        self._jobs: dict[Job, Any] = {}  # their lines, None for what is not shown yet
        self._spoken = time.monotonic()

    def drawn(self) -> bool:
        """Whether jobs are shown anywhere."""
        return on_terminal(sys.stderr)

    @contextmanager
    def job(self, job: Job, *, after_silence: bool = False) -> Iterator[Job]:
        """Show a job while it is under way, once it has taken a second, or nothing was said for as long."""
        if not self.drawn():
            yield job
            return
        silent_s = time.monotonic() - self._spoken if after_silence else 0.0
        timer = threading.Timer(max(0.0, APPEARS_S - silent_s), self._show, [job])
        timer.daemon = True
        with self._lock:
            self._jobs[job] = None
        timer.start()
        try:
            yield job
        finally:
            timer.cancel()
            self._end(job)

    def update(self, job: Job) -> None:
        with self._lock:
            line = self._jobs.get(job)
            if line is not None:
                self._live.update(line, completed=job.share or 0.0, total=None if job.share is None else 1.0)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Nothing is shown meanwhile, as something else is written to the terminal."""
        with self._lock:
            self._spoken = time.monotonic()
            shown = [job for job, line in self._jobs.items() if line is not None]
            if self._live is not None:  # a display that starts again would go over what was written meanwhile
                self._live.stop()
                self._live = None
            self._jobs |= dict.fromkeys(shown)
            try:
                yield
            finally:
                for job in shown:
                    self._show(job)

    def _show(self, job: Job) -> None:
        with self._lock:
            if job in self._jobs:  # it has not ended meanwhile
                self._add(job)

    def _add(self, job: Job) -> None:
        if self._live is None:
            self._live = _display()
            self._live.start()
        self._jobs[job] = self._live.add_task(job.label, total=None, job=job)
        self.update(job)
        self._step_back()

    def _step_back(self) -> None:
        shown = {job: line for job, line in self._jobs.items() if line is not None}
        for job, line in shown.items():
            self._live.update(line, visible=not job.around or len(shown) == 1)

    def _end(self, job: Job) -> None:
        with self._lock:
            line = self._jobs.pop(job)
            if line is None:
                return
            self._live.remove_task(line)
            if not any(each is not None for each in self._jobs.values()):
                self._live.stop()
                self._live = None
            else:
                self._step_back()


def on_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal that can go back in a line."""
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    except ValueError:  # it is closed
        return False


def _display() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class Said(ProgressColumn):
        max_refresh = 0.1

        def render(self, task: Task) -> Text:
            return Text(task.fields["job"].said())

    class Share(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.total is None else f"{task.percentage:3.0f} %")

    # what is written to stdout is data, and stays there: whoever writes it to a terminal hides the display
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        Share(),
        Said(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
    )
