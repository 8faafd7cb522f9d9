"""Tar files in webdataset naming, or a folder of them: members of one key that follow each other are an item.

The medium is the member that looks like one; .cls, .txt, .json and other texts beside it are columns of these names.
Members are read in place, of a store an item at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from vqcli.data import split, tars
from vqcli.errors import BadFile
from vqcli.files import remote
from vqcli.files.remote import Remote
from vqcli.tokens.items import Beside, Item, Medium, Named, Root, Value, url_of
from vqcli.tokens.sources import LARGEST_MEDIUM, LARGEST_TEXT, Wanted, unread
from vqcli.tokens.sources.folders import SUFFIXES

TEXTS = ("cls", "txt", "text", "caption", "json", "label")
NUMBERS = ("cls",)  # that are whole numbers, if the first is
LOOKED_AT = 1000  # items of the first file, for their columns


def takes(root: Root) -> bool:
    return bool(root.ending(".tar"))


def columns(root: Root, wanted: Wanted) -> dict[str, str]:
    """Of the first items of the first file that can be read."""
    found: dict[str, str] = {}
    for file in root.ending(".tar").values():
        try:
            for item in islice(_items(file, "", wanted), LOOKED_AT):
                for each in item.beside:
                    if each.column not in found:
                        number = each.column in NUMBERS and _looked_at(each).lstrip("-").isdigit()
                        found[each.column] = "int" if number else "str"
        except BadFile:
            pass
        if found:
            break
    return found


def items(root: Root, wanted: Wanted) -> Iterator[Item]:
    for name, file in root.ending(".tar").items():
        below = "" if root.is_file else name[: -len(".tar")] + "/"
        try:
            yield from _items(file, below, wanted)
        except BadFile as error:
            yield unread(file, error)


def read(item: Item, wanted: Wanted) -> Medium:
    if item.at[1] > LARGEST_MEDIUM:
        raise BadFile(f"{item.key} is too large: {item.at[1]} bytes")
    file = remote.place(item.path)
    places = [item.at, *(each.at for each in item.beside if each.at)]
    begin, end = min(at for at, _ in places), max(at + size for at, size in places)
    if isinstance(file, Path) or end - begin > LARGEST_MEDIUM:
        data, *texts = (remote.read_range(file, *at) for at in places)
    else:  # members of an item follow each other
        whole = remote.read_range(file, begin, end - begin)
        data, *texts = (whole[at - begin : at - begin + size] for at, size in places)
    labels: dict[str, Value] = {each.column: _text(each, text) for each, text in zip(item.beside, texts, strict=True)}
    return Medium(Named(data, item.key), labels)


def _items(file: Path | Remote, below: str, wanted: Wanted) -> Iterator[Item]:
    """The items of a file in the order of their members. Raises BadFile where it is damaged."""
    last: str | None = None
    medium: tars.Member | None = None
    beside: list[Beside] = []

    def done() -> Iterator[Item]:
        if medium is not None:
            key = below + split.printable(medium.name.removeprefix("./"))
            place = medium.offset, medium.size
            yield Item(key, "tars", url_of(file), place, medium.size, (), tuple(beside))

    try:
        with remote.opened(file) as stream:
            for member in tars.members(stream, str(file)):
                folder, slash, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")  # a key ends at the first dot
                if folder + slash + stem != last:
                    yield from done()
                    last, medium, beside = folder + slash + stem, None, []
                kind = suffix.lower().rpartition(".")[2]
                if not name.startswith(".") and f".{kind}" in SUFFIXES[wanted.modality] and medium is None:
                    medium = member
                elif kind in TEXTS and member.size <= LARGEST_TEXT and wanted.carries(suffix):
                    beside.append(Beside(suffix, url_of(file), (member.offset, member.size)))
    except OSError as error:
        raise BadFile(f"{file} cannot be read: {error.strerror or error}") from None
    yield from done()


def _looked_at(beside: Beside) -> str:
    assert beside.at is not None
    return _text(beside, remote.read_range(remote.place(beside.path), *beside.at))


def _text(beside: Beside, data: bytes) -> str:
    assert beside.at is not None
    try:
        return data.decode().strip()
    except UnicodeDecodeError:
        raise BadFile(f"{remote.place(beside.path)}: the {beside.column} at byte {beside.at[0]} is no text") from None
