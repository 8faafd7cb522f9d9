"""Codes <-> the payloads of a .vqz file: which coder, which chunks, and the proof that they come back.

Levels and chunks are coded on their own, so that a level can be dropped, a chunk read or lost alone, and all of
them coded side by side. What the codes stand for, and whether a header fits them, is the matter of
image_file.py, audio_file.py and video_file.py.

In a file the groups of a level go channel by channel, [channels * groups of a channel, *grid]. Coders see the channels
as rows, [groups of a channel, channels, steps]: all have the same codebooks and statistics. An image has one.

Codes of video come and go chunk by chunk, each a run of whole frames, and no more than one of them is in memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from vqcli.codec.codes import code_type
from vqcli.container import vqz
from vqcli.container.crc import combined
from vqcli.container.header import code_bytes
from vqcli.container.vqz import Header, Vqz
from vqcli.entropy import coders
from vqcli.entropy.coders import EntropyNet, Given
from vqcli.entropy.statistics import Statistics
from vqcli.errors import BadFile, ModelError, VqError
from vqcli.files import release, storage
from vqcli.zoo import store
from vqcli.zoo.loading import LoadedModel

Task = TypeVar("Task")
Result = TypeVar("Result")
Window = tuple[slice, ...]

WORKING_CODES = 2**24  # that are decoded at the same time, at some 20 bytes each; one chunk in any case

_NONE = ("no coder returns the codes it was given", "this is a defect of vq: please report it")


@dataclass(frozen=True)
class Coding:
    """What all chunks of a file are coded with. `channels` are those that are coded, not those of the original."""

    model: LoadedModel
    header: Header
    channels: int
    coder: str
    net: EntropyNet | None = None  # for coders that use the one beside the model

    def sizes(self, level: int) -> tuple[int, ...]:
        """Codebook sizes of one channel in a level."""
        groups = self.header.groups_of(level)
        return self.header.codebook_sizes[groups][: self.header.level_groups[level] // self.channels]

    def tables(self, level: int) -> Statistics | None:
        groups = self.header.groups_of(level)
        first, last = groups.start // self.channels, groups.stop // self.channels
        return self.model.statistics and self.model.statistics.of_groups(first, last)

    def rows(self, codes: np.ndarray) -> np.ndarray:
        """Codes of a level as coders see them."""
        return codes if self.channels == 1 else codes.reshape(self.channels, -1, *codes.shape[1:]).swapaxes(0, 1)

    def below(self, chunk: np.ndarray, level: int) -> np.ndarray:
        """Codes of the levels before one, as coders see them."""
        return np.concatenate([self.rows(chunk[self.header.groups_of(lower)]) for lower in range(level)])

    @property
    def uses_net(self) -> bool:
        return coders.get(self.coder).USES_NET

    def given(self, chunk: np.ndarray, level: int) -> Given:
        """What a coder is given for a level of a chunk [groups of the file, ...] whose levels before it are there."""
        below = self.below(chunk, level) if self.uses_net and level > 0 else None
        return Given(self.sizes(level), self.tables(level), self.net, self.header.quality, below)


def pack(
    model: LoadedModel,
    header: Header,
    codes: np.ndarray,
    *,
    channels: int = 1,
    coder: str = coders.AUTO,
    sides: Sequence[bytes] = (),
) -> tuple[Header, tuple[bytes, ...]]:
    """Header and payloads of codes [groups, *grid], by the coder of that name.

    `sides` is the side information of each chunk, of files that have it; it stands with the codes of the first level.

    'auto' takes the smallest that verifies, so never more than `packed`: every payload is decoded again and compared
    with its codes. Raises VqError if no coder returns what it was given.
    """
    windows = header.chunk_windows()
    parts = [(level, number) for level in range(header.levels) for number in range(len(windows))]
    attempts = []
    for coding in _codings(model, header, coder, channels):

        def encode(part: tuple[int, int], coding: Coding = coding) -> bytes:
            level, number = part
            payload = _encode(coding, codes[(slice(None), *windows[number])], level)
            release(codes)
            return vqz.with_side(sides[number], payload) if sides and level == 0 else payload

        payloads = tuple(_together(encode, parts))
        attempts.append((sum(map(len, payloads)), _with_coder(coding, header), payloads))
    for _, attempt, payloads in sorted(attempts, key=lambda attempt: attempt[0]):
        if _returns(model, vqz.unpack(vqz.pack(attempt, payloads)), codes, channels):
            return attempt, payloads
    raise VqError(*_NONE)


def _returns(model: LoadedModel, file: Vqz, codes: np.ndarray, channels: int) -> bool:
    """Whether a file holds these codes [groups, *grid]; chunk by chunk, as a copy of all may take much memory."""
    coding = _coding_of(model, file.header, channels)

    def comes_back(chunk: tuple[int, Window]) -> bool:
        number, window = chunk
        wanted = codes[(slice(None), *window)]
        found = np.empty_like(wanted, subok=False)
        same = not _fill(coding, file, number, found) and np.array_equal(found, wanted)
        release(codes)
        return same

    return all(_together(comes_back, enumerate(file.header.chunk_windows()), _at_once(file.header, len(codes))))


def pack_stream(
    model: LoadedModel, header: Header, parts: Iterable[np.ndarray], *, coder: str = coders.AUTO
) -> tuple[Header, tuple[bytes, ...]]:
    """`pack` for codes that come chunk by chunk, [groups, n, *sides] along the first side of the grid.

    n is that of the first chunk, but for the last one, which may be smaller. `header` is that of a grid [1, *sides];
    what is returned has the grid, the chunk and the checksums of what came. Only payloads are kept, so each is decoded
    again at once, whichever coder wins. Raises VqError if no coder returns what it was given, ValueError for no codes.
    """
    codings = _codings(model, header, coder)
    payloads: list[list[list[bytes]]] = [[[] for _ in range(header.levels)] for _ in codings]  # of coding and level
    verified = [True] * len(codings)
    crcs, done, step = [0] * header.groups, 0, 0
    for part in parts:
        step, done = step or part.shape[1], done + part.shape[1]
        crcs = _continued(crcs, part, header)
        tasks = [(at, level) for at in range(len(codings)) if verified[at] for level in range(header.levels)]

        def encode(task: tuple[int, int], part: np.ndarray = part) -> tuple[bytes, bool]:
            coding, level = codings[task[0]], task[1]
            payload = _encode(coding, part, level)
            return payload, np.array_equal(_decode(coding, part, level, payload), part[header.groups_of(level)])

        for (at, level), (payload, sound) in zip(tasks, _together(encode, tasks), strict=True):
            payloads[at][level].append(payload)
            verified[at] &= sound
    if not any(verified):
        raise VqError(*_NONE)
    sums = {
        at: sum(len(payload) for level in payloads[at] for payload in level) for at, ok in enumerate(verified) if ok
    }
    best = min(sums, key=lambda at: sums[at])
    finished = replace(
        _with_coder(codings[best], header),
        grid=(done, *header.grid[1:]),
        chunk=(step, *header.grid[1:]),
        codes_crcs=_of_levels(crcs, header, done * math.prod(header.grid[1:])),
    )
    return finished, tuple(payload for level in payloads[best] for payload in level)


def unpack(
    model: LoadedModel, file: Vqz, *, channels: int = 1, levels: int | None = None, wanted: Window | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Codes [groups, *grid] of a parsed file that fits the model, and which are lost: bool [*grid], true only in
    salvaged files.

    `levels` reads the first ones only, `wanted` the chunks that touch that window of the grid only: elsewhere codes are
    0. Lost positions hold the middle of each codebook. Raises BadFile if a chunk does not decode or the codes fail
    their checksum, ModelError if the prior that the file was made with is not there.
    """
    header = file.header
    kept = levels or header.levels
    coding = _coding_of(model, header, channels)
    codes = storage((header.groups_in(kept), *header.grid), code_type(header.codebook_sizes))
    if wanted is not None:
        codes[:] = 0
    lost = np.zeros(header.grid, bool)
    chunks = [chunk for chunk in enumerate(header.chunk_windows()) if wanted is None or _touch(chunk[1], wanted)]

    def read(chunk: tuple[int, Window]) -> None:
        number, window = chunk
        lost[window] = _fill(coding, file, number, codes[(slice(None), *window)])
        release(codes)

    _together(read, chunks, _at_once(header, len(codes)))
    if not lost.any() and len(chunks) == header.chunk_count:
        levels_groups = [header.groups_of(level) for level in range(kept)]
        _check(header, [vqz.codes_crc(codes[groups], header.codebook_sizes[groups]) for groups in levels_groups])
    return codes, lost


