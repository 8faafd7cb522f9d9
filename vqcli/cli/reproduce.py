"""vq reproduce"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqcli.cli import console
from vqcli.cli.options import AsJson, Device, command

if TYPE_CHECKING:
    from vqcli.experiments.figures import Row
    from vqcli.experiments.run import ExperimentResult
    from vqcli.experiments.table import Experiment


@dataclass(frozen=True)
class How:
    """What an experiment is run on, and how long."""

    data: Annotated[
        Path | None,
        typer.Option(help="The data set: a folder, or an .npz or pack.", show_default="that of the system, if any"),
    ] = None
    budget: Annotated[
        str | None,
        typer.Option(
            help="Train so long, all nets of the experiment together: 90s, 10m, 2h.",
            metavar="TIME",
            show_default="the steps of the recipes",
        ),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the models.", show_default="reproduced-NAME"),
    ] = None
    count: Annotated[
        int, typer.Option("--count", "-n", help="Held-out images, frames or clips to measure, at most.", min=1)
    ] = 1000
    device: Device = "auto"


Name = Annotated[
    str | None, typer.Argument(help="Run this experiment; without one, list them all.", show_default=False)
]


@command
def reproduce(
    name: Name = None,
    how: How = How(),
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the list as a table of Markdown.")] = False,
    as_json: AsJson = False,
) -> None:
    """The experiments of the paper and the report: what was printed there, what vq reached, and how to run each.

    With a name, its nets are trained on the data and measured, or where it trains none the shipped models are
    measured. Of an experiment that takes more than that, the commands are printed. With a budget the learning rate
    is 1e-3: those of the documents, 2e-4 and 3e-4, want days.

    \b
    vq reproduce
    vq reproduce --json
    vq reproduce fashion-mnist --budget 10m
    vq reproduce cifar10 --data cifar10/ --budget 2h -o my-cifar10
    vq reproduce boxing-27bit --data boxing/ --budget 3h
    vq reproduce phonemes --data timit/
    """
    from vqcli.errors import UsageError
    from vqcli.experiments import figures
    from vqcli.experiments.table import find

    if name is None:
        if how.data or how.budget or how.output:
            raise UsageError("which experiment?", "vq reproduce lists them")
        _list(figures.rows(), as_json, markdown)
        return
    chosen = find(name)
    if markdown:
        raise UsageError("--markdown is for the list of experiments", "leave the name out")
    if not chosen.variants and (how.data is None or not chosen.measures):
        _tell(next(row for row in figures.rows() if row.experiment == chosen), as_json)
        return
    _run(chosen, how, as_json)


def _run(experiment: Experiment, how: How, as_json: bool) -> None:
    """Train what the experiment trains, else measure what ships, and show it beside the documents' figures."""
    from vqcli.errors import UsageError
    from vqcli.experiments import run
    from vqcli.experiments.table import DATA
    from vqcli.training.budget import seconds

    name, place = experiment.name, run.data_for(experiment, how.data)
    if experiment.variants:
        results = run.train(
            experiment,
            place,
            how.output or Path(f"reproduced-{name}"),
            budget_s=seconds(how.budget) if how.budget else None,
            count=how.count,
            device=how.device,
            progress=console.progress,
            say=console.say,
        )
    else:
        if how.budget or how.output:
            raise UsageError(f"{name} trains nothing here: it measures what ships with vq", "leave --budget and -o out")
        results = run.measure_shipped(experiment, place, count=how.count, device=how.device, progress=console.progress)
    _show(experiment, place, results, as_json)
    if experiment.variants:
        title, items = DATA[experiment.data].title, results[0].items
        console.say(f"trained on {items:,} images of {place} ({title}), {results[0].machine}")


def _list(table: list[Row], as_json: bool, markdown: bool) -> None:
    from vqcli.experiments import figures

    if as_json:
        console.emit_json([row.to_dict() for row in table])
    elif markdown:
        console.emit("\n".join(figures.markdown(table)))
    else:
        console.emit_table(
            ("experiment", "what", "paper", "report", "vq"),
            [
                (
                    f"{row.experiment.name}\n{row.experiment.where}",
                    f"{row.experiment.title}\n{row.experiment.measure}",
                    row.experiment.paper or "–",
                    row.experiment.report or "–",
                    "\n".join(f"{one.measured} ({one.model})" for one in row.figures) or figures.OPEN,
                )
                for row in table
            ],
        )
        console.say("vq reproduce NAME runs one")


def _tell(row: Row, as_json: bool) -> None:
    """The commands that make a row, one a line: those of the shipped figures, then those that begin with data."""
    from vqcli.errors import UsageError

    name = row.experiment.name
    if not row.figures and not row.experiment.commands:
        raise UsageError(f"{name} is open: nothing here runs it yet", row.experiment.title)
    if as_json:
        console.emit_json(row.to_dict())
        return
    for figure in row.figures:
        console.say(f"{figure.model}: {figure.measured}; by")
        console.emit(figure.command)
    if more := [line for line in row.experiment.commands if line not in {one.command for one in row.figures}]:
        console.say("from data to a row of your own:")
        console.emit("\n".join(more))
    if row.experiment.measures:
        console.say(f"vq reproduce {name} --data measures what ships with vq")


def _show(experiment: Experiment, data: Path, results: list[ExperimentResult], as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        rows = [asdict(result) | {"model": str(result.model)} for result in results]
        facts = {"experiment": experiment.name, "paper": experiment.paper, "report": experiment.report}
        console.emit_json(facts | {"data": str(data), "results": rows})
        return
    printed = [("paper", experiment.paper or "–", "", ""), ("report", experiment.report or "–", "", "")]
    here = [
        (
            f"here, {result.label}",
            "\n".join(figure.text for figure in result.figures),
            f"{result.minutes:.1f}" if result.steps else "–",
            f"{result.steps:,}" if result.steps else "–",
        )
        for result in results
    ]
    console.emit_table((experiment.name, "measured", "minutes", "steps"), [*printed, *here])
    console.say(f"{experiment.title}: {experiment.measure}")
