"""The interface of the data set of a run; opening data sets of images and of utterances."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Protocol

from vqcli.data.clips import Clips, Waveforms
from vqcli.data.dataset import Dataset
from vqcli.data.source import Given, Source
from vqcli.data.speech import Utterances
from vqcli.errors import UsageError
from vqcli.files.remote import Remote
from vqcli.nets.codecs.base import AudioCodec
from vqcli.recipe import Data, Recipe


class Items(Protocol):
    """A batch: arrays of one length."""

    def __len__(self) -> int: ...

    def part(self, start: int, stop: int) -> Items:
        """The items start .. stop."""
        ...


class DataSet(Protocol):
    """One part of the data, held out or not, as batches. A subclass of data/prefetch.py's Batches needs `batch` alone.

    classes             names of the classes, speakers or actions, the same for both parts; () if there are none
    skipped, too_small  why items were left out, by name
    """

    classes: tuple[str, ...]
    skipped: dict[str, str]
    too_small: dict[str, str]

    def __len__(self) -> int: ...

    def batch(self, data: Data, seed: int, first: int, count: int) -> Any:
        """The random items first .. first + count, which depend on their numbers and the seed alone."""
        ...

    def batches(
        self, data: Data, seed: int, first_step: int, *, rank: int = 0, world: int = 1, workers: int | None = None
    ) -> Generator[Any, None, None]:
        """The batches of one rank from `first_step` on, endlessly."""
        ...

    def held_out_batch(self, data: Data, count: int) -> Any:
        """`count` items at most, not random. Raises UsageError if none can be used."""
        ...


def images(recipe: Recipe, source: Given, held_out: bool) -> Dataset:
    """The images of a source. Raises UsageError if there are none, or if the recipe is for audio."""
    if recipe.modality != "image":
        raise UsageError(f"{recipe.model.family} is not trained on audio", "name a folder of images")
    return Dataset(of_here(source), held_out=held_out)


def of_here(source: Given) -> Source | list[Path]:
    """Data that lie on this machine. Raises UsageError as `paths_of_here`."""
    return paths_of_here(source) if isinstance(source, Sequence) else source


def paths_of_here(paths: Sequence[Path | Remote]) -> list[Path]:
    """Raises UsageError for a place in a store, from which sets of codes alone are read."""
    for path in paths:
        if isinstance(path, Remote):
            raise UsageError(f"{path}: of stores, only priors learn, and only from sets of vq tokenize", "copy it")
    return [path for path in paths if isinstance(path, Path)]


def utterances(recipe: Recipe, source: Given, held_out: bool) -> Utterances:
    """The utterances below some folders. Raises UsageError for paths that are no folders, or a recipe for images."""
    return Utterances(_folders(recipe, source), held_out=held_out)


def clips_for(net: AudioCodec, recipe: Recipe, source: Given, held_out: bool) -> Clips[Any, Any]:
    """The clips below some folders as `net` takes them: as loud as they are, or all at one loudness."""
    if net.level_db is None:
        return waveforms(net, recipe, source, held_out)
    return utterances(recipe, source, held_out)


def waveforms(net: AudioCodec, recipe: Recipe, source: Given, held_out: bool) -> Waveforms:
    """The clips below some folders as loud as they are, at the rate of `net`. Raises UsageError as `utterances`."""
    return Waveforms(_folders(recipe, source), held_out=held_out, rate_hz=net.rate_hz, grid=net.stride)


def _folders(recipe: Recipe, source: Given) -> list[Path]:
    if recipe.modality != "audio":
        raise UsageError(f"{recipe.model.family} is not trained on images", 'modality = "audio" in the recipe')
    source = of_here(source)
    if not isinstance(source, list) or not all(path.is_dir() for path in source):
        raise UsageError("speech models are trained on folders of clips", "name folders with a folder for each speaker")
    return source
