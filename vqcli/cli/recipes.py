"""vq recipes"""

from __future__ import annotations

from typing import Annotated

import typer

from vqcli.cli import complete, console
from vqcli.cli.options import AsJson


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Print this one as a file to start from.", show_default=False, autocompletion=complete.recipes
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the recipes that vq train knows, or print one.

    \b
    vq recipes
    vq recipes photo > mine.toml
    """
    from vqcli import recipe

    if name is not None:
        chosen = recipe.load(name)
        if as_json:
            console.emit_json(chosen.to_dict())
        else:
            with console.data_out() as stdout:
                stdout.write(chosen.to_toml())
        return
    known = {name: recipe.load(name) for name in recipe.names()}
    if as_json:
        console.emit_json({name: known[name].to_dict() for name in known})
        return
    console.emit_table(("recipe", "what it trains"), [(name, known[name].description) for name in known])
