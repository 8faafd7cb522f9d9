"""What training decodes once: packs, .npz arrays, the files of CIFAR and MNIST, recordings of frames.

A row is an image of the source as data/sources.py opens it. A frame of a recording has the action taken after it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from vqcli.data import classical, recordings, sources
from vqcli.data.source import Source
from vqcli.errors import UsageError
from vqcli.tokens.items import ACTION, Item, Medium, Value, stamp
from vqcli.tokens.sources import Wanted

LABEL = "label"


def takes(path: Path) -> bool:
    if path.is_file():
        return path.suffix in (".npz", ".safetensors") or classical.folder_of(path) != path
    return classical.read_folder(path) is not None or (path / recordings.FACTS).is_file()


def columns(path: Path, wanted: Wanted) -> dict[str, str]:
    found = {LABEL: _opened(str(path)).labels, ACTION: _actions(path)}
    return {name: "str" for name, values in found.items() if any(value is not None for value in values)}


def items(path: Path, wanted: Wanted) -> Iterator[Item]:
    if wanted.modality != "image":
        raise UsageError(f"{path} holds images", "--model photo-2")
    source = _opened(str(path))
    known = {LABEL: source.labels, ACTION: _actions(path)}
    carried = {name: values for name, values in known.items() if values and wanted.carries(name)}
    for row, name in enumerate(source.names):
        given: Iterator[tuple[str, Value]] = ((column, values[row]) for column, values in carried.items())
        labels = tuple((column, value) for column, value in given if value is not None)
        yield Item(name, "arrays", str(path), (row, 0), labels=labels)


def read(item: Item, wanted: Wanted) -> Medium:
    return Medium(_opened(item.path).read(item.at[0]), dict(item.labels))


def _actions(path: Path) -> Sequence[str | None]:
    """The action after each frame of a recording, None where it is unknown; () for what is no recording."""
    if not (path / recordings.FACTS).is_file():
        return ()
    files = recordings.episode_files(path).values()
    return [
        action for file in files for action in recordings.read_actions(file) or [None] * recordings.count_frames(file)
    ]


def _opened(path: str) -> Source:
    return _kept(path, stamp(path))


@functools.lru_cache(maxsize=4)
def _kept(path: str, of: tuple[int, ...]) -> Source:
    return sources.open_source(Path(path))
