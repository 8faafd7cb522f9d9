"""Pictures in an .npz file of numpy arrays: `images`, and perhaps `labels` and `classes`.

`images` is uint8 [N, H, W] or [N, H, W, 1 or 3], `labels` numbers or strings [N], `classes` the names of the numbers.
The headers of the arrays are checked before anything is allocated, and nothing is ever unpickled.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from vqcli.data import split
from vqcli.data.crops import rgb
from vqcli.errors import BadFile

LARGEST = 2**32  # bytes of the images: they are held in memory
LARGEST_LABELS = 2**28
HINT = "it holds images uint8 [N, H, W] or [N, H, W, 3], and perhaps labels [N] and classes"


class Arrays:
    """A source; see sources.Source. Raises BadFile for anything but such arrays."""

    decoded, stride = True, 1

    def __init__(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                images = _array(archive, "images", LARGEST)
                labels, classes = (_array(archive, name, LARGEST_LABELS) for name in ("labels", "classes"))
            self._images = _images(images)
            self.labels: Sequence[str | None] = _labels(labels, classes, len(self._images))
        except Exception as error:  # fed with hostile bytes, the readers raise just anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BadFile(f"{path} is no .npz file of pictures: {reason}", HINT) from error
        self.names: Sequence[str] = [f"{index:06d}" for index in range(len(self._images))]
        self.held_out: Sequence[bool] = split.held_out(self.names)

    def read(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3]."""
        return rgb(self._images[index])


def _array(archive: zipfile.ZipFile, name: str, largest: int) -> np.ndarray | None:
    """An array of the archive, once its header agrees with the number of its bytes; None if it is not there."""
    if f"{name}.npy" not in archive.namelist():
        return None
    with archive.open(f"{name}.npy") as stream:
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
        data = stream.read(size_bytes + 1)
    if len(data) != size_bytes:
        raise ValueError(f"{name} is not as long as its shape {list(shape)} says")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _images(images: np.ndarray | None) -> np.ndarray:
    """uint8 [N, H, W, 1 or 3]."""
    if images is None:
        raise ValueError("it has no array called images")
    shaped = images[..., None] if images.ndim == 3 else images
    if images.dtype != np.uint8 or shaped.ndim != 4 or shaped.shape[3] not in (1, 3):
        raise ValueError(f"images are {images.dtype} {list(images.shape)}")
    return shaped


def _labels(labels: np.ndarray | None, classes: np.ndarray | None, count: int) -> list[str | None]:
    if labels is None:
        return [None] * count
    if labels.size != count or (classes is not None and classes.ndim != 1):
        raise ValueError(f"{count} images, labels {list(labels.shape)}")
    labels = labels.reshape(-1)
    if labels.dtype.kind in "US":
        return _strings(labels)
    if classes is None:
        return [str(label) for label in labels.tolist()]
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(f"labels from {labels.min()} to {labels.max()}, but {len(classes)} classes")
    names = _strings(classes)
    return [names[label] for label in labels.tolist()]


def _strings(array: np.ndarray) -> list[str | None]:
    texts = (
        text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else str(text) for text in array.tolist()
    )
    return [split.printable(text) or None for text in texts]
