"""What training decodes once: packs, .npz arrays, the files of CIFAR and MNIST, recordings of frames.

A row is an image of the source as data/sources.py opens it. A frame of a recording has the action taken after it. Of
stores, .npz files that are not compressed are read.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from vqcli.data import arrays, classical, recordings, sources
from vqcli.data.source import Source
from vqcli.errors import UsageError
from vqcli.files import remote
from vqcli.files.remote import Remote
from vqcli.tokens.items import ACTION, Item, Medium, Root, Value, stamp, url_of
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
    found = {LABEL: _opened(url_of(root.path)).labels, ACTION: _actions(root.path)}
    return {name: "str" for name, values in found.items() if any(value is not None for value in values)}


def items(root: Root, wanted: Wanted) -> Iterator[Item]:
    if wanted.modality != "image":
        raise UsageError(f"{root.path} holds images", "--model photo-2")
    source = _opened(url_of(root.path))
    known = {LABEL: source.labels, ACTION: _actions(root.path)}
    carried = {name: values for name, values in known.items() if values and wanted.carries(name)}
    for row, name in enumerate(source.names):
        given: Iterator[tuple[str, Value]] = ((column, values[row]) for column, values in carried.items())
        labels = tuple((column, value) for column, value in given if value is not None)
        yield Item(name, "arrays", url_of(root.path), (row, 0), labels=labels)


def read(item: Item, wanted: Wanted) -> Medium:
    return Medium(_opened(item.path).read(item.at[0]), dict(item.labels))


def _actions(path: Path | Remote) -> Sequence[str | None]:
    """The action after each frame of a recording, None where it is unknown; () for what is no recording."""
    if isinstance(path, Remote) or not (path / recordings.FACTS).is_file():
        return ()
    files = recordings.episode_files(path).values()
    return [
        action for file in files for action in recordings.read_actions(file) or [None] * recordings.count_frames(file)
    ]


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
