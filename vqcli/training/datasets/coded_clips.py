"""Clips that are codes already, in .vqz files or shards of `vq tokenize`: nothing is encoded during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vqcli.codec import audio_file
from vqcli.container import vqz
from vqcli.data import split
from vqcli.errors import BadFile, ModelError, UsageError
from vqcli.files.remote import Remote
from vqcli.training.datasets import code_shards
from vqcli.training.datasets.base import paths_of_here
from vqcli.training.datasets.code_files import vqz_files
from vqcli.zoo import loading, store


class CodedClips:
    """The clips of some paths that are held out, or those that are not. Names, speakers and the split are those of the
    recordings they are made of (data/clips.py).

    classes  names of the speakers, the same for both parts
    labels   int64, their indices
    skipped  why a clip cannot be used, by name
    """

    def __init__(self, paths: Sequence[Path | Remote], codec: loading.LoadedModel, *, held_out: bool) -> None:
        """Raises UsageError if there are none, and as code_shards.read."""
        listed = _in_shards if any(map(code_shards.is_set, paths)) else _in_files
        names, speakers, self._read = listed(paths, codec)
        self._chosen = [index for index, held in enumerate(split.held_out(names)) if held == held_out]
        if not self._chosen:
            which = "are held out" if held_out else "are left to train on"
            raise UsageError(f"no clips of {len(names)} {which}", "name folders with a folder for each speaker")
        self.classes = tuple(sorted(set(speakers)))
        number = {name: index for index, name in enumerate(self.classes)}
        self.names = [names[index] for index in self._chosen]
        self.labels = np.array([number[speakers[index]] for index in self._chosen], np.int64)
        self.skipped: dict[str, str] = {}
        self.too_small: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.names)

    def codes(self, index: int) -> np.ndarray | None:
        """Codes [n_codebooks, T] of a clip; None, and listed in `skipped`, if it cannot be used."""
        try:
            return self._read(self._chosen[index])
        except BadFile as error:
            self.skipped[self.names[index]] = str(error)
            return None


def are_coded(paths: Sequence[Path | Remote]) -> bool:
    """Whether `CodedClips` reads what lies there."""
    return any(map(code_shards.is_set, paths)) or bool(vqz_files(paths_of_here(paths)))


Listed = tuple[list[str], list[str], Callable[[int], np.ndarray]]  # names, speakers, and what reads a clip


def _in_shards(paths: Sequence[Path | Remote], codec: loading.LoadedModel) -> Listed:
    found = code_shards.read(paths, codec)

    def read(index: int) -> np.ndarray:
        code_shards.check_groups(found.of(index), codec)
        return found.of(index)

    return found.names, [label or of for label, of in zip(found.labels, found.sources, strict=True)], read


def _in_files(paths: Sequence[Path | Remote], codec: loading.LoadedModel) -> Listed:
    names, speakers, files = [], [], []
    for path in paths_of_here(paths):
        own = vqz_files([path])
        below = [split.printable(file.relative_to(path).as_posix()) if file != path else file.name for file in own]
        names += below
        speakers += [label or path.resolve().name for label in split.labels(below)]
        files += own

    def read(index: int) -> np.ndarray:
        file = vqz.read(files[index])
        try:
            store.check_digest(codec.info, file.header.model, file.header.digest, file.header.joint)
        except ModelError as error:
            raise BadFile(str(error)) from None
        codes = audio_file.unpack_audio(codec, file)[0].codes  # [channels, n_codebooks, T]
        codes = codes.reshape(-1, codes.shape[-1])
        code_shards.check_groups(codes, codec)
        return codes

    return names, speakers, read