def unpack_stream(
    model: LoadedModel, file: Vqz, *, levels: int | None = None, wanted: slice | None = None
) -> Iterator[tuple[int, np.ndarray, bool]]:
    """Chunk after chunk of a file whose chunks are runs along the first side of the grid: where it begins there, its
    codes uint16 [groups, n, *sides], and whether it is lost, which is only so in salvaged files.

    `levels`, lost positions and errors as `unpack` has them; `wanted` is of the first side. The checksum is compared
    after the last chunk.
    """
    header = file.header
    coding = _coding_of(model, header)
    groups = header.groups_in(levels or header.levels)
    crcs, whole = [0] * groups, True
    for number, (run, *sides) in enumerate(header.chunk_windows()):
        if wanted is not None and not _touch((run,), (wanted,)):
            whole = False
            continue
        shape = (groups, run.stop - run.start, *(side.stop for side in sides))
        codes = np.zeros(shape, code_type(header.codebook_sizes))
        lost = _fill(coding, file, number, codes)
        whole = whole and not lost
        crcs = _continued(crcs, codes, header)
        yield run.start, codes, lost
    if whole:
        _check(header, _of_levels(crcs, header, math.prod(header.grid)))


def whole_levels(file: Vqz, levels: int | None = None) -> np.ndarray:
    """How many of the first `levels` each position has: uint8 [*grid], 0 where it is lost; of a sound file all."""
    kept = levels or file.header.levels
    found = np.zeros(file.header.grid, np.uint8)
    for number, window in enumerate(file.header.chunk_windows()):
        found[window] = next((level for level in range(kept) if file.payload(level, number) is None), kept)
    return found


