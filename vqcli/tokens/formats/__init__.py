"""Formats of shards, a file each, by name; the name is the suffix of its files.

dump(rows, plan)  the bytes of a shard: equal rows give equal bytes
load(data)        the rows of one. Raises BadFile
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from vqcli.errors import BadFile
from vqcli.tokens import plugins
from vqcli.tokens.plan import Plan
from vqcli.tokens.rows import Row

SUFFIXES = {"webdataset": "tar"}  # of files, where they are not called like the format


class Format(Protocol):
    def dump(self, rows: Sequence[Row], plan: Plan) -> bytes: ...

    def load(self, data: bytes) -> list[Row]: ...


def names() -> list[str]:
    return plugins.names(sys.modules[__name__])


def of(name: str) -> Format:
    """Raises UsageError for a format that there is not."""
    found: Format = plugins.find(sys.modules[__name__], name)
    return found


def suffix(name: str) -> str:
    return SUFFIXES.get(name, name)


def facts(plan: Plan) -> dict[str, Any]:
    """What every shard says of itself."""
    return {"model": plan.model, "digest": plan.digest, "columns": plan.columns, "modality": plan.modality}


def columns_in(text: str | bytes) -> Mapping[str, str]:
    """The columns that facts as JSON name. Raises BadFile."""
    try:
        found = json.loads(text)["columns"]
        if isinstance(found, dict) and all(type in ("str", "int", "float") for type in found.values()):
            return found
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise BadFile("a shard does not say what it holds")
