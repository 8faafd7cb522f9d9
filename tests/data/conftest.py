"""One set of pictures in every form that vq train reads."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vqcli.media import image


@pytest.fixture(scope="session")
def animals(tmp_path_factory: pytest.TempPathFactory, picture: Callable[..., np.ndarray]) -> Path:
    """A folder of 12 PNGs of 24 x 24 in the classes ape, bee and cat, some of them grey."""
    folder = tmp_path_factory.mktemp("animals")
    for number in range(12):
        path = folder / ("ape", "bee", "cat")[number % 3] / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = picture(24, 24 + number)[:, number:]
        image.write(path, pixels[..., :1] if number % 4 == 0 else pixels)
    return folder


def tar_of(members: list[tuple[str, bytes]], path: Path, **options: int) -> Path:
    """A .tar file of these names and bytes."""
    with tarfile.open(path, "w", **options) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
