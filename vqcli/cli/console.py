"""How the commands talk: data on stdout, words and bars on stderr; of words -q leaves errors, and -v adds some.

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
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from vqcli.cli.bars import Bars, Job, on_terminal

# C0 but for tab and newline, C1, separators of lines, marks of direction, and bytes of names that are not UTF-8
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Text for a terminal, with newlines and tabs as they are."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


class Volume(IntEnum):
    """How much is said."""

    QUIET = 0  # what went wrong
    NORMAL = 1
    VERBOSE = 2  # also which model, how long, what was left out


volume = Volume.NORMAL
bars = Bars()  # or those of another process, see beside.py


def set_volume(to: Volume) -> None:
    global volume
    volume = to


def warn(text: str) -> None:
    """A line on what went wrong, on stderr; on nothing if that is closed or full."""
    if sys.stderr is None:  # print would take stdout
        return
    try:
        with bars.hidden():
            print(printable(text), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        discard(sys.stderr)


def say(text: str) -> None:
    """A line for the person, unless it is to be quiet."""
    if volume >= Volume.NORMAL:
        warn(text)


def detail(text: str) -> None:
    """A line that -v asks for."""
    if volume >= Volume.VERBOSE:
        warn(text)


def complain(error: Exception) -> None:
    """An error as one line, and its hint as another."""
    warn(f"vq: {one_line(str(error))}")
    if hint := getattr(error, "hint", ""):
        warn(f"    {one_line(hint)}")


def emit(text: str) -> None:
    """Lines of a result, on stdout. Raises OutputError."""
    with _hidden(), _stdout() as stream:
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


def _hidden() -> AbstractContextManager[None]:
    """No bars while text is written to stdout, if that is the terminal that they are on."""
    return bars.hidden() if on_terminal(sys.stdout) else nullcontext()


def open_page(page: Path | str) -> None:
    """Show a page, a file or a URL, in the browser, if there is one."""
    import webbrowser

    if not webbrowser.open(page if isinstance(page, str) else page.resolve().as_uri()):
        say(f"no browser was found: open {page} yourself")


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
    with _hidden(), _stdout() as stream:
        width = None if stream.isatty() else 120
        Console(file=stream, width=width, highlight=False, markup=False, emoji=False).print(table)


@contextmanager
def progress(label: str, count: int = 0, unit: str = "", total: int = 0) -> Iterator[Callable[..., None]]:
    """A bar on stderr for work of more than a second; where there is no terminal, a line every minute.

    `count` items, each a `unit`, and `total` bytes are what there is to do, and 0 where that says nothing.
    Yields `advance(share, note="")` with the share done, 0 to 1.
    """
    job = Job(one_line(label), count, unit + "s" * (count != 1), total)
    last_line = time.monotonic()
    terminal = bars.drawn()

    def advance(share: float, note: str = "") -> None:
        nonlocal last_line
        job.advance(share, one_line(note))
        if terminal:
            bars.update(job)
        elif time.monotonic() - last_line > 60:
            say(f"{label}: {share:.1%} {note}".rstrip())
            last_line = time.monotonic()

    with bars.job(job) if volume >= Volume.NORMAL else nullcontext():
        yield advance


@contextmanager
def step(what: str, around: bool = False) -> Iterator[None]:
    """A line while something is done that nobody asked for by name, once nothing was said for a second.

    `around` all others: shown while there is none.
    """
    begun = time.monotonic()
    job = Job(one_line(what), around=around)
    with bars.job(job, after_silence=True) if volume >= Volume.NORMAL else nullcontext():
        yield
    detail(f"{what}: {time.monotonic() - begun:.1f} s")


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
