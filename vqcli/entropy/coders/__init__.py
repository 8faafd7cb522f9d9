"""Codes <-> bytes on integers, without loss: each file of this package is a coder.

    packed      0   ceil(log2 K) bits a code
    histogram   1   the context coder with counts that ship with the model
    adaptive    2   the context coder with adaptive counts, which start from the model's or from flat ones
    prior       3   an entropy model in integers, a net next to the model

A coder has the name of its file, which holds what `Coder` lists; its number in files never changes. Codes are integer
arrays [G, *grid] of G codebooks with a grid of one to three dimensions. Listing the coders loads neither torch nor
numba: they import these inside their functions.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from vqcli.errors import BadFile, UsageError, VqError, near_matches

if TYPE_CHECKING:
    import numpy as np

    from vqcli.entropy.statistics import Statistics

AUTO = "auto"  # in place of a name: the smallest of all coders that are usable
QUICK = "adaptive"  # needs no net, and takes about the bytes of the best: for searches
LARGEST_ID = 127  # that a header can hold


class EntropyNet(Protocol):
    """An entropy model in integers, for the codes of the model that it belongs to; prior1d_net, prior2d_net.

    `covers_levels`: it predicts a level from those below; if not, it codes all codebooks of a model at once.
    """

    @property
    def codebook_sizes(self) -> tuple[int, ...]: ...

    @property
    def covers_levels(self) -> bool: ...

    def encode(self, codes: np.ndarray, quality: int, below: np.ndarray | None) -> bytes:
        """Bytes of codes [G, *grid]."""

    def decode(self, data: bytes, shape: tuple[int, ...], quality: int, below: np.ndarray | None) -> np.ndarray:
        """Codes int32 of `shape` [G, *grid]. Raises BadFile if the bytes are not those of such codes."""


@dataclass(frozen=True, eq=False)
class Given:
    """Side information on codes [G, *grid], which encoder and decoder share.

    codebook_sizes   of the G codebooks
    statistics       of the G codebooks, None if the model has none
    net              entropy model of the model, for coders that use it; None if it has none
    quality          in tenths of a step, 0 for models without one
    below            codes [codebooks, *grid] of all lower levels, for coders that use the net; None at the lowest level
    """

    codebook_sizes: Sequence[int]
    statistics: Statistics | None = None
    net: EntropyNet | None = None
    quality: int = 0
    below: np.ndarray | None = None


@runtime_checkable
class Coder(Protocol):
    """A coder, which is a module of this package.

    ID                 its number in files, 0 to 127
    USES_NET           it codes by the model's entropy model: the digest in a file then is that of both, lower levels
                       are its context, and levels above a lost one do not decode
    NEEDS_STATISTICS   it decodes no file of a model without statistics
    """

    ID: int
    USES_NET: bool
    NEEDS_STATISTICS: bool

    def usable(self, given: Given) -> bool:
        """Whether all that it needs is given; `auto` tries only such coders."""

    def encode(self, codes: np.ndarray, given: Given) -> bytes:
        """Bytes of codes [G, *grid]. Raises UsageError if what it needs is not given."""

    def decode(self, data: bytes, shape: tuple[int, ...], given: Given) -> np.ndarray:
        """Codes int32 of `shape` [G, *grid], each below its codebook size.

        Raises BadFile if the bytes are not those of such codes, UsageError if what it needs is not given.
        """


def table() -> Mapping[str, Coder]:
    """All coders by name, in the order of their numbers. Raises VqError if a file is no coder, or has another's ID."""
    return _coders_in(tuple(__path__))


def get(name: str) -> Coder:
    """The coder of that name. Raises UsageError for an unknown one."""
    if name not in table():
        raise UsageError(f"no coder {name}", near_matches(name, [AUTO, *table()]))
    return table()[name]


def names() -> dict[int, str]:
    """Names by the numbers in files."""
    return {coder.ID: name for name, coder in table().items()}


def name_of(number: int) -> str:
    """The name of the coder with that number in files. Raises BadFile for an unknown one."""
    if number not in names():
        raise BadFile(f"coder {number} is not known to this vq", "a newer vq may read it")
    return names()[number]


def candidates(coder: str, given: Given) -> list[str]:
    """The coders to try for `coder`, which may be 'auto'. Raises UsageError for an unknown one."""
    if coder == AUTO:
        return [name for name, each in table().items() if each.usable(given)]
    get(coder)
    return [coder]


def encode(coder: str, codes: np.ndarray, given: Given) -> bytes:
    """Bytes of codes [G, *grid] by the coder of that name. Raises UsageError if what it needs is not given."""
    return get(coder).encode(codes, given)


def decode(coder: str, data: bytes, shape: tuple[int, ...], given: Given) -> np.ndarray:
    """Codes int32 of `shape` [G, *grid] by the coder of that name, with what `encode` was given.

    Raises BadFile if the bytes are not those of such codes.
    """
    return get(coder).decode(data, shape, given)


@lru_cache
def _coders_in(folders: tuple[str, ...]) -> Mapping[str, Coder]:
    coders: dict[str, Coder] = {}
    files: dict[int, str | None] = {}
    for info in pkgutil.iter_modules(folders):
        module = import_module(f"{__name__}.{info.name}")
        if not isinstance(module, Coder) or not 0 <= module.ID <= LARGEST_ID:
            raise VqError(f"{module.__file__} is no coder", f"{__file__} documents what a coder needs")
        if (other := files.setdefault(module.ID, module.__file__)) != module.__file__:
            raise VqError(f"{other} and {module.__file__} are both coder {module.ID}", "give one of them another ID")
        coders[info.name] = module
    return MappingProxyType(dict(sorted(coders.items(), key=lambda item: item[1].ID)))
