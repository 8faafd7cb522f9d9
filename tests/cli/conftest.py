"""Runs `vq` in-process, in an empty folder, with tiny models in place of the shipped ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from vqcli.cli.main import app
from vqcli.media import image


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scalar_model: Any, vector_model: Any) -> Path:
    """An empty working folder; the models `scalar` and `vector` are on the search path."""
    monkeypatch.setenv("VQ_MODELS", str(scalar_model.info.folder.parent))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def vq(home: Path) -> Callable[..., Result]:
    """vq("encode", "a.png", input=...) -> exit_code, stdout, stderr."""

    def run(*arguments: str | Path, **options: Any) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)

    return run


@pytest.fixture
def photo(home: Path, picture: Callable[..., np.ndarray]) -> Path:
    """A colour picture of 50 x 38."""
    image.write(home / "photo.png", picture(38, 50))
    return Path("photo.png")
