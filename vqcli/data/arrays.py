"""Images in arrays in memory, and the .npz files of numpy that hold such arrays.

An .npz has `images` and perhaps `labels`; or, split as in Keras, `x_train` and `x_test` (one of them is enough) and
perhaps `y_train` and `y_test`. Images are uint8 [N, H, W] or [N, H, W, 1 or 3], labels numbers or strings [N].
`classes` are the names of the numbers. The headers of the arrays are checked before anything is allocated, and nothing
is ever unpickled. Images that are not compressed stay in the file, of which an image is read at a time.
"""

from __future__ import annotations

import io
import math
import os
import struct
import threading
import weakref
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from numpy.lib import format as npy

from vqcli.data import split
from vqcli.data.crops import rgb
from vqcli.errors import BadFile, OutputError
from vqcli.files import remote
from vqcli.files.remote import Remote, Unreachable
from vqcli.files.streams import PIECE, storage

LARGEST = 2**32  # bytes of the images, where they are held in memory
LARGEST_LABELS = 2**28
DEFLATE_RATIO = 1032  # largest expansion of a byte
ENCRYPTED = 1  # a flag of members of zip files
LOCAL_HEADER = struct.Struct("<26sHH")  # before the data of a member: ..., the lengths of its name and of what follows
HINT = (
    "it holds images uint8 [N, H, W] or [N, H, W, 3], and perhaps labels [N] and classes; "
    "or x_train, y_train, x_test, y_test in their place"
)


class Images(Protocol):
    """N images uint8 by number, not to be written to: an array, or what reads them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


class Stored:
    """Images uint8 of shape [N, ...] in a file from `offset` on, `step` bytes from one to the next, if not as many as
    an image has. They are read when they are asked for; any thread may."""

    def __init__(self, file: Path | Remote, offset: int, shape: tuple[int, ...], step: int = 0) -> None:
        self._file, self._offset, self._shape = file, offset, shape
        self._step = step or math.prod(shape[1:])
        self._stream = file.open("rb", buffering=0) if isinstance(file, Path) else None
        if self._stream is not None:
            weakref.finalize(self, self._stream.close)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        """uint8 [...]. Raises BadFile."""
        shape = self._shape[1:]
        data = self._read(self._offset + index * self._step, math.prod(shape))
        return np.frombuffer(data, np.uint8).reshape(shape)

    def _read(self, at: int, size: int) -> bytes:
        if self._stream is None:
            return remote.read_range(self._file, at, size)
        try:
            if hasattr(os, "pread"):  # a process that was forked from this one may read too
                data = os.pread(self._stream.fileno(), size, at)
            else:
                with self._lock:
                    self._stream.seek(at)
                    data = self._stream.read(size)
        except OSError as error:
            raise BadFile(f"{self._file} cannot be read: {error.strerror or error}") from None
        if len(data) < size:
            raise BadFile(f"{self._file} is cut off")
        return data


@dataclass(frozen=True, eq=False)
class Part:
    """`images`: uint8 [N, H, W, 1 or 3]. `labels`: the N names of classes, None for none."""

    images: Images
    labels: Sequence[str | None]


class Arrays:
    """A source (sources.Source): a training part, a test part, or both.

    With both, the test part is held out: the names begin with `train` and `val`, as in folders. One part alone has
    plain numbers as names.
    """

    decoded, stride = True, 1

    def __init__(self, train: Part | None, test: Part | None) -> None:
        parts = [part for part in (train, test) if part is not None]
        folders = ("train/", "val/") if len(parts) == 2 else ("",)
        self._images = [part.images for part in parts]
        self.names: Sequence[str] = [
            f"{folder}{index:06d}"
            for folder, images in zip(folders, self._images, strict=True)
            for index in range(len(images))
        ]
        self.labels: Sequence[str | None] = [label for part in parts for label in part.labels]
        self.held_out: Sequence[bool] = split.held_out(self.names)

    def read(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3]."""
        first = self._images[0]
        return rgb(first[index] if index < len(first) else self._images[1][index - len(first)])


def read_npz(path: Path | Remote) -> Arrays:
    """The images of an .npz file. Raises BadFile for anything but arrays as above.

    Checksums are those of the whole file, which is read once for them; of a store only compressed files are.
    """
    with opened(path) as archive:
        if {"x_train.npy", "x_test.npy"} & set(archive.namelist()) and "images.npy" not in archive.namelist():
            return Arrays(*(_part(archive, path, f"x_{name}", f"y_{name}") for name in ("train", "test")))
        whole = _part(archive, path, "images", "labels")
        if whole is None:
            raise ValueError("it has no array called images, x_train or x_test")
        return Arrays(whole, None)


@contextmanager
def opened(path: Path | Remote) -> Iterator[zipfile.ZipFile]:
    """An .npz to read from. Whatever goes wrong in the block is raised as BadFile, but for an Unreachable store."""
    try:
        with remote.opened(path) as stream, zipfile.ZipFile(stream) as archive:
            yield archive
    except (Unreachable, OutputError):  # OutputError: no room for a temporary file
        raise
    except Exception as error:  # on hostile bytes the readers raise arbitrary exceptions
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadFile(f"{path} is no .npz file of images: {reason}", HINT) from error


