"""vq train"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from vqcli.cli import console
from vqcli.cli.options import Device

SMOKE = "smoke"


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="Name of a recipe (vq recipes lists them), or a TOML file.", show_default=False)
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders of pictures, clips or recordings, or .tar, .npz and .safetensors packs.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the run; its name names the model.", show_default=False),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change the recipe: optimization.steps=1000.", metavar="KEY=VALUE", show_default=False
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(help="For priors and second stages: the model whose codes to learn.", show_default=False),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", help="Begin with the weights of this model or run.", metavar="MODEL", show_default=False
        ),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="With --from: weights that do not fit begin anew.")
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(help="End after this time, export included: 90s, 45m, 2h.", metavar="TIME", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the output folder.")] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A first try: a small net on made shapes, in under a minute.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show where the time of some steps goes, and leave nothing behind.")
    ] = False,
    new_speaker: Annotated[
        str | None,
        typer.Option(help="Fit one more voice of this name to a folder of clips.", metavar="NAME", show_default=False),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of the net on a CPU.", min=1, show_default="1 or 2, whichever is faster")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Threads that read pictures.", min=1, show_default="by core")
    ] = None,
    device: Device = "auto",
) -> None:
    """Train a model, or a prior or second stage over the codes of one, on pictures, clips of speech or recordings.

    \b
    vq train --smoke
    vq train tokens pictures/ -o my-tokens
    vq train photo pictures.safetensors -o my-photo --budget 2h --set data.batch=16
    vq train pixelcnn pictures/ -o my-prior --codec tokens
    vq train -o my-photo --resume
    vq train photo pictures/ -o my-photo --from photo
    vq train photo pictures/ --profile
    vq train speech clips/ -o my-speech
    vq train --new-speaker anna clips-of-anna/
    torchrun --nproc-per-node 4 -m vqcli train tokens pictures/ -o my-tokens
    """
    begun = time.monotonic()  # of the budget, which loading torch counts against
    from vqcli import recipe as recipes
    from vqcli.errors import UsageError
    from vqcli.training import run
    from vqcli.training.budget import Budget, seconds

    # a scheduler that takes the machine away says so first: end as at Ctrl-C, with the state saved
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if new_speaker is not None:
        _fit_speaker(new_speaker, [*([Path(recipe)] if recipe else []), *(data or [])], codec, device)
        return
    source: Any = data
    if smoke:
        from vqcli.data.shapes import Shapes

        recipe, source, output = recipe or SMOKE, data or Shapes(), output or Path("smoke")
    if output is None and not profile:
        raise UsageError("where should the run go?", "-o NAME")
    if resume and output is not None:
        # what a run is was settled when it began: data and settings are those of then, unless they are given again
        chosen = recipes.load(recipe) if recipe else run.recipe_of(output)
        source = source or run.data_of(output)
    else:
        if recipe is None:
            raise UsageError("which recipe?", f"one of {', '.join(recipes.names())}, or a TOML file")
        chosen = recipes.load(recipe)
    if not source:
        raise UsageError("which data?", "name a folder of pictures or clips after the recipe")
    chosen = recipes.override(chosen, [*(settings or []), *([f"codec={codec}"] if codec else [])])
    if profile or output is None:
        _show_profile(chosen, source, device, threads)
        return
    if start is not None and resume:
        raise UsageError("a run that is resumed has weights of its own", "leave out --from or --resume")
    if partial and start is None:
        raise UsageError("--partial says what of a model may begin anew", "--from MODEL names it")
    limit = Budget(seconds(budget), begun) if budget else None
    with console.progress(f"training {output.name}") as shown:

        def report(progress: run.Progress) -> None:
            shown(progress.share, str(progress))

        info = run.run(
            chosen,
            source,
            output,
            device=device,
            budget=limit,
            resume=resume,
            start=start,
            partial=partial,
            threads=threads,
            workers=workers,
            report=report,
            say=console.say,
        )
    if info is not None:
        console.say(f"model {info.name} in {info.folder}; its card: {info.folder / 'README.md'}")


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
    with console.progress(f"fitting {name}") as report:
        fitted = new_speaker.fit(loaded, name, folders[0], report=report)
    console.say(f"{name}: {fitted.seconds / 60:.1f} minutes of speech, at {fitted.pitch_hz:.0f} Hz on average")
    console.say(f"vq convert-speaker in.wav --to {name}" + f" --model {model}" * (model is not None))
