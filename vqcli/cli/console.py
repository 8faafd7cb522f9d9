"""How the commands talk: data on stdout, words and bars on stderr."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def say(text: str) -> None:
    """A line for the person, on stderr."""
    print(text, file=sys.stderr, flush=True)


def complain(error: Exception) -> None:
    """An error as one line, and its hint as another."""
    say(f"vq: {error}")
    if hint := getattr(error, "hint", ""):
        say(f"    {hint}")


left_out: list[Exception] = []  # what was wrong with files that the command went on without


def leave_out(error: Exception) -> None:
    """Complain of a file that the command goes on without."""
    left_out.append(error)
    complain(error)


def emit_json(value: Any) -> None:
    """Machine-readable results, on stdout; null for numbers that are none, as JSON has no word for them."""
    print(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False), flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def emit_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """A table on stdout; columns whose cells are all numbers are aligned right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for index, name in enumerate(columns):
        numeric = all(row[index][:1].isdigit() or row[index] in ("", "–") for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric)
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 120
    Console(width=width, highlight=False, markup=False, emoji=False).print(table)


@contextmanager
def progress(label: str, unit: str = "") -> Iterator[Callable[..., None]]:
    """A bar on stderr for work of more than a second; where there is no terminal, a line every minute.

    Yields `advance(share, note="")` with the share done, 0 to 1.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console, transient=True,
    )  # fmt: skip
    task = bar.add_task(label, total=1.0, note="")
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
        bar.update(task, completed=share, note=note)

    try:
        yield advance
    finally:
        if running:
            bar.stop()


def size(size_bytes: int) -> str:
    """Bytes for people: 812 B, 21.3 kB, 4.10 MB (powers of 1000)."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    value, unit = (size_bytes / 1e3, "kB") if size_bytes < 1e6 else (size_bytes / 1e6, "MB")
    return f"{value:.2f} {unit}" if value < 10 else f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"


def speed(length_s: float, took_s: float) -> str:
    """How long a recording took: 3.2 s in 0.1 s, 32 x real time."""
    times = length_s / max(took_s, 1e-9)
    return f"{length_s:.1f} s in {took_s:.1f} s, {times:.{0 if times >= 10 else 1}f} x real time"


def plural(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"
