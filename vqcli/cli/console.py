"""How the commands talk: data on stdout, words and bars on stderr.

What comes from files, cards and names of files cannot steer a terminal: control characters are shown as escapes.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, TextIO

# C0 but for tab and newline, C1, separators of lines, marks of direction, and bytes of names that are not UTF-8
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Text for a terminal, with newlines and tabs as they are."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def say(text: str) -> None:
    """A line for the person, on stderr; on nothing if that is closed or full."""
    if sys.stderr is None:  # print would take stdout
        return
    try:
        print(printable(text), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        discard(sys.stderr)


def complain(error: Exception) -> None:
    """An error as one line, and its hint as another."""
    say(f"vq: {one_line(str(error))}")
    if hint := getattr(error, "hint", ""):
        say(f"    {one_line(hint)}")


def emit(text: str) -> None:
    """Lines of a result, on stdout. Raises OutputError."""
    with _stdout() as stream:
        stream.write(f"{printable(text)}\n")


left_out: list[Exception] = []  # what was wrong with files that the command went on without


def leave_out(error: Exception) -> None:
    """Complain of a file that the command goes on without."""
    left_out.append(error)
    complain(error)


def emit_json(value: Any) -> None:
    """Machine-readable results, on stdout: in ASCII, so that they are JSON whatever the terminal and the names;
    null for numbers that are none, as JSON has no word for them."""
    emit(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def data_out() -> Iterator[BinaryIO]:
    """The stdout of a command whose result goes there as bytes. Raises OutputError."""
    with _stdout() as stream:
        yield stream.buffer  # type: ignore[attr-defined]


def data_in() -> BinaryIO:
    """The stdin of a command that reads bytes. Raises BadFile if it is closed."""
    from vqcli.errors import BadFile

    if sys.stdin is None:
        raise BadFile("standard input is closed", "name a file")
    return sys.stdin.buffer


@contextmanager
def _stdout() -> Iterator[TextIO]:
    from vqcli.errors import OutputError

    if sys.stdout is None:
        raise OutputError("standard output is closed")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard(sys.stdout)
        raise OutputError(f"cannot write to standard output: {error.strerror or error}") from error


def discard(stream: TextIO | None) -> None:
    """Let the rest of a stream that cannot be written go nowhere: Python would try again at exit."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]


def emit_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """A table on stdout; columns whose cells are all numbers are aligned right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for index, name in enumerate(columns):
        numeric = all(row[index][:1].isdigit() or row[index] in ("", "–") for row in rows)
        table.add_column(one_line(name), justify="right" if numeric else "left", no_wrap=numeric)
    for row in rows:
        table.add_row(*map(one_line, row))
    with _stdout() as stream:
        width = None if stream.isatty() else 120
        Console(file=stream, width=width, highlight=False, markup=False, emoji=False).print(table)


@contextmanager
def progress(label: str, unit: str = "") -> Iterator[Callable[..., None]]:
    """A bar on stderr for work of more than a second; where there is no terminal, a line every minute.

    Yields `advance(share, note="")` with the share done, 0 to 1.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False), console=console, transient=True,
    )  # fmt: skip
    task = bar.add_task(one_line(label), total=1.0, note="")
    begun = time.monotonic()
    last_line = begun
    running = False

    def advance(share: float, note: str = "") -> None:
        nonlocal running, last_line
        if not console.is_terminal and time.monotonic() - last_line > 60:
            say(f"{label}: {share:.1%} {note}".rstrip())
            last_line = time.monotonic()
        if console.is_terminal and not running and time.monotonic() - begun > 1:
            bar.start()
            running = True
        bar.update(task, completed=share, note=one_line(note))

    try:
        yield advance
    finally:
        if running:
            bar.stop()


def size(size_bytes: int) -> str:
    """Bytes for people."""
    from vqcli.files import size_text

    return size_text(size_bytes)


def speed(length_s: float, took_s: float) -> str:
    """How long a recording took: 3.2 s in 0.1 s, 32 x real time."""
    times = length_s / max(took_s, 1e-9)
    return f"{length_s:.1f} s in {took_s:.1f} s, {times:.{0 if times >= 10 else 1}f} x real time"


def plural(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"
