"""Whether a set is what its index says: every shard there, of its digest, and readable; every count right."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from vqcli.errors import BadFile
from vqcli.progress import ProgressCallback, silent
from vqcli.tokens import formats, plan
from vqcli.tokens.plan import Index, Plan, Record
from vqcli.tokens.rows import Row
from vqcli.tokens.store import Store

MOST = 100  # problems that are named


@dataclass(frozen=True)
class Checked:
    shards: int
    items: int
    failed: int
    problems: tuple[str, ...]


def check(store: Store, progress: ProgressCallback = silent) -> Checked:
    """Look at every byte of a set. Raises BadFile if it is none, or not whole."""
    index = plan.read_index(store)
    problems: list[str] = []
    keys: set[bytes] = set()
    for number, record in enumerate(index.shards):
        problems += _shard(store, index, number, record, keys)
        if len(problems) >= MOST:
            break
        progress((number + 1) / len(index.shards))
    return Checked(len(index.shards), index.items, index.failed, tuple(problems[:MOST] or _counts(store, index)))


def read_shard(store: Store, settings: Plan, record: Record) -> list[Row]:
    """The rows of a shard, if its file is that of its record and all codes are within the codebooks. Raises BadFile."""
    if record.name != plan.shard_name(record.number, formats.suffix(settings.format)):
        raise BadFile(f"{store.place}: {record.name!r} is no name of shard {record.number}", REMEDY)
    data = store.read(record.name)
    if len(data) != record.bytes or hashlib.sha256(data).hexdigest() != record.sha256:
        raise BadFile(f"{store.called(record.name)} is damaged: it is not what its record says", REMEDY)
    try:
        rows = formats.of(settings.format).load(data)
    except BadFile as error:
        raise BadFile(f"{store.called(record.name)} cannot be read: {error}", REMEDY) from None
    for row in rows:
        sizes = np.resize(np.array(settings.codebook_sizes), len(row.codes))  # those of each channel in turn
        if row.codes.ndim < 2 or (row.codes.reshape(len(row.codes), -1).max(1, initial=0) >= sizes).any():
            raise BadFile(f"{store.called(record.name)}: codes of {row.key} are not within the codebooks", REMEDY)
    return rows


REMEDY = "remove it: the same vq tokenize makes it again"


def _shard(store: Store, index: Index, number: int, record: Record, keys: set[bytes]) -> Iterator[str]:
    if record.number != number:
        yield f"{record.name}: shard {number} is missing in the index"
    try:
        rows = read_shard(store, index.plan, record)
    except BadFile as error:
        yield str(error)
        return
    if (len(rows), sum(row.codes.size for row in rows)) != (record.items, record.codes):
        yield f"{record.name}: it holds {len(rows)} items, and its record says {record.items}"
    for row in rows:
        key = hashlib.sha256(row.key.encode("utf-8", "surrogateescape")).digest()[:12]
        if key in keys:
            yield f"{record.name}: {row.key} is there twice"
        keys.add(key)


def _counts(store: Store, index: Index) -> Iterator[str]:
    if index.items != sum(record.items for record in index.shards):
        yield "the index counts other items than its shards"
    try:
        listed = [msgspec.json.decode(line) for line in store.read(plan.FAILED).splitlines()]
    except (BadFile, msgspec.DecodeError) as error:
        yield f"{plan.FAILED}: {error}"
        return
    if len(listed) != index.failed:
        yield f"{plan.FAILED} lists {len(listed)} items, and the index counts {index.failed}"
