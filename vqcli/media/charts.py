"""Line charts as a piece of HTML: the curves are inline SVG, the labels around them text of the page.

The SVG is stretched to the width of the page, the text is not, so a chart stays readable on a phone. Colours come
from the style sheet of the page through the classes `s0`, `s1`, ... Everything else, the name of a line too, is
escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

SIDE = 1000  # of the drawing, in its own units, both ways
MOST_POINTS = 600  # of a drawn line
LOG_FROM = 20  # ratio of the largest to the smallest value from which an axis is logarithmic
DOTS_UP_TO = 24  # points that are also drawn as dots
SMOOTH_FROM = 16  # points
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LARGEST, SMALLEST = 1e30, 1e-30  # of a value but zero: beyond lies no measurement

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One curve: `points` (x, y) by rising x, within LARGEST and SMALLEST.

    With `smooth`, the points are drawn faint and their running median over them.
    """

    name: str
    points: Points
    colour: int = 0
    smooth: bool = False


@dataclass(frozen=True)
class Band:
    """The region between `low` and `high` at each x."""

    name: str
    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` to 0 .. SIDE; positive ones only if `log`."""

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return SIDE * (value - low) / (high - low)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """Round values with their labels, all in one unit unless the axis is logarithmic."""
        values = log_ticks(self.low, self.high) if self.log else round_ticks(self.low, self.high, most)
        return [(value, short(value, unit_of=value if self.log else max(map(abs, values)))) for value in values]


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_title: str,
    y_title: str,
    band: Band | None = None,
    mark: tuple[float, str] | None = None,
    low: float | None = None,
    high: float | None = None,
    share: bool = False,
) -> str:
    """A figure with these curves, or an empty string if they have no points.

    `mark` is a value drawn as a labelled line; `low` and `high` must lie on the axis; `share` labels it in %.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    x_axis = Axis(0.0, max(line.points[-1][0] for line in lines) or 1.0)
    values = [y for line in lines for _, y in line.points] + [*(band.low if band else ()), *(band.high if band else ())]
    y_axis = y_axis_for(values + [edge for edge in (low, high) if edge is not None])
    number: Callable[[float], str] = (lambda value: f"{value:.0%}") if share else short
    shapes, spans = [], []
    for tick, label in y_axis.ticks(6):
        y = SIDE - y_axis.place(tick)
        shapes.append(f'<path class="grid" d="M0 {y:.1f}H{SIDE}"/>')
        spans.append(f'<span class="y" style="top:{y / SIDE:.2%}">{number(tick) if share else label}</span>')
    for tick, label in x_axis.ticks(5):
        spans.append(f'<span class="x" style="left:{x_axis.place(tick) / SIDE:.2%}">{label}</span>')
    if mark:
        y = SIDE - y_axis.place(mark[0])
        shapes.append(f'<path class="mark" d="M0 {y:.1f}H{SIDE}"/>')
        spans.append(f'<span class="mark" style="top:{y / SIDE:.2%}">{escape(mark[1])}</span>')
    if band:
        edge = [*zip(band.x, band.low, strict=True), *reversed([*zip(band.x, band.high, strict=True)])]
        shapes.append(f'<path class="band" d="{_path(edge, x_axis, y_axis)}Z"/>')
    for line in lines:
        shapes += _curves(line, x_axis, y_axis)
    keys = [f'<span class="key s{line.colour}">{escape(line.name)}</span>' for line in lines]
    keys = [*keys, f'<span class="key band">{escape(band.name)}</span>'] if band else keys if len(keys) > 1 else []
    summary = "; ".join(
        f"{line.name} {number(line.points[0][1])} at {short(line.points[0][0])}"
        f" to {number(line.points[-1][1])} at {short(line.points[-1][0])}"
        for line in lines
    )
    scale = f"{x_axis.low!r} {x_axis.high!r} {y_axis.low!r} {y_axis.high!r} {int(y_axis.log)}"
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}</b> {"".join(keys)}</figcaption>'
        f'<div class="ytitle">{escape(y_title)}{", logarithmic" if y_axis.log else ""}</div>'
        f'<div class="plot" data-scale="{scale}" data-x="{escape(x_title)}"{" data-share" if share else ""}>'
        f'<svg viewBox="0 0 {SIDE} {SIDE}" preserveAspectRatio="none" role="img"'
        f' aria-label="{escape(f"{title}, {y_title} over {x_title}: {summary}")}">{"".join(shapes)}</svg>'
        f'{"".join(spans)}</div><div class="xtitle">{escape(x_title)}</div></figure>'
    )


def y_axis_for(values: Sequence[float]) -> Axis:
    """An axis that holds the values: logarithmic over a wide range, from zero if that costs little room."""
    low, high = min(values), max(values)
    if low > 0 and high > LOG_FROM * low:
        return Axis(low / (high / low) ** 0.03, high * (high / low) ** 0.03, log=True)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        room = abs(high) / 2 or 1.0
        return Axis(low - room if low else 0.0, high + room)
    room = 0.04 * (high - low)
    return Axis(0.0 if 0 <= low < 0.4 * high else low - room, high + room)


def round_ticks(low: float, high: float, most: int) -> list[float]:
    """About `most` multiples of 1, 2 or 5 times a power of ten in low .. high, the more the better."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power, 20 * power) if (high - low) / step < most)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in low .. high; also twice and five times as much where they are few."""
    decades = math.log10(high / low)
    steps, every = ((1, 2, 5), 1) if decades < 2.3 else ((1,), math.ceil(decades / 7))
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**exponent for exponent in exponents if exponent % every == 0 for step in steps]
    return [float(f"{tick:.12g}") for tick in ticks if low <= tick <= high]


def short(value: float, unit_of: float | None = None) -> str:
    """A number for people: 0.25, 1,234, 12.5 k, 3·10⁻⁴; in the unit that suits `unit_of`, by default itself."""
    size = abs(value if unit_of is None else unit_of)
    if value and not 1e-3 <= size < 1e12:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{float(mantissa):g}·10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value and size >= max(scale, 1e4):
            return f"{value / scale:.4g} {unit}"
    return f"{value:,.5g}"


def smoothed(values: Sequence[float]) -> list[float]:
    """The median of each value and its neighbours within a fortieth of the whole: what single peaks do not move.

    Fewer count at the ends, even on both sides, so a curve begins and ends where the measurement does.
    """
    count, reach = len(values), max(1, len(values) // 40)
    table = np.array(values)
    near = [min(reach, index, count - 1 - index) for index in range(count)]
    return [float(np.median(table[index - n : index + n + 1])) for index, n in enumerate(near)]


def averaged(points: Points) -> Points:
    """At most MOST_POINTS points: the mean of each stretch, in the middle of it, and the first and last themselves."""
    size = math.ceil(len(points) / (MOST_POINTS - 2))
    if size == 1:
        return points
    means = [tuple(np.mean(points[first : first + size], axis=0).tolist()) for first in range(0, len(points), size)]
    return [points[0], *means, points[-1]]


def thinned(points: Points) -> Points:
    """At most about MOST_POINTS of the points: of each stretch the lowest and the highest, and the very last."""
    size = math.ceil(2 * len(points) / MOST_POINTS)
    if size <= 2:
        return points
    kept: list[tuple[float, float]] = []
    for first in range(0, len(points), size):
        stretch = points[first : first + size]
        kept += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _curves(line: Line, x_axis: Axis, y_axis: Axis) -> list[str]:
    points, name = line.points, escape(line.name)
    curves = []
    if line.smooth and len(points) >= SMOOTH_FROM:
        curves.append(f'<path class="raw s{line.colour}" d="{_path(thinned(points), x_axis, y_axis)}"/>')
        points = averaged(points)
        points = [(x, y) for (x, _), y in zip(points, smoothed([y for _, y in points]), strict=True)]
    path = _path(thinned(points), x_axis, y_axis)
    curves.append(f'<path class="line s{line.colour}" data-name="{name}" d="{path}"/>')
    if len(points) <= DOTS_UP_TO and not (line.smooth and len(line.points) >= SMOOTH_FROM):
        # a line of no length with round ends is a dot that stretching leaves round
        dots = "".join(f"M{x_axis.place(x):.1f} {SIDE - y_axis.place(y):.1f}h0" for x, y in points)
        curves.append(f'<path class="dots s{line.colour}" d="{dots}"/>')
    return curves


def _path(points: Points, x_axis: Axis, y_axis: Axis) -> str:
    return "M" + "L".join(f"{x_axis.place(x):.1f} {SIDE - y_axis.place(y):.1f}" for x, y in points)
