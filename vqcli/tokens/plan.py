"""What a run does: its settings, fixed when it begins, and its shards, cut by place in the source and not by arrival.

plan.json            the settings: another run into the same place must have the same
shard-000000.npz     codes, `per_shard` items each
index/000000.json    the record of a shard, written after it: a shard is done if it has one
index.json           all records, and what they hold together; written when all shards are done
failed.jsonl         every item that could not be tokenized, and why
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from typing import Annotated, Literal, TypeVar

import msgspec

from vqcli.container.header import LARGEST_K
from vqcli.data.prefetch import in_order
from vqcli.errors import BadFile, UsageError
from vqcli.tokens.items import Item
from vqcli.tokens.store import Store

PLAN, INDEX, FAILED = "plan.json", "index.json", "failed.jsonl"
FORMAT = 1
Made = TypeVar("Made")
Moved = Callable[[int, int], None]  # called with the number of a shard and how many of its items are done
K = Annotated[int, msgspec.Meta(ge=2, le=LARGEST_K)]
# Items of a shard, unless the user chooses: the first of these that makes SHARDS at most, or the last
SIZES = 50, 100, 200, 500
SHARDS = 32  # enough for the workers of a machine to share out evenly


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a run.

    model, digest   of the model, the digest in hexadecimal
    modality        image or audio
    format          a file of tokens/formats
    per_shard       items of a shard
    batch_pixels    of images that the net sees at once, at most
    columns         of labels and texts: name to type
    medium          the column of a table that has the media, None: the first that looks like it
    codebook_sizes  K of each group of a row
    options         what was chosen of the encoding: quality, tune, levels, mono
    """

    model: str
    digest: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})+$")]
    modality: Literal["image", "audio"]
    format: str
    per_shard: Annotated[int, msgspec.Meta(ge=1)]
    batch_pixels: Annotated[int, msgspec.Meta(ge=0)]
    codebook_sizes: Annotated[tuple[K, ...], msgspec.Meta(min_length=1)]
    columns: dict[str, Literal["str", "int", "float"]] = {}
    medium: str | None = None
    options: dict[str, str | int | float | bool | None] = {}
    version: int = FORMAT


@dataclass(frozen=True)
class Shard:
    """Some items that follow each other."""

    number: int
    items: tuple[Item, ...]

    @property
    def size_bytes(self) -> int:
        """Of its items, as far as it is known without reading them."""
        return sum(item.size for item in self.items)

    @property
    def digest(self) -> str:
        """Of what it is made of: the keys and sizes of its items."""
        lines = "".join(f"{item.key}\n{item.size}\n" for item in self.items)
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


class Failure(msgspec.Struct, frozen=True):
    key: str
    error: str


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a shard that is done.

    items    how many it holds
    codes    how many codes these have
    bytes, sha256  of its file
    source   Shard.digest
    failed   items that it could not hold
    """

    number: int
    name: str
    items: int
    codes: int
    bytes: int
    sha256: str
    source: str
    failed: tuple[Failure, ...] = ()


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """A set that is whole. The records are without what failed, which is in failed.jsonl."""

    plan: Plan
    items: int
    codes: int
    failed: int
    shards: tuple[Record, ...]


def sized(store: Store, items: Iterator[Item], per_shard: int | None) -> tuple[int, Iterator[Item]]:
    """Items of a shard, and all items: as many as the user chose, else as in a set that was begun, else by their count.

    No source knows its count before it is listed: as many items are looked at as need the largest shards, and no more.
    Raises BadFile.
    """
    if per_shard is None and (begun := read_plan(store)) is not None:
        per_shard = begun.per_shard
    if per_shard is not None:
        return per_shard, items
    first = list(islice(items, SHARDS * SIZES[-2] + 1))
    return next(size for size in SIZES if len(first) <= SHARDS * size), chain(first, items)


def shards(items: Iterable[Item], per_shard: int) -> Iterator[Shard]:
    """The items cut into shards, one after another, as they come. Raises UsageError for none."""
    rest, number = iter(items), 0
    while some := tuple(islice(rest, per_shard)):
        yield Shard(number, some)
        number += 1
    if not number:
        raise UsageError("there is nothing to tokenize")


def begin(store: Store, plan: Plan) -> None:
    """Write the settings, or check that a place has the same. Raises UsageError."""
    found = read_plan(store)
    if found is None:
        store.write(PLAN, _text(plan))
        return
    where = f"{store.place} holds"
    if (found.model, found.digest) != (plan.model, plan.digest):
        other = found.model if found.model != plan.model else f"another {found.model} ({found.digest[:12]})"
        raise UsageError(f"{where} tokens of model {other}", "name another folder with -o")
    for field in plan.__struct_fields__:
        was, now = getattr(found, field), getattr(plan, field)
        if was != now:
            raise UsageError(f"{where} tokens with {field} {was}, and this run has {now}", "name another folder")


def read_plan(store: Store) -> Plan | None:
    """The settings of a place, None if nothing was begun there. Raises BadFile."""
    return None if store.size(PLAN) is None else _read(store, PLAN, Plan)


def record_name(number: int) -> str:
    return f"index/{number:06d}.json"


def shard_name(number: int, format: str) -> str:
    return f"shard-{number:06d}.{format}"


def record_of(store: Store, shard: Shard) -> Record | None:
    """The record of a shard that is done. Raises UsageError if it was made of other items than these."""
    name = record_name(shard.number)
    if store.size(name) is None:
        return None
    record = _read(store, name, Record)
    if record.source != shard.digest:
        raise UsageError(
            f"{store.place}: shard {shard.number} is of other items: the source has changed", "name another folder"
        )
    return record if store.size(record.name) == record.bytes else None


def write_record(store: Store, record: Record) -> None:
    store.write(record_name(record.number), _text(record))


def finish(store: Store, plan: Plan, count: int) -> Index | None:
    """The index of a set whose `count` shards are all done, which it writes; None if some are not."""

    def of(number: int) -> Record | None:
        name = record_name(number)
        return None if store.size(name) is None else _read(store, name, Record)

    records: list[Record] = []
    with closing(in_order(of, range(count), workers=8, prefetch=32)) as found:  # a store may be far away
        for record in found:
            if record is None:
                return None
            records.append(record)
    lines = [
        msgspec.json.encode({"shard": record.number, "key": each.key, "error": each.error}) + b"\n"
        for record in records
        for each in record.failed
    ]
    index = Index(
        plan=plan,
        items=sum(record.items for record in records),
        codes=sum(record.codes for record in records),
        failed=len(lines),
        shards=tuple(msgspec.structs.replace(record, failed=()) for record in records),
    )
    store.write(FAILED, b"".join(lines))
    store.write(INDEX, _text(index))
    return index


def read_index(store: Store) -> Index:
    """The index of a whole set. Raises BadFile if the set is none, or not whole."""
    if store.size(INDEX) is None:
        if store.size(PLAN) is None:
            raise BadFile(f"{store.place} holds no tokens", "vq tokenize SOURCE -o FOLDER makes them")
        raise BadFile(f"{store.place} is not whole: the run was interrupted", "the same vq tokenize goes on with it")
    return _read(store, INDEX, Index)


def _read(store: Store, name: str, type: type[Made]) -> Made:
    try:
        return msgspec.json.decode(store.read(name), type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFile(f"{store.called(name)} is damaged: {error}", "remove it: the run makes it again") from None


def _text(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value)) + b"\n"