def named(numbers: np.ndarray, names: Sequence[str | None] | None) -> list[str | None]:
    """Labels: the names of the numbers [N], or the numbers themselves if nothing is named. Raises ValueError."""
    if names is None:
        return [str(number) for number in numbers.tolist()]
    if numbers.min() < 0 or numbers.max() >= len(names):
        raise ValueError(f"labels from {numbers.min()} to {numbers.max()}, but {len(names)} classes")
    return [names[number] for number in numbers.tolist()]


def _part(archive: zipfile.ZipFile, path: Path | Remote, name: str, labels_name: str) -> Part | None:
    images = _stored(archive, path, name) or image_array(archive, name, LARGEST)
    labels = array(archive, labels_name, LARGEST_LABELS)
    if images is None:
        if labels is not None:
            raise ValueError(f"it has {labels_name}, but no array called {name}")
        return None
    return Part(images, _labels(labels, array(archive, "classes", LARGEST_LABELS), len(images)))


def _stored(archive: zipfile.ZipFile, path: Path | Remote, name: str) -> Stored | None:
    """Images that lie in the file as they are; None if they are compressed, columns come first, or there are none."""
    if f"{name}.npy" not in archive.namelist():
        return None
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & ENCRYPTED:
        return None
    with archive.open(member) as stream:
        shape, fortran, dtype = _header(stream, name, member.file_size)
        _check_images(name, shape, dtype)
        begin = stream.tell()
        if begin + math.prod(shape) != member.file_size:
            raise ValueError(f"{name} is not as long as its shape {list(shape)} says")
        while isinstance(path, Path) and stream.read(PIECE):  # its end compares the checksum
            pass
    file = archive.fp
    if fortran or file is None:
        return None
    file.seek(member.header_offset)
    head = file.read(LOCAL_HEADER.size)
    _, name_bytes, extra_bytes = LOCAL_HEADER.unpack(head)
    start = member.header_offset + LOCAL_HEADER.size + name_bytes + extra_bytes
    return Stored(path, start + begin, (*shape[:3], shape[3] if len(shape) == 4 else 1))


def image_array(archive: zipfile.ZipFile, name: str, largest: int) -> np.ndarray | None:
    """An array of at most `largest` bytes as uint8 [N, H, W, 1 or 3]; None if it is not there. Raises ValueError."""
    images = array(archive, name, largest)
    if images is None:
        return None
    _check_images(name, images.shape, images.dtype)
    return images[..., None] if images.ndim == 3 else images


def count_images(archive: zipfile.ZipFile, largest: int) -> int:
    """How many `images` it holds, from the header of the array alone. Raises ValueError, also for none."""
    if "images.npy" not in archive.namelist():
        raise ValueError("it has no array called images")
    with archive.open("images.npy") as stream:
        shape, _, dtype = _header(stream, "images", largest)
    _check_images("images", shape, dtype)
    return shape[0]


def _check_images(name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype != np.uint8 or not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))):
        raise ValueError(f"{name} are {dtype} {list(shape)}")


def array(archive: zipfile.ZipFile, name: str, largest: int) -> np.ndarray | None:
    """An array of the archive, once its header agrees with the number of its bytes; None if it is not there."""
    if f"{name}.npy" not in archive.namelist():
        return None
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as stream:
        shape, fortran, dtype = _header(stream, name, largest)
        size_bytes = math.prod(shape) * dtype.itemsize
        bounded = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        possible = not bounded or size_bytes <= member.compress_size * DEFLATE_RATIO
        data, count = unpacked(stream, size_bytes) if possible else (np.empty(0, np.uint8), 0)
    if count != size_bytes:
        raise ValueError(f"{name} is not as long as its shape {list(shape)} says")
    return data.view(dtype).reshape(shape, order="F" if fortran else "C")


def unpacked(stream: IO[bytes] | io.BufferedIOBase, size_bytes: int) -> tuple[np.ndarray, int]:
    """The bytes of a stream, of a long one in a temporary file, and how many it holds; if they are more than
    `size_bytes`, some number that is. Raises OutputError."""
    data, count = storage((size_bytes,), np.uint8), 0
    while piece := stream.read(PIECE):
        if (count := count + len(piece)) > size_bytes:
            break
        data[count - len(piece) : count] = np.frombuffer(piece, np.uint8)
    return data, count


def _header(stream: IO[bytes], name: str, largest: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and type of an array of `largest` bytes at most. Raises ValueError."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} has the unknown version {version}")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(stream)
    if dtype.kind not in "uiUS":
        raise ValueError(f"{name} has the type {dtype}")
    size_bytes = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or not 0 < size_bytes <= largest:
        raise ValueError(f"{name} has {size_bytes} bytes; 1 to {largest} are allowed")
    return shape, fortran, dtype


def _labels(labels: np.ndarray | None, classes: np.ndarray | None, count: int) -> list[str | None]:
    if labels is None:
        return [None] * count
    if labels.size != count or (classes is not None and classes.ndim != 1):
        raise ValueError(f"{count} images, labels {list(labels.shape)}")
    labels = labels.reshape(-1)
    if labels.dtype.kind in "US":
        return _strings(labels)
    return named(labels, None if classes is None else _strings(classes))


def _strings(array: np.ndarray) -> list[str | None]:
    texts = (
        text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else str(text) for text in array.tolist()
    )
    return [split.printable(text) or None for text in texts]
