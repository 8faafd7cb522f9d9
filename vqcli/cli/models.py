"""vq models"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vqcli.cli import console
from vqcli.cli.info import model_facts, show
from vqcli.cli.options import AsJson

if TYPE_CHECKING:
    from vqcli.zoo.store import ModelInfo

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
    from vqcli.zoo import priors, store

    found = store.list_models()
    if as_json:
        console.emit_json([model_facts(model) for model in found])
        return
    rows = [
        (
            model.name + " *" * (model.name in store.DEFAULTS.values()),
            model.modality,
            console.size(model.path.stat().st_size),
            model.digest.hex(),
            ", ".join(name for name in priors.FAMILIES if priors.path_of(model.folder, name).is_file()) or "–",
            model.description.get("recipe", {}).get("description", ""),
        )
        for model in found
    ]
    console.emit_table(("model", "modality", "size", "digest", "priors", "what for"), rows)
    console.say("* default of its modality")


@models.command("show")
def show_model(
    name: Name,
    every_speaker: Annotated[bool, typer.Option("--speakers", help="List all speakers, not the best known.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a model says about itself, its speakers if it has some, and its card.

    \b
    vq models show photo
    vq models show speech --speakers
    """
    from vqcli.zoo import store

    model = store.find(name)
    facts = model_facts(model)
    if "speakers" in facts and not as_json:  # hundreds of names are a table of their own
        facts["speakers"] = len(facts["speakers"])
        for prior in facts.get("priors", []):
            prior["classes"] = len(prior.get("classes", ()))
    show(facts, as_json)
    if "speakers" in model.description and not as_json:
        _show_speakers(model, every_speaker)
    card = model.folder / "README.md"
    if card.is_file() and not as_json:
        print("\n" + card.read_text(encoding="utf-8"))


def _show_speakers(model: ModelInfo, every: bool) -> None:
    from vqcli.codec import conversion
    from vqcli.data.speech import WELL_KNOWN_S
    from vqcli.data.split import printable

    known = conversion.speakers(model)
    shown = [one for one in known if every or one.row < 0 or one.seconds >= WELL_KNOWN_S] or known
    console.emit_table(
        ("speaker", "minutes", "sex", "mean pitch Hz", "source"),
        [
            (
                printable(one.name),
                f"{one.seconds / 60:.1f}",
                printable(one.sex) or "–",
                f"{one.pitch_hz:.0f}",
                printable(one.source),
            )
            for one in shown
        ],
    )
    if len(shown) < len(known):
        console.say(f"and {len(known) - len(shown)} with less than a minute of speech (--speakers lists them)")


@models.command("path")
def path_of_model(name: Name) -> None:
    """Print the folder of a model.

    \b
    vq models path photo
    """
    from vqcli.zoo import store

    print(store.find(name).folder)
