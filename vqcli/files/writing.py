"""Writing so that nothing is lost: never over another file unasked.

A result is written to `.vq-<random>.tmp` in its own folder, which takes the name of the result in one step. Its writer
holds a lock on it: what has the name and no lock was left by a process that was killed, and goes when the next command
writes to that folder.
"""

from __future__ import annotations

import functools
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from vqcli.errors import OutputError, UsageError
from vqcli.files.streams import seekable

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and nothing is taken for left over
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = re.compile(r"\.vq-[0-9a-f]{16}\.tmp")
HINT = "check the folder and the free space"


def refuse_existing(path: Path, force: bool) -> None:
    """Raise UsageError if `path` exists and may not be replaced, OutputError if that cannot be known.

    A link exists wherever it points. What keeps nothing that could be lost, as a pipe or /dev/null, may be written to.
    """
    with _writing(path):
        if path.is_dir():
            raise UsageError(f"{path} is a folder", "name a file")
        if not force and os.path.lexists(path) and not _is_sink(path):
            raise UsageError(f"{path} exists", "--force replaces it")


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there. Raises OutputError."""
    with _writing(path, "make the folder"):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def replacing(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its name when the block ends well, and is then on disk.

    After any error inside the block the temporary file is gone and `path` is as it was. A file that is replaced hands
    on its permissions; links stay, and the file that they lead to is replaced; pipes and devices are written to.
    Raises UsageError if `path` exists without `force`, or does so by the end of the block; OutputError if the system
    refuses to write (no such folder, no permission, disk full).
    """
    refuse_existing(path, force)
    with _writing(path):
        old = _status(path)
        if old is not None and not stat.S_ISREG(old.st_mode):
            with path.open("wb") as device, seekable(device) as stream:
                yield stream
            return
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        sweep(target.parent)
        mode = 0o666 if old is None else stat.S_IMODE(old.st_mode) & 0o777
        temporary, descriptor = _create(target.parent, mode)
        try:
            with os.fdopen(descriptor, "w+b") as stream:
                if old is not None and hasattr(os, "fchmod"):
                    os.fchmod(descriptor, mode)  # whatever the umask
                yield stream
                stream.flush()
                os.fsync(descriptor)
                if fcntl is None:
                    stream.close()  # Windows does not rename open files
                try:
                    _publish(temporary, target, force)
                except FileExistsError:
                    raise UsageError(f"{path} exists: it was written meanwhile", "--force replaces it") from None
        finally:
            temporary.unlink(missing_ok=True)
        _sync(target.parent)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """An empty folder in `parent`, which is gone after the block unless it was given another name there."""
    sweep(parent)
    path = _temporary_name(parent)
    path.mkdir()
    descriptor = os.open(path, os.O_RDONLY) if fcntl else None  # Windows does not open folders
    try:
        if descriptor is not None:
            _lock(descriptor)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


@functools.lru_cache(maxsize=1024)  # once a folder: writing many files into a large one does not list it each time
def sweep(folder: Path) -> None:
    """Remove what processes that were killed have left in a folder."""
    if fcntl is None:
        return
    with suppress(OSError):
        for path in [Path(entry) for entry in os.scandir(folder) if _TEMPORARY.fullmatch(entry.name)]:
            with suppress(OSError):
                _remove_abandoned(path)


def numbered(target: Path, tags: Sequence[str], suffix: str, force: bool) -> list[Path]:
    """A file for each of several results: in a folder, with its number, tag and suffix; else `target` with numbers.

    A target without a suffix is a folder, which is made; so is one that is there. Raises UsageError if one of the files
    exists without `force`.
    """
    numbers = [f"{index + 1:03}" for index in range(len(tags))]
    if not target.suffix or target.is_dir():
        make_folder(target)
        paths = [target / f"{number}{tag}{suffix}" for number, tag in zip(numbers, tags, strict=True)]
    elif len(tags) == 1:
        paths = [target]
    else:
        paths = [target.with_name(f"{target.stem}-{number}{target.suffix}") for number in numbers]
    for path in paths:
        refuse_existing(path, force)
    return paths


@contextmanager
def _writing(path: Path, what: str = "write") -> Iterator[None]:
    """What the system refuses within the block is an OutputError that names the path."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot {what} {path}: {error.strerror or error}", HINT) from error


def _status(path: Path) -> os.stat_result | None:
    """Of what is at `path`, or where links from there lead; None if there is nothing."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_sink(path: Path) -> bool:
    status = _status(path)
    return status is not None and (stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode))


def _temporary_name(folder: Path) -> Path:
    return folder / f".vq-{secrets.token_hex(8)}.tmp"


def _create(folder: Path, mode: int) -> tuple[Path, int]:
    """A new temporary file and a descriptor that holds its lock."""
    while True:
        path = _temporary_name(folder)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        # another process may have swept it away before it was locked
        if _lock(descriptor) and path.exists():
            return path, descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Whether no other process holds the lock. Where there are no locks, nothing is swept away either."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
    return True


def _remove_abandoned(path: Path) -> None:
    """Raises OSError (BlockingIOError) if a process is still writing it."""
    folder = path.is_dir() and not path.is_symlink()
    access = os.O_RDONLY if folder else os.O_RDWR  # which network file systems want for a lock
    descriptor = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if folder:
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(descriptor)


def _publish(temporary: Path, target: Path, force: bool) -> None:
    """Give a finished file its name, in one step. Raises FileExistsError without `force` if there is such a file."""
    if not force:
        try:
            os.link(temporary, target)
            return
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links: reserve the name first
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        temporary.replace(target)
    except OSError:
        if not force:
            target.unlink()
        raise


def _sync(folder: Path) -> None:
    """The new name of a file onto the disk; not all systems can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
