"""The options --quiet and --verbose, which the command and all of its commands have."""

from __future__ import annotations

from copy import copy
from functools import cache
from typing import Annotated, Any

import typer

from vqcli.cli import console


def _quieter(wanted: bool) -> None:
    if wanted:
        console.set_volume(console.Volume.QUIET)


def _louder(wanted: bool) -> None:
    if wanted:
        console.set_volume(console.Volume.VERBOSE)


_declared = typer.Typer(add_completion=False)


@_declared.command()
def _options(
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", callback=_quieter, help="Say nothing but what went wrong.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", callback=_louder, help="Say more: models, times, what of folders is left out."),
    ] = False,
) -> None:
    pass


@cache
def _built() -> list[Any]:
    return typer.main.get_command(_declared).params


def add_options(command: Any) -> None:
    """Give a command and those below it both options; -q stays what it is where it is something else."""
    own = [copy(option) for option in _built()]
    taken = {spelling for parameter in command.params for spelling in parameter.opts}
    for option in own:
        option.expose_value = False  # its callback does all
        option.opts = [spelling for spelling in option.opts if spelling not in taken]
    command.params += own
    for below in getattr(command, "commands", {}).values():
        add_options(below)
