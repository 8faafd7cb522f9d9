"""What training decodes once: packs, .npz arrays, the files of CIFAR and MNIST, recordings of frames.

A row is an image of the source as data/sources.py opens it. Of stores, .npz files that are not compressed are read.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from vqcli.data import arrays, classical, recordings, sources
from vqcli.data.source import Source
from vqcli.errors import UsageError
from vqcli.files import remote
from vqcli.files.remote import Remote
from vqcli.tokens.items import Item, Medium, Root, Value, stamp, url_of
from vqcli.tokens.sources import Wanted

LABEL = "label"


def takes(root: Root) -> bool:
    path = root.path
    if isinstance(path, Remote):
        return root.suffix in (".npz", ".safetensors")
    if root.is_file:
        return root.suffix in (".npz", ".safetensors") or classical.folder_of(path) != path
    return classical.read_folder(path) is not None or (path / recordings.FACTS).is_file()


def columns(root: Root, wanted: Wanted) -> dict[str, str]:
    return {LABEL: "str"} if any(label is not None for label in _opened(url_of(root.path)).labels) else {}


def items(root: Root, wanted: Wanted) -> Iterator[Item]:
    if wanted.modality != "image":
        raise UsageError(f"{root.path} holds images", "--model photo-2")
    source = _opened(url_of(root.path))
    for row, (name, label) in enumerate(zip(source.names, source.labels, strict=True)):
        labels: tuple[tuple[str, Value], ...] = ((LABEL, label),) if label is not None and wanted.carries(LABEL) else ()
        yield Item(name, "arrays", url_of(root.path), (row, 0), labels=labels)


def read(item: Item, wanted: Wanted) -> Medium:
    return Medium(_opened(item.path).read(item.at[0]), dict(item.labels))


def _opened(path: str) -> Source:
    return _kept(path, stamp(path))


@functools.lru_cache(maxsize=4)
def _kept(path: str, of: tuple[int, ...]) -> Source:
    place = remote.place(path)
    if isinstance(place, Path):
        return sources.open_source(place)
    if place.suffix.lower() != ".npz":
        raise UsageError(f"{place} is a pack, which is read on one machine only", "copy it")
    return arrays.read_npz(place)
