"""The header of a .vqz file and its bytes; FORMAT.md is the specification of both."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from vqcli.container.fields import Reader, require, u32, varint, within
from vqcli.errors import BadFile

MODALITIES = ("image", "audio", "video")  # from 1
_SIZE_BOUNDS = {
    "image": {"width": 2**20, "height": 2**20, "channels": 4},
    "audio": {"samples": 2**36, "rate_hz": 2**20, "channels": 64},
    "video": {"width": 2**20, "height": 2**20, "frames": 2**24, "frames_per_1000s": 2**20},
}
LARGEST_K, NARROW_K = 2**18, 2**16  # of codebooks, and of those whose codes have two bytes where they are summed up
RESIDUAL_CODERS = {0: "predicted", 1: "likelihood"}  # coders of the residual; numbers are never reused
_GRID_DIMS = {"image": 2, "audio": 1, "video": 3}


TUNES = ("ssim", "psnr")  # what the encoder of a net with tunes can aim at; the first is the default
QUALITIES_OF_TUNE = 10  # such a net has 1 .. 10 for the first, and its next ten for the second


def tune_of(quality: float) -> tuple[str, float]:
    """The tune and the quality within it that a quality of a file, in steps, stands for; beyond all, the last tune."""
    number = min(int((quality - 1) // QUALITIES_OF_TUNE), len(TUNES) - 1) if quality >= 1 else 0
    return TUNES[number], quality - number * QUALITIES_OF_TUNE


def code_bytes(K: int) -> int:
    """Bytes of a code of a codebook of K, where codes are summed up."""
    return 2 if K <= NARROW_K else 4


MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class LosslessResidual:
    """The residual of a file: its coder, and the CRC-32 of the pixels."""

    coder: int
    pixels_crc: int


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of a .vqz file; the ranges are those of the specification.

    `size` is (width, height, channels), (samples, rate_hz, channels) or (width, height, frames, frames_per_1000s). Each
    group has its K in `codebook_sizes`, each level its CRC-32 in `codes_crcs`, and its number of groups in `uneven`
    unless all have as many. `digest` and `prior` are 8 bytes, no prior is b""; with `joint` the digest is that of model
    and prior together. `chunk` is cut to the grid, () if it covers the grid. `side_bytes` is the side information of
    all chunks together. With a `residual` the file holds every pixel of an image. A value out of its range is BadFile.
    """

    modality: str
    size: tuple[int, ...]
    grid: tuple[int, ...]
    codebook_sizes: tuple[int, ...]
    levels: int
    uneven: tuple[int, ...] = ()
    model: str
    digest: bytes
    coder: int
    quality: int = 0
    chunk: tuple[int, ...] = ()
    prior: bytes = b""
    joint: bool = False
    codes_crcs: tuple[int, ...]
    side_bytes: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    residual: LosslessResidual | None = None

    def __post_init__(self) -> None:
        require(self.modality in _SIZE_BOUNDS, f"unknown modality {self.modality!r}")
        bounds = _SIZE_BOUNDS[self.modality]
        require(len(self.size) == len(bounds), f"the size needs {', '.join(bounds)}")
        for (name, high), value in zip(bounds.items(), self.size, strict=True):
            within(name, value, 1, high)
        if self.modality != "audio":
            within("width * height", self.size[0] * self.size[1], 1, 2**32)
        within("coder id", self.coder, 0, 127)
        within("quality", self.quality, 0, 255)
        require(bool(MODEL_NAME.fullmatch(self.model)), f"bad model name {self.model!r}")
        require(len(self.digest) == 8 and len(self.prior) in (0, 8), "a digest is not 8 bytes long")
        require(not (self.joint and self.prior), "a prior is named twice")
        require(len(self.grid) == _GRID_DIMS[self.modality], f"the grid has {len(self.grid)} dimensions")
        within("the grid's smallest side", min(self.grid), 1, 2**33)
        within("number of groups", self.groups, 1, 4096)
        within("number of codes", math.prod(self.grid) * self.groups, 1, 2**33)
        within("codebook runs", 1 + sum(a != b for a, b in itertools.pairwise(self.codebook_sizes)), 1, 255)
        require(all(2 <= k <= LARGEST_K for k in self.codebook_sizes), f"a codebook size is not in 2..{LARGEST_K}")
        within("levels", self.levels, 1, 64)
        if len(set(self.uneven)) == 1:
            object.__setattr__(self, "uneven", ())
        if self.uneven:
            require(len(self.uneven) == self.levels, f"{self.levels} levels need the number of groups of each")
            within("smallest number of groups in a level", min(self.uneven), 1, 4096)
            require(sum(self.uneven) == self.groups, f"{self.groups} groups are not those of the levels")
        else:
            require(self.groups % self.levels == 0, f"{self.groups} groups do not divide into {self.levels} levels")
        checksums = [crc for crc in self.codes_crcs if 0 <= crc < 2**32]
        require(len(checksums) == len(self.codes_crcs) == self.levels, "each level needs the CRC-32 of its codes")
        if self.chunk:
            require(len(self.chunk) == len(self.grid), "chunk and grid differ in dimensions")
            within("the chunk's smallest side", min(self.chunk), 1, 2**33)
            chunk = tuple(map(min, self.chunk, self.grid))
            object.__setattr__(self, "chunk", () if chunk == self.grid else chunk)
        within("number of chunks", self.records, 1, 2**20)
        within("metadata bytes", len(_metadata_bytes(self.metadata)), 0, 4096)
        within("bytes of side information", self.side_bytes, 0, 2**32)
        require(not (self.residual and self.side_bytes), "a residual belongs to chunks without side information")
        if self.residual:
            require(self.version == 2, f"a residual belongs to levels of equally many groups, of K up to {NARROW_K}")
            require(self.modality == "image", f"the residual is that of {self.modality}, not of an image")
            within("residual coder id", self.residual.coder, 0, 127)
            within("CRC-32 of the pixels", self.residual.pixels_crc, 0, 2**32 - 1)

    @property
    def version(self) -> int:
        """The format version of a file with this header: the lowest that can express it."""
        if self.side_bytes:
            return 4
        return 3 if self.uneven or max(self.codebook_sizes) > NARROW_K else 2 if self.residual else 1

    @property
    def level_groups(self) -> tuple[int, ...]:
        """How many groups each level has."""
        return self.uneven or (self.groups // self.levels,) * self.levels

    @property
    def groups(self) -> int:
        return len(self.codebook_sizes)

    def groups_of(self, level: int) -> slice:
        """The groups of a level."""
        return slice(self.groups_in(level), self.groups_in(level + 1))

    def groups_in(self, levels: int) -> int:
        """How many groups the first levels have."""
        return sum(self.level_groups[:levels])

    @property
    def chunk_count(self) -> int:
        """The number of chunks in one level."""
        return math.prod(-(-side // step) for side, step in zip(self.grid, self.chunk or self.grid, strict=True))

    @property
    def records(self) -> int:
        """The number of payloads: of each chunk one for each level, and one for its residual if there is one."""
        return (self.levels + bool(self.residual)) * self.chunk_count

    def chunk_windows(self) -> list[tuple[slice, ...]]:
        """Where each chunk of a level lies in the grid, in C order; those at the edge are smaller."""
        sides = zip(self.grid, self.chunk or self.grid, strict=True)
        cuts = [[slice(at, min(at + step, side)) for at in range(0, side, step)] for side, step in sides]
        return list(itertools.product(*cuts))


def write_fields(header: Header, index: Sequence[tuple[int, int]]) -> bytes:
    """The header fields; `index` holds (length in bytes, CRC-32) of each payload."""
    fields = bytearray((MODALITIES.index(header.modality) + 1, header.coder, header.quality, header.levels))
    fields += bytes([len(header.model)]) + header.model.encode() + header.digest
    fields += bytes([2 if header.joint else bool(header.prior)]) + header.prior
    fields += b"".join(map(varint, (*header.size, *header.grid, *(header.chunk or (0,)))))
    runs = [(k, len(list(run))) for k, run in itertools.groupby(header.codebook_sizes)]
    fields += bytes([len(runs)]) + b"".join(varint(k) + varint(count) for k, count in runs)
    if header.version >= 3:
        fields += b"".join(map(varint, header.level_groups))
    if header.side_bytes:
        fields += varint(header.side_bytes)
    fields += b"".join(map(u32, header.codes_crcs))
    metadata = _metadata_bytes(header.metadata)
    fields += varint(len(metadata)) + metadata
    if header.residual:
        fields += bytes([header.residual.coder]) + u32(header.residual.pixels_crc)
    fields += b"".join(varint(length) + u32(crc) for length, crc in index)
    return bytes(fields)


def read_fields(fields: Reader, version: int) -> tuple[Header, list[tuple[int, int]]]:
    """The mirror of `write_fields`, line by line, for a file of this format version."""
    modality_id, coder, quality, levels = fields.take(4)
    within("modality", modality_id, 1, len(MODALITIES))
    modality = MODALITIES[modality_id - 1]
    model, digest = fields.take(fields.u8()).decode("latin-1"), fields.take(8)
    within("the kind of prior", kind := fields.u8(), 0, 2)
    prior = fields.take(8) if kind == 1 else b""
    size = tuple(fields.varint() for _ in _SIZE_BOUNDS[modality])
    grid = tuple(fields.varint() for _ in range(_GRID_DIMS[modality]))
    chunk = (first, *(fields.varint() for _ in grid[1:])) if (first := fields.varint()) else ()
    runs = [(fields.varint(), fields.varint()) for _ in range(fields.u8())]
    within("number of groups", sum(count for _, count in runs), 1, 4096)
    codebook_sizes = tuple(k for k, count in runs for _ in range(count))
    uneven = tuple(fields.varint() for _ in range(levels)) if version >= 3 else ()
    side_bytes = fields.varint() if version >= 4 else 0
    codes_crcs = tuple(fields.u32() for _ in range(levels))
    text = fields.take(fields.varint())
    metadata: Any = None  # which Header refuses
    with suppress(ValueError, RecursionError):  # the second for thousands of brackets
        metadata = json.loads(text.decode() or "{}")
    residual = LosslessResidual(fields.u8(), fields.u32()) if version == 2 else None
    header = Header(
        modality=modality, size=size, grid=grid, codebook_sizes=codebook_sizes, levels=levels, uneven=uneven,
        model=model, digest=digest, coder=coder, quality=quality, chunk=chunk, prior=prior, joint=kind == 2,
        codes_crcs=codes_crcs, side_bytes=side_bytes, metadata=metadata, residual=residual,
    )  # fmt: skip
    require(header.records * 5 <= len(fields), "the header is too short for its index")  # before a list of that length
    return header, [(fields.varint(), fields.u32()) for _ in range(header.records)]


def _metadata_bytes(metadata: dict[str, str]) -> bytes:
    try:
        "".join(itertools.chain(*metadata.items())).encode()
    except (AttributeError, TypeError, UnicodeEncodeError) as error:  # the last for half of a surrogate pair
        raise BadFile("metadata is not an object of Unicode strings") from error
    return json.dumps(metadata, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode() if metadata else b""
