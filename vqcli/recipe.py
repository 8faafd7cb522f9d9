"""A training run as a TOML file, decoded into frozen typed structs.

A recipe says everything that decides what a run learns, except the data. The shipped ones lie in
`vqcli/recipes/`; `load` takes the name of one of them or the path of a file, `override` changes single values.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from vqcli.errors import BadFile, UsageError, near_matches

SHIPPED = Path(__file__).parent / "recipes"

Positive = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    """Which net: the family and the arguments of its constructor."""

    family: str
    arguments: dict[str, Any] = {}
    eight_bits: list[str] = []  # parts whose matrices are stored with 8 bits a weight: half the file (weights.py)


class Data(Struct, frozen=True, forbid_unknown_fields=True):
    """Which pieces of the data make a batch."""

    size: Positive | None = None  # pixels; reduce the shorter side to this before cropping: whole objects, small grid
    crop: Positive = 128  # pixels, width and height
    batch: Positive = 8  # of each process, in a step
    flip: bool = True
    shrink: Share = 1.0  # half of the crops are taken larger, by up to 1 / shrink, and reduced: sharper detail
    colour: Share = 0.0  # brightness, contrast and saturation change by factors of up to 1 + this, or its inverse
    seconds: Annotated[float, Meta(gt=0, le=60)] = 1.5  # of sound
    balance: Share = 0.5  # speakers are drawn by this power of the time they speak: 0 all alike, 1 as they come
    focus: Share = 0.0  # of the draws are of the speakers with a minute of speech or more, all of these alike


class Optimization(Struct, frozen=True, forbid_unknown_fields=True):
    """Adam with warm-up, then a constant learning rate or a cosine to zero."""

    steps: Positive = 50_000
    learning_rate: Annotated[float, Meta(gt=0)] = 2e-4
    schedule: Literal["cosine", "constant"] = "cosine"  # of the learning rate, over the steps or the time of the run
    warmup: int = 200
    clip: float = 1.0  # largest norm of the gradient; 0 turns it off
    average: Share = 0.999  # decay of the averaged weights that become the model
    # of the nets, quantizers are float32 always; auto: whichever takes less time here (training/autotune.py)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    full_precision_share: Share = 0.15  # the last part of the run is float32 whatever `precision` says
    accumulate: Positive = 1  # parts that a batch is cut into where memory is short; the result is the same
    validate_every: Positive = 1000  # steps
    patience: int = 0  # validations without a new best before the run stops; 0 never stops early
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0
    seed: int = 0


class Rate(Struct, frozen=True, forbid_unknown_fields=True):
    """Distortion and rate: loss = bits per pixel + lambda(quality) * distortion.

    The distortion is the mean square error in 0 .. 255, mixed with MS-SSIM where `ssim` says so (training/losses.py).
    lambda runs geometrically from `lambda_low` at quality 1 to `lambda_high` at the last quality.
    `balance` divides an item's loss by lambda ** balance, or the high rates would drown the low ones.
    """

    lambda_low: float = 0.002
    lambda_high: float = 0.08
    balance: Share = 0.25
    ssim: Share = 0.0  # share of 1 - MS-SSIM in the distortion, beside the squared error


class Clusters(Struct, frozen=True, forbid_unknown_fields=True):
    """Clusters of what is heard as a further target, so that codes tell of phonemes (training/clusters.py)."""

    sizes: tuple[Positive, ...] = (64, 128, 256)  # of several clusterings
    begin: tuple[Positive, ...] = (100, 2000, 6000)  # steps at which they are made: of cepstra, then of own latents
    masked: Share = 0.3  # of the frames are hidden from the encoder
    weight: float = 1.0


class Speech(Struct, frozen=True, forbid_unknown_fields=True):
    """What else decides how `speech` nets learn: loss = spectral distance + features + the quantizer's own terms."""

    first_level: Share = 0.5  # of the steps train level 0 alone, which must carry the words
    table: Share = 0.5  # of the items speak by the row of their speaker, the others by the voice guessed from the clip
    warp: bool = True  # hear each item through vocal tracts of other lengths, so that codes forget the speaker
    features: float = 1.0  # weight of the spectra predicted from the codes
    sound: float = 1.0  # weight of the decoder's spectral distance
    sound_share: Share = 1.0  # of the steps make sound at all, which costs most of a step
    clusters: Clusters | None = None
    settle: bool = False  # begin a finish with a codebook made of the latents as they came to be (training/settle.py)


