"""What runs the workers; an engine is a file of this folder, by name.

    prepare(workers, address)            begins what takes its time; called before anything heavy is imported
    run(task, shards, workers, address)  the record of each shard when it is done, in any order. A shard whose worker is
                                         lost is made again, elsewhere; the first error of a worker is raised

`address` is that of a cluster, None: this machine.

Shards may come as they are asked for, so an engine takes no more of them than its workers need.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from vqcli.errors import UsageError, near_matches
from vqcli.tokens.plan import Record, Shard

if TYPE_CHECKING:
    from vqcli.tokens.work import Task


class Engine(Protocol):
    def prepare(self, workers: int | None, address: str | None) -> None: ...

    def run(
        self, task: Task, shards: Iterable[Shard], workers: int | None, address: str | None
    ) -> Iterator[Record]: ...


def names() -> list[str]:
    return sorted(each.name for each in pkgutil.iter_modules(__path__))


def of(name: str) -> Engine:
    """Raises UsageError for an engine that there is not."""
    if name not in names():
        raise UsageError(f"no engine {name}", near_matches(name, names()))
    found: Any = import_module(f"vqcli.tokens.engines.{name}")
    return found
