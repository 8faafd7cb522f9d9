"""Codes <-> the payloads of a .vqz file: which coder, which chunks, and the proof that they come back.

Levels and chunks are coded on their own, so that a level can be dropped, a chunk read or lost alone, and all of
them coded side by side. What the codes stand for, and whether a header fits them, is the business of packing.py.

In a file the groups of a level go channel by channel, [channels * groups of a channel, *grid]. Coders see the channels
as rows, [groups of a channel, channels, steps]: all have the same codebooks and statistics. A picture has one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from vqcli import coders, vqz, zoo
from vqcli.coders.statistics import Statistics
from vqcli.errors import BadFile, ModelError, VqError
from vqcli.vqz import Header, Vqz
from vqcli.zoo import LoadedModel

Task = TypeVar("Task")
Result = TypeVar("Result")
Window = tuple[slice, ...]


@dataclass(frozen=True)
class Coding:
    """What all chunks of a file are coded with. `channels` are those that are coded, not those of the original."""

    model: LoadedModel
    header: Header
    channels: int
    coder: str
    net: Any = None  # the exact prior

    def groups(self, level: int) -> slice:
        """Of a level, in the file."""
        n = self.header.groups_per_level
        return slice(level * n, (level + 1) * n)

    def sizes(self, level: int) -> tuple[int, ...]:
        """Codebook sizes of one channel in a level."""
        start = self.groups(level).start
        return self.header.codebook_sizes[start : start + self.header.groups_per_level // self.channels]

    def tables(self, level: int) -> Statistics | None:
        n = self.header.groups_per_level // self.channels
        return self.model.statistics and self.model.statistics.of_groups(level * n, (level + 1) * n)

    def rows(self, codes: np.ndarray) -> np.ndarray:
        """Codes of whole levels as coders see them."""
        if self.channels == 1:
            return codes
        levels = len(codes) // self.header.groups_per_level
        planes = codes.reshape(levels, self.channels, -1, *codes.shape[1:]).swapaxes(1, 2)
        return planes.reshape(-1, self.channels, *codes.shape[1:])

    def below(self, chunk: np.ndarray, level: int) -> np.ndarray | None:
        """What the exact prior predicts a level from: those before it, in a chunk [groups of the file, ...]."""
        return self.rows(chunk[: self.groups(level).start]) if self.coder == "prior" and level > 0 else None


def pack(
    model: LoadedModel, header: Header, codes: np.ndarray, *, channels: int = 1, coder: str = "auto"
) -> tuple[Header, tuple[bytes, ...]]:
    """Header and payloads of codes [groups, *grid], by the coder of that name.

    'auto' takes the smallest that verifies, so never more than `packed`: every payload is decoded again and compared
    with its codes. Raises VqError if no coder returns what it was given.
    """
    parts = [(level, window) for level in range(header.levels) for window in header.chunk_windows()]
    net, digest = (coder in ("auto", "prior") and model.exact) or (None, b"")
    attempts = []
    for name in coders.candidates(coder, model.statistics, net):
        used = replace(header, coder=coders.IDS[name])
        if name == "prior":  # one digest names both, so the header is no longer than without
            used = replace(used, digest=zoo.joint_digest(header.digest, digest), joint=True)
        coding = Coding(model, header, channels, name, net)
        payloads = tuple(_together(partial(_encode, coding, codes), parts))
        attempts.append((sum(map(len, payloads)), used, payloads))
    for _, attempt, payloads in sorted(attempts, key=lambda attempt: attempt[0]):
        decoded, _ = unpack(model, vqz.unpack(vqz.pack(attempt, payloads)), channels=channels)
        if np.array_equal(decoded, codes):
            return attempt, payloads
    raise VqError("no coder returns the codes it was given", "this is a defect of vq: please report it")


def unpack(
    model: LoadedModel, file: Vqz, *, channels: int = 1, levels: int | None = None, wanted: Window | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Codes uint16 [groups, *grid] of a parsed file that fits the model, and which are lost: bool [*grid], true only in
    salvaged files.

    `levels` reads the first ones only, `wanted` the chunks that touch that window of the grid only: elsewhere codes are
    0. Lost positions hold the middle of each codebook. Raises BadFile if a chunk does not decode or the codes fail
    their checksum, ModelError if the prior that the file was made with is not there.
    """
    header = file.header
    kept = levels or header.levels
    name = coders.name_of(header.coder)
    net = _prior_of(model, header) if name == "prior" else None
    coding = Coding(model, header, channels, name, net)
    codes = np.zeros((kept * header.groups_per_level, *header.grid), np.uint16)
    lost = np.zeros(header.grid, bool)
    chunks = [chunk for chunk in enumerate(header.chunk_windows()) if wanted is None or _touch(chunk[1], wanted)]

    def read(chunk: tuple[int, Window]) -> None:
        number, window = chunk
        part = codes[(slice(None), *window)]
        gone = False
        for level in range(kept):
            payload = file.payload(level, number)
            gone = gone or payload is None
            if payload is None or (gone and coding.coder == "prior"):
                middles = (np.array(header.codebook_sizes[coding.groups(level)]) - 1) // 2
                part[coding.groups(level)] = middles.reshape(-1, *[1] * len(window))
            else:
                part[coding.groups(level)] = _decode(coding, part, level, payload)
        lost[window] = gone

    _together(read, chunks)
    if not lost.any() and len(chunks) == header.chunk_count:
        for level, part in enumerate(np.split(codes, kept)):
            if vqz.codes_crc(part) != header.codes_crcs[level]:
                raise BadFile("the codes fail their checksum", "the file is damaged, or was not made with this model")
    return codes, lost