def _codings(model: LoadedModel, header: Header, coder: str, channels: int = 1) -> list[Coding]:
    """What to try for a coder, which may be 'auto'."""
    wants_net = coder == coders.AUTO or coders.get(coder).USES_NET
    net = model.entropy_model[0] if wants_net and model.entropy_model else None
    first = Coding(model, header, channels, coder, net)
    given = Given(first.sizes(0), first.tables(0), net, header.quality)
    return [replace(first, coder=name) for name in coders.candidates(coder, given)]


def _with_coder(coding: Coding, header: Header) -> Header:
    """The header, which now says by what its codes are coded."""
    used = replace(header, coder=coders.get(coding.coder).ID)
    if not coding.uses_net or not coding.model.entropy_model:
        return used
    # one digest names both, so the header is no longer than without
    return replace(used, digest=store.joint_digest(header.digest, coding.model.entropy_model[1]), joint=True)


def _coding_of(model: LoadedModel, header: Header, channels: int = 1) -> Coding:
    """What a file was coded with."""
    name = coders.name_of(header.coder)
    return Coding(model, header, channels, name, _prior_of(model, header) if coders.get(name).USES_NET else None)


def _fill(coding: Coding, file: Vqz, number: int, chunk: np.ndarray) -> bool:
    """Decode one chunk into `chunk` [groups of the wanted levels, ...]; whether any of it is lost."""
    gone, header = False, coding.header
    for level in range(header.levels):
        groups = header.groups_of(level)
        if groups.stop > len(chunk):
            break
        payload = file.payload(level, number)
        gone = gone or payload is None
        if payload is None or (gone and coding.uses_net):
            middles = (np.array(header.codebook_sizes[groups]) - 1) // 2
            chunk[groups] = middles.reshape(-1, *[1] * (chunk.ndim - 1))
        else:
            chunk[groups] = _decode(coding, chunk, level, payload)
    return gone


