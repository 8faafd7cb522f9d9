"""The HTML report of a training run: one self-contained page of the files in its folder. Needs no torch.

The page loads nothing from the network and is complete without its script. All values from files are type-checked here
and escaped by the template.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from vqcli.errors import BadFile, ModelError
from vqcli.files import replacing
from vqcli.media import charts, image
from vqcli.media.charts import Band, Line
from vqcli.pages import inline
from vqcli.pages import page as pages
from vqcli.progress import duration
from vqcli.training import log
from vqcli.training.log import Event
from vqcli.zoo import store

HERE = Path(__file__).parent
TEMPLATE = "report.html.jinja"
IMAGE_BYTES = 2_000_000  # of all embedded images, before base64, which adds a third
EARLIER_IMAGES = 11
LARGEST_IMAGE = 2**24  # pixels
MOST_TERMS = 24  # charts of single terms
MOST_ROWS = 100  # of a table
MOST_LINES = 4  # codebooks with a line each; more become a band

# Keys of train and validation events that are not terms of the loss.
NO_TERMS = ("event", "step", "seconds", "learning_rate", "items_per_second", "best", "loss")
TERMS = {"mse": ("mean square error", "of values 0 to 255"), "psnr_db": ("PSNR", "dB")}  # title and unit
LABELS = {"pictures": "items", "memory_gb": "memory (GB)", "gpu": "GPU", "psnr_db": "PSNR (dB)", "ms_ssim": "MS-SSIM"}


def write_page(run: Path, output: Path, *, force: bool = False) -> None:
    """Write the page of the run in folder `run` to the file `output`.

    Raises UsageError if there is no run, or `output` exists without `force`; BadFile for a
    file that is not a log; OutputError if the page cannot be written.
    """
    text = page(run)
    with replacing(output, force=force) as stream:
        stream.write(text.encode(errors="replace"))


def page(run: Path) -> str:
    """The HTML of the page."""
    return str(pages.environment(HERE).get_template(TEMPLATE).render(contents(run)))


def contents(run: Path) -> dict[str, Any]:
    """The variables of the template."""
    events = log.read(run)
    starts = of_kind(events, "start")
    model = model_of(run)
    start = starts[-1] if starts else {}
    recipe = mapping(start.get("recipe")) or (mapping(model.description.get("recipe")) if model else {})
    last, earlier = embedded(log.images_of(run))
    return {
        "name": run.resolve().name,
        "description": str(recipe.get("description", "")),
        **state(events, recipe),
        "alarms": [(charts.short(event.get("step", 0)), event.get("text", "")) for event in of_kind(events, "alarm")],
        "loss_chart": loss_chart(events),
        "term_charts": term_charts(events),
        "rate_charts": rate_charts(events),
        "code_charts": code_charts(events),
        "validations": validation_table(events),
        "last_image": last,
        "earlier_images": earlier,
        "recipe": toml(recipe),
        "machine": [(LABELS.get(key, key), value) for key, value in mapping(start.get("machine")).items()],
        "sessions": [
            (moment(event.get("time")), charts.short(event.get("step", 0)), session(event))
            for event in starts[-MOST_ROWS:]
        ],
        **data_facts(events, start),
        "model": card(model),
        "made": pages.made("vq report"),
    }


# ---------------------------------------------------------------- events -> figures


def number(value: Any) -> float | None:
    """A finite number within the range of charts, or None; tiny ones become zero."""
    valid = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= charts.LARGEST
    return None if not valid else float(value) if abs(value) >= charts.SMALLEST else 0.0


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def of_kind(events: Iterable[Event], kind: str) -> list[Event]:
    return [event for event in events if event["event"] == kind]


def series(events: Iterable[Event], kind: str, key: str) -> list[tuple[float, float]]:
    """The values of `key` in events of this kind, as (step, value) sorted by step; the last one of a step counts."""
    values = {event.get("step", 0): number(event.get(key)) for event in of_kind(events, kind)}
    return [(float(step), value) for step, value in sorted(values.items()) if value is not None]


def state(events: list[Event], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The progress of the run, in figures and as text."""
    step = max((event.get("step", 0) for event in events), default=0)
    steps = number(mapping(recipe.get("optimization")).get("steps"))
    seconds = max((value for kind in ("train", "end") for _, value in series(events, kind, "seconds")), default=None)
    turns = [event["event"] for event in events if event["event"] in ("start", "end")]
    losses = [(loss, step) for step, loss in series(events, "validation", "loss")]
    facts = [f"step {step:,}" + (f" of {steps:,.0f}" if steps else "")]
    if seconds is not None:
        facts.append(duration(seconds))
    if losses:
        best, at = min(losses)
        facts.append(f"best validation loss {best:.5g} at step {at:,.0f}")
    elif events:
        facts.append("no validation yet")
    words = {"end": "finished", "start": "not finished: still running, or stopped"}
    return {
        "share": min(step / steps, 1.0) if steps and steps > 0 else None,
        "finished": turns[-1:] == ["end"],
        "state": words[turns[-1]] if turns else "older log: end unknown" if events else "nothing logged yet",
        "facts": facts,
    }


