"""Small data sets, and `vq` in-process with tiny models."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from vqcli.cli.main import app
from vqcli.media import image


@pytest.fixture
def vq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scalar_model: Any, vector_model: Any) -> Callable[..., Result]:
    """vq("tokenize", ...) in an empty folder, by one worker unless told otherwise."""
    monkeypatch.setenv("VQ_MODELS", str(scalar_model.info.folder.parent))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Result:
        words = [str(argument) for argument in arguments]
        if words[0] == "tokenize" and "-o" in words and "--workers" not in words:
            words += ["--workers", "1"]
        return CliRunner().invoke(app, words)

    return run


@pytest.fixture
def pictures(tmp_path: Path, picture: Callable[..., np.ndarray]) -> Path:
    """Seven pictures of three sizes, two of them grey, in two classes, one with a text, and one that is none."""
    sizes = [(16, 24, 3), (16, 24, 3), (15, 23, 3), (16, 24, 1), (30, 20, 3), (13, 22, 1), (40, 24, 3)]
    for number, (height, width, channels) in enumerate(sizes):
        folder = tmp_path / "in" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        image.write(folder / f"{number}.png", picture(height, width + number // 6, channels))
    (tmp_path / "in" / "cat" / "1.txt").write_text("a cät\n")
    (tmp_path / "in" / "dog" / "8.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    return tmp_path / "in"


@pytest.fixture
def tar(tmp_path: Path) -> Callable[..., Path]:
    """tar(name, {member: bytes}): a tar file."""

    def make(name: str, members: dict[str, bytes]) -> Path:
        with tarfile.open(tmp_path / name, "w") as archive:
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return tmp_path / name

    return make


@pytest.fixture
def png(picture: Callable[..., np.ndarray]) -> bytes:
    return image.encode_bytes(picture(16, 24), "PNG")


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
