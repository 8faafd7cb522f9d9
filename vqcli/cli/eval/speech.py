"""What vq eval rd does with clips of speech, and what others that measure speech share with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqcli.cli import console
from vqcli.cli.eval.baselines import chosen
from vqcli.cli.options import Measuring, Running

if TYPE_CHECKING:
    import numpy as np

    from vqcli.zoo.store import ModelInfo

COLUMNS = (  # title, attribute, format
    ("codec", "codec", ""),
    ("levels", "levels", "d"),
    ("clip", "clip", ""),
    ("kbit/s", "kbit_per_s", ".2f"),
    ("log-mel dB", "log_mel_distance_db", ".2f"),
    ("correlation", "log_mel_correlation", ".3f"),
    ("pitch", "pitch_correlation", ".3f"),
    ("voicing", "voicing_error", ".1%"),
    ("STOI", "stoi", ".3f"),
    ("ViSQOL", "visqol", ".2f"),
    ("words wrong", "word_error", ".3f"),
    ("DNSMOS", "quality", ".2f"),
)


def measure(model: ModelInfo, clips: Sequence[Path], what: Measuring, running: Running) -> None:
    """Measure a model on clips: a row for the clips themselves, each number of levels and each baseline."""
    from dataclasses import asdict

    from vqcli.errors import BadFile, UsageError
    from vqcli.evaluation.speech import baselines, coding, metrics
    from vqcli.zoo import loading

    if what.qualities is not None:
        raise UsageError("speech has no qualities", "every number of levels is measured")
    if what.tune is not None or what.effort:
        raise UsageError("speech has neither tune nor effort", "leave --tune and --effort out")
    evaluators = asked(what.evaluators)
    codecs = chosen(what.baselines, baselines.USUAL, baselines.CODECS, model, running.device)
    absent = [name for name in codecs if isinstance(name, str) and not baselines.available(name)]
    if absent:
        console.say(f"left out: {', '.join(absent)} (the commands c2enc and c2dec are not installed)")
    look = picture_of_first(what.plot, running.force)
    loaded = loading.load(model, running.device)
    with console.progress("measuring", len(clips), "clip") as progress:
        points = list(
            coding.evaluate(
                loaded,
                clips,
                codecs=[name for name in codecs if name not in absent],
                coder=what.coder,
                with_evaluators=evaluators,
                progress=progress,
                complain=console.leave_out,
                on_audio=look,
            )
        )
    if not points:
        raise BadFile("none of the clips could be read")
    shown = points if what.each else coding.means(points)
    if running.as_json:
        console.emit_json([asdict(point) for point in shown])
        return
    table(shown, COLUMNS, what.each)
    sources = [point for point in points if point.codec == coding.SOURCE]
    console.say(
        f"{console.plural(len(sources), 'clip')}; correlation: of log-mel spectra with the source's; "
        "pitch: of log Hz where both are voiced; voicing: where only one is"
    )
    if evaluators:
        spoken = sum(point.words or 0 for point in sources)
        console.say(f"words wrong: of {spoken:,} in transcripts, recognised by pocketsphinx")
    if not (metrics.has_stoi() and metrics.has_visqol()):
        console.say("STOI, ViSQOL, words wrong and DNSMOS need: pip install 'vqcli[evaluators]'")


def asked(evaluators: bool | None) -> bool:
    """Whether to ask the evaluators: as said, else if they are there. Raises UsageError if said and they are not."""
    from vqcli.errors import UsageError
    from vqcli.evaluation.speech import evaluators as models

    if evaluators is False:
        return False
    try:
        models.require()
    except UsageError as error:
        if evaluators:
            raise
        if models.available():  # installed, but something that they need is not
            console.complain(error)
        return False
    return True


def picture_of_first(plot: Path | None, force: bool) -> Callable[[dict[str, np.ndarray]], None]:
    """What draws the spectrograms of the first clip that it is given the sounds of, by title, to `plot` if any.

    Raises UsageError now, not after the work, if the file exists or its suffix is of no image.
    """
    from vqcli.errors import UsageError
    from vqcli.files import refuse_existing
    from vqcli.media import image, mel

    if plot and plot.suffix.lower() not in image.SUFFIXES:
        raise UsageError(f"spectrograms are images, and {plot} is none by its name", "try .png or .webp")
    if plot:
        refuse_existing(plot, force)
    drawn: list[Path] = []

    def look(sounds: dict[str, np.ndarray]) -> None:
        from vqcli.evaluation.speech import spectrograms

        if plot and not drawn and min(map(len, sounds.values())) >= mel.HOP:
            image.write(plot, spectrograms.stacked(list(sounds.items())), force=force)
            drawn.append(plot)
            console.say(f"drawn to {plot}")

    return look


def table(points: Sequence[Any], columns: Sequence[tuple[str, str, str]], each: bool) -> None:
    """A row for each point, a column for each title, attribute and format; the clip's only if there are rows for each.

    What is unknown shows as a dash, as do no levels; columns that hold nothing are left out.
    """
    shown = [column for column in columns if each or column[1] != "clip"]
    rows = [[_figure(getattr(point, name), digits) for _, name, digits in shown] for point in points]
    kept = [index for index in range(len(shown)) if any(row[index] != "–" for row in rows)]
    console.emit_table([shown[index][0] for index in kept], [[row[index] for index in kept] for row in rows])


def _figure(value: Any, digits: str) -> str:
    return "–" if value is None or (digits == "d" and value == 0) else format(value, digits)
