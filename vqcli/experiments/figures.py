"""Figures of the shipped models in each experiment, read from their cards, and the table of all experiments.

A card with figures has a section with this table only:

    ## Experiments

    | experiment | measured | command |
    |---|---|---|
    | `phonemes` | 29.2 % of 38 classes | `vq eval phonemes speech-25hz timit/` |

The table of README.md in this folder is what `markdown` gives, line by line.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vqcli.errors import BadFile
from vqcli.experiments.table import DATA, EXPERIMENTS, Experiment, names
from vqcli.zoo import store

CARD = "README.md"
TITLE = "## Experiments"
HEAD = ("| experiment | measured | command |", "|---|---|---|")
LINE = re.compile(r"\| `([a-z0-9-]+)` \| ([^|`]*[^|` ]) \| `([^|`]+)` \|")
HINT = f"the section {TITLE} holds one table: {HEAD[0]}, the first and last cell of a line between backticks"
OPEN = "open"


@dataclass(frozen=True)
class Figure:
    """A figure of one shipped model, and the command that prints it."""

    experiment: str
    measured: str
    command: str
    model: str


@dataclass(frozen=True)
class Row:
    """An experiment with its figures, by the name of the model. It is open if there are none."""

    experiment: Experiment
    figures: tuple[Figure, ...]

    @property
    def command(self) -> str:
        """The command that prints the figures, or would make the first; "" if there is none."""
        if self.figures:
            return self.figures[0].command
        if self.experiment.variants:
            return f"vq reproduce {self.experiment.name} --data {DATA[self.experiment.data].folder}"
        return self.experiment.commands[-1] if self.experiment.commands else ""

    def to_dict(self) -> dict[str, Any]:
        fields = asdict(self.experiment)
        kept = {name: fields[name] for name in ("name", "where", "title", "measure", "paper", "report")}
        shipped = [{"model": one.model, "measured": one.measured, "command": one.command} for one in self.figures]
        return kept | {"shipped": shipped, "open": not self.figures, "command": self.command}


def read(card: Path) -> list[Figure]:
    """The figures of one card; none if it has no such section. Raises BadFile if the section holds anything else."""
    try:
        lines = card.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"cannot read {card}: {error}", "a card is a text file in UTF-8") from None
    begins = [number for number, line in enumerate(lines) if line == TITLE]
    if not begins:
        return []
    section = [(number, line) for number, line in enumerate(lines[begins[0] + 1 :], begins[0] + 2) if line]
    ends = next((index for index, (_, line) in enumerate(section) if line.startswith("## ")), len(section))
    section, head = section[:ends], [line for _, line in section[: len(HEAD)]]
    if len(begins) > 1 or head != list(HEAD) or len(section) == len(HEAD):
        raise BadFile(f"{card} has no table of experiments below {TITLE}, or two", HINT)
    found: dict[str, Figure] = {}
    for number, line in section[len(HEAD) :]:
        match = LINE.fullmatch(line)
        if match is None or match[1] in found or match[1] not in names():
            kind = "no line" if match is None else "a second line" if match[1] in found else "an unknown name"
            raise BadFile(f"{card}, line {number}: {kind} of the table of experiments", HINT)
        found[match[1]] = Figure(match[1], match[2], match[3], card.parent.name)
    return list(found.values())


def rows(folder: Path | None = None) -> list[Row]:
    """The whole table, with the figures in the cards of a folder of models; None for the shipped models.

    Raises BadFile as `read` does.
    """
    cards = sorted((folder or store.search_path()[-1]).glob(f"*/{CARD}"))
    found = [figure for card in cards for figure in read(card)]
    return [
        Row(experiment, tuple(figure for figure in found if figure.experiment == experiment.name))
        for experiment in EXPERIMENTS
    ]


def markdown(table: list[Row]) -> list[str]:
    """The lines of the table of README.md in this folder; its links to cards are relative to that."""
    lines = ["| experiment | what | figure | paper | report | vq | command |", "|---|---|---|---|---|---|---|"]
    for row in table:
        one = row.experiment
        own = [f"{figure.measured} ([{figure.model}](../../models/{figure.model}/{CARD}))" for figure in row.figures]
        command = f"`{row.command}`" if row.command else "–"
        cells = (f"`{one.name}`", f"{one.title} ({one.where})", one.measure, one.paper or "–", one.report or "–")
        lines.append(f"| {' | '.join((*cells, '; '.join(own) or OPEN, command))} |")
    return lines