class Adversary(Struct, frozen=True, forbid_unknown_fields=True):
    """The finish of a speech model: its decoder learns on, from a net that tells speech from what it makes."""

    width: Positive = 192  # channels of the discriminators
    fooling: float = 0.5  # weights beside the spectral distance
    matching: float = 0.5
    words: float = 0.5  # of what the encoder hears in converted speech, beside what it heard in the original
    converted: Share = 0.5  # so many of the items speak a second time with the voice of another item


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """A run.

    With `codec`, a model's name or folder, it trains a prior over the codes of that model, or with `adversary` finishes
    the decoder of that model, whose codes stay as they are. `task` names the kind of run, a file in training/tasks;
    without it the family of the net decides.
    """

    description: str
    modality: Literal["image", "audio"]
    model: Model
    codec: str | None = None
    task: str | None = None
    data: Data = Data()
    optimization: Optimization = Optimization()
    rate: Rate | None = None
    speech: Speech = Speech()
    adversary: Adversary | None = None

    def to_dict(self) -> dict[str, Any]:
        """The whole recipe, defaults included; `task` only if it names one, as recipes did before they could."""
        tree: dict[str, Any] = msgspec.to_builtins(self)
        if self.task is None:
            del tree["task"]
        return tree

    def to_toml(self) -> bytes:
        """The whole recipe, defaults included, as a file that `load` reads again."""
        return msgspec.toml.encode(_without_none(self.to_dict()))


def names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load(name: str) -> Recipe:
    """The recipe called `name`, or the one in the file at that path.

    Raises UsageError if there is none, BadFile if it is not a recipe (an unknown key, a wrong type).
    """
    path = Path(name) if name.endswith(".toml") else SHIPPED / f"{name}.toml"
    try:
        return parse(path.read_bytes(), str(path))
    except OSError:
        raise UsageError(f"no recipe {name}", near_matches(name, names())) from None


def parse(text: bytes, source: str) -> Recipe:
    """The recipe in a TOML file's text. Raises BadFile."""
    try:
        return from_dict(tomllib.loads(text.decode()), source)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadFile(f"{source} is not a recipe: {error}") from None


def from_dict(tree: dict[str, Any], source: str) -> Recipe:
    """The recipe of `to_dict`. Raises BadFile."""
    try:
        return msgspec.convert(tree, Recipe)
    except msgspec.ValidationError as error:
        raise BadFile(f"{source} is not a recipe: {error}", _suggestion(str(error))) from None


def override(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """The recipe with settings like `optimization.steps=1000` or `model.arguments.quantizer.K=256`.

    A value is TOML where it can be read as such, else a string. Raises UsageError for a setting of another form, a key
    that no recipe has, or a value of the wrong type.
    """
    tree = recipe.to_dict()
    for setting in settings:
        key, equals, text = setting.partition("=")
        *sections, name = key.strip().split(".")
        if not equals or not all((*sections, name)):
            raise UsageError(f"--set {setting} is no setting", "as in --set optimization.steps=1000")
        place = tree
        for section in sections:
            if place.get(section) is None:
                place[section] = {}
            place = place[section]
            if not isinstance(place, dict):
                raise UsageError(f"--set {setting}: {section} is a value and has no {name}")
        place[name] = _value(text.strip())
        try:
            recipe = msgspec.convert(tree, Recipe)
        except msgspec.ValidationError as error:
            raise UsageError(f"--set {setting}: {error}", _suggestion(str(error))) from None
    return recipe


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _suggestion(complaint: str) -> str:
    """Near matches for the unknown field that msgspec complains about."""
    found = re.search(r"unknown field `(\w+)`(?: - at `\$\.?(.*)`)?", complaint)
    if not found:
        return ""
    section = {"": Recipe, "model": Model, "data": Data, "optimization": Optimization, "rate": Rate}
    section |= {"speech": Speech, "adversary": Adversary}
    known = section.get(found[2] or "")
    return near_matches(found[1], known.__struct_fields__) if known else ""


def _without_none(tree: dict[str, Any]) -> dict[str, Any]:
    """TOML has no null: what is None is left out, which means the same."""
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in tree.items()
        if value is not None
    }