def loss_chart(events: list[Event]) -> str:
    return _pair(events, "loss", "Loss", "loss")


def term_charts(events: list[Event]) -> list[str]:
    """A chart for each term of train or validation events, in the order of their first appearance."""
    logged = [event for event in events if event["event"] in ("train", "validation")]
    names = [name for name in dict.fromkeys(name for event in logged for name in event) if name not in NO_TERMS]
    drawn = (_pair(events, name, *TERMS.get(name, (name.replace("_", " "),) * 2)) for name in names)
    return [chart for chart in drawn if chart][:MOST_TERMS]


def _pair(events: list[Event], key: str, title: str, unit: str) -> str:
    lines = [
        Line("training", series(events, "train", key), colour=0, smooth=True),
        Line("validation", series(events, "validation", key), colour=1),
    ]
    return charts.chart(title, lines, x_title="steps", y_title=unit)


def rate_charts(events: list[Event]) -> list[str]:
    """The learning rate, and the speed: where a log has no items per second, steps per second by its clock."""
    rate = Line("learning rate", series(events, "train", "learning_rate"), colour=2)
    items, unit = series(events, "train", "items_per_second"), "items per second"
    if not items:
        clock = [(0.0, 0.0), *series(events, "train", "seconds")]
        pairs = pairwise(clock)
        unit = "steps per second"
        items = [(step, (step - before) / (time - then)) for (before, then), (step, time) in pairs if time > then]
    speed = Line(unit, items, colour=3, smooth=True)
    drawn = (
        charts.chart("Learning rate", [rate], x_title="steps", y_title="learning rate", low=0),
        charts.chart("Speed", [speed], x_title="steps", y_title=unit, low=0),
    )
    return [chart for chart in drawn if chart]


def code_charts(events: list[Event]) -> list[str]:
    """Usage and perplexity of the codebooks over epochs: a line for each codebook, or median and range of many."""
    epochs = of_kind(events, "epoch")
    usage = _over_epochs(epochs, "usage")
    perplexity = _over_epochs(epochs, "perplexity")
    drawn = []
    if usage:
        lines, band = usage
        quarter = (0.25, "a quarter")
        settings: dict[str, Any] = {"band": band, "mark": quarter, "low": 0, "high": 1, "share": True}
        drawn.append(charts.chart("Codes in use", lines, x_title="epochs", y_title="share of codes", **settings))
    if perplexity:
        lines, band = perplexity
        drawn.append(charts.chart("Perplexity", lines, x_title="epochs", y_title="codes", band=band, low=0))
    return drawn


def _over_epochs(epochs: list[Event], key: str) -> tuple[list[Line], Band | None] | None:
    """Curves of a value per codebook over epochs; epochs with another number of codebooks than the last are dropped."""
    rows: dict[float, list[float]] = {}
    for event in epochs:
        epoch, values = number(event.get("epoch")), event.get(key)
        figures = [number(value) for value in values] if isinstance(values, list) else []
        if epoch is not None and epoch >= 0 and figures and None not in figures:
            rows[epoch] = [figure for figure in figures if figure is not None]
    if not rows:
        return None
    n_codebooks = len(rows[max(rows)])
    x = sorted(epoch for epoch, row in rows.items() if len(row) == n_codebooks)
    table = np.array([rows[epoch] for epoch in x])  # [epochs, n_codebooks]
    if n_codebooks <= MOST_LINES:
        names = [f"codebook {index + 1}" if n_codebooks > 1 else "the codebook" for index in range(n_codebooks)]
        columns = zip(names, table.T.tolist(), strict=True)
        return [Line(name, list(zip(x, y, strict=True)), colour) for colour, (name, y) in enumerate(columns)], None
    median = Line(f"median of {n_codebooks} codebooks", list(zip(x, np.median(table, 1).tolist(), strict=True)))
    return [median], Band("minimum to maximum", x, table.min(1).tolist(), table.max(1).tolist())


def validation_table(events: list[Event]) -> dict[str, Any]:
    """Steps, loss and terms of the validations, newest first, and which were the best so far."""
    logged = of_kind(events, "validation")[-MOST_ROWS:][::-1]
    terms = [name for name in dict.fromkeys(name for event in logged for name in event) if name not in NO_TERMS]
    columns = ["loss", *terms[:MOST_TERMS]]
    rows = []
    for event in logged:
        figures = [number(event.get(name)) for name in columns]
        cells = ["–" if figure is None else f"{figure:.5g}" for figure in figures]
        rows.append((f"{event.get('step', 0):,}", cells, event.get("best") is True))
    return {"columns": [name.replace("_", " ") for name in columns], "rows": rows}


