"""Which recipe fits the files of folders, and about how long it takes.

found = guess([Path("images")])  # Guess(recipe="tokens", what="image", files=1204)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vqcli.data import recordings, split
from vqcli.errors import UsageError
from vqcli.files import files_below
from vqcli.media import audio, video
from vqcli.recipe import Recipe

RECIPES = {"image": "tokens", "recording": "speech", "episode": "doom"}
# Of training on one or two cores without a GPU: the minutes and steps in the cards of the models of these names
SECONDS_A_STEP = {"tokens": 0.27, "speech": 0.85, "doom": 0.10, "boxing": 0.09}


@dataclass(frozen=True)
class Guess:
    """`files` of the kind `what`, which the shipped `recipe` trains on."""

    recipe: str
    what: str
    files: int

    def hours(self, recipe: Recipe) -> float:
        """About how long the steps of the recipe, as settings may have changed it, take without a GPU."""
        return recipe.optimization.steps * SECONDS_A_STEP[self.recipe] / 3600


def guess(folders: Sequence[Path]) -> Guess:
    """The recipe for what most files of the folders are. Raises UsageError if there are none that a recipe takes."""
    kinds = Counter(kind for folder in folders for kind in map(_kind, _names(folder)) if kind is not None)
    place = " and ".join(map(str, folders))
    if not kinds:
        raise UsageError(
            f"no images, recordings or episodes (.npz) in {place}", "name a recipe before it: vq recipes lists them"
        )
    ((what, files),) = kinds.most_common(1)
    if what not in RECIPES:
        raise UsageError(
            f"{place} holds clips of video, and training takes their frames: {files} of {sum(kinds.values())} files",
            "a folder of images, each a frame, or episodes of vq record",
        )
    recipe = RECIPES[what]
    if what == "episode":  # of which game, if it is one that has a recipe
        games = {facts.game for folder in folders if (facts := recordings.facts_of(folder)) is not None}
        recipe = next((game for game in games if game in SECONDS_A_STEP), recipe)
    return Guess(recipe, what, files)


def _names(folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in files_below(folder)]


def _kind(name: str) -> str | None:
    """What a file of that name, relative to its folder, is for training; None for nothing."""
    if split.is_image(name):
        return "image"
    suffix = Path(name).suffix.lower()
    kinds = {"recording": audio.SUFFIXES, "episode": (".npz",), "clip": video.SUFFIXES}
    return next((kind for kind, suffixes in kinds.items() if suffix in suffixes), None)
