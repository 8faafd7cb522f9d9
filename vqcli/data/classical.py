"""The classical data sets as they are distributed: MNIST and its kin in idx files, CIFAR in its binary version.

idx         train-images-idx3-ubyte and train-labels-idx1-ubyte, t10k- in place of train- for the test part; plain or
            gzipped (.gz), also with a dot before idx. A file is 0x00000800 + the number of dimensions, the dimensions,
            each a big-endian u32, and a byte for each value. Images are grey [N, H, W], labels [N] may be missing
CIFAR-10    data_batch_1.bin to data_batch_5.bin, test_batch.bin: records of a label and of 32 x 32 pixels, all red,
            all green, all blue. Names of the classes in batches.meta.txt
CIFAR-100   train.bin, test.bin: the same with two labels, of which the fine one is taken; fine_label_names.txt

Images that are not gzipped stay in the files, of which an image is read at a time.
Either part is enough. The files have no names for the classes of idx labels: their numbers are used, except for
Fashion-MNIST, which is recognised by a checksum. A classes.txt in the folder, a name a line, overrides all of this.
"""

from __future__ import annotations

import gzip
import itertools
import math
import re
import struct
import zlib
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vqcli.data import split
from vqcli.data.arrays import DEFLATE_RATIO, LARGEST, Arrays, Images, Part, Stored, named, unpacked
from vqcli.errors import BadFile

IDX = re.compile(r"(train|t10k)-(images[-.]idx3|labels[-.]idx1)-ubyte(\.gz)?")
UNSIGNED_BYTES = 0x0800  # the magic number of an idx file, less its number of dimensions
GZIP_MAGIC = b"\x1f\x8b"
FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot")
FASHION_CRC32 = {0x2ED6E46A, 0x242BC73F}  # of its labels, those to train on and those to test on
NAMES = "classes.txt"
LARGEST_NAMES = 2**20  # bytes
PICKLES = (("data_batch_1",), ("test_batch",), ("train", "test", "meta"))  # files of CIFAR's "python version"


@dataclass(frozen=True)
class Cifar:
    """One layout of the binary version. The last of `label_bytes` counts, up to `classes`; `names` is a file."""

    train: tuple[str, ...]
    test: str
    names: str
    label_bytes: int
    classes: int
    shape: tuple[int, int, int] = (3, 32, 32)


