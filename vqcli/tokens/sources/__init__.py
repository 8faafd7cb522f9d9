"""What `vq tokenize` reads; a kind of source is a file of this folder.

    takes(root)              whether it reads what lies there
    columns(root, wanted)    columns of labels and texts: name to the type of its values
    items(root, wanted)      every Item in an order that depends on nothing but the data; one that cannot be read ends
                             it with an item of the kind `unread`
    read(item, wanted)       the Medium of an item; any thread may call it. Raises BadFile, and Unreachable for a store
                             that does not answer, which ends the run: its items are not taken for bad ones

`root` is what the user named (`Root`), `wanted` what was chosen of it (`Wanted`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from vqcli.errors import BadFile, UsageError, VqError
from vqcli.files.remote import Remote
from vqcli.tokens.items import Item, Medium, Root, url_of

KINDS = ("tables", "tars", "lists", "arrays", "folders")  # the first that takes a path reads it
Type = Literal["str", "int", "float"]  # of the values of a column
TYPES = {"str": str, "int": int, "float": float}
LARGEST_MEDIUM = 2**30  # bytes of an image or a recording that lies in another file
LARGEST_TEXT = 2**20  # bytes of a label or text
HINT = "a folder, a .tar, a .parquet or .arrow, an .npz or pack, CIFAR's or MNIST's files, or a .txt of paths"


@dataclass(frozen=True)
class Wanted:
    """What of a source is wanted.

    modality  of the model: image or audio
    medium    the column of a table that has the media; None: the first that looks like it
    columns   labels and texts to carry along; None: all
    """

    modality: str
    medium: str | None = None
    columns: tuple[str, ...] | None = None

    def carries(self, column: str) -> bool:
        return self.columns is None or column in self.columns


def of(kind: str) -> Any:
    """The module of a kind."""
    return import_module(f"vqcli.tokens.sources.{kind}")


def opened(names: Sequence[str | Path]) -> list[Root]:
    """What the user named. Raises UsageError for what is not there or is no data."""
    try:
        roots = [Root(name) for name in names]
    except UsageError as error:
        raise UsageError(str(error), f"name {HINT}") from None
    for root in roots:
        kind_of(root)
    return roots


def kind_of(root: Root) -> Any:
    """The module that reads what lies there. Raises UsageError."""
    for kind in KINDS:
        if of(kind).takes(root):
            return of(kind)
    raise UsageError(f"{root.path} is no data to tokenize", f"name {HINT}")


def columns(roots: Sequence[Root], wanted: Wanted) -> dict[str, Type]:
    """The columns of all sources, by name, with their types. Raises BadFile for one that is of two types."""
    found: dict[str, Type] = {}
    for root in roots:
        for name, type in kind_of(root).columns(root, wanted).items():
            if found.setdefault(name, type) != type:
                raise BadFile(
                    f"{root.path}: column {name} is {type}, and {found[name]} in what stands before it",
                    "make them one type, or name the columns to carry: --columns",
                )
    missing = [name for name in wanted.columns or () if name not in found]
    if missing:
        raise UsageError(f"no column {missing[0]}", f"there are: {', '.join(found) or 'none'}")
    return found


def items(roots: Sequence[Root], wanted: Wanted) -> Iterator[Item]:
    """Every item of all sources, one source after the other. Those of several are named below their source."""
    names: dict[str, Root] = {}
    for root in roots:
        own = root.path.resolve().name if isinstance(root.path, Path) else root.path.name
        name = next(n for n in itertools.chain([own], (f"{own}-{i}" for i in itertools.count(2))) if n not in names)
        names[name] = root
    for name, root in names.items():
        for item in kind_of(root).items(root, wanted):
            yield item if len(names) == 1 else _below(name, item)


def _below(name: str, item: Item) -> Item:
    from dataclasses import replace

    return replace(item, key=f"{name}/{item.key}")


def unread(path: Path | Remote, error: VqError) -> Item:
    """An item in place of the rest of a file that cannot be read: it becomes a line of failed.jsonl."""
    return Item(path.name, "unread", url_of(path), labels=(("error", str(error)),))


def read(item: Item, wanted: Wanted, columns: Mapping[str, Type]) -> Medium:
    """An item with its labels, each of the type of its column. Raises BadFile."""
    medium: Medium = of(item.kind).read(item, wanted)
    labels: dict[str, Any] = {}
    for name, value in medium.labels.items():
        if not wanted.carries(name):
            continue
        if name not in columns:
            raise BadFile(f"{item.key}: the first items have no column {name}", "name the columns to carry: --columns")
        try:
            labels[name] = None if value is None else TYPES[columns[name]](value)
        except (TypeError, ValueError):
            raise BadFile(f"{item.key}: column {name} is {columns[name]}, and this is {str(value)[:40]!r}") from None
    return Medium(medium.source, labels)
