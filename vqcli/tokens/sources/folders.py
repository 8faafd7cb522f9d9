"""A folder of images or recordings anywhere below it, or of .vqz files, sorted by name; or one file.

The first folder of a name is its label, as in training (data/split.py). A file of the same name that ends in .txt
holds its text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from vqcli.data import split
from vqcli.errors import BadFile, UsageError
from vqcli.files import remote
from vqcli.files.remote import Remote
from vqcli.media import audio, image
from vqcli.tokens.items import Beside, Item, Medium, Named, Root, Value, url_of
from vqcli.tokens.sources import LARGEST_MEDIUM, LARGEST_TEXT, Wanted

SUFFIXES = {"image": image.SUFFIXES, "audio": audio.SUFFIXES}
CODED = ".vqz"
LABEL, TEXT = "label", "text"


def takes(root: Root) -> bool:
    return not root.is_file or root.suffix in (*image.SUFFIXES, *audio.SUFFIXES, CODED)


def columns(root: Root, wanted: Wanted) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in _items(root, wanted, None):
        found |= {name: "str" for name, value in item.labels if value is not None}
        found |= {each.column: "str" for each in item.beside}
        if len(found) == 2:
            break
    return found


def items(root: Root, wanted: Wanted) -> Iterator[Item]:
    return _items(root, wanted, size_of)


def _items(root: Root, wanted: Wanted, size: Callable[[Path | Remote], int] | None) -> Iterator[Item]:
    """The items, whose files are looked at only by `size`."""
    if root.is_file:
        yield item_of(root.path, root.path.name, size)
        return
    files = root.files
    names = sorted(name for name in files if name.lower().endswith((*SUFFIXES[wanted.modality], CODED)))
    if not names:
        raise UsageError(f"no {' '.join((*SUFFIXES[wanted.modality], CODED))} files in {root.path}")
    for name, label in zip(names, split.labels(names), strict=True):
        text = files.get(name.rpartition(".")[0] + ".txt")
        labels: tuple[tuple[str, Value], ...] = ((LABEL, label),) if label is not None and wanted.carries(LABEL) else ()
        beside = (Beside(TEXT, url_of(text)),) if text is not None and wanted.carries(TEXT) else ()
        yield item_of(files[name], split.printable(name), size, labels, beside)


def item_of(
    file: Path | Remote,
    key: str,
    size: Callable[[Path | Remote], int] | None,
    labels: tuple[tuple[str, Value], ...] = (),
    beside: tuple[Beside, ...] = (),
) -> Item:
    """The item that a whole file is."""
    return Item(key, "folders", url_of(file), size=size(file) if size else 0, labels=labels, beside=beside)


def size_of(file: Path | Remote) -> int:
    """Bytes; 0 for a file that cannot be looked at, as reading says what is wrong, or that a store did not list."""
    if isinstance(file, Remote):
        return file.size or 0
    try:
        return file.stat().st_size
    except OSError:
        return 0


def read(item: Item, wanted: Wanted) -> Medium:
    labels = dict(item.labels)
    for each in item.beside:
        labels[each.column] = text_of(remote.place(each.path))
    return Medium(medium_of(remote.place(item.path), item.size), labels)


def medium_of(file: Path | Remote, size: int = 0) -> Path | Named:
    """A file of this machine, or the bytes of one of a store, whose `size` saves a question if it is known."""
    if isinstance(file, Remote):
        return Named(Remote(file.url, size or None).read(LARGEST_MEDIUM), str(file))
    return file


def text_of(path: Path | Remote) -> str:
    """Raises BadFile for what is no text, or too long."""
    try:
        return remote.read(path, LARGEST_TEXT).decode().strip()
    except UnicodeDecodeError as error:
        raise BadFile(f"{path} cannot be read: {error}") from None
