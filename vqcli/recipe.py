"""A training run as a TOML file, decoded into frozen typed structs.

A recipe has all settings of a run except its data. The shipped ones lie in
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
    """The net: family and constructor arguments; no family is that of the model that a run starts from (--from)."""

    family: str = ""
    arguments: dict[str, Any] = {}
    eight_bits: list[str] = []  # parts whose matrices are stored with 8 bits a weight: half the file (weights.py)


class Data(Struct, frozen=True, forbid_unknown_fields=True):
    """Sampling and augmentation of batches."""

    size: Positive | None = None  # pixels; resize the shorter side to this before cropping
    crop: Positive = 128  # pixels, width and height
    batch: Positive = 8  # per process and step
    flip: bool = True
    shrink: Share = 1.0  # half of the crops are larger by up to 1 / shrink, and downsampled
    synthetic: Share = 0.0  # of the crops are drawn: text, screenshots, line art, gradients (data/synthetic.py)
    colour: Share = 0.0  # brightness, contrast and saturation change by factors of up to 1 + this, or its inverse
    seconds: Annotated[float, Meta(gt=0, le=60)] = 1.5  # of audio
    balance: Share = 0.5  # speakers are sampled by speaking time to this power: 0 uniform, 1 proportional
    focus: Share = 0.0  # share of samples from speakers with a minute of speech or more, uniformly


class Optimization(Struct, frozen=True, forbid_unknown_fields=True):
    """Adam or SOAP (training/optimizers.py) with warm-up, then a constant learning rate or a cosine to zero."""

    steps: Positive = 50_000
    optimizer: Literal["adam", "soap"] = "adam"
    learning_rate: Annotated[float, Meta(gt=0)] = 2e-4
    schedule: Literal["cosine", "constant"] = "cosine"  # of the learning rate, over the steps or the time of the run
    warmup: int = 200
    clip: float = 1.0  # largest norm of the gradient; 0 turns it off
    average: Share = 0.999  # decay of the averaged weights that become the model
    # of the nets; quantizers are always float32; auto: the faster one (training/autotune.py)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    full_precision_share: Share = 0.15  # the last part of the run is float32 whatever `precision` says
    accumulate: Positive = 1  # micro-batches of a batch, to save memory; the result is the same
    validate_every: Positive = 1000  # steps
    patience: int = 0  # validations without a new best before the run stops; 0 never stops early
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0
    seed: int = 0


class Rate(Struct, frozen=True, forbid_unknown_fields=True):
    """Distortion and rate: loss = bits per pixel + lambda(quality) * distortion.

    The distortion is the mean square error in 0 .. 255, mixed with MS-SSIM where `ssim` says so (training/losses.py).
    lambda runs geometrically from `lambda_low` at quality 1 to `lambda_high` at the last quality.
    An item's loss is divided by lambda ** balance, so that high rates do not dominate low ones; codecs that are trained
    with their entropy model take the logarithm of each item's loss instead.
    """

    lambda_low: float = 0.002
    lambda_high: float = 0.08
    balance: Share = 0.25
    ssim: Share = 0.0  # weight of 1 - MS-SSIM in the distortion; the rest is squared error
    flat: Annotated[float, Meta(ge=0, le=1000)] = (
        0.0  # weight of wrong colours of flat areas, of codecs trained with their entropy model
    )


class Clusters(Struct, frozen=True, forbid_unknown_fields=True):
    """Cluster targets for the encoder, so that codes follow phonemes (training/speech/clusters.py)."""

    sizes: tuple[Positive, ...] = (64, 128, 256)  # of several clusterings
    begin: tuple[Positive, ...] = (100, 2000, 6000)  # steps at which they are fitted: to cepstra, then to the encoder
    layer: int = 0  # of the encoder's blocks at positions, that they are fitted to the output of; 0: to the latents
    discriminants: int = 0  # directions of cepstra in context that the first are fitted to; 0: cepstra themselves
    masked: Share = 0.3  # of the frames are hidden from the encoder
    weight: float = 1.0


class Speech(Struct, frozen=True, forbid_unknown_fields=True):
    """Training of `speech` nets: loss = spectral distance + features + the quantizer's losses."""

    first_level: Share = 0.5  # of the steps train level 0 alone, which should carry the content
    table: Share = 0.5  # of the items use the speaker table, the others the voice predicted from the clip
    warp: bool = True  # random vocal tract length of the input, so that codes do not depend on the speaker
    features: float = 1.0  # weight of the spectra predicted from the codes
    sound: float = 1.0  # weight of the decoder's spectral distance
    sound_share: Share = 1.0  # of the steps run the decoder, which is most of their cost
    clusters: Clusters | None = None
    settle: bool = False  # refit the codebook before finetuning (training/speech/codebook_refit.py)


