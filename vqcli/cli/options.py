"""Options that several commands share, each declared once, and how commands take them in groups.

A command whose parameter is a dataclass takes every field of it as an option:

    @command
    def decode(inputs: Inputs, output: Output = None, run: Running = RUNNING) -> None: ...

So what belongs together travels together, and what belongs to a medium is declared with that medium (cli/media).
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from vqcli.cli import complete

STREAM = Path("-")


def place(text: str) -> Path:
    """Where results go. A name with a slash at its end is a folder, which is made, so that all commands see that."""
    path = Path(text)
    if text.endswith(("/", os.sep)):
        from vqcli.files import make_folder

        make_folder(path)
    return path


Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Where the result goes: a file, a folder (with / at its end a new one), or - for stdout.",
        show_default=False,
        parser=place,
        metavar="PATH",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", help="Name or folder of a model.", show_default="the one for this", autocompletion=complete.models
    ),
]
Count = Annotated[int | None, typer.Option("--count", "-n", help="How many.", min=1)]
Seed = Annotated[int | None, typer.Option("--seed", help="Equal seeds give equal results.", show_default="random")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw the figures to this file.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Replace results that exist.")]
Open = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]
Device = Annotated[
    str,
    typer.Option(
        "--device", help="auto, cpu, cuda or mps.", autocompletion=complete.among("auto", "cpu", "cuda", "mps")
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print results as JSON on stdout.")]
Coder = Annotated[
    str,
    typer.Option(
        "--coder", help="auto (the smallest), packed, histogram, adaptive or prior.", autocompletion=complete.coders
    ),
]
Baselines = Annotated[
    str | None,
    typer.Option("--baselines", help="Usual codecs to measure at equal bytes, with commas; empty for none."),
]
Qualities = Annotated[
    str | None,
    typer.Option("--qualities", help="Qualities to measure, with commas.", show_default="six over the scale"),
]
Tune = Annotated[
    str | None,
    typer.Option(
        help="Of images: aim at looks (ssim) or at squared error (psnr).",
        show_default="ssim",
        autocompletion=complete.among("ssim", "psnr"),
    ),
]
Effort = Annotated[
    int, typer.Option(help="Of images: 0 (fast) to 9; search for better codes, in minutes.", min=0, max=9)
]
Minutes = Annotated[float, typer.Option("--minutes", help="How long the classifier may learn, at most.", min=0.01)]

HeldOut = Annotated[bool, typer.Option("--held-out", help="Only what training keeps apart, by names in the folders.")]
Evaluators = Annotated[
    bool | None,
    typer.Option(
        "--evaluators/--no-evaluators",
        help="Count words that a recogniser gets wrong (a .txt beside each clip) and estimate quality.",
        show_default="if the extra evaluators is installed",
    ),
]


@dataclass(frozen=True)
class Running:
    """How any command works."""

    force: Force = False
    device: Device = "auto"
    as_json: AsJson = False


RUNNING = Running()


@dataclass(frozen=True)
class Allowed:
    """What a file may declare, for services that open what strangers send."""

    max_pixels: Annotated[
        int | None,
        typer.Option(
            help="Refuse images, and clips of frames, of more pixels.", min=1, show_default="2^28, of frames 2^25"
        ),
    ] = None
    max_seconds: Annotated[
        float | None,
        typer.Option(help="Refuse recordings and clips that are longer.", min=0, show_default="24 hours of recordings"),
    ] = None


@dataclass(frozen=True)
class Measuring:
    """What of rate and distortion is measured, and beside what."""

    qualities: Qualities = None
    baselines: Annotated[
        str | None, typer.Option(help="Usual codecs and models to measure at equal bytes, with commas; empty for none.")
    ] = None
    coder: Coder = "auto"
    tune: Tune = None
    effort: Effort = 0
    held_out: HeldOut = False
    evaluators: Evaluators = None
    plot: Plot = None
    rates: Annotated[
        str | None,
        typer.Option(
            "--rates", help="Bits per pixel between which BD-rates are taken: 0.15,1.2.", show_default="where both are"
        ),
    ] = None
    ssimulacra2: Annotated[bool, typer.Option("--ssimulacra2", help="Measure SSIMULACRA 2 too.")] = False
    each: Annotated[bool, typer.Option("--all", help="A row for each file, not only the means.")] = False


MEASURING = Measuring()


@dataclass(frozen=True)
class Draws:
    """How codes are sampled from a prior."""

    temperature: Annotated[
        float | None,
        typer.Option(help="Below 1: safer and duller; 0: the most probable.", show_default="the prior's, else 1"),
    ] = None
    top_k: Annotated[int, typer.Option(help="Sample from the k most probable codes only.", show_default="all")] = 0
    top_p: Annotated[float, typer.Option(help="Sample from the codes that hold this share of probability.")] = 1.0
    guidance: Annotated[
        float | None,
        typer.Option(
            help="Above 1: more of what sets the class, speaker or action apart.", show_default="the prior's, else 1"
        ),
    ] = None


DRAWS = Draws()


@dataclass(frozen=True)
class Request:
    """What is to be sampled from a prior, whatever the medium. `count` and `prior` None are the medium's own."""

    prior: str | None
    count: int | None
    seed: int
    sampling: Any  # nets.priors.autoregressive.Sampling
    start: Path | None
    force: bool


