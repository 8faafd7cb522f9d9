"""vq train"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import complete, console
from vqcli.cli.options import Device, command

if TYPE_CHECKING:
    from vqcli.files.remote import Remote
    from vqcli.recipe import Recipe
    from vqcli.training.guess import Guess

SMOKE = "smoke"


@dataclass(frozen=True)
class Beginning:
    """What a run begins with."""

    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change the recipe: optimization.steps=1000.", metavar="KEY=VALUE", show_default=False
        ),
    ] = None
    codec: Annotated[
        str | None,
        typer.Option(help="For priors and second stages: the model whose codes to learn.", show_default=False),
    ] = None
    start: Annotated[
        str | None,
        typer.Option(
            "--from", help="Begin with the weights of this model or run.", metavar="MODEL", show_default=False
        ),
    ] = None
    partial: Annotated[bool, typer.Option("--partial", help="With --from: weights that do not fit begin anew.")] = False
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the output folder.")] = False


@dataclass(frozen=True)
class Kind:
    """What else than a plain run."""

    smoke: Annotated[
        bool, typer.Option("--smoke", help="A first try: a small net on made shapes, in under a minute.")
    ] = False
    profile: Annotated[
        bool, typer.Option("--profile", help="Show where the time of some steps goes, and leave nothing behind.")
    ] = False
    new_speaker: Annotated[
        str | None,
        typer.Option(help="Fit one more voice of this name to a folder of clips.", metavar="NAME", show_default=False),
    ] = None


@dataclass(frozen=True)
class Machine:
    """How long and on what."""

    budget: Annotated[
        str | None,
        typer.Option(help="End after this time, export included: 90s, 45m, 2h.", metavar="TIME", show_default=False),
    ] = None
    threads: Annotated[
        int | None, typer.Option(help="Threads of the net on a CPU.", min=1, show_default="1 or 2, whichever is faster")
    ] = None
    workers: Annotated[int | None, typer.Option(help="Threads that read the data.", min=1, show_default="by core")] = (
        None
    )
    device: Device = "auto"


RecipeName = Annotated[
    str | None,
    typer.Argument(
        help="Name of a recipe (vq recipes lists them), or a TOML file.",
        show_default="one that fits the data",
        autocompletion=complete.recipes,
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Argument(
        help="Folders of images, clips or recordings, .tar, .npz and .safetensors packs; of priors also sets of vq "
        "tokenize, or their URLs.",
        show_default=False,
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Folder of the run; its name names the model.", show_default=False),
]


@command
def train(
    recipe: RecipeName = None,
    data: Data = None,
    output: Folder = None,
    beginning: Beginning = Beginning(),
    kind: Kind = Kind(),
    machine: Machine = Machine(),
) -> None:
    """Train a model, or a prior or second stage over the codes of one, on images, clips of speech or recordings.

    \b
    vq train --smoke
    vq train images/
    vq train tokens images/ -o my-tokens
    vq train photo images.safetensors -o my-photo --budget 2h --set data.batch=16
    vq train pixelcnn images/ -o my-prior --codec tokens
    vq train -o my-photo --resume
    vq train photo images/ -o my-photo --from photo
    vq train photo images/ --profile
    vq train speech clips/ -o my-speech
    vq train speech-finetune clips/ --from encodec-24khz -o my-encodec
    vq train exact-speech clips/ --codec encodec-24khz -o my-exact
    vq train --new-speaker anna clips-of-anna/
    torchrun --nproc-per-node 4 -m vqcli train tokens images/ -o my-tokens
    """
    begun = time.monotonic()  # of the budget, which loading torch counts against
    from vqcli.errors import UsageError
    from vqcli.training import run
    from vqcli.training.budget import Budget, seconds

    if kind.new_speaker is not None:
        folders = [Path(folder) for folder in (recipe, *(data or [])) if folder]
        _fit_speaker(kind.new_speaker, folders, beginning.codec, machine.device)
        return
    recipe, places = _apart(recipe, data or [])
    source: Any = places
    guessed = _guessed(recipe, places, beginning, kind)
    if guessed is not None:
        recipe, output = guessed.recipe, output or Path(f"my-{guessed.recipe}")
    if kind.smoke:
        from vqcli.data.shapes import Shapes

        recipe, source, output = recipe or SMOKE, places or Shapes(), output or Path("smoke")
    if output is None and not kind.profile:
        raise UsageError("where should the run go?", "-o NAME")
    chosen, source = _recipe(recipe, source, output, beginning)
    if guessed is not None:
        _say_guess(guessed, chosen, machine.budget)
    if kind.profile or output is None:
        _show_profile(chosen, source, machine.device, machine.threads)
        return
    with console.progress(f"training {output.name}") as shown:

        def show(progress: run.Progress) -> None:
            shown(progress.share, str(progress))

        info = run.run(
            chosen,
            source,
            output,
            device=machine.device,
            budget=Budget(seconds(machine.budget), begun) if machine.budget else None,
            resume=beginning.resume,
            start=beginning.start,
            partial=beginning.partial,
            threads=machine.threads,
            workers=machine.workers,
            progress=show,
            say=console.say,
        )
    if info is not None:
        console.say(f"model {info.name} in {info.folder}; its card: {info.folder / 'README.md'}")


def _apart(recipe: str | None, data: list[str]) -> tuple[str | None, list[Path | Remote]]:
    """Recipe and data, of which a folder in place of the recipe is the first."""
    from vqcli import recipe as recipes
    from vqcli.files import remote

    places = [remote.place(name) for name in data]
    if recipe is None or recipe.endswith(".toml") or recipe in recipes.names() or not Path(recipe).is_dir():
        return recipe, places
    return None, [Path(recipe), *places]


def _guessed(recipe: str | None, data: list[Path | Remote], beginning: Beginning, kind: Kind) -> Guess | None:
    """The recipe that fits the data, where none is named and nothing else says what is to be trained."""
    from vqcli.training import guess
    from vqcli.training.datasets.base import paths_of_here

    if recipe is not None or not data or kind.smoke or beginning.resume or beginning.codec or beginning.start:
        return None
    return guess.guess(paths_of_here(data))


def _say_guess(guessed: Guess, recipe: Recipe, budget: str | None) -> None:
    hours = guessed.hours(recipe)
    time = f"{hours:.0f} hours" if hours >= 1.5 else console.plural(max(1, round(60 * hours)), "minute")
    ends = f"it ends after {budget} at the latest" if budget else "--budget 30m ends it earlier"
    console.say(f"{console.plural(guessed.files, guessed.what)}: recipe {guessed.recipe} ({recipe.description})")
    console.say(f"about {time} on two cores without a GPU; {ends}")


def _recipe(name: str | None, source: Any, output: Path | None, beginning: Beginning) -> tuple[Recipe, Any]:
    """The recipe of the run with its settings, and its data. Raises UsageError if one is missing."""
    from vqcli import recipe as recipes
    from vqcli.errors import UsageError
    from vqcli.training import run

    if beginning.resume and output is not None:
        # what a run is was settled when it began: data and settings are those of then, unless they are given again
        recipe = recipes.load(name) if name else run.recipe_of(output)
        source = source or run.data_of(output)
    else:
        if name is None:
            raise UsageError("which recipe?", f"one of {', '.join(recipes.names())}, or a TOML file")
        recipe = recipes.load(name)
    if not source:
        raise UsageError("which data?", "name a folder of images or clips after the recipe")
    if beginning.start is not None and beginning.resume:
        raise UsageError("a run that is resumed has weights of its own", "leave out --from or --resume")
    if beginning.partial and beginning.start is None:
        raise UsageError("--partial says what of a model may begin anew", "--from MODEL names it")
    codec = [f"codec={beginning.codec}"] if beginning.codec else []
    return recipes.override(recipe, [*(beginning.settings or []), *codec]), source


def _show_profile(recipe: Any, source: Any, device: str, threads: int | None) -> None:
    from vqcli.training.profile import profile

    with console.progress("profiling"):
        found = profile(recipe, source, device=device, threads=threads)
    console.say(found.what)
    console.say(f"{found.settings}; {found.steps} steps of {found.step_s:.3f} s")
    console.emit_table(("phase", "share"), [(name, f"{share:.1%}") for name, share in found.phases.items()])
    console.emit_table(("operator", "share"), [(name, f"{share:.1%}") for name, share in found.operators.items()])


def _fit_speaker(name: str, folders: list[Path], model: str | None, device: str) -> None:
    from vqcli.errors import UsageError
    from vqcli.training import new_speaker
    from vqcli.zoo import loading, store

    if len(folders) != 1 or not folders[0].is_dir():
        raise UsageError("which clips are those of the new speaker?", "name one folder: --new-speaker NAME CLIPS/")
    loaded = loading.load(model or store.DEFAULTS["audio"], device)
    with console.progress(f"fitting {name}") as progress:
        fitted = new_speaker.fit(loaded, name, folders[0], progress=progress)
    console.say(f"{name}: {fitted.seconds / 60:.1f} minutes of speech, at {fitted.pitch_hz:.0f} Hz on average")
    console.say(f"vq convert-speaker in.wav --to {name}" + f" --model {model}" * (model is not None))
