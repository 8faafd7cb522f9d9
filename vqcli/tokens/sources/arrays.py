"""What training decodes once: packs, .npz arrays, the files of CIFAR and MNIST, recordings of frames.

A row is an image of the source as data/sources.py opens it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from vqcli.data import classical, recordings, sources
from vqcli.data.source import Source
from vqcli.errors import UsageError
from vqcli.tokens.items import Item, Medium, Value, stamp
from vqcli.tokens.sources import Wanted

LABEL = "label"


def takes(path: Path) -> bool:
    if path.is_file():
        return path.suffix in (".npz", ".safetensors") or classical.folder_of(path) != path
    return classical.read_folder(path) is not None or (path / recordings.FACTS).is_file()


def columns(path: Path, wanted: Wanted) -> dict[str, str]:
    return {LABEL: "str"} if any(label is not None for label in _opened(str(path)).labels) else {}


def items(path: Path, wanted: Wanted) -> Iterator[Item]:
    if wanted.modality != "image":
        raise UsageError(f"{path} holds images", "--model photo-2")
    source = _opened(str(path))
    for row, (name, label) in enumerate(zip(source.names, source.labels, strict=True)):
        labels: tuple[tuple[str, Value], ...] = ((LABEL, label),) if label is not None and wanted.carries(LABEL) else ()
        yield Item(name, "arrays", str(path), (row, 0), labels=labels)


def read(item: Item, wanted: Wanted) -> Medium:
    return Medium(_opened(item.path).read(item.at[0]), dict(item.labels))


def _opened(path: str) -> Source:
    return _kept(path, stamp(path))


@functools.lru_cache(maxsize=4)
def _kept(path: str, of: tuple[int, ...]) -> Source:
    return sources.open_source(Path(path))
