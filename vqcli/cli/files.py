"""Many files through one command: a line for each, what was skipped, what failed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import accumulate, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from vqcli.cli import console
from vqcli.cli.options import Running

if TYPE_CHECKING:
    from vqcli.batch import Job, Plan

Result = TypeVar("Result")
# Suffixes of images and recordings that are known for such, and not read
UNREAD_IMAGES = (".jp2", ".j2k", ".jxl", ".psd", ".exr", ".hdr", ".tga", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".svg")
UNREAD_SOUNDS = (".m4a", ".aac", ".wma", ".amr", ".ape", ".wv", ".ac3", ".mka", ".dsf")
UNREAD = {"image": UNREAD_IMAGES, "audio": UNREAD_SOUNDS}
PAST = {"export": "exported", "import": "imported"}  # of verbs that end in no e


def taken(inputs: list[Path], suffixes: Collection[str], unread: Collection[str] = ()) -> list[Job]:
    """Files, and those of folders with one of `suffixes`, for a command that writes none for each.

    What of folders is left out is complained of, as are files with a suffix of `unread`.
    """
    from vqcli import batch
    from vqcli.errors import BadFile

    plan = batch.plan(inputs, Path(), suffixes, "", unread)
    for path, reason in plan.left_out:
        console.leave_out(BadFile(f"{path}: {reason}"))
    return plan.jobs


def process(
    plan: Plan,
    work: Callable[[Job], Result],
    describe: Callable[[Job, Result], tuple[str, dict[str, Any]]],
    verb: str,
    running: Running,
) -> None:
    """Do the jobs of a plan, say the line of each that `describe` makes of its result, or all facts as JSON at the end.

    `verb` is the command: "encode". Leaves with status 3 if some of several files failed or were left out; of a single
    file the error is raised.
    """
    from vqcli import batch

    rows: list[dict[str, Any]] = []
    failed = skipped = 0
    with _bar(plan, verb) as done:
        for outcome in batch.run(plan.jobs, work, force=running.force):
            if outcome.error:
                failed += 1
                console.complain(outcome.error)
            elif outcome.skipped:
                skipped += 1
            elif outcome.result is not None:
                line, facts = describe(outcome.job, outcome.result)
                console.say(line)
                rows.append(facts)
            done()
    if skipped:
        console.say(f"{console.plural(skipped, 'file')} skipped, already there (--force {verb}s again)")
    if running.as_json:
        console.emit_json(rows)
    if plan.left_out:
        verbose = console.volume == console.Volume.VERBOSE
        console.warn(f"vq: {len(plan.left_out)} left out" + (":" if verbose else " (-v lists them)"))
        for path, reason in plan.left_out:
            console.detail(f"  {path}: {reason}")
    if failed:
        console.warn(f"vq: {console.plural(failed, 'file')} could not be {PAST.get(verb, f'{verb}d')}")
    if failed or plan.left_out:
        raise typer.Exit(3)


@contextmanager
def _bar(plan: Plan, verb: str) -> Iterator[Callable[[], None]]:
    """A bar of all files if there are several; yields what is called after each."""
    if len(plan.jobs) == 1:
        yield lambda: None
        return
    sizes = [size_of(job.source) for job in plan.jobs]
    behind = accumulate(sizes, initial=0)
    of = console.plural(len(sizes), "file")
    with console.progress(f"vq {verb}", total=sum(sizes)) as progress:
        numbers = count()

        def advance() -> None:
            progress(next(behind) / max(sum(sizes), 1), f"{next(numbers)} of {of}")

        advance()
        yield advance


def size_of(source: Path) -> int:
    """Bytes of a file, or of all files in a folder; 0 of what is not there or is a stream."""
    try:
        if not source.is_dir():
            return source.stat().st_size
        return sum(path.stat().st_size for path in source.iterdir() if path.is_file())
    except OSError:
        return 0


def suffix_named(format: str) -> str:
    """The suffix of files of a format: ".png" of png or .png. Raises UsageError for what can be no suffix."""
    from vqcli.errors import UsageError

    name = format.removeprefix(".")
    if not name.isalnum():
        raise UsageError(f"--format {format} names no format", "a suffix, such as png, flac or npz")
    return f".{name}"


def refuse_foreign(output: Path | None) -> None:
    """Raise UsageError if a .vqz file would get the name of another format."""
    from vqcli.codec import exchange
    from vqcli.errors import UsageError
    from vqcli.media import audio, image, video

    if output is None or output.is_dir():
        return
    others = (*image.SUFFIXES, *audio.SUFFIXES, *video.SUFFIXES, *UNREAD_IMAGES, *UNREAD_SOUNDS)
    exported = tuple(f".{name}" for name in exchange.FORMATS)
    suffix = output.suffix.lower()
    if suffix in (*others, *exported):
        hint = f"name it {output.with_suffix('.vqz')}" + "; vq export writes codes as arrays" * (suffix in exported)
        raise UsageError(f"{output} would be a .vqz file that is named {suffix}", hint)
