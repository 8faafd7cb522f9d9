"""Writing files so that nothing is lost: through a temporary name, never over another file unasked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vqcli.errors import OutputError, UsageError


def refuse_existing(path: Path, force: bool) -> None:
    """Raise UsageError if `path` exists and may not be replaced."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder", "name a file")
    if path.exists() and not force:
        raise UsageError(f"{path} exists", "--force replaces it")


@contextmanager
def replacing(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its name when the block ends well.

    After any error inside the block the temporary file is gone and `path` is as it was.
    Raises UsageError if `path` exists without `force`, OutputError if the system refuses
    to write (no such folder, no permission, disk full).
    """
    refuse_existing(path, force)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes private files; a result gets the permissions any new file would have
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}", "check the folder and the free space"
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def numbered(target: Path, tags: Sequence[str], suffix: str, force: bool) -> list[Path]:
    """A file for each of several results: in a folder, with its number, tag and suffix; else `target` with numbers.

    A target without a suffix is a folder, which is made. Raises UsageError if one of the files exists without `force`.
    """
    numbers = [f"{index + 1:03}" for index in range(len(tags))]
    if not target.suffix:
        target.mkdir(parents=True, exist_ok=True)
        paths = [target / f"{number}{tag}{suffix}" for number, tag in zip(numbers, tags, strict=True)]
    elif len(tags) == 1:
        paths = [target]
    else:
        paths = [target.with_name(f"{target.stem}-{number}{target.suffix}") for number in numbers]
    for path in paths:
        refuse_existing(path, force)
    return paths
