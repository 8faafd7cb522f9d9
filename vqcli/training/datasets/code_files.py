"""Codes in .vqz files as a data source for priors: nothing is encoded during training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vqcli.codec import image_file
from vqcli.container import vqz
from vqcli.data import split
from vqcli.errors import BadFile, ModelError, UsageError
from vqcli.files import files_below
from vqcli.zoo import loading, store

SUFFIX = ".vqz"


def vqz_files(paths: Sequence[Path]) -> list[Path]:
    """The .vqz files among and below `paths`, sorted; [] for data of another kind."""
    files = [path for path in paths if path.suffix == SUFFIX]
    return files + [file for path in paths if path.is_dir() for file in files_below(path) if file.suffix == SUFFIX]


def require_one_quality(codec: loading.LoadedModel) -> None:
    """Raise UsageError for a codec with qualities."""
    if codec.net.qualities:
        raise UsageError(
            f"codes of {codec.info.name} are of one quality each, and a prior needs all of them",
            "train it on images, which are then encoded at every quality",
        )


class CodeFiles:
    """A source (data/sources.py) whose images are grids of codes: uint16 [rows, columns, n_codebooks].

    Names, classes and the split are those of the folders, as with images.
    """

    decoded = False

    def __init__(self, paths: Sequence[Path], codec: loading.LoadedModel) -> None:
        require_one_quality(codec)
        self._codec, self.stride = codec, codec.net.stride
        self._files = vqz_files(paths)
        folders = [path for path in paths if path.is_dir()]
        below = {file: folder for folder in folders for file in self._files if file.is_relative_to(folder)}
        names = [file.relative_to(below[file]).as_posix() if file in below else file.name for file in self._files]
        self.names: Sequence[str] = [split.printable(name) for name in names]
        self.labels: Sequence[str | None] = split.labels(self.names)
        self.held_out: Sequence[bool] = split.held_out(self.names)

    def read(self, index: int) -> np.ndarray:
        """uint16 [rows, columns, n_codebooks]. Raises BadFile, also for files of another model."""
        file = vqz.read(self._files[index])
        try:
            store.check_digest(self._codec.info, file.header.model, file.header.digest, file.header.joint)
            codes, _ = image_file.unpack_image(self._codec, file)
        except ModelError as error:
            raise BadFile(str(error)) from None
        if len(codes.codes) != len(self._codec.net.codebook_sizes):
            raise BadFile("its last residual levels were left out")
        return np.ascontiguousarray(codes.codes.transpose(1, 2, 0))
