"""Shards of `vq tokenize` as a data source for priors: nothing is encoded during training.

All codes lie one after another in a temporary file that is mapped, so that items in any order take no more memory than
the pages that are in use, and a run goes on exactly, as from images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vqcli.data import split
from vqcli.errors import BadFile, UsageError
from vqcli.tokens import check, plan
from vqcli.tokens.store import Store
from vqcli.training.datasets.code_files import require_one_quality
from vqcli.zoo import loading, store

LABELS = ("label", "cls")  # columns that name classes, where a set has one: of folders and tables, of webdataset tars


def is_set(path: Path) -> bool:
    """Whether a folder is one that `vq tokenize` writes, whole or not."""
    return path.is_dir() and (path / plan.PLAN).is_file()


class _Codes(NamedTuple):
    """The codes of all items: where those of each begin among `values`, and their shapes [groups, rows, columns]."""

    names: list[str]
    labels: list[str | None]
    starts: list[int]
    shapes: list[tuple[int, ...]]
    values: np.ndarray


class CodeShards:
    """A source (data/sources.py) whose images are grids of codes: uint16 [rows, columns, n_codebooks].

    Names are the keys of items. Classes are those of the column `label` or `cls`, or else of the folders in the
    names, by which the split is made too.
    """

    decoded = True

    def __init__(self, paths: Sequence[Path], codec: loading.LoadedModel) -> None:
        """Raises UsageError for paths that are no such sets, or a codec with qualities; ModelError for sets of another
        model; BadFile for those that are damaged or not whole."""
        require_one_quality(codec)
        for path in paths:
            if not is_set(path):
                raise UsageError(f"{path} is no set of vq tokenize, as others here are", "train on such sets alone")
            settings = plan.read_index(Store(str(path))).plan
            store.check_digest(codec.info, settings.model, bytes.fromhex(settings.digest))
        self._groups, self.stride = len(codec.net.codebook_sizes), codec.net.stride
        self._codes = _read(tuple(paths))
        self.names: Sequence[str] = self._codes.names
        self.labels: Sequence[str | None] = self._codes.labels
        self.held_out: Sequence[bool] = split.held_out(self.names)

    def read(self, index: int) -> np.ndarray:
        """uint16 (uint32 where K is above 65,536) [rows, columns, n_codebooks]. Raises BadFile."""
        shape, start = self._codes.shapes[index], self._codes.starts[index]
        if len(shape) != 3 or shape[0] != self._groups:
            raise BadFile("its last residual levels were left out")
        codes = self._codes.values[start : start + int(np.prod(shape))].reshape(shape)
        return np.ascontiguousarray(codes.transpose(1, 2, 0))


@lru_cache(maxsize=1)  # what is trained on and what is held out lie in the same shards
def _read(paths: tuple[Path, ...]) -> _Codes:
    found = _Codes([], [], [], [], np.empty(0, np.uint16))
    end = 0
    width: np.dtype[Any] = np.dtype(np.uint16)
    with tempfile.TemporaryFile() as stream:
        for path in paths:
            place = Store(str(path))
            index = plan.read_index(place)
            width = np.dtype(np.uint32) if max(index.plan.codebook_sizes) > 2**16 else width
            column = next((name for name in LABELS if name in index.plan.columns), None)
            names, given = [], []
            for record in index.shards:
                for row in check.read_shard(place, index.plan, record):
                    stream.write(np.ascontiguousarray(row.codes, width).tobytes())
                    found.starts.append(end)
                    found.shapes.append(row.codes.shape)
                    end += row.codes.size
                    names.append(split.printable(row.key))
                    given.append(row.labels.get(column) if column else None)
            found.names.extend(names)
            found.labels.extend(
                [None if each is None else str(each) for each in given] if column else split.labels(names)
            )
        stream.flush()
        values = np.memmap(stream, width, mode="r", shape=(end,)) if end else found.values
    return found._replace(values=values)
