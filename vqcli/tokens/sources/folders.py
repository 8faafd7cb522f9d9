"""A folder of images or recordings anywhere below it, or of .vqz files, sorted by name; or one file.

The first folder of a name is its label, as in training (data/split.py). A file of the same name that ends in .txt
holds its text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vqcli.data import split
from vqcli.errors import BadFile, UsageError
from vqcli.files import files_below
from vqcli.media import audio, image
from vqcli.tokens.items import Beside, Item, Medium, Value
from vqcli.tokens.sources import LARGEST_TEXT, Wanted

SUFFIXES = {"image": image.SUFFIXES, "audio": audio.SUFFIXES}
CODED = ".vqz"
LABEL, TEXT = "label", "text"


def takes(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() in (*image.SUFFIXES, *audio.SUFFIXES, CODED)


def columns(path: Path, wanted: Wanted) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in items(path, wanted):
        found |= {name: "str" for name, value in item.labels if value is not None}
        found |= {each.column: "str" for each in item.beside}
        if len(found) == 2:
            break
    return found


def items(path: Path, wanted: Wanted) -> Iterator[Item]:
    if path.is_file():
        yield item_of(path, path.name)
        return
    files = {file.relative_to(path).as_posix(): file for file in files_below(path)}
    names = sorted(name for name in files if name.lower().endswith((*SUFFIXES[wanted.modality], CODED)))
    if not names:
        raise UsageError(f"no {' '.join((*SUFFIXES[wanted.modality], CODED))} files in {path}")
    for name, label in zip(names, split.labels(names), strict=True):
        text = files.get(name.rpartition(".")[0] + ".txt")
        labels: tuple[tuple[str, Value], ...] = ((LABEL, label),) if label is not None and wanted.carries(LABEL) else ()
        beside = (Beside(TEXT, str(text)),) if text is not None and wanted.carries(TEXT) else ()
        yield item_of(files[name], split.printable(name), labels, beside)


def item_of(file: Path, key: str, labels: tuple[tuple[str, Value], ...] = (), beside: tuple[Beside, ...] = ()) -> Item:
    """The item that a whole file is. One that cannot be looked at is an item too: reading says what is wrong."""
    try:
        size = file.stat().st_size
    except OSError:
        size = 0
    return Item(key, "folders", str(file), size=size, labels=labels, beside=beside)


def read(item: Item, wanted: Wanted) -> Medium:
    labels = dict(item.labels)
    for each in item.beside:
        labels[each.column] = text_of(Path(each.path))
    return Medium(Path(item.path), labels)


def text_of(path: Path) -> str:
    """Raises BadFile for what is no text, or too long."""
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_TEXT + 1)
        if len(data) > LARGEST_TEXT:
            raise BadFile(f"{path} is too long for a text: more than {LARGEST_TEXT} bytes")
        return data.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
