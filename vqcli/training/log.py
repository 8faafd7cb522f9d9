"""The log of a training run: writing and reading.

The log is `log.jsonl` in the folder of the run: JSON objects, one a line, in the order of their steps, each with its
kind under "event". A killed run that is resumed from a checkpoint drops the events beyond that checkpoint, so a log is
one history. Reconstructions of held-out items are images in `pictures/`. Reading needs no torch.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from vqcli.errors import BadFile, UsageError
from vqcli.evaluation.installation import machine
from vqcli.files import make_folder, replacing
from vqcli.media import drawing, image

NAME = "log.jsonl"
IMAGES = "pictures"
COLUMNS = 8  # images in a row
LARGEST_LOG = 2**28  # bytes

Event = dict[str, Any]


@dataclass(frozen=True)
class Start:
    """What a "start" event records; each field is a key of the event.

    pictures      number of items in the training data
    classes       their number, 0 for none
    world         number of processes
    step_seconds  of `timed_items` items, by which threads and precision were chosen (autotune.py); {} if not timed
    start         the model whose weights the run started from, None for random ones
    """

    recipe: Mapping[str, Any]
    model: str
    parameters: int
    pictures: int
    classes: int
    threads: int
    precision: str
    device: str
    world: int
    step_seconds: Mapping[str, float] = field(default_factory=dict)
    timed_items: int = 0
    start: Mapping[str, Any] | None = None


class RunLog:
    """The log and the images of one run, open for writing. Use it as a context, or `close` it.

    `resumed_at` is the step of the checkpoint that the run resumes from; None begins a new history.
    Where the package tensorboard is installed, figures and images also go to `folder/tensorboard/`.
    Numbers keep six significant digits; NaN and infinity become null.
    """

    def __init__(self, folder: Path, resumed_at: int | None) -> None:
        self.folder = folder
        last = -1 if resumed_at is None else resumed_at
        path = folder / NAME
        kept = until(read(folder), last) if path.exists() and last >= 0 else []
        with replacing(path, force=True) as stream:
            stream.writelines(map(_line, kept))
        for step, file in images_of(folder).items():
            if step > last:
                file.unlink()
        self._stream = path.open("ab")
        self._writer = _tensorboard(folder, last + 1)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()
        if self._writer is not None:
            self._writer.close()

    def start(self, step: int, facts: Start) -> None:
        """A session begins at `step`."""
        fields = dict(vars(facts))
        if not facts.step_seconds:
            del fields["step_seconds"], fields["timed_items"]
        if not facts.start:
            del fields["start"]
        time = datetime.now(UTC).isoformat(timespec="seconds")
        self._write("start", step=step, time=time, machine=machine(), **fields)

    def train(
        self, step: int, seconds: float, learning_rate: float, items_per_second: float, terms: Mapping[str, float]
    ) -> None:
        """Means since the last such line. `seconds` of training so far; `terms` of the loss, with "loss" itself."""
        rates = {"learning_rate": learning_rate, "items_per_second": items_per_second}
        self._write("train", step=step, seconds=seconds, **rates, **_loss_last(terms))
        self._scalars("train", step, {**rates, **terms})

    def epoch(self, step: int, epoch: int, usage: Sequence[float], perplexity: Sequence[float]) -> None:
        """An epoch ended: usage, 0 .. 1, and perplexity of each codebook."""
        self._write("epoch", step=step, epoch=epoch, usage=usage, perplexity=perplexity)
        self._scalars("codes", step, {"usage": float(np.mean(usage)), "perplexity": float(np.mean(perplexity))})

    def validation(self, step: int, terms: Mapping[str, float], best: bool) -> None:
        """Means over the held-out items, and whether the loss is the lowest so far."""
        self._write("validation", step=step, **_loss_last(terms), best=bool(best))
        self._scalars("validation", step, terms)

    def skipped(self, name: str, reason: str) -> None:
        self._write("skipped", name=name, reason=reason)

    def alarm(self, step: int, text: str) -> None:
        """A warning, such as low codebook usage."""
        self._write("alarm", step=step, text=text)

    def end(self, step: int, seconds: float) -> None:
        self._write("end", step=step, seconds=seconds)

    def images(self, step: int, originals: np.ndarray, reconstructions: np.ndarray) -> None:
        """Write both, uint8 [B, H, W, 3], each row of originals above its reconstructions, as a WebP file."""
        pixels = compare(originals, reconstructions)
        folder = self.folder / IMAGES
        make_folder(folder)
        image.write(folder / f"step-{step:06}.webp", pixels, force=True, quality=95)
        if self._writer is not None:
            self._writer.add_image("reconstructions", pixels, step, dataformats="HWC")

    def _write(self, event: str, **facts: Any) -> None:
        self._stream.write(_line({"event": event, **facts}))
        self._stream.flush()

    def _scalars(self, group: str, step: int, values: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", float(value), step)


def read(folder: Path) -> list[Event]:
    """The events of a log, oldest first; each has its "event" as text, and "step", if any, as an integer.

    Lines that are truncated, as a kill may leave them, or no events are left out. Lines of logs older than the events,
    {"step", "seconds", terms}, are read as train events, without what a killed session left in them.
    Raises UsageError if there is no log, BadFile if the file is not a log.
    """
    path = folder / NAME
    try:
        if path.stat().st_size > LARGEST_LOG:
            raise BadFile(f"{path} is too large for the log of a run")
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        raise UsageError(f"{folder} holds no run: there is no {NAME}", "name a folder that vq train wrote to") from None
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror or error}") from None
    events: list[Event] = []
    for line in lines:
        event = _event(line)
        if event is not None and "event" not in event:
            event = {"event": "train", **event}
            events = _without_overlap(events, event["step"])
        if event is not None:
            events.append(event)
    if not events and len(lines) > 1:
        raise BadFile(f"{path} is not the log of a run", "name a folder that vq train wrote to")
    return events


def until(events: list[Event], step: int) -> list[Event]:
    """The events up to the first with a step above `step`."""
    beyond = (index for index, event in enumerate(events) if event.get("step", 0) > step)
    return events[: next(beyond, len(events))]


def images_of(folder: Path) -> dict[int, Path]:
    """The image files of a run by their steps, in order."""
    named = ((re.fullmatch(r"step-(\d{6,12})\.webp", path.name), path) for path in (folder / IMAGES).glob("*.webp"))
    return dict(sorted((int(match[1]), path) for match, path in named if match))


def compare(originals: np.ndarray, reconstructions: np.ndarray, gap: int = 4) -> np.ndarray:
    """Both uint8 [B, H, W, 3] as one image on white: rows of eight, originals above reconstructions."""
    if originals.shape != reconstructions.shape or originals.ndim != 4 or not len(originals):
        raise UsageError(f"cannot compare images {originals.shape} with {reconstructions.shape}")
    starts = range(0, len(originals), COLUMNS)
    rows = [list(batch[first : first + COLUMNS]) for first in starts for batch in (originals, reconstructions)]
    return drawing.grid(rows, gap=gap)


def _event(line: bytes) -> Event | None:
    try:
        event = json.loads(line, parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event", ""), str):
        return None
    step = event.get("step", 0 if "event" in event else None)
    return event if type(step) is int and 0 <= step < 2**53 else None


def _without_overlap(events: list[Event], step: int) -> list[Event]:
    kept = len(events)
    while kept and events[kept - 1].get("step", 0) >= step:
        kept -= 1
    return events[:kept]


def _line(event: Mapping[str, Any]) -> bytes:
    return json.dumps(_plain(event), ensure_ascii=False, allow_nan=False).encode(errors="replace") + b"\n"


def _plain(value: Any) -> Any:
    """A value for JSON: arrays and tensors as lists, floats with six digits, None for NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _loss_last(terms: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(terms.items(), key=lambda term: term[0] == "loss"))


def _tensorboard(folder: Path, first_step: int) -> Any:
    """A writer for TensorBoard that drops earlier values from `first_step` on, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)
