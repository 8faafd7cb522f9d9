"""vq encode of what is coded already: a .vqz file with fewer levels."""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqcli.cli import console
from vqcli.cli.options import STREAM, Allowed

if TYPE_CHECKING:
    from vqcli.codec.levels import Reduced

SUFFIXES = (".vqz",)
OPTIONS = ("levels", "kbit_per_s", "size_bytes")


def asked(chosen: Collection[str]) -> bool:
    """Whether any of the options that are set can drop levels; without one, reading a .vqz file says what is wrong."""
    return not set(OPTIONS).isdisjoint(chosen)


def is_coded(source: Path) -> bool:
    """Whether it is a .vqz file, or the stream of one, which is left at its beginning."""
    from vqcli.container import vqz

    if source == STREAM:
        return _head(console.data_in(), len(vqz.MAGIC)) == vqz.MAGIC
    if not source.is_file():  # a named pipe can be looked at only once
        return False
    with source.open("rb") as stream:
        return stream.read(len(vqz.MAGIC)) == vqz.MAGIC


def _head(stream: Any, size: int) -> bytes:
    if stream.seekable():
        head: bytes = stream.read(size)
        stream.seek(-len(head), io.SEEK_CUR)
        return head
    found: bytes = stream.peek(size)[:size]
    return found


def reduced(source: Path, chosen: dict[str, Any], model: str | None, allowed: Allowed) -> Reduced:
    """The file with the levels that the options of the command say; `chosen` are those that are set.

    Raises ForeignOption for one that cannot be of a coded file, UsageError for a model.
    """
    from vqcli import api
    from vqcli.container import vqz
    from vqcli.errors import ForeignOption, UsageError

    others, here = "what is not coded yet", "this is a .vqz file, which can drop levels"
    for name in chosen:
        if name not in OPTIONS:
            raise ForeignOption(name, others, here)
    if model is not None:
        raise UsageError(f"--model is for {others}, and {here}", "leave --model out")
    return api.drop_levels(vqz.read(console.data_in()) if source == STREAM else source, **asdict(allowed), **chosen)


def line(source: Path, target: Path, result: Reduced) -> str:
    levels = f"{result.header.levels} of {console.plural(result.source_levels, 'level')}"
    said = f" ({'; '.join(result.notes)})" if result.notes else ""
    before, now = console.size(result.source_bytes), console.size(len(result.data))
    return f"{source} {before} -> {target} {now}, {levels}{said}"


def facts(source: Path, target: Path, result: Reduced) -> dict[str, Any]:
    from vqcli.entropy import coders

    header = result.header
    return {
        "source": str(source),
        "target": str(target),
        "source_bytes": result.source_bytes,
        "size_bytes": len(result.data),
        "levels": header.levels,
        "coder": coders.name_of(header.coder),
        "model": header.model,
        "notes": list(result.notes),
    }
