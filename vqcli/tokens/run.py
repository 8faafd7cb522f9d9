"""A data set to tokens: the plan, the shards that are still to do, an engine that does them, the index.

tokenize([Path("images/")], "tokens/", "photo-2")        Index
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vqcli.batch import part_of
from vqcli.progress import step
from vqcli.tokens import engines, formats, plan, sources
from vqcli.tokens.backlog import Backlog
from vqcli.tokens.items import Item, Root
from vqcli.tokens.plan import Index, Plan, Shard
from vqcli.tokens.sources import Wanted
from vqcli.tokens.store import Store
from vqcli.zoo import store

if TYPE_CHECKING:
    from vqcli.tokens.work import Task

BATCH = {"cpu": 2**16}  # pixels at once: on a CPU what lies in its cache
BATCH_ACCELERATOR = 2**22
LISTING = "listing what is to be tokenized"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a set is tokenized.

    format        of the shards: npz, parquet, safetensors or webdataset
    per_shard     items of a shard, None: by how many items there are
    alone         each image goes through the net on its own: codes are those of `vq encode` bit for bit, where sums of
                  a batch may be in another order, which can decide a tie
    medium        the column of a table that has the media
    columns       labels and texts to carry along, None: all
    options       of the encoding: quality, tune, levels, mono
    engine        a file of tokens/engines
    workers       of the engine, None: as it sees fit
    address       of the engine's cluster, None: this machine
    part          '2/8' or 'auto': the shards that this machine makes, of one set in one place
    """

    format: str = "npz"
    per_shard: int | None = None
    alone: bool = False
    medium: str | None = None
    columns: tuple[str, ...] | None = None
    options: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    engine: str = "local"
    workers: int | None = None
    address: str | None = None
    part: str | None = None
    device: str = "auto"
    threads: int = 2


@dataclass(frozen=True)
class Far:
    """How far a run is: items that are done, of all in its part of the set, and the same in bytes, of which those count
    that are known without reading the items."""

    items: int = 0
    of_items: int = 0
    size_bytes: int = 0
    of_bytes: int = 0

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.size_bytes / self.of_bytes if self.of_bytes else self.items / max(1, self.of_items)

    def and_done(self, shard: Shard, items: int | None = None) -> Far:
        """With a shard, or with so many of its items, which may be the larger or the smaller ones."""
        items = len(shard.items) if items is None else items
        size_bytes = shard.size_bytes * items // len(shard.items)
        return replace(self, items=self.items + items, size_bytes=self.size_bytes + size_bytes)

    def and_to_do(self, shard: Shard) -> Far:
        return replace(self, of_items=self.of_items + len(shard.items), of_bytes=self.of_bytes + shard.size_bytes)


@dataclass(frozen=True)
class Done:
    """What a run did: the shards that it made, those that were there, and the index if the set is whole."""

    made: int
    there: int
    items: int
    failed: int
    index: Index | None


def tokenize(
    inputs: Sequence[Path | str],
    place: str,
    model: str,
    settings: Settings,
    progress: Callable[[Far], None] = lambda far: None,
) -> Done:
    """Tokenize what lies at `inputs` into shards at `place`, or go on with that where an earlier run was interrupted.

    All may be URLs of stores that fsspec knows.

    `progress` is called when all is listed, after each shard, and in between as engines say how far a shard is.
    Raises UsageError for a place that holds another set, BadFile, ModelError, OutputError, Unreachable; a bad item is a
    line of failed.jsonl.
    """
    engine = engines.of(settings.engine)
    engine.prepare(settings.workers, settings.address)
    formats.of(settings.format)
    roots = sources.opened(inputs)
    task, listed = _task(roots, place, model, settings)
    plan.begin(task.store, task.plan)
    part, parts = part_of(settings.part) if settings.part else (0, 1)
    count = there = 0
    made = items = failed = 0
    far = Far()
    with closing(Backlog()) as to_do:
        with step(LISTING):
            for shard in plan.shards(listed, task.plan.per_shard):
                count += 1
                if shard.number % parts == part:
                    far = far.and_to_do(shard)
                    if plan.record_of(task.store, shard) is None:
                        to_do.add(shard)
                    else:
                        far, there = far.and_done(shard), there + 1
        del roots, listed  # their lists of files
        course = _Course(far, progress)
        for record in engine.run(task, course.given(to_do), settings.workers, settings.address, course.moved):
            made, items, failed = made + 1, items + record.items, failed + len(record.failed)
            course.done(record.number)
    return Done(made, there, items, failed, plan.finish(task.store, task.plan, count))


class _Course:
    """How far the shards are that an engine was given, and whom to tell."""

    def __init__(self, far: Far, tell: Callable[[Far], None]) -> None:
        self._far, self._tell = far, tell
        self._given: dict[int, Shard] = {}
        self._items: dict[int, int] = {}  # that are done of shards that are not
        tell(far)

    def given(self, to_do: Backlog) -> Iterator[Shard]:
        for shard in to_do.taken():
            self._given[shard.number] = shard
            yield shard

    def moved(self, number: int, items: int) -> None:
        """So many items of a shard are done; fewer than before if its worker was lost."""
        self._items[number] = items
        self._say()

    def done(self, number: int) -> None:
        self._items.pop(number, None)
        self._far = self._far.and_done(self._given.pop(number))
        self._say()

    def _say(self) -> None:
        far = self._far
        for number, items in self._items.items():
            far = far.and_done(self._given[number], items)
        self._tell(far)


def _task(roots: Sequence[Root], place: str, model: str, settings: Settings) -> tuple[Task, Iterator[Item]]:
    """What workers need to know, and the items of the set. The model is loaded once here, so that what is wrong with
    the call is said first."""
    from vqcli.tokens.work import Task, check_options
    from vqcli.zoo import loading

    info = store.find(model)
    loaded = loading.load(info, settings.device)
    check_options(loaded, settings.options)
    pixels = BATCH.get(loaded.device.type, BATCH_ACCELERATOR)
    wanted = Wanted(info.modality, settings.medium, settings.columns)
    columns, output = sources.columns(roots, wanted), Store(place)
    with step(LISTING):
        per_shard, listed = plan.sized(output, sources.items(roots, wanted), settings.per_shard)
    settled = Plan(
        model=info.name,
        digest=info.digest.hex(),
        modality="audio" if info.modality == "audio" else "image",
        format=settings.format,
        per_shard=per_shard,
        batch_pixels=0 if settings.alone else pixels,
        codebook_sizes=loaded.net.codebook_sizes[: sum(loaded.net.level_codebooks[: settings.options.get("levels")])],
        columns=columns,
        medium=settings.medium,
        options={name: value for name, value in settings.options.items() if value is not None},
    )
    return Task(settled, output, model, settings.device, settings.threads), listed
