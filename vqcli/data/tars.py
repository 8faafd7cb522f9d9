"""Images in a .tar file, read in place: nothing is unpacked, no name in it is used as a path.

Names go by the webdataset convention: `key.jpg` is an image, `key.cls` beside it (a name or a number) or `key.json`
({"label": ...}) has its class. Without such members classes are folders, as in a folder; a folder that holds all images
does not count. The headers are parsed here rather than by the standard library, whose reader trusts the sizes in
hostile files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import msgspec
import numpy as np

from vqcli.data import split
from vqcli.data.crops import rgb
from vqcli.errors import BadFile
from vqcli.media import image

BLOCK = 512
LARGEST_IMAGE = 2**28  # bytes of a member that is an image
LARGEST_TEXT = 2**20  # bytes of a label, or of a long name
REGULAR = (b"0", b"\0")
WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes: whatever size they claim


class Member(NamedTuple):
    """A regular file in the archive: bytes offset .. offset + size."""

    name: str
    offset: int
    size: int


class Labelled(msgspec.Struct):
    label: str | int | None = None


class Tar:
    """A source; see sources.Source. Raises BadFile for a damaged archive."""

    decoded, stride = False, 1

    def __init__(self, path: Path) -> None:
        self.path = path
        images: dict[str, Member] = {}  # of two of one name the later one wins
        key_labels: dict[str, str] = {}  # key: label
        try:
            with path.open("rb") as stream:
                for member in members(stream, path):
                    name = split.printable(str(PurePosixPath(member.name)).lstrip("/"))
                    if split.is_image(name):
                        images[name] = member
                    elif name.endswith((".cls", ".json")) and member.size <= LARGEST_TEXT:
                        stream.seek(member.offset)
                        label = _label(name, stream.read(member.size))
                        if label:
                            key_labels[name.rpartition(".")[0]] = split.printable(label)
        except OSError as error:
            raise BadFile(f"{path} cannot be read: {error.strerror or error}") from error
        folders = {name.partition("/")[0] if "/" in name else "" for name in images}
        top = f"{folders.pop()}/".lstrip("/") if len(folders) == 1 else ""
        self.names: Sequence[str] = [name.removeprefix(top) for name in sorted(images)]
        self.held_out: Sequence[bool] = split.held_out(self.names)
        self.labels: Sequence[str | None] = split.labels(self.names)
        if key_labels:
            self.labels = [
                key_labels.get(key, key_labels.get(_key(key))) for key in (n.rpartition(".")[0] for n in sorted(images))
            ]
        self._places = np.array([images[name][1:] for name in sorted(images)], np.int64).reshape(-1, 2)

    def read(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3]. Raises BadFile."""
        offset, size = self._places[index].tolist()
        if size > LARGEST_IMAGE:
            raise BadFile(f"{self.path}: {self.names[index]} is too large: {size} bytes")
        try:
            with self.path.open("rb") as stream:
                stream.seek(offset)
                member = _Named(stream.read(size))
        except OSError as error:
            raise BadFile(f"{self.path} cannot be read: {error.strerror or error}") from error
        member.name = f"{self.path}: {self.names[index]}"
        return rgb(image.read(member).pixels)


class _Named(BytesIO):
    name: str  # for the errors of image.read


def _key(stem: str) -> str:
    """a/x.left -> a/x: in webdataset the key of a member ends at the first dot of its last part."""
    folder, slash, last = stem.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _label(name: str, data: bytes) -> str | None:
    if name.endswith(".cls"):
        return data.decode("utf-8", "backslashreplace").strip() or None
    try:
        label = msgspec.json.decode(data, type=Labelled).label
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # other JSON files are allowed
        return None
    return None if label is None else str(label).strip() or None


def members(stream: BinaryIO, path: Path | str) -> Iterator[Member]:
    """Every regular file of a tar archive (v7, ustar, GNU or pax), with sizes checked against the file's.

    Raises BadFile if a header is damaged or the file ends too soon.
    """
    total = stream.seek(0, 2)
    at = 0
    name: str | None = None  # and size: of the next member, from headers before it
    size: int | None = None
    sparse = False
    while True:
        stream.seek(at)
        header = stream.read(BLOCK)
        if len(header) < BLOCK:
            raise BadFile(f"{path} is cut off: it has no end mark" if at else f"{path} is not a .tar file")
        if not header.strip(b"\0"):
            return
        kind = header[156:157]
        own_size = _number(header[124:136])
        if own_size is None or not _sound(header):
            raise BadFile(f"{path} is damaged at byte {at}" if at else f"{path} is not a .tar file")
        describes_others = kind in (
            b"L",
            b"K",
            b"x",
            b"g",
        )  # their own headers are not overridden
        length = own_size if describes_others or size is None else size
        data, at = at + BLOCK, at + BLOCK
        if kind not in WITHOUT_DATA:
            if length > total - data:
                raise BadFile(f"{path} is cut off: the member at byte {data - BLOCK} has {length} bytes")
            at += -(-length // BLOCK) * BLOCK
        if describes_others:
            if length > LARGEST_TEXT:
                raise BadFile(f"{path} is damaged: a name of {length} bytes")
            if kind == b"L":
                name = _text(stream.read(length))
            elif kind == b"x":
                records = _pax(stream.read(length), path)
                name = records.get("path", name)
                if (pax_size := records.get("size")) is not None:
                    if not (pax_size.isascii() and pax_size.isdigit() and len(pax_size) < 20):
                        raise BadFile(f"{path} is damaged: a size of {split.printable(pax_size[:40])}")
                    size = int(pax_size)
                sparse = any(key.startswith("GNU.sparse") for key in records)
            continue
        if kind in REGULAR and not sparse:
            yield Member(_name(header) if name is None else name, data, length)
        name, size, sparse = None, None, False


def _sound(header: bytes) -> bool:
    """Whether the checksum of a header holds; it counts its own eight bytes as spaces."""
    return _number(header[148:156]) == sum(header[:148]) + 8 * 0x20 + sum(header[156:])


def _name(header: bytes) -> str:
    """The name in a header itself; ustar has a field for its first part."""
    prefix = _text(header[345:500]) if header.startswith(b"ustar\0", 257) else ""
    return f"{prefix}/{_text(header[:100])}" if prefix else _text(header[:100])


def _number(field: bytes) -> int | None:
    """Octal digits, or 0x80 and a number of base 256; None for anything else."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    digits = field.strip(b" \0")
    return int(digits or b"0", 8) if not digits.strip(b"01234567") else None


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _pax(data: bytes, path: Path | str) -> dict[str, str]:
    """Records "<length> <key>=<value>\\n", where the length counts the whole record."""
    records = {}
    at = 0
    while at < len(data):
        digits = data[at : at + 8].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        record = data[at : at + length]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not equals or len(record) != length or not record.endswith(b"\n"):
            raise BadFile(f"{path} is damaged: a broken pax header")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "backslashreplace")
        at += len(record)
    return records
