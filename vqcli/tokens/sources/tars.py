"""Tar files in webdataset naming, or a folder of them: members of one key that follow each other are an item.

The medium is the member that looks like one; .cls, .txt, .json and other texts beside it are columns of these names.
Members are read in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vqcli.data import split, tars
from vqcli.errors import BadFile
from vqcli.files import files_below
from vqcli.tokens.items import Beside, Item, Medium, Named, Value
from vqcli.tokens.sources import LARGEST_MEDIUM, LARGEST_TEXT, Wanted, unread
from vqcli.tokens.sources.folders import SUFFIXES

TEXTS = ("cls", "txt", "text", "caption", "json", "label")
NUMBERS = ("cls",)  # that are whole numbers, if the first is


def takes(path: Path) -> bool:
    return bool(_files(path))


def columns(path: Path, wanted: Wanted) -> dict[str, str]:
    """Of the first file that can be read."""
    found: dict[str, str] = {}
    for file in _files(path):
        try:
            for item in _items(file, "", wanted):
                for each in item.beside:
                    if each.column not in found:
                        number = each.column in NUMBERS and _text(each).lstrip("-").isdigit()
                        found[each.column] = "int" if number else "str"
        except BadFile:
            pass
        if found:
            break
    return found


def items(path: Path, wanted: Wanted) -> Iterator[Item]:
    for file in _files(path):
        name = "" if file == path else file.relative_to(path).as_posix().removesuffix(".tar") + "/"
        try:
            yield from _items(file, name, wanted)
        except BadFile as error:
            yield unread(file, error)


def read(item: Item, wanted: Wanted) -> Medium:
    labels: dict[str, Value] = {each.column: _text(each) for each in item.beside}
    offset, size = item.at
    if size > LARGEST_MEDIUM:
        raise BadFile(f"{item.key} is too large: {size} bytes")
    return Medium(Named(_bytes(item.path, offset, size), item.key), labels)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".tar" else []
    return [file for file in files_below(path) if file.suffix == ".tar"]


def _items(file: Path, below: str, wanted: Wanted) -> Iterator[Item]:
    """The items of a file in the order of their members. Raises BadFile where it is damaged."""
    last: str | None = None
    medium: tars.Member | None = None
    beside: list[Beside] = []

    def done() -> Iterator[Item]:
        if medium is not None:
            key = below + split.printable(medium.name.removeprefix("./"))
            place = medium.offset, medium.size
            yield Item(key, "tars", str(file), place, medium.size, (), tuple(beside))

    try:
        with file.open("rb") as stream:
            for member in tars.members(stream, file):
                folder, slash, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")  # a key ends at the first dot
                if folder + slash + stem != last:
                    yield from done()
                    last, medium, beside = folder + slash + stem, None, []
                kind = suffix.lower().rpartition(".")[2]
                if not name.startswith(".") and f".{kind}" in SUFFIXES[wanted.modality] and medium is None:
                    medium = member
                elif kind in TEXTS and member.size <= LARGEST_TEXT and wanted.carries(suffix):
                    beside.append(Beside(suffix, str(file), (member.offset, member.size)))
    except OSError as error:
        raise BadFile(f"{file} cannot be read: {error.strerror or error}") from None
    yield from done()


def _text(beside: Beside) -> str:
    assert beside.at is not None
    try:
        return _bytes(beside.path, *beside.at).decode().strip()
    except UnicodeDecodeError:
        raise BadFile(f"{beside.path}: the {beside.column} at byte {beside.at[0]} is no text") from None


def _bytes(path: str, offset: int, size: int) -> bytes:
    try:
        with Path(path).open("rb") as stream:
            stream.seek(offset)
            data = stream.read(size)
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) < size:
        raise BadFile(f"{path} is cut off")
    return data
