"""What the data set of a run has, whichever kind of run it is; and those of pictures and of clips."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, Protocol

from vqcli.data.dataset import Dataset
from vqcli.data.source import Source
from vqcli.data.speech import Utterances
from vqcli.errors import UsageError
from vqcli.recipe import Data, Recipe


class Items(Protocol):
    """A batch, in the arrays that its data set makes."""

    def __len__(self) -> int: ...

    def part(self, start: int, stop: int) -> Items:
        """The items start .. stop."""
        ...


class DataSet(Protocol):
    """One half of the data, held out or not, as batches: data/prefetch.py has `batches` for whoever has `batch`.

    classes             names of the classes, speakers or actions, the same for both halves; () if there are none
    skipped, too_small  why items were left out, by name
    """

    classes: tuple[str, ...]
    skipped: dict[str, str]
    too_small: dict[str, str]

    def __len__(self) -> int: ...

    def batch(self, data: Data, seed: int, first: int, count: int) -> Any:
        """Draws first .. first + count, which depend on nothing but their numbers and the seed."""
        ...

    def batches(
        self, data: Data, seed: int, first_step: int, *, rank: int = 0, world: int = 1, workers: int | None = None
    ) -> Generator[Any, None, None]:
        """The batches of one rank from `first_step` on, without end."""
        ...

    def held_out_batch(self, data: Data, count: int) -> Any:
        """`count` items at most, without chance. Raises UsageError if none can be used."""
        ...


def pictures(recipe: Recipe, source: Source | list[Path], held_out: bool) -> Dataset:
    """The pictures of a source. Raises UsageError if there are none, or if the recipe is one of sound."""
    if recipe.modality != "image":
        raise UsageError(f"{recipe.model.family} does not learn from clips", "name a folder of pictures")
    return Dataset(source, held_out=held_out)


def clips(recipe: Recipe, source: Source | list[Path], held_out: bool) -> Utterances:
    """The clips below some folders. Raises UsageError if they are no folders, or if the recipe is one of pictures."""
    if recipe.modality != "audio":
        raise UsageError(f"{recipe.model.family} does not learn from pictures", 'modality = "audio" in the recipe')
    if not isinstance(source, list) or not all(path.is_dir() for path in source):
        raise UsageError("speech is learned from folders of clips", "name folders with a folder for each speaker")
    return Utterances(source, held_out=held_out)
