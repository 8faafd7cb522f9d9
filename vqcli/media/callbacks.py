"""Files for libraries that call back from C, where an exception would be printed and forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, TypeVar

Result = TypeVar("Result")


class CallbackFile:
    """A stream that keeps its first error, and from then on reads as ended and takes what is written to nowhere.

    Call `check` after each call of the library: it raises that error.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._error: BaseException | None = None

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def write(self, data: bytes) -> int:
        return self._try(lambda: self._stream.write(data), len(data))

    def read(self, size: int = -1) -> bytes:
        return self._try(lambda: self._stream.read(size), b"")

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._try(lambda: self._stream.seek(offset, whence), 0)

    def tell(self) -> int:
        return self._try(self._stream.tell, 0)

    def seekable(self) -> bool:
        return True

    def flush(self) -> None:
        self._try(self._stream.flush, None)

    def _try(self, call: Callable[[], Result], otherwise: Result) -> Result:
        if self._error is None:
            try:
                return call()
            except BaseException as error:  # a signal that ends the process is one, too
                self._error = error
        return otherwise