def command(function: Callable[..., None]) -> Callable[..., None]:
    """The function as typer sees it: every parameter that is a dataclass is taken apart into options of its fields.

    Fields of one name in several of them are one option.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in groups:
            parameters[name] = parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
            continue
        of_fields = get_type_hints(groups[name], include_extras=True)
        for field in fields(groups[name]):
            one = inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=of_fields[field.name]
            )
            parameters.setdefault(field.name, one)

    @wraps(function)
    def call(**given: Any) -> None:
        taken = {
            name: group(**{field.name: given[field.name] for field in fields(group)}) for name, group in groups.items()
        }
        inside = {field.name for group in groups.values() for field in fields(group)}
        function(**{name: value for name, value in given.items() if name not in inside}, **taken)

    call.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    call.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return call


@contextmanager
def spelled(*groups: type) -> Iterator[None]:
    """Errors name options as the command line spells the fields of these dataclasses."""
    from vqcli.errors import ForeignOption

    try:
        yield
    except ForeignOption as error:
        flags = {field.name: flag(group, field.name) for group in groups for field in fields(group)}
        raise ForeignOption(flags[error.option], error.media, error.here) from None


def flag(options: type, name: str) -> str:
    """How the command line spells a field: --quality, --mono or --channels."""
    option = get_type_hints(options, include_extras=True)[name].__metadata__[0]
    # typer takes the first spelling of an annotation for a default
    declared = [text for text in (option.default, *(option.param_decls or ())) if str(text).startswith("--")]
    return declared[0].replace("/", " or ") if declared else f"--{name.replace('_', '-')}"


def split_model(inputs: list[Path], model: str | None) -> tuple[list[Path], str | None]:
    """Inputs and model, of which the model was the first word before it was an option."""
    if model is None and len(inputs) > 1 and (not inputs[0].exists() or (inputs[0] / "model.safetensors").is_file()):
        from vqcli.cli import console

        console.say("the model is now --model; as the first word it goes with the next release")
        return inputs[1:], str(inputs[0])
    return inputs, model


def only_one(inputs: list[Path]) -> Path:
    """The only input. Raises UsageError for several."""
    from vqcli.errors import UsageError

    if len(inputs) > 1:
        raise UsageError(f"{inputs[1]}: one place of data at a time", "name one")
    return inputs[0]


def numbers(qualities: str | None) -> list[float | None]:
    """The option --qualities: numbers with commas between."""
    from vqcli.errors import UsageError

    try:
        return [float(part) for part in (qualities or "").split(",") if part]
    except ValueError:
        raise UsageError(f"--qualities {qualities}: not numbers with commas between") from None


def span(rates: str | None) -> tuple[float, float]:
    """The option --rates: the lowest and highest; all rates without it."""
    from vqcli.errors import UsageError

    if rates is None:
        return 0.0, float("inf")
    try:
        low, high = (float(part) for part in rates.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not 0 <= low < high:
        raise UsageError(f"--rates {rates}: not two rates, the lower first", "--rates 0.15,1.2")
    return low, high


def words(text: str) -> list[str]:
    """Names with commas between."""
    return [name for name in text.split(",") if name]
