"""What a run writes down while it trains, and how it is read back.

The log is `log.jsonl` in the folder of the run: JSON objects, one a line, in the order of their steps, each with its
kind under "event". A run that is killed and goes on from a checkpoint drops what it wrote beyond that checkpoint, so
a log is one history. Pictures for the eye lie beside it in `pictures/`. Reading needs no torch.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from vqcli import __version__
from vqcli.errors import BadFile, UsageError
from vqcli.files import replacing
from vqcli.media import drawing, image

NAME = "log.jsonl"
PICTURES = "pictures"
COLUMNS = 8  # pictures in a row
LARGEST_LOG = 2**28  # bytes

Event = dict[str, Any]


class Journal:
    """The log and the pictures of one run, open for writing. Use it as a context, or `close` it.

    `resumed_at` is the step of the checkpoint that the run goes on from; None begins a new history.
    Where the package tensorboard is installed, figures and pictures also go to `folder/tensorboard/`.
    Numbers keep six significant digits; NaN and infinity become null.
    """

    def __init__(self, folder: Path, resumed_at: int | None) -> None:
        self.folder = folder
        last = -1 if resumed_at is None else resumed_at
        path = folder / NAME
        kept = until(read(folder), last) if path.exists() and last >= 0 else []
        with replacing(path, force=True) as stream:
            stream.writelines(map(_line, kept))
        for step, picture in pictures_of(folder).items():
            if step > last:
                picture.unlink()
        self._stream = path.open("ab")
        self._board = _tensorboard(folder, last + 1)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()
        if self._board is not None:
            self._board.close()

    def start(
        self,
        step: int,
        *,
        recipe: Mapping[str, Any],
        model: str,
        parameters: int,
        pictures: int,
        classes: int,
        threads: int,
        precision: str,
        device: str,
        world: int,
        step_seconds: Mapping[str, float] = {},
        timed_items: int = 0,
        start: Mapping[str, Any] | None = None,
    ) -> None:
        """A sitting begins at `step`: on what, with what. `world` counts the processes; no classes are 0.

        `step_seconds` of `timed_items` are those by which threads and precision were chosen (autotune.py); `start`
        tells of the model whose weights the run began with. Each parameter is a field of the event.
        """
        facts = {"model": model, "parameters": parameters, "pictures": pictures, "classes": classes}
        place = {"threads": threads, "precision": precision, "device": device, "world": world}
        place |= {"step_seconds": step_seconds, "timed_items": timed_items} if step_seconds else {}
        place |= {"start": start} if start else {}
        time = datetime.now(UTC).isoformat(timespec="seconds")
        self._write("start", step=step, time=time, machine=machine(), recipe=recipe, **facts, **place)

    def train(
        self, step: int, seconds: float, learning_rate: float, items_per_second: float, terms: Mapping[str, float]
    ) -> None:
        """Means since the last such line. `seconds` of training so far; `terms` of the loss, with "loss" itself."""
        rates = {"learning_rate": learning_rate, "items_per_second": items_per_second}
        self._write("train", step=step, seconds=seconds, **rates, **_loss_last(terms))
        self._scalars("train", step, {**rates, **terms})

    def epoch(self, step: int, epoch: int, usage: Sequence[float], perplexity: Sequence[float]) -> None:
        """The data were seen once more: share of codes used, 0 .. 1, and perplexity, both for each group."""
        self._write("epoch", step=step, epoch=epoch, usage=usage, perplexity=perplexity)
        self._scalars("codes", step, {"usage": float(np.mean(usage)), "perplexity": float(np.mean(perplexity))})

    def validation(self, step: int, terms: Mapping[str, float], best: bool) -> None:
        """Means over the held-out pictures, and whether no loss was lower before."""
        self._write("validation", step=step, **_loss_last(terms), best=bool(best))
        self._scalars("validation", step, terms)

    def skipped(self, name: str, reason: str) -> None:
        self._write("skipped", name=name, reason=reason)

    def alarm(self, step: int, text: str) -> None:
        """Something that a person should look at, such as codes that nobody uses."""
        self._write("alarm", step=step, text=text)

    def end(self, step: int, seconds: float) -> None:
        self._write("end", step=step, seconds=seconds)

    def pictures(self, step: int, originals: np.ndarray, reconstructions: np.ndarray) -> None:
        """Write both, uint8 [B, H, W, 3], each row of originals above its reconstructions, as a WebP file."""
        pixels = compare(originals, reconstructions)
        folder = self.folder / PICTURES
        folder.mkdir(exist_ok=True)
        image.write(folder / f"step-{step:06}.webp", pixels, force=True, quality=95)
        if self._board is not None:
            self._board.add_image("reconstructions", pixels, step, dataformats="HWC")

    def _write(self, event: str, **facts: Any) -> None:
        self._stream.write(_line({"event": event, **facts}))
        self._stream.flush()

    def _scalars(self, group: str, step: int, values: Mapping[str, float]) -> None:
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{group}/{name}", float(value), step)


def read(folder: Path) -> list[Event]:
    """The events of a log, oldest first; every one has its "event" as text, and "step", if any, as an integer.

    A line that is torn, as a kill may leave it, or not an event is left out. Lines of logs older than the events,
    {"step", "seconds", terms}, are read as train events, and what a killed sitting left in them is dropped.
    Raises UsageError if there is no log, BadFile if it cannot be one.
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
    """The events up to the first that lies beyond `step`."""
    beyond = (index for index, event in enumerate(events) if event.get("step", 0) > step)
    return events[: next(beyond, len(events))]


def pictures_of(folder: Path) -> dict[int, Path]:
    """The pictures of a run by their steps, in order."""
    named = ((re.fullmatch(r"step-(\d{6,12})\.webp", path.name), path) for path in (folder / PICTURES).glob("*.webp"))
    return dict(sorted((int(match[1]), path) for match, path in named if match))


def compare(originals: np.ndarray, reconstructions: np.ndarray, gap: int = 4) -> np.ndarray:
    """Both uint8 [B, H, W, 3] as one picture on white: rows of eight, originals above reconstructions."""
    if originals.shape != reconstructions.shape or originals.ndim != 4 or not len(originals):
        raise UsageError(f"no comparison of pictures {originals.shape} with {reconstructions.shape}")
    starts = range(0, len(originals), COLUMNS)
    rows = [list(batch[first : first + COLUMNS]) for first in starts for batch in (originals, reconstructions)]
    return drawing.grid(rows, gap=gap)


def machine() -> dict[str, Any]:
    """What a run was computed on and with: kinds and sizes, no name of a machine or a person."""
    import torch

    facts: dict[str, Any] = {"system": f"{platform.system()} {platform.machine()}", "processor": _processor()}
    facts["cores"] = os.cpu_count()
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gb"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts | {"python": platform.python_version(), "torch": torch.__version__, "vq": __version__}


def _processor() -> str:
    """The name that the processor has on a label: only Linux keeps it in a file."""
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


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
    """What JSON can hold: arrays and tensors as lists, floats of six digits, None for what is no number."""
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
    """A writer for TensorBoard that forgets what it had from `first_step` on, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)
