"""vq models"""

from __future__ import annotations

from typing import Annotated

import typer

from vqcli.cli import ui
from vqcli.cli.info import model_facts, show
from vqcli.cli.options import AsJson

models = typer.Typer(help="List the models that are here, show one, or say where it lies.", invoke_without_command=True)

Name = Annotated[str, typer.Argument(help="Name or folder of a model.", show_default=False)]


@models.callback()
def list_if_bare(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_models()


@models.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models on the search path.

    \b
    vq models
    vq models list --json
    """
    from vqcli import priors, zoo

    found = zoo.list_models()
    if as_json:
        ui.emit_json([model_facts(model) for model in found])
        return
    rows = [
        (
            model.name + " *" * (model.name in zoo.DEFAULTS.values()),
            model.modality,
            ui.size(model.path.stat().st_size),
            model.digest.hex(),
            ", ".join(name for name in priors.FAMILIES if priors.path_of(model.folder, name).is_file()) or "–",
            model.description.get("recipe", {}).get("description", ""),
        )
        for model in found
    ]
    ui.emit_table(("model", "modality", "size", "digest", "priors", "what for"), rows)
    ui.say("* default of its modality")


@models.command("show")
def show_model(name: Name, as_json: AsJson = False) -> None:
    """Show what a model says about itself, and its card.

    \b
    vq models show photo
    """
    from vqcli import zoo

    model = zoo.find(name)
    show(model_facts(model), as_json)
    card = model.folder / "README.md"
    if card.is_file() and not as_json:
        print("\n" + card.read_text(encoding="utf-8"))


@models.command("path")
def path_of_model(name: Name) -> None:
    """Print the folder of a model.

    \b
    vq models path photo
    """
    from vqcli import zoo

    print(zoo.find(name).folder)