def _continued(crcs: Sequence[int], codes: np.ndarray, header: Header) -> list[int]:
    """The CRC-32 of each group, with the codes [groups, ...] of one more chunk behind it."""
    known = zip(codes, header.codebook_sizes, crcs, strict=False)  # the file may have more levels
    return [vqz.group_crc(group, K, crc) for group, K, crc in known]


def _of_levels(crcs: Sequence[int], header: Header, positions: int) -> tuple[int, ...]:
    """The CRC-32 of the codes of each level, from those of all groups that are there, of so many positions each."""
    sums = []
    for level in range(header.levels):
        groups = header.groups_of(level)
        if groups.stop > len(crcs):
            break
        found, *others = crcs[groups]
        for crc, K in zip(others, header.codebook_sizes[groups][1:], strict=True):
            found = combined(found, crc, positions * code_bytes(K))
        sums.append(found)
    return tuple(sums)


def _check(header: Header, crcs: Sequence[int]) -> None:
    """Raise BadFile unless these are the CRC-32 of the first levels."""
    if tuple(crcs) != header.codes_crcs[: len(crcs)]:
        raise BadFile("the codes fail their checksum", "the file is damaged, or was not made with this model")


def _encode(coding: Coding, chunk: np.ndarray, level: int) -> bytes:
    """The payload of a level of a chunk [groups, ...]."""
    return coders.encode(coding.coder, coding.rows(chunk[coding.header.groups_of(level)]), coding.given(chunk, level))


def _decode(coding: Coding, chunk: np.ndarray, level: int, payload: bytes) -> np.ndarray:
    """Codes of a level, as they lie in the file, for a chunk [groups, ...] whose levels before it are there."""
    inside = chunk[coding.header.groups_of(level)]
    rows = coders.decode(coding.coder, payload, coding.rows(inside).shape, coding.given(chunk, level))
    return rows if coding.channels == 1 else rows.swapaxes(0, 1).reshape(inside.shape)


def _at_once(header: Header, groups: int) -> int:
    """How many chunks of so many groups are decoded side by side: as many as memory should hold."""
    return WORKING_CODES // (math.prod(header.chunk or header.grid) * groups)


def _touch(window: Window, other: Window) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(window, other, strict=True))


def _prior_of(model: LoadedModel, header: Header) -> EntropyNet:
    """The very prior that a file was made with. Raises ModelError if there is another beside the model, or none."""
    if not (header.joint or header.prior):
        raise BadFile("the file needs a prior and does not say which")
    if model.entropy_model is None:
        raise ModelError(
            f"the file needs the entropy model of model {model.info.name}, and there is no {store.EXACT} beside it",
            f"put it into {model.info.folder}",
        )
    net, digest = model.entropy_model
    if header.joint:
        if store.joint_digest(model.info.digest, digest) != header.digest:  # both known: nothing is read again
            store.check_digest(model.info, header.model, header.digest, joint=True)
    elif digest != header.prior:
        raise ModelError(
            f"the file was made with prior {header.prior.hex()}, not with {digest.hex()} beside {model.info.name}"
        )
    return net


def _together(work: Callable[[Task], Result], tasks: Iterable[Task], most: int = 1024) -> list[Result]:
    """Results in order; the coders release the interpreter's lock, so threads are enough, and no more than `most`."""
    with ThreadPoolExecutor(max(1, min(os.cpu_count() or 1, most))) as pool:
        return list(pool.map(work, tasks))
