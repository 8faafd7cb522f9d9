"""Repositories of models: what they hold is fetched once, at a revision that is written down.

The card comes first, and the weights only after its licence has been said.
huggingface_hub does the fetching: it goes on after an interruption, checks what it got, and keeps it in its own cache.
It is an extra (`hub`), imported only when a repository is named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from vqcli.errors import ModelError, VqError

REPOSITORY = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@(?P<revision>[\w./-]{1,100}))?", re.ASCII
)
CARD = "README.md"
WANTED = ("*.safetensors", "*.json", "*.yaml", "*.yml", CARD)
PICKLED = ("*.pth", "*.th", "*.pt", "*.ckpt", "*.bin")
LARGEST_CARD = 2**20
HEAD = re.compile(r"---\s*\n(.*?)\n---", re.DOTALL)  # of a card: facts in YAML
LICENCE = re.compile(
    r"^(license(?:_name)?):[ \t]*(?:\n[ \t]*-[ \t]*)?[\"']?([\w.+-][\w .+-]{0,59}?)[\"']?[ \t]*$", re.MULTILINE
)
NONCOMMERCIAL = re.compile(r"(^|[^a-z])(nc|non-?commercial|research-only)([^a-z]|$)", re.IGNORECASE)
UNKNOWN = "not stated by its source: ask its authors before you use it"
OFFLINE = ("VQ_OFFLINE", "HF_HUB_OFFLINE")  # set to anything but 0 or nothing: no network


Fetching = Callable[[int, int], None]  # called with the bytes that are here, and of how many


def names_repository(source: str) -> bool:
    """Whether it is written as owner/name or owner/name@revision, and no file or folder here."""
    return REPOSITORY.fullmatch(source) is not None and not Path(source).exists()


def fetch(
    source: str,
    said: Callable[[str], None] = lambda licence: None,
    progress: Fetching = lambda size_bytes, of_bytes: None,
) -> tuple[Path, str]:
    """The folder here of a repository's files, and the commit they are of.

    `said` is called with the licence that the card states before any weights are fetched, `progress` while they are.
    Pickled weights are fetched only where there are no safetensors. Raises ModelError if there is no such repository,
    or if it cannot be reached; VqError without the extra.
    """
    name, revision = _named(source)
    card = _snapshot(source, name, revision, (CARD,))
    said(licence_of(card / CARD) or UNKNOWN)
    commit = card.name  # the cache calls a snapshot by its commit
    folder = _snapshot(source, name, commit, WANTED, progress)
    if not any(folder.rglob("*.safetensors")):
        folder = _snapshot(source, name, commit, WANTED + PICKLED, progress)
    return folder, commit


def licences(sources: Sequence[str]) -> list[str]:
    """The licence that the card of each repository states, "" where it states none or cannot be had now."""
    found: list[str] = []
    try:
        for source in sources:
            found.append(licence_of(_snapshot(source, *_named(source), (CARD,)) / CARD))
    except VqError:  # neither can the others
        pass
    return found + [""] * (len(sources) - len(found))


def licence_of(card: Path) -> str:
    """The licence that a card in the hub's form states in its head, "" without one; what forbids products is named."""
    if not card.is_file() or card.stat().st_size > LARGEST_CARD:
        return ""
    head = HEAD.match(card.read_text("utf-8", "replace").replace("\r\n", "\n"))
    stated = dict(LICENCE.findall(head[1] + "\n")) if head else {}
    licence: str = stated.get("license", "")
    if licence in ("", "other"):  # which the hub's list of licences does not have
        licence = stated.get("license_name", licence)
    return f"{licence} (non-commercial)" if NONCOMMERCIAL.search(licence) else licence


def _named(source: str) -> tuple[str, str | None]:
    """Name and revision of a repository."""
    found = REPOSITORY.fullmatch(source)
    assert found is not None
    return found["name"], found["revision"]


def _snapshot(
    source: str,
    name: str,
    revision: str | None,
    patterns: Sequence[str],
    progress: Fetching = lambda size_bytes, of_bytes: None,
) -> Path:
    """The folder here of some of a repository's files."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
    except ImportError:
        raise VqError("fetching models needs huggingface_hub", "pip install 'vqcli[hub]'") from None
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(patterns),
                local_files_only=is_offline(),
                tqdm_class=_counting(progress),
            )
        )
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


def _counting(progress: Fetching) -> type[Any]:
    """A bar as huggingface_hub wants one, which draws nothing and tells `progress`."""
    from tqdm import tqdm

    most = 0

    class Counting(tqdm):  # type: ignore[misc, type-arg]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings | {"file": StringIO(), "disable": False})

        def display(self, *_: Any, **__: Any) -> bool:
            return True

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal most
            shown: bool | None = super().update(n)
            # of bytes it may have two: those of the network, and of the files that are made of them
            if self.unit == "B" and self.total and self.n > most:
                most = int(self.n)
                progress(most, max(most, int(self.total)))
            return shown

    return Counting


def is_offline() -> bool:
    return any(os.environ.get(name, "0") not in ("", "0") for name in OFFLINE)