class Planes:
    """Images uint8 [H, W, C] of files one after another, in each of which they are [C, H, W]."""

    def __init__(self, files: Sequence[Stored]) -> None:
        self._files, self._ends = files, list(itertools.accumulate(map(len, files)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> np.ndarray:
        number = bisect(self._ends, index)
        file = self._files[number]
        return file[index - self._ends[number] + len(file)].transpose(1, 2, 0)


CIFAR10 = Cifar(tuple(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin", "batches.meta.txt", 1, 10)
CIFAR100 = Cifar(("train.bin",), "test.bin", "fine_label_names.txt", 2, 100)


def folder_of(path: Path) -> Path:
    """The folder of a data set, if `path` is one of its files; else `path`."""
    own = IDX.fullmatch(path.name) or path.name in (*CIFAR10.train, CIFAR10.test)
    return path.parent if own and path.is_file() else path


def read_folder(folder: Path) -> Arrays | None:
    """The data set whose files lie in a folder, or None if it holds none.

    Raises BadFile if one of its files is missing or is not what its name says.
    """
    try:
        if any(_idx_file(folder, part, kind) for part in ("train", "t10k") for kind in ("images", "labels")):
            return _read_idx(folder)
        for layout in (CIFAR10, CIFAR100):
            there = any((folder / name).is_file() for name in (*layout.train, layout.test))
            # a train.bin may be anything, unless there is a list of fine labels
            if there and (layout is CIFAR10 or (folder / layout.names).is_file()):
                return _read_cifar(folder, layout)
        if any(all((folder / name).is_file() for name in names) for names in PICKLES):
            raise BadFile(
                f"{folder} holds CIFAR's python version: pickles, which could run any code when they are read",
                'take the "binary version" of the same page (cifar-10-binary.tar.gz), or an .npz of arrays',
            )
    except OSError as error:
        raise BadFile(
            f"cannot read {error.filename or folder}: {error.strerror or error}", "see its permissions"
        ) from error
    return None


def _read_idx(folder: Path) -> Arrays:
    images: dict[str, Images] = {}
    labels: dict[str, np.ndarray] = {}
    for part in ("train", "t10k"):
        images_file, labels_file = (_idx_file(folder, part, kind) for kind in ("images", "labels"))
        if images_file is None:
            if labels_file is not None:
                name = f"{part}-images-idx3-ubyte"
                raise BadFile(f"{folder / name} is missing", f"{labels_file.name} is there, its images must lie beside")
            continue
        images[part] = _idx_images(images_file)
        if labels_file is not None:
            labels[part] = _idx(labels_file, 1)
            if len(labels[part]) != len(images[part]):
                counts = f"{len(labels[part])} labels for the {len(images[part])} images"
                raise BadFile(f"{labels_file} has {counts} of {images_file.name}", "take both from one place")
    known = FASHION if any(zlib.crc32(numbers.data) in FASHION_CRC32 for numbers in labels.values()) else None
    names = _names(folder / NAMES) or known

    def labelled(part: str) -> Part | None:
        if part not in images:
            return None
        part_labels = _labels(folder, labels[part], names) if part in labels else [None] * len(images[part])
        return Part(images[part], part_labels)

    return Arrays(labelled("train"), labelled("t10k"))


def _idx_file(folder: Path, part: str, kind: str) -> Path | None:
    rank = {"images": 3, "labels": 1}[kind]
    spellings = (folder / f"{part}-{kind}{mark}idx{rank}-ubyte{suffix}" for suffix in ("", ".gz") for mark in "-.")
    return next((path for path in spellings if path.is_file()), None)  # some archives have folders of this name


def _idx_images(path: Path) -> Images:
    """uint8 [N, H, W, 1]. Raises BadFile."""
    if not _zipped(path):
        with path.open("rb") as stream:
            shape = _idx_shape(stream, path, 3)
            if 0 < math.prod(shape) == path.stat().st_size - stream.tell():
                return Stored(path, stream.tell(), (*shape, 1))
    return _idx(path, 3)[..., None]


def _zipped(path: Path) -> bool:
    """Whatever its name: browsers may unpack silently."""
    with path.open("rb") as stream:
        return stream.read(2) == GZIP_MAGIC


def _idx(path: Path, rank: int) -> np.ndarray:
    """The bytes of an idx file in the shape it declares, of `rank` dimensions. Raises BadFile."""
    hint = "fetch it again, or unpack it again"
    zipped = _zipped(path)
    most_bytes = path.stat().st_size * (DEFLATE_RATIO if zipped else 1)
    try:
        with gzip.open(path) if zipped else path.open("rb") as stream:
            shape = _idx_shape(stream, path, rank)
            size_bytes = math.prod(shape)
            if not 0 < size_bytes <= LARGEST:
                raise BadFile(f"{path} declares {size_bytes} bytes; 1 to {LARGEST} are allowed", hint)
            data, count = unpacked(stream, size_bytes) if size_bytes <= most_bytes else (np.empty(0, np.uint8), 0)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadFile(f"{path} is a damaged or truncated .gz file", hint) from error
    if count < size_bytes:
        raise BadFile(f"{path} is truncated: it declares {' x '.join(map(str, shape))} bytes, and holds fewer", hint)
    if count > size_bytes:
        raise BadFile(f"{path} is longer than the {' x '.join(map(str, shape))} bytes it declares", hint)
    return data.reshape(shape)


def _idx_shape(stream: BinaryIO | gzip.GzipFile, path: Path, rank: int) -> tuple[int, ...]:
    header = stream.read(4 + 4 * rank)
    magic = int.from_bytes(header[:4])
    if len(header) >= 4 and magic != UNSIGNED_BYTES + rank:
        expected = f"begins with 0x{magic:08x}, not 0x{UNSIGNED_BYTES + rank:08x}"
        raise BadFile(
            f"{path} is no idx file of {'images' if rank == 3 else 'labels'}: it {expected}", "fetch it again"
        )
    if len(header) < 4 + 4 * rank:
        raise BadFile(f"{path} is truncated: {len(header)} bytes are no header", "fetch it again")
    return struct.unpack(f">{rank}I", header[4:])


def _read_cifar(folder: Path, layout: Cifar) -> Arrays:
    digits = [str(number) for number in range(layout.classes)]
    names = _names(folder / NAMES) or _names(folder / layout.names) or digits
    train = [folder / name for name in layout.train]
    missing = [path for path in train if not path.is_file()]
    test = folder / layout.test
    if 0 < len(missing) < len(train):
        raise BadFile(f"{missing[0]} is missing", f"the archive has {len(train)} such files: unpack it again")
    return Arrays(
        None if missing else _cifar_part(folder, train, layout, names),
        _cifar_part(folder, [test], layout, names) if test.is_file() else None,
    )


def _cifar_part(folder: Path, files: Sequence[Path], layout: Cifar, names: Sequence[str]) -> Part:
    record = layout.label_bytes + math.prod(layout.shape)
    sizes = {path: path.stat().st_size for path in files}
    for path, size in sizes.items():
        if size == 0 or size % record:
            raise BadFile(f"{path} is truncated: {size} bytes are no records of {record}", "fetch it again")
    if sum(sizes.values()) > LARGEST:
        raise BadFile(f"{folder} holds {sum(sizes.values())} bytes; {LARGEST} are allowed", "take fewer images")
    labels, images = [], []
    for path, size in sizes.items():
        records = np.memmap(path, np.uint8, "r", shape=(size // record, record))
        labels.append(np.array(records[:, layout.label_bytes - 1]))
        images.append(Stored(path, layout.label_bytes, (len(records), *layout.shape), record))
    return Part(Planes(images), _labels(folder, np.concatenate(labels), names))


def _labels(folder: Path, numbers: np.ndarray, names: Sequence[str] | None) -> list[str | None]:
    try:
        return named(numbers, names)
    except ValueError as error:
        raise BadFile(f"{folder} has {error}", f"{NAMES} in it names them, a line for each number from 0 on") from None


def _names(path: Path) -> list[str] | None:
    """The names of classes in a text file, a line each; None if there is no such file. Raises BadFile."""
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        text = stream.read(LARGEST_NAMES + 1)
    names = [split.printable(line.strip()) for line in text.decode("utf-8", "backslashreplace").rstrip().split("\n")]
    if len(text) > LARGEST_NAMES or not all(names) or len(set(names)) < len(names):
        raise BadFile(f"{path} is no list of names: one is missing, or there twice", "give each class a line")
    return names
