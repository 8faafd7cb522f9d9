"""Streams, which have no name that can be trusted, no known length, and often cannot be sought in."""

from __future__ import annotations

import contextlib
import io
import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from vqcli.errors import BadFile, OutputError

if TYPE_CHECKING:
    import numpy as np

IN_MEMORY = 2**25  # bytes of a file for a stream; beyond, it lies in a temporary file
LONGEST = 2**32  # bytes that are read of a stream, which may never end; a .vqz file or WAV holds no more either
PIECE = 2**20  # bytes read at once
LARGEST_ARRAY = 2**28  # bytes; beyond, it lies in a temporary file


def name_of(source: Any) -> str:
    """What messages call a path or an open file: the name that it was opened by, if it has one."""
    name = source if isinstance(source, Path) else getattr(source, "name", None)
    return "the input" if name in (None, "", "<stdin>") or isinstance(name, int) else str(name)


def spooled(stream: BinaryIO, stack: contextlib.ExitStack, head: bytes = b"") -> BinaryIO:
    """A pipe's bytes, behind those already taken from it, as a stream that can be read again while `stack` is open.

    They lie in memory, or if they are more than IN_MEMORY in a temporary file. Raises BadFile for more than LONGEST,
    OutputError if there is no room for them.
    """
    copy = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=IN_MEMORY))  # noqa: SIM115
    piece = head or stream.read(PIECE)
    while piece:
        if copy.tell() + len(piece) > LONGEST:
            most = f"{LONGEST:,} bytes, as many as are read of a stream"
            raise BadFile(f"{name_of(stream)} is longer than {most}", "name a file")
        try:
            copy.write(piece)
        except OSError as error:
            raise no_room(f"a copy of {name_of(stream)}", error) from error
        piece = stream.read(PIECE)
    copy.seek(0)
    return copy  # type: ignore[return-value]  # it has all that readers ask for


class LargeFile(io.BufferedReader):
    """The bytes of a large file, which lie in a temporary one, with what readers of a BytesIO ask for."""

    def getbuffer(self) -> memoryview:
        """All bytes, which are in memory as far as they are looked at."""
        return memoryview(mmap.mmap(self.fileno(), 0, access=mmap.ACCESS_READ))

    def getvalue(self) -> bytes:
        return bytes(self.getbuffer())


Body = io.BytesIO | LargeFile


def body_of(stream: BinaryIO, max_bytes: int, head: bytes = b"") -> Body:
    """The first `max_bytes` of a stream, behind those already taken from it, whatever becomes of the stream.

    They lie in memory, or if they are more than IN_MEMORY in a temporary file. Raises OutputError if there is no room
    for them, and the errors of the stream.
    """
    copy: Any = io.BytesIO(head)
    copy.seek(0, os.SEEK_END)
    # piece by piece: one read of so much asks for a buffer of so much, whatever the file holds
    while copy.tell() < max_bytes and (piece := stream.read(min(PIECE, max_bytes - copy.tell()))):
        try:
            if isinstance(copy, io.BytesIO) and copy.tell() + len(piece) > IN_MEMORY:
                small, copy = copy, tempfile.TemporaryFile()  # noqa: SIM115
                copy.write(small.getbuffer())
            copy.write(piece)
        except OSError as error:
            raise no_room(f"a copy of {name_of(stream)}", error) from error
    copy.seek(0)
    return copy if isinstance(copy, io.BytesIO) else LargeFile(copy.detach())


def storage(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of zeros, or any numbers; of more than LARGEST_ARRAY bytes in a temporary file. Raises OutputError."""
    import numpy as np

    size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    if size_bytes <= LARGEST_ARRAY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:  # it lives as long as the map
        try:
            os.posix_fallocate(file.fileno(), 0, size_bytes) if hasattr(os, "posix_fallocate") else None
        except OSError as error:
            raise no_room("an image", error) from error
        return np.memmap(file, dtype, "r+", shape=shape)


def release(array: np.ndarray) -> None:
    """Give back the memory of an array in a temporary file, which can be read again."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED)


def no_room(what: str, error: OSError) -> OutputError:
    """What to raise where a temporary file cannot be written."""
    return OutputError(
        f"no room for {what} in {tempfile.gettempdir()}: {error.strerror or error}",
        "TMPDIR names another folder for temporary files",
    )


@contextmanager
def seekable(target: BinaryIO) -> Iterator[BinaryIO]:
    """What is written in the block, to a stream at its end: headers of many formats are filled in last.

    It lies in memory, or if it is of more than IN_MEMORY bytes in a temporary file. The errors of the stream are its
    own.
    """
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as copy:
        yield copy  # type: ignore[misc]  # it has all that writers ask for
        copy.seek(0)
        shutil.copyfileobj(copy, target)
        target.flush()
