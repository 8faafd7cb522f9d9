"""Shards of `vq tokenize` as data for priors: nothing is encoded during training.

All codes lie one after another in a temporary file that is mapped, so that items in any order take no more memory than
the pages that are in use, and a run goes on exactly, as from images, recordings or clips.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from vqcli.data import split
from vqcli.data.prefetch import in_order
from vqcli.errors import BadFile, UsageError
from vqcli.files import no_room, remote
from vqcli.files.remote import Remote
from vqcli.progress import step
from vqcli.tokens import check, plan
from vqcli.tokens.items import ACTION, url_of
from vqcli.tokens.rows import Row
from vqcli.tokens.store import Store
from vqcli.training.datasets.code_files import require_one_quality
from vqcli.zoo import loading, store

LABELS = ("label", "cls")  # columns that name classes, where a set has one: of folders and tables, of webdataset tars


def is_set(path: Path | Remote) -> bool:
    """Whether a folder is one that `vq tokenize` writes, whole or not. Of stores nothing else is trained on."""
    return isinstance(path, Remote) or (path / plan.PLAN).is_file()


class Codes(NamedTuple):
    """All items of some sets, in the order of the shards.

    names    keys of the items
    sources  names of the folders of their sets
    labels   classes, by the column `label` or `cls`, or else by the folders in the names
    actions  those of the column `action`, None for none
    sizes    what the media were: tokens/rows.py
    failed   how many items could not be tokenized
    starts   where the codes of each begin among `values`, and `shapes` theirs, [groups, ...]
    """

    names: list[str]
    sources: list[str]
    labels: list[str | None]
    actions: list[str | None]
    sizes: list[tuple[int, int, int]]
    failed: int
    starts: list[int]
    shapes: list[tuple[int, ...]]
    values: np.ndarray

    def of(self, index: int) -> np.ndarray:
        """Codes uint16 (uint32 where K is above 65,536) [groups, ...] of an item, not to be written to."""
        shape, start = self.shapes[index], self.starts[index]
        return self.values[start : start + int(np.prod(shape))].reshape(shape)


def read(paths: Sequence[Path | Remote], codec: loading.LoadedModel) -> Codes:
    """The items of sets.

    Raises UsageError for paths that are no such sets, ModelError for sets of another model, BadFile for those that are
    damaged or not whole, Unreachable for a store that does not answer, OutputError if there is no room for the codes.
    """
    for path in paths:
        if not is_set(path):
            raise UsageError(f"{path} is no set of vq tokenize, as others here are", "train on such sets alone")
        settings = plan.read_index(Store(url_of(path))).plan
        store.check_digest(codec.info, settings.model, bytes.fromhex(settings.digest))
    return _read(tuple(paths))


def check_groups(codes: np.ndarray, codec: loading.LoadedModel) -> None:
    """Raise BadFile for codes [groups, ...] of fewer levels than the codec has, or of several channels."""
    groups = len(codec.net.codebook_sizes)
    if len(codes) < groups:
        raise BadFile("its last residual levels were left out")
    if len(codes) > groups:
        raise BadFile(f"it has {len(codes) // groups} channels, and a prior learns one: tokenize with --mono")


class CodeShards:
    """A source (data/sources.py) whose images are grids of codes: uint16 [rows, columns, n_codebooks].

    Names are the keys of items, by which the split is made.
    """

    decoded = True

    def __init__(self, paths: Sequence[Path | Remote], codec: loading.LoadedModel) -> None:
        """Raises UsageError for a codec with qualities, and as `read`."""
        require_one_quality(codec)
        self._codec, self.stride = codec, codec.net.stride
        self._codes = read(paths, codec)
        self.names: Sequence[str] = self._codes.names
        self.labels: Sequence[str | None] = self._codes.labels
        self.held_out: Sequence[bool] = split.held_out(self.names)

    def read(self, index: int) -> np.ndarray:
        """uint16 (uint32 where K is above 65,536) [rows, columns, n_codebooks]. Raises BadFile."""
        codes = self._codes.of(index)
        check_groups(codes, self._codec)
        return np.ascontiguousarray(codes.transpose(1, 2, 0))


@lru_cache(maxsize=1)  # what is trained on and what is held out lie in the same shards
def _read(paths: tuple[Path | Remote, ...]) -> Codes:
    found = Codes([], [], [], [], [], 0, [], [], np.empty(0, np.uint16))
    end = failed = 0
    width: np.dtype[Any] = np.dtype(np.uint16)
    with tempfile.TemporaryFile() as stream:
        for path in paths:
            place = Store(url_of(path))
            index = plan.read_index(place)
            failed += index.failed
            width = np.dtype(np.uint32) if max(index.plan.codebook_sizes) > 2**16 else width
            column = next((name for name in LABELS if name in index.plan.columns), None)
            names, given = [], []
            for rows in _shards(place, index):
                for row in rows:
                    _written(stream, np.ascontiguousarray(row.codes, width))
                    found.starts.append(end)
                    found.shapes.append(row.codes.shape)
                    found.sizes.append(row.size)
                    end += row.codes.size
                    names.append(split.printable(row.key))
                    given.append(row.labels.get(column) if column else None)
                    found.actions.append(_text(row.labels.get(ACTION)))
            found.names.extend(names)
            found.sources.extend([(path.resolve() if isinstance(path, Path) else path).name] * len(names))
            found.labels.extend(map(_text, given) if column else split.labels(names))
        _written(stream)
        values = np.memmap(stream, width, mode="r", shape=(end,)) if end else found.values
    return found._replace(values=values, failed=failed)


def _shards(place: Store, index: plan.Index) -> Iterator[list[Row]]:
    """The rows of each shard; the next one is read meanwhile, as a store may be far away."""

    def read(number: int) -> list[Row]:
        return check.read_shard(place, index.plan, index.shards[number])

    rows = in_order(read, range(len(index.shards)), workers=2, prefetch=2)
    with step(f"copying the codes of {remote.place(place.place)}"), closing(rows):
        yield from rows


def _written(stream: IO[bytes], codes: np.ndarray | None = None) -> None:
    """Append codes, or None: leave nothing in the buffer. Raises OutputError if there is no room."""
    try:
        stream.flush() if codes is None else stream.write(codes.tobytes())
    except OSError as error:
        raise no_room("codes", error) from error


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
