"""A training run as a TOML file, decoded into frozen typed structs.

A recipe says everything that decides what a run learns, except the data. The shipped ones lie in
`vqcli/recipes/`; `load` takes the name of one of them or the path of a file.
"""

from __future__ import annotations

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


class Data(Struct, frozen=True, forbid_unknown_fields=True):
    """Which pieces of the data make a batch."""

    crop: Positive = 128  # pixels, width and height
    batch: Positive = 8
    flip: bool = True
    shrink: Share = 1.0  # half of the crops are taken larger, by up to 1 / shrink, and reduced: sharper detail


class Optimization(Struct, frozen=True, forbid_unknown_fields=True):
    """Adam with warm-up and a cosine to zero."""

    steps: Positive = 50_000
    learning_rate: Annotated[float, Meta(gt=0)] = 2e-4
    warmup: int = 200
    clip: float = 1.0  # largest norm of the gradient; 0 turns it off
    average: Share = 0.999  # decay of the averaged weights that become the model
    precision: Literal["float32", "bfloat16"] = "float32"  # of the nets; quantizers are float32 always
    full_precision_share: Share = 0.15  # the last part of the run is float32 whatever `precision` says
    seed: int = 0


class Rate(Struct, frozen=True, forbid_unknown_fields=True):
    """Distortion and rate: loss = bits per pixel + lambda(quality) * mean square error in 0 .. 255.

    lambda runs geometrically from `lambda_low` at quality 1 to `lambda_high` at the last quality.
    `balance` divides an item's loss by lambda ** balance, or the high rates would drown the low ones.
    """

    lambda_low: float = 0.002
    lambda_high: float = 0.08
    balance: Share = 0.25


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    description: str
    modality: Literal["image"]
    model: Model
    data: Data = Data()
    optimization: Optimization = Optimization()
    rate: Rate | None = None

    def to_dict(self) -> dict[str, Any]:
        return msgspec.to_builtins(self)


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
    try:
        return msgspec.toml.decode(text, type=Recipe)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFile(f"{source} is not a recipe: {error}") from None
