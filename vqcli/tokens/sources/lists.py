"""A text file of paths or URLs, one a line; what follows a tab is the text of the item. Paths begin where the file
lies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vqcli.errors import BadFile
from vqcli.files import remote
from vqcli.files.remote import Remote
from vqcli.tokens.items import Item, Medium, Root, Value
from vqcli.tokens.sources import LARGEST_TEXT, Wanted, folders

TEXT = "text"


def takes(root: Root) -> bool:
    return root.suffix in (".txt", ".tsv", ".lst")


def columns(root: Root, wanted: Wanted) -> dict[str, str]:
    return {TEXT: "str"} if any("\t" in line for line in _lines(root.path)) else {}


def items(root: Root, wanted: Wanted) -> Iterator[Item]:
    for line in _lines(root.path):
        name, tab, text = line.partition("\t")
        labels: tuple[tuple[str, Value], ...] = ((TEXT, text),) if tab and wanted.carries(TEXT) else ()
        file = remote.place(name) if remote.is_url(name) else root.path.parent / name
        yield folders.item_of(file, str(file) if remote.is_url(name) else name, folders.size_of, labels)


def read(item: Item, wanted: Wanted) -> Medium:
    return folders.read(item, wanted)


def _lines(path: Path | Remote) -> Iterator[str]:
    try:
        with remote.opened(path) as stream:
            while line := stream.readline(LARGEST_TEXT).decode():
                if line.rstrip("\r\n"):
                    yield line.rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
