"""vq train"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vqcli.cli import ui
from vqcli.cli.options import Device


def train(
    recipe: Annotated[
        str, typer.Argument(help="A shipped recipe (photo, tokens, paper, report) or a TOML file.", show_default=False)
    ],
    data: Annotated[list[Path], typer.Argument(help="Folders of pictures.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new model.", show_default=False)],
    budget: Annotated[
        str | None,
        typer.Option(help="Time for the whole run, as 90m or 2h: the schedule follows it.", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")] = False,
    threads: Annotated[int | None, typer.Option(help="Threads of the CPU.", min=1, show_default=False)] = None,
    device: Device = "auto",
) -> None:
    """Train a model on folders of pictures. Ctrl-C saves the run; --resume continues it.

    \b
    vq train photo pictures/ -o models/mine --budget 90m
    vq train my-recipe.toml pictures/ more/ -o models/mine --resume
    """
    from vqcli import recipe as recipes
    from vqcli import zoo
    from vqcli.training import loop, run

    with ui.progress("training") as shown:

        def report(progress: loop.Progress) -> None:
            terms = " ".join(f"{name} {value:.3f}" for name, value in progress.terms.items())
            shown(progress.share, f"step {progress.step} {terms}")

        info = run.run(
            recipes.load(recipe),
            data,
            output,
            device=zoo.pick_device(device),
            budget_s=run.seconds(budget) if budget else None,
            resume=resume,
            threads=threads,
            report=report,
            say=ui.say,
        )
    ui.say(f"model {info.name} in {info.folder}: vq encode photo.png --model {info.folder}")