# ---------------------------------------------------------------- the other parts of the page


def embedded(images: Mapping[int, Path]) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The last image and some of the earlier ones as data URIs, spread evenly over the run.

    As many as IMAGE_BYTES allow; files that are not WebP images of at most LARGEST_IMAGE pixels are left out.
    """
    sizes = {step: path.stat().st_size for step, path in images.items()}
    steps = [step for step, size in sizes.items() if size <= IMAGE_BYTES]
    if not steps:
        return None, []
    chosen: list[int] = []
    for count in range(min(len(steps), EARLIER_IMAGES + 1), 0, -1):
        # one image is the last, two are the first and the last
        chosen = [steps[round(place)] for place in np.linspace(len(steps) - 1, 0, count)]
        if sum(sizes[step] for step in chosen) <= IMAGE_BYTES:
            break
    shown = [shown for step in chosen if (shown := _embed(step, images[step]))]
    return (shown[0], shown[:0:-1]) if shown else (None, [])


def _embed(step: int, path: Path) -> dict[str, Any] | None:
    try:
        height, width, _ = image.read(path, max_pixels=LARGEST_IMAGE).pixels.shape
        data = path.read_bytes()
    except (BadFile, OSError):
        return None
    return {"step": f"{step:,}", "uri": inline.uri(data, "image/webp"), "width": width, "height": height}


def toml(values: Mapping[str, Any], table: str = "") -> str:
    """A recipe as TOML, without what is None. Values are as JSON decodes them."""
    plain = {key: value for key, value in values.items() if value is not None}
    nested = {key: value for key, value in plain.items() if isinstance(value, dict)}
    if table.count(".") >= 1:  # [model.arguments] is the deepest table; within it, tables are written in a line
        nested = {}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in plain.items() if key not in nested]
    parts = ["\n".join([f"[{table}]", *lines] if table else lines)] if lines else []
    parts += [toml(value, f"{table}.{_key(key)}" if table else _key(key)) for key, value in nested.items()]
    return "\n\n".join(part for part in parts if part)


def _key(key: str) -> str:
    bare = key and all(c.isascii() and (c.isalnum() or c in "_-") for c in key)
    return key if bare else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{_key(key)} = {_value(part)}" for key, part in value.items() if part is not None)
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list):
        return f"[{', '.join(_value(part) for part in value)}]"
    return json.dumps(value, ensure_ascii=False)


def session(start: Event) -> str:
    """The hardware of a session, in a line."""
    machine = mapping(start.get("machine"))
    device, world, threads = (start.get(key) for key in ("device", "world", "threads"))
    parts = [machine.get("gpu") if device == "cuda" else machine.get("processor"), device]
    parts += [f"{world} processes"] if number(world) and world != 1 else []
    parts += [f"{threads} thread{'s' * (threads != 1)}"] if number(threads) else []
    return ", ".join(str(part) for part in parts if part)


def data_facts(events: list[Event], start: Event) -> dict[str, Any]:
    skipped = {str(event.get("name")): str(event.get("reason", "")) for event in of_kind(events, "skipped")}
    counts = {key: number(start.get(key)) for key in ("pictures", "classes", "parameters")}
    return {
        "counts": [(LABELS.get(key, key), f"{count:,.0f}") for key, count in counts.items() if count],
        "skipped": list(skipped.items())[:MOST_ROWS],
        "skipped_count": len(skipped),
    }


def model_of(run: Path) -> store.ModelInfo | None:
    """The model in the folder of a finished run; None if there is none, or it is damaged."""
    try:
        return store.describe(run)
    except ModelError:
        return None


def card(model: store.ModelInfo | None) -> dict[str, Any] | None:
    """The description of a model, and its measurements as a table."""
    if model is None:
        return None
    hidden = ("format", "recipe", "arguments", "measured")  # shown elsewhere on the page
    described = {key: value for key, value in model.description.items() if key not in hidden}
    measured = mapping(model.description.get("measured"))
    points = measured.get("points")
    points = [mapping(point) for point in points[:MOST_ROWS]] if isinstance(points, list) else []
    columns = sorted({key for point in points for key in point}, key=lambda key: (key != "quality", key))[:MOST_TERMS]
    facts = {"digest": model.digest.hex(), "size": f"{model.path.stat().st_size / 1e6:.2f} MB", **described}
    return {
        "facts": [
            (str(key).replace("_", " "), _value(value) if isinstance(value, dict | list) else value)
            for key, value in facts.items()
        ],
        "on": measured.get("on", ""),
        "command": measured.get("command", ""),
        "columns": [LABELS.get(column, column.replace("_", " ")) for column in columns],
        "rows": [["–" if point.get(column) is None else point[column] for column in columns] for point in points],
    }


def moment(time: Any) -> str:
    """An ISO time to the minute; any other value as text."""
    try:
        return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except (TypeError, ValueError, OverflowError):
        return str(time)
