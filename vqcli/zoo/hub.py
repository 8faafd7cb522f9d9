"""Repositories of models: what they hold is fetched once, at a revision that is written down.

huggingface_hub does the fetching: it goes on after an interruption, checks what it got, and keeps it in its own cache.
It is an extra (`hub`), imported only when a repository is named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from vqcli.errors import ModelError, VqError

REPOSITORY = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@(?P<revision>[\w./-]{1,100}))?", re.ASCII
)
WANTED = ("*.safetensors", "*.json", "*.yaml", "*.yml", "README.md")
PICKLED = ("*.pth", "*.th", "*.pt", "*.ckpt", "*.bin")
OFFLINE = ("VQ_OFFLINE", "HF_HUB_OFFLINE")  # set to anything but 0 or nothing: no network


def names_repository(source: str) -> bool:
    """Whether it is written as owner/name or owner/name@revision, and no file or folder here."""
    return REPOSITORY.fullmatch(source) is not None and not Path(source).exists()


def fetch(source: str) -> tuple[Path, str]:
    """The folder here of a repository's files, and the commit they are of.

    Pickled weights are fetched only where there are no safetensors. Raises ModelError if there is no such repository,
    or if it cannot be reached; VqError without the extra.
    """
    try:
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
    except ImportError:
        raise VqError("fetching models needs huggingface_hub", "pip install 'vqcli[hub]'") from None
    found = REPOSITORY.fullmatch(source)
    assert found is not None
    name, revision = found["name"], found["revision"]
    try:
        folder = _snapshot(name, revision, WANTED)
        if not any(folder.rglob("*.safetensors")):
            folder = _snapshot(name, revision, WANTED + PICKLED)
    except RepositoryNotFoundError:
        raise ModelError(
            f"there is no repository {name}, or it asks for a login", "hf auth login, if it does"
        ) from None
    except LocalEntryNotFoundError:
        raise ModelError(
            f"{source} was not fetched before and cannot be now",
            f"unset {OFFLINE[0]} and {OFFLINE[1]}"
            if is_offline()
            else "check the network, or import a folder of its files",
        ) from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(f"cannot fetch {source}: {str(error).strip().splitlines()[0]}") from None
    return folder, folder.name  # the cache calls a snapshot by its commit


def _snapshot(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(name, revision=revision, allow_patterns=list(patterns), local_files_only=is_offline())
    )


def is_offline() -> bool:
    return any(os.environ.get(name, "0") not in ("", "0") for name in OFFLINE)
