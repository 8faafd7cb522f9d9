"""What runs the workers; an engine is a file of this folder, by name.

    prepare(workers, address)            begins what takes its time; called before anything heavy is imported
    run(task, shards, workers, address, moved)
                                         the record of each shard when it is done, in any order. A shard whose worker is
                                         lost is made again, elsewhere; the first error of a worker is raised

`address` is that of a cluster, None: this machine.

`moved(number, items)` is for engines that know how many items of a shard in work are done.

Shards may come as they are asked for, so an engine takes no more of them than its workers need.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from vqcli.tokens import plugins
from vqcli.tokens.plan import Moved, Record, Shard

if TYPE_CHECKING:
    from vqcli.tokens.work import Task


class Engine(Protocol):
    def prepare(self, workers: int | None, address: str | None) -> None: ...

    def run(
        self, task: Task, shards: Iterable[Shard], workers: int | None, address: str | None, moved: Moved
    ) -> Iterator[Record]: ...


def environment() -> dict[str, str]:
    """Of this process, what says where models lie: workers may come from a process that began with another one."""
    return {name: value for name, value in os.environ.items() if name.startswith("VQ_")}


def names() -> list[str]:
    return plugins.names(sys.modules[__name__])


def of(name: str) -> Engine:
    """Raises UsageError for an engine that there is not."""
    found: Engine = plugins.find(sys.modules[__name__], name)
    return found
