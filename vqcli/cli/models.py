"""vq models"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import complete, console
from vqcli.cli.info import model_facts, show
from vqcli.cli.options import AsJson, Force

if TYPE_CHECKING:
    from vqcli.zoo.exporting import Exported
    from vqcli.zoo.store import ModelInfo

models = typer.Typer(help="List the models that are here, show one, or say where it lies.", invoke_without_command=True)

Name = Annotated[
    str, typer.Argument(help="Name or folder of a model.", show_default=False, autocompletion=complete.models)
]


@models.callback()
def list_if_bare(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_models()


@models.command("list")
def list_models(
    remote: Annotated[bool, typer.Option("--remote", help="Models of other people that `pull` fetches.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the models on the search path.

    \b
    vq models
    vq models list --remote
    vq models list --json
    """
    from vqcli.zoo import store

    if remote:
        _list_remote(as_json)
        return
    found = store.list_models()
    if as_json:
        console.emit_json([facts for model in found if (facts := _facts_or_complaint(model))])
        return
    console.emit_table(("model", "modality", "size", "digest", "priors", "what for"), rows(found))
    console.say("* default of its modality")


def _facts_or_complaint(model: ModelInfo) -> dict[str, Any] | None:
    """The facts of a model; of one with a bad prior none, so that it does not end the list for all."""
    from vqcli.errors import VqError

    try:
        return model_facts(model)
    except VqError as error:
        console.complain(error)
        return None


def rows(found: Sequence[ModelInfo]) -> list[tuple[str, ...]]:
    """A row of the table for each model."""
    from vqcli.zoo import priors, store

    return [
        (
            model.name + " *" * (model.name in store.DEFAULTS.values()),
            model.modality,
            console.size(model.path.stat().st_size),
            model.digest.hex(),
            ", ".join(name for name in priors.FAMILIES if priors.path_of(model.folder, name).is_file()) or "–",
            "preview: " * bool(model.notes) + _what_for(model.description),
        )
        for model in found
    ]


def _what_for(model: Mapping[str, Any]) -> str:
    """The purpose that a recipe states; of another's model, family and source."""
    if source := model.get("source"):
        return f"{model['family']} of {source.get('place', '?')}"
    return str((model.get("recipe") or {}).get("description", ""))


def _list_remote(as_json: bool) -> None:
    from vqcli.zoo import hub, store

    here, known = {model.name for model in store.list_models()}, store.known()
    licences = dict(zip(known, hub.licences([facts["repository"] for facts in known.values()]), strict=True))
    if as_json:
        rows = [
            {"name": name, **facts, "here": name in here, "licence": licences[name] or None}
            for name, facts in known.items()
        ]
        console.emit_json(rows)
        return
    console.emit_table(
        ("model", "here", "licence", "repository", "what for"),
        [
            (name, "yes" * (name in here), licences[name] or "?", facts["repository"], facts["for"])
            for name, facts in known.items()
        ],
    )
    if not all(licences.values()):
        console.say("? where the card cannot be had now, or states no licence")
    console.say("vq models pull NAME says the licence of one, and fetches it")


@models.command("pull")
def pull(
    name: Annotated[
        str, typer.Argument(help="As `vq models list --remote` has it.", autocompletion=complete.known_models)
    ],
    force: Force = False,
) -> None:
    """Fetch a model of other people by its name.

    \b
    vq models pull encodec-24khz
    """
    from vqcli.errors import UsageError, near_matches
    from vqcli.zoo import store

    known = store.known()
    if name not in known:
        raise UsageError(f"no model {name} is known", near_matches(name, known) or "vq models list --remote")
    _import(known[name]["repository"], name, force)


@models.command("import")
def import_model(
    source: Annotated[str, typer.Argument(help="A repository (owner/name[@revision]), a folder of one, or a file.")],
    name: Annotated[
        str | None, typer.Option("--output", "-o", help="Name of the model.", show_default="that of the source")
    ] = None,
    force: Force = False,
) -> None:
    """Make a model of other people's weights: .safetensors, .pth, .th, .pt, .ckpt or .bin.

    What is pickled in them is never run. The model goes into your own folder of models.

    \b
    vq models import facebook/encodec_24khz
    vq models import downloads/encodec_24khz-d7cc33bc.th -o encodec-24khz
    """
    _import(source, name, force)


def _import(source: str, name: str | None, force: bool) -> None:
    from vqcli.zoo import importing

    def licensed(licence: str) -> None:
        console.say(f"licence of {source}: {licence}")

    with console.progress(f"fetching {source}") as progress:
        found = importing.source_of(
            source, licensed, lambda here, of: progress(here / of, f"{console.size(here)} of {console.size(of)}")
        )
    info = importing.import_model(found, name, force=force)
    facts = info.description["source"]
    console.emit(f"{source} -> model {info.name} in {info.folder}")
    console.say(f"family {info.description['family']}, licence: {facts['licence']}")
    console.say(f"vq models show {info.name} has its card")


@models.command("export")
def export_model(
    name: Name,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the files.", show_default="NAME-onnx")
    ] = None,
    format: Annotated[str, typer.Option(help="onnx, as yet the only one.")] = "onnx",
    levels: Annotated[
        int | None, typer.Option(help="Codes of the first residual levels only.", min=1, show_default=False)
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write encoder and decoder for other runtimes: browsers, phones, programs without torch.

    The folder also has a description and a page with examples in JavaScript and Python. Both files are run and compared
    with torch before they are written. Needs the extra `onnx`.

    \b
    vq models export photo-2 -o photo-2-onnx
    vq models export encodec-24khz --levels 8
    """
    from vqcli.errors import UsageError
    from vqcli.zoo import exporting, loading

    if format not in exporting.FORMATS:
        raise UsageError(f"models are not exported as {format}", " ".join(exporting.FORMATS))
    exporting.check_packages()
    model = loading.load(name, "cpu")
    folder = output or Path(f"{model.info.name}-{format}")
    with console.progress(f"export {model.info.name}") as advance:
        found = exporting.export(model, folder, levels=levels, force=force, progress=advance)
    if as_json:
        console.emit_json([one.facts | {"file": str(folder / one.file)} for one in found])
        return
    for one in found:
        console.emit(f"{model.info.name} -> {folder / one.file} {console.size(len(one.data))}, {_likeness(one)}")
    console.say(f"{folder / exporting.PAGE} has examples in JavaScript and Python")


def _likeness(one: Exported) -> str:
    """How near a graph is to torch."""
    codes = "" if one.equal is None else f"{one.equal:.2%} of codes equal to torch's"
    numbers = "" if one.difference is None else f"differs from torch by {one.difference:.1e}"
    return ", ".join(filter(None, (codes, numbers)))


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
        console.emit("\n" + card.read_text(encoding="utf-8", errors="replace"))


def _show_speakers(model: ModelInfo, every: bool) -> None:
    from vqcli.codec import voices
    from vqcli.data.clips import WELL_KNOWN_S
    from vqcli.data.split import printable

    known = voices.speakers(model)
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

    console.emit(str(store.find(name).folder))