class Adversary(Struct, frozen=True, forbid_unknown_fields=True):
    """Finetuning against a discriminator: of a speech model's decoder (training/tasks/finetune.py), which alone has
    words and converted speech, or of codecs of waveforms (waveform.py)."""

    width: Positive = 192  # channels of the discriminators
    fooling: float = 0.5  # weights beside the spectral distance
    matching: float = 0.5
    words: float = 0.5  # of the difference of the latents of converted and of original speech
    converted: Share = 0.5  # share of the items that are also converted to another voice


class Waveform(Struct, frozen=True, forbid_unknown_fields=True):
    """Finetuning of codecs of waveforms (training/tasks/waveform.py): loss = distance of spectra + these, weighted."""

    dropout: Share = 0.5  # of the items are coded by the first levels alone, a random number of them
    wave: float = 0.1  # mean absolute difference of samples
    codebook: float = 1.0  # distance of vectors to what they stand for
    commitment: float = 0.25  # and of that to the vectors


class Sampling(Struct, frozen=True, forbid_unknown_fields=True):
    """How a prior is sampled from where nobody says otherwise; `vq eval samples --choose` measures which is best."""

    temperature: Annotated[float, Meta(ge=0, le=100)] = 1.0
    guidance: Annotated[float, Meta(ge=-100, le=100)] = 1.0  # of priors with classes that have learned to do without


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """A run.

    With `codec`, a model's name or folder, a prior is trained over the codes of that model; with `adversary` too, its
    decoder is finetuned with fixed codes. Codecs of waveforms are finetuned as a whole. `task` is the
    name of a file in training/tasks, by default that of the net's family.
    """

    description: str
    modality: Literal["image", "audio"]
    model: Model = Model()
    codec: str | None = None
    task: str | None = None
    data: Data = Data()
    optimization: Optimization = Optimization()
    rate: Rate | None = None
    speech: Speech = Speech()
    adversary: Adversary | None = None
    waveform: Waveform | None = None
    sampling: Sampling | None = None

    def to_dict(self) -> dict[str, Any]:
        """The whole recipe, defaults included; what older recipes do not have only if it is set."""
        tree: dict[str, Any] = msgspec.to_builtins(self)
        newer = ("task", "waveform", "sampling")
        return {name: value for name, value in tree.items() if value is not None or name not in newer}

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
    except RecursionError:
        raise BadFile(f"{source} is not a recipe: it is nested too deeply") from None


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
    except (tomllib.TOMLDecodeError, KeyError, RecursionError):
        return text


def _suggestion(complaint: str) -> str:
    """Near matches for the unknown field that msgspec complains about."""
    found = re.search(r"unknown field `(\w+)`(?: - at `\$\.?(.*)`)?", complaint)
    if not found:
        return ""
    section = {"": Recipe, "model": Model, "data": Data, "optimization": Optimization, "rate": Rate}
    section |= {"speech": Speech, "adversary": Adversary, "waveform": Waveform, "sampling": Sampling}
    known = section.get(found[2] or "")
    return near_matches(found[1], known.__struct_fields__) if known else ""


def _without_none(tree: dict[str, Any]) -> dict[str, Any]:
    """TOML has no null: what is None is left out, which means the same."""
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in tree.items()
        if value is not None
    }
