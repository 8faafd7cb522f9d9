"""Parquet and Arrow files, or folders of them, as Hugging Face data sets lay them out. Needs pyarrow (extra `parquet`).

The medium is a column of bytes, or a struct of `bytes` and `path`; the columns of text and numbers are labels. A row
group is read at once, so that rows of one shard are read from the disk once.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vqcli.data.split import printable
from vqcli.errors import BadFile, UsageError, VqError
from vqcli.files import remote
from vqcli.files.remote import Remote, Unreachable
from vqcli.tokens.items import Item, Medium, Named, Root, Value, stamp, url_of
from vqcli.tokens.sources import Wanted, folders, unread

SUFFIXES = (".parquet", ".arrow")
LARGEST_GROUP = 2**32  # bytes of a row group, unpacked
_lock = threading.Lock()  # one thread reads a row group, the others wait for it


def takes(root: Root) -> bool:
    return bool(root.ending(*SUFFIXES))


def columns(root: Root, wanted: Wanted) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in root.ending(*SUFFIXES).values():
        try:
            schema = _opened(url_of(file)).schema
        except BadFile:
            continue
        for name, type in _columns(schema, wanted).items():
            if found.setdefault(name, type) != type:
                raise BadFile(
                    f"{file}: column {name} is {type}, and {found[name]} in the files before it",
                    "make them one type, or name the columns to carry: --columns",
                )
    return found


def items(root: Root, wanted: Wanted) -> Iterator[Item]:
    for stem, file in root.ending(*SUFFIXES).items():
        try:
            table = _opened(url_of(file))
            _medium(table.schema, wanted, file)
            for group, rows in enumerate(table.rows):
                for row in range(rows):
                    key = f"{stem.rpartition('.')[0]}/{table.starts[group] + row:08d}"
                    yield Item(printable(key), "tables", url_of(file), (group, row))
        except (UsageError, Unreachable):
            raise
        except VqError as error:
            yield unread(file, error)


def read(item: Item, wanted: Wanted) -> Medium:
    group, row = item.at
    table = _opened(item.path)
    name = _medium(table.schema, wanted, remote.place(item.path))
    batch = _group(item.path, group, (name, *_columns(table.schema, wanted)))
    value = batch.column(name)[row].as_py()
    labels: dict[str, Value] = {key: batch.column(key)[row].as_py() for key in batch.schema.names if key != name}
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
        if data is None and isinstance(path, str):
            return Medium(folders.medium_of(remote.place(item.path).parent / Path(path).name), labels)
        value = data
    if not isinstance(value, bytes):
        raise BadFile(f"{item.key}: column {name} holds no bytes")
    return Medium(Named(value, item.key), labels)


class _Table:
    """A file: its schema, and how many rows each group has."""

    def __init__(self, path: str) -> None:
        pa, parquet = _pyarrow()
        place = remote.place(path)
        try:
            if place.suffix.lower() == ".parquet":
                self._open = ExitStack()
                source = str(place) if isinstance(place, Path) else self._open.enter_context(place.open())
                self._file = parquet.ParquetFile(source)
                self.schema = self._file.schema_arrow
                self.rows = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
            else:
                self._file = None
                self._batches = _batches(pa, place)
                self.schema = self._batches[0].schema
                self.rows = [batch.num_rows for batch in self._batches]
        except Unreachable:
            raise
        except Exception as error:  # on hostile bytes the readers raise arbitrary exceptions
            raise BadFile(f"{place} cannot be read: {' '.join(str(error).split())[:200]}") from None
        self.starts = [sum(self.rows[:group]) for group in range(len(self.rows))]
        self._path = str(place)

    def group(self, group: int, names: tuple[str, ...]) -> Any:
        if self._file is None:
            return self._batches[group].select(list(names))
        try:
            size = self._file.metadata.row_group(group).total_byte_size
            if size > LARGEST_GROUP:
                raise BadFile(f"{self._path}: a row group of {size} bytes is too large")
            return self._file.read_row_group(group, columns=list(names), use_threads=False)
        except VqError:
            raise
        except Exception as error:
            raise BadFile(f"{self._path} is damaged: {' '.join(str(error).split())[:200]}") from None


def _batches(pa: Any, place: Path | Remote) -> list[Any]:
    """Record batches of an Arrow file or stream: in a memory map, or of a store in memory."""
    mapped = pa.memory_map(str(place)) if isinstance(place, Path) else pa.BufferReader(place.read(LARGEST_GROUP))
    try:
        reader = pa.ipc.open_file(mapped)
        return [reader.get_batch(i) for i in range(reader.num_record_batches)]
    except pa.ArrowInvalid:
        mapped.seek(0)
        return list(pa.ipc.open_stream(mapped))


def _opened(path: str) -> _Table:
    return _kept(path, stamp(path))


@functools.lru_cache(maxsize=8)
def _kept(path: str, of: tuple[int, ...]) -> _Table:
    return _Table(path)


@functools.lru_cache(maxsize=2)
def _kept_group(path: str, of: tuple[int, ...], group: int, names: tuple[str, ...]) -> Any:
    return _opened(path).group(group, names)


def _group(path: str, group: int, names: tuple[str, ...]) -> Any:
    with _lock:
        return _kept_group(path, stamp(path), group, names)


def _medium(schema: Any, wanted: Wanted, file: Path | Remote) -> str:
    """The column of the media. Raises UsageError if there is none."""
    pa, _ = _pyarrow()

    def holds(type: Any) -> bool:
        if pa.types.is_struct(type):
            return any(field.name == "bytes" for field in type)
        return bool(pa.types.is_binary(type) or pa.types.is_large_binary(type))

    found = [field.name for field in schema if holds(field.type)]
    if wanted.medium is not None:
        found = [name for name in found if name == wanted.medium]
    likely = [name for name in found if name in (wanted.modality, "image", "img", "audio", "bytes")]
    if not found:
        what = wanted.medium or f"of {wanted.modality}s"
        raise UsageError(f"{file} has no column {what} with bytes", f"--column names it: {', '.join(schema.names)}")
    return (likely or found)[0]


def _columns(schema: Any, wanted: Wanted) -> dict[str, str]:
    """Texts and numbers of a table: name to type."""
    pa, _ = _pyarrow()
    tests = {
        "str": lambda t: pa.types.is_string(t) or pa.types.is_large_string(t),
        "int": lambda t: pa.types.is_integer(t) or pa.types.is_boolean(t),
        "float": pa.types.is_floating,
    }
    found = {}
    for field in schema:
        kind = next((name for name, test in tests.items() if test(field.type)), None)
        if kind and wanted.carries(field.name):
            found[field.name] = kind
    return found


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise UsageError("Parquet and Arrow need an extra", "pip install 'vqcli[parquet]'") from None
    return pa, parquet
