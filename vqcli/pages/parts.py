"""What pages are made of. Each part is data; `parts.html.jinja` has its HTML, `style.css` its look and `script.js` what
moves. Without the script a page still shows everything, one thing below the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from vqcli.media import charts


@dataclass(frozen=True)
class Shot:
    """One image of a comparison: from which codec, what it cost, and how near it is.

    codec  the same name at every step
    uri    of the image, width x height pixels
    cells  of the table, after the name
    at     where it lies in each curve, (x, y) each
    """

    codec: str
    uri: str
    width: int
    height: int
    cells: tuple[str, ...] = ()
    at: tuple[tuple[float, float], ...] = ()
    title: str = ""

    @property
    def name(self) -> str:
        return self.title or self.codec


@dataclass(frozen=True)
class Step:
    """The images at one position of the slider, and the command that makes the first of them."""

    label: str
    shots: Sequence[Shot]
    commands: Sequence[str] = ()


@dataclass(frozen=True)
class Comparison:
    """Images of codecs beside an original: divider, side by side or differences; zoom and pan in step."""

    KIND: ClassVar = "comparison"
    name: str
    original: Shot
    steps: Sequence[Step]
    columns: Sequence[str]
    curves: Sequence[str] = ()  # charts, in the order of Shot.at
    begin: int = 0
    of_steps: str = "quality"

    @property
    def codecs(self) -> list[str]:
        return list(dict.fromkeys(shot.codec for step in self.steps for shot in step.shots))


@dataclass(frozen=True)
class Player:
    """A recording with its spectrogram and what it cost."""

    name: str
    uri: str
    spectrogram: str
    facts: str
    seconds: float
    commands: Sequence[str] = ()
    codec: str = ""  # whose curve has the points `at`
    at: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Players:
    """Recordings of one sentence, which can be switched between while they play."""

    KIND: ClassVar = "players"
    name: str
    players: Sequence[Player]
    curves: Sequence[str] = ()


@dataclass(frozen=True)
class Image:
    uri: str
    width: int
    height: int
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Images:
    """Images in a grid, with the commands that make them."""

    KIND: ClassVar = "images"
    images: Sequence[Image]
    commands: Sequence[str] = ()
    small: bool = False  # enlarged without smoothing


@dataclass(frozen=True)
class Film:
    """Frames of width x height one below the other, see `inline.strip`."""

    uri: str
    width: int
    height: int
    alt: str
    caption: str
    commands: Sequence[str] = ()


@dataclass(frozen=True)
class Films:
    """Short clips that run together, with one control for all."""

    KIND: ClassVar = "films"
    name: str
    films: Sequence[Film]
    frames: int
    fps: float
    given: int = 0  # frames at the beginning that were not made


Part = Comparison | Players | Images | Films


@dataclass(frozen=True)
class Section:
    title: str
    text: str
    parts: Sequence[Part]
    note: str = ""


@dataclass(frozen=True)
class Page:
    title: str
    lead: str
    sections: Sequence[Section]
    made_by: str
    commands: Sequence[str] = field(default_factory=tuple)


def curve(title: str, x_title: str, y_title: str, lines: dict[str, list[tuple[float, float]]]) -> str:
    """A chart of a line for each codec. A codec of one point gets a dot."""
    drawn = [charts.Line(name, sorted(points), index % 6) for index, (name, points) in enumerate(lines.items())]
    return charts.chart(title, drawn, x_title=x_title, y_title=y_title)
