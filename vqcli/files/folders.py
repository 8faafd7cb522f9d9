"""Files in folders, none left out in silence, and how large they are."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from vqcli.errors import BadFile


class LeftOut(NamedTuple):
    """Something in a folder that is not read, and why."""

    path: Path
    reason: str


def below(folder: Path) -> tuple[list[Path], list[LeftOut]]:
    """The files anywhere in a folder, sorted, and what cannot be read: folders, links to folders, and what is no file.

    What is hidden (.git, ._photo.jpg) is neither. Links to folders are not followed.
    """
    found: list[Path] = []
    left_out: list[LeftOut] = []

    def refused(error: OSError) -> None:
        left_out.append(LeftOut(Path(error.filename or folder), error.strerror or type(error).__name__))

    for name, folders, files in os.walk(folder, onerror=refused):
        here = Path(name)
        folders[:] = [each for each in folders if each[0] != "."]
        left_out += [LeftOut(here / each, "a link to a folder") for each in folders if (here / each).is_symlink()]
        for path in (here / each for each in files if each[0] != "."):
            try:
                if stat.S_ISREG(path.stat().st_mode):
                    found.append(path)
                else:
                    left_out.append(LeftOut(path, "neither a file nor a folder"))
            except OSError as error:
                reason = "a link to nothing" if path.is_symlink() else error.strerror or type(error).__name__
                left_out.append(LeftOut(path, reason))
    return sorted(found), sorted(left_out)


def files_below(folder: Path) -> list[Path]:
    """The files of `below`, links to folders and the like left out. Raises BadFile if a folder in it cannot be read."""

    found, left_out = below(folder)
    for path, reason in left_out:
        if path.is_dir() and not path.is_symlink():
            raise BadFile(f"{path} cannot be read: {reason}", "change its permissions, or move it elsewhere")
    return found


def size_text(size_bytes: int) -> str:
    """Bytes for people: 812 B, 21.3 kB, 4.10 MB (powers of 1000)."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    value, unit = (size_bytes / 1e3, "kB") if size_bytes < 1e6 else (size_bytes / 1e6, "MB")
    return f"{value:.2f} {unit}" if value < 10 else f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"
