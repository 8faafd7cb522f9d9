"""What can go wrong, as one tree.

    VqError                 1   anything vq says about itself
    ├── UsageError          2   the call makes no sense: options, names, an output that exists
    │   └── ForeignOption   2   an option that the medium at hand does not have
    ├── BadFile             3   an input is not what it should be
    │   └── DamagedChunks   3   a .vqz file is whole but for the chunks it names
    ├── ModelError          4   a model is missing, or is not the one that a file was made with
    ├── UnknownLabel        5   no such class or speaker
    └── OutputError         6   a result cannot be written

The number is the exit status of the command line; 130 means interrupted. The
message is one line that says what is wrong, `hint` one line that says what to do.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class VqError(Exception):
    """The root of every error that vq raises on purpose."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(VqError):
    exit_code = 2


class ForeignOption(UsageError):
    """`option`, as Python spells it, was set and is for other `media` than what is `here`: "this is an image"."""

    def __init__(self, option: str, media: str, here: str) -> None:
        super().__init__(f"{option} is for {media}, and {here}", f"leave {option} out")
        self.option, self.media, self.here = option, media, here


class BadFile(VqError):
    exit_code = 3


class DamagedChunks(BadFile):
    """`chunks` holds the index of each chunk that failed its checksum."""

    def __init__(self, message: str, chunks: tuple[int, ...], hint: str = "") -> None:
        super().__init__(message, hint)
        self.chunks = chunks


class ModelError(VqError):
    exit_code = 4


class UnknownLabel(VqError):
    exit_code = 5


class OutputError(VqError):
    exit_code = 6


_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.EPIPE))


def of_memory(error: BaseException) -> bool:
    """Whether there is too little memory, in the words of Python or of torch."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate" in str(error))


def explained(error: BaseException) -> VqError | None:
    """What the system or the interpreter refuses, as one line and an exit status; None for a defect of vq.

    That is OSError, MemoryError (or torch's words for it), RecursionError and UnicodeError.
    """
    if isinstance(error, VqError):
        return error
    if isinstance(error, OSError):
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        message = ": ".join([*names, error.strerror or str(error) or type(error).__name__])
        if error.errno in _NO_ROOM:
            return OutputError(message, "check the folder and the free space")
        return BadFile(message)
    if of_memory(error):
        return VqError("not enough memory", "close other programs, or work on smaller parts")
    if isinstance(error, RecursionError):
        return BadFile("an input is nested too deeply to be read")
    if isinstance(error, UnicodeDecodeError):
        return BadFile(f"an input is not {error.encoding} text, at byte {error.start}")
    if isinstance(error, UnicodeError):
        return UsageError(f"text that cannot be written: {error}", "use other names, or PYTHONUTF8=1")
    return None


MOST_NAMES = 20  # that a hint lists


def near_matches(name: str, known: Iterable[str], command: str = "") -> str:
    """A hint that lists the known names most like `name`, or all of them if none is; `command` shows them, if any."""
    names = sorted(known)
    begun = [other for other in names if name and other.startswith(name)]
    close = [
        *begun,
        *(other for other in difflib.get_close_matches(name, names, n=3, cutoff=0.5) if other not in begun),
    ][:3]
    if close:
        return f"did you mean {' or '.join(close)}?" + f" {command} lists all" * bool(command)
    if command:
        return f"{command} lists all"
    more = f" and {len(names) - MOST_NAMES} more" * (len(names) > MOST_NAMES)
    return f"known: {', '.join(names[:MOST_NAMES])}{more}" if names else ""