def _encode(coding: Coding, codes: np.ndarray, part: tuple[int, Window]) -> bytes:
    level, window = part
    chunk = codes[(slice(None), *window)]
    rows, below = coding.rows(chunk[coding.groups(level)]), coding.below(chunk, level)
    sizes, tables, quality = coding.sizes(level), coding.tables(level), coding.header.quality
    return coders.encode(coding.coder, rows, sizes, tables, coding.net, quality, below)


def _decode(coding: Coding, chunk: np.ndarray, level: int, payload: bytes) -> np.ndarray:
    """Codes of a level, as they lie in the file, for a chunk [groups, ...] whose levels before it are there."""
    inside = chunk[coding.groups(level)]
    shape, below = coding.rows(inside).shape, coding.below(chunk, level)
    sizes, tables, quality = coding.sizes(level), coding.tables(level), coding.header.quality
    rows = coders.decode(coding.coder, payload, shape, sizes, tables, coding.net, quality, below)
    return rows if coding.channels == 1 else rows.swapaxes(0, 1).reshape(inside.shape)


def _touch(window: Window, other: Window) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(window, other, strict=True))


def _prior_of(model: LoadedModel, header: Header) -> Any:
    """The very prior that a file was made with. Raises ModelError if there is another beside the model, or none."""
    if not (header.joint or header.prior):
        raise BadFile("the file needs a prior and does not say which")
    if model.exact is None:
        raise ModelError(
            f"the file needs the exact prior of model {model.info.name}, and there is no {zoo.EXACT} beside it",
            f"put it into {model.info.folder}",
        )
    net, digest = model.exact
    if header.joint:
        if zoo.joint_digest(model.info.digest, digest) != header.digest:  # both known: nothing is read again
            zoo.check_digest(model.info, header.model, header.digest, joint=True)
    elif digest != header.prior:
        raise ModelError(
            f"the file was made with prior {header.prior.hex()}, not with {digest.hex()} beside {model.info.name}"
        )
    return net


def _together(work: Callable[[Task], Result], tasks: Iterable[Task]) -> list[Result]:
    """Results in order; the coders release the interpreter's lock, so threads are enough."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(work, tasks))
