"""Compilation by numba, cached on disk where that is writable."""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba import njit
from numba.core import event
from numba.core.caching import FunctionCache, IndexDataCacheFile

from vqcli.progress import step

_FOLDERS = ("entropy", "nets")  # sources that compiled functions depend on
_DIGEST_BYTES = hashlib.sha256().digest_size
_SAID: set[str] = set()  # kinds of trouble that this process has spoken of


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile on first use; the result runs without the interpreter's lock. `options` are numba's.

    Where neither the package's folder nor the user's cache is writable, each process compiles anew (some seconds).
    """
    dispatcher = njit(nogil=True, **options)(function)
    try:
        dispatcher._cache = _Cache(function)
    except (RuntimeError, AttributeError, TypeError, OSError):
        pass  # numba has no place for its cache, or another implementation of it
    return dispatcher


def folder() -> Path | None:
    """Where the compiled functions of this file would be kept; None if there is no place that can be written."""
    kept = getattr(compiled(lambda: None), "_cache", None)
    return Path(kept.cache_path) if isinstance(kept, _Cache) else None


class _Cache(FunctionCache):
    """Numba's cache of one function, which no damage and no full disk can stop: then it is compiled again.

    Its keys depend on all sources that may be compiled into a function. Numba checks the file of the function alone;
    functions that it calls from other files would stay outdated when these change, as with a new version of vq.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # whatever unpickling or linking makes of it
            _say_once("damage", f"compiled code in {self._cache_path} cannot be loaded, and is made anew: {error!r}")
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _say_once("no place", f"compiled code cannot be kept in {self._cache_path}: {error.strerror or error}")
            self.disable()

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _digest())


class _Files(IndexDataCacheFile):
    """A file for each signature and processor, named by a hash of them, with a digest of what it holds.

    Numba numbers its files and keeps the numbers in an index. Processes that begin together give one number to two
    signatures, so that a function may run the code of the other; and what it loads it trusts, damaged or not.
    """

    def load(self, key: Any) -> Any:
        """What was saved under a key; None if nothing was, or if it is of other sources, or damaged."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        digest, data = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            _say_once("damage", f"compiled code in {self._cache_path} is damaged, and is made anew")
            return None
        if not data.startswith(self._version_of(key)):
            return None
        return pickle.loads(data[_DIGEST_BYTES:])

    def save(self, key: Any, data: Any) -> None:
        content = self._version_of(key) + self._dump(data)
        with self._open_for_write(str(self._path(key))) as stream:
            stream.write(hashlib.sha256(content).digest() + content)

    def flush(self) -> None:
        """Forget what is there."""
        for path in Path(self._cache_path).glob(f"{self._index_name.removesuffix('.nbi')}.*.nbc"):
            path.unlink(missing_ok=True)

    def _path(self, key: Any) -> Path:
        signature, processor, *_ = key
        name = hashlib.sha256(repr((signature, processor)).encode()).hexdigest()[:16]
        return Path(self._cache_path, f"{self._index_name.removesuffix('.nbi')}.{name}.nbc")

    def _version_of(self, key: Any) -> bytes:
        """Digest of all that a file must be newer than: it takes the place of one of before."""
        return hashlib.sha256(repr((key, numba.__version__, self._source_stamp)).encode()).digest()


def _say_once(kind: str, line: str) -> None:
    if kind not in _SAID:
        _SAID.add(kind)
        logging.getLogger("vqcli").warning("vq: %s", line)  # on stderr, unless a program has it elsewhere


class _Compiling(event.Listener):
    """Says that compilation is under way, of which functions that call others make several at once."""

    def __init__(self) -> None:
        self._steps: list[AbstractContextManager[None]] = []

    def on_start(self, started: event.Event) -> None:
        self._steps.append(step("compiling for this processor, once, about 10 s") if not self._steps else nullcontext())
        self._steps[-1].__enter__()

    def on_end(self, ended: event.Event) -> None:
        self._steps.pop().__exit__(None, None, None)


event.register("numba:compile", _Compiling())


@cache
def _digest() -> str:
    package = Path(__file__).parent.parent
    sources = sorted(path for folder in _FOLDERS for path in (package / folder).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
