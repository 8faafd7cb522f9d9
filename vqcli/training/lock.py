"""One run at a time in a folder: a file in it names the process, and is locked until that ends, however it ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vqcli.errors import OutputError, UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"
LARGEST = 300  # bytes: a number and the name of a machine


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, which is made if it is not there, and goes again if it stays empty.

    Raises UsageError with the number of the process that holds it, OutputError if the folder cannot be written to.
    Where the system has no locks, the block runs without one.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(folder / NAME)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}", "check the folder") from error
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / NAME).unlink()  # while it is locked: nobody else can have locked it meanwhile
        os.close(descriptor)
        with suppress(OSError):
            for path in made:
                path.rmdir()


def _locked(path: Path) -> int:
    """A descriptor of the locked file. Raises UsageError if another process has it, or OSError."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, LARGEST).decode("utf-8", "replace").partition("\n")[0]
            os.close(descriptor)
            raise UsageError(
                f"another vq train ({holder if holder.isprintable() else '?'}) is at work in {path.parent}",
                "wait for its end, stop it, or give the run another name",
            ) from None
        except OSError:
            pass  # a file system without locks
        if _same(descriptor, path):  # not removed by one that ended between opening and locking
            os.truncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            return descriptor
        os.close(descriptor)


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
