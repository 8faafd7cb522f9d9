"""A text file of paths, one a line, from the folder of the file on; what follows a tab is the text of the item."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vqcli.errors import BadFile
from vqcli.tokens.items import Item, Medium, Value
from vqcli.tokens.sources import LARGEST_TEXT, Wanted, folders

TEXT = "text"


def takes(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in (".txt", ".tsv", ".lst")


def columns(path: Path, wanted: Wanted) -> dict[str, str]:
    return {TEXT: "str"} if any("\t" in line for line in _lines(path)) else {}


def items(path: Path, wanted: Wanted) -> Iterator[Item]:
    for line in _lines(path):
        name, tab, text = line.partition("\t")
        labels: tuple[tuple[str, Value], ...] = ((TEXT, text),) if tab and wanted.carries(TEXT) else ()
        yield folders.item_of(path.parent / name, name, labels)


def read(item: Item, wanted: Wanted) -> Medium:
    return folders.read(item, wanted)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", newline="\n") as stream:
            while line := stream.readline(LARGEST_TEXT):
                if line.rstrip("\r\n"):
                    yield line.rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
