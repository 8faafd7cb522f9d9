"""vq compare"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import console
from vqcli.cli.options import RUNNING, Baselines, Open, Qualities, Running, command, numbers, words

if TYPE_CHECKING:
    from vqcli.evaluation.speech.coding import Point
    from vqcli.pages.images import Coded
    from vqcli.pages.parts import Section
    from vqcli.zoo.loading import LoadedModel

MOST = 12  # files of a page: with more, each would be shown too small
MOST_PIXELS = 2**20  # of an image that is coded here: it is shown at full scale, several times
MOST_SECONDS = 20.0

Inputs = Annotated[list[Path], typer.Argument(help="Images, or recordings of speech.", show_default=False)]
Target = Annotated[Path, typer.Option("--output", "-o", help="The page.")]
Models = Annotated[
    str | None, typer.Option("--models", help="Models to compare, with commas.", show_default="the default one")
]


@command
def compare(
    inputs: Inputs,
    output: Target = Path("compare.html"),
    models: Models = None,
    qualities: Qualities = None,
    baselines: Baselines = None,
    opened: Open = False,
    running: Running = RUNNING,
) -> None:
    """Write one self-contained HTML page of your images or recordings through models and usual codecs at equal bytes.

    Of images: a slider for quality, a divider, zoom in step, differences, curves. Of speech: each number of levels, and
    Opus at its lowest rate.

    \b
    vq compare photo.png
    vq compare photo.png another.jpg --models photo-2,photo --qualities 2,5,9 --open
    vq compare talk.wav -o talk.html
    """
    from vqcli import api
    from vqcli.errors import BadFile, UsageError
    from vqcli.files import refuse_existing
    from vqcli.pages import page
    from vqcli.pages.parts import Page
    from vqcli.zoo import loading, store

    refuse_existing(output, running.force)
    if len(inputs) > MOST:
        raise UsageError(f"{len(inputs)} files on one page", f"name {MOST} at most")
    for path in inputs:
        if not path.is_file():
            raise BadFile(f"{path} is no file", "name images or recordings")
    modalities = {api.modality_of(path) for path in inputs}
    if len(modalities) > 1 or not modalities <= {"image", "audio"}:
        raise UsageError("a page compares images, or recordings", "name files of one kind, no clips")
    [modality] = modalities
    loaded = []
    for name in dict.fromkeys(words(models) if models else [store.DEFAULTS[modality]]):
        info = store.find(name)
        if info.modality != modality:
            raise UsageError(f"model {name} is of {info.modality}, and the files are of {modality}", "vq models list")
        loaded.append(loading.load(info, running.device))
    make = {"image": _images, "audio": _recordings}[modality]
    sections = list(make(inputs, loaded, qualities, baselines))
    names = [model.info.name for model in loaded]
    chosen = {"--models": models, "--qualities": qualities, "--baselines": baselines}
    more = [word for name, value in chosen.items() if value is not None for word in (name, value)]
    again = shlex.join(["vq", "compare", *map(str, inputs), *more])
    title = inputs[0].name if len(inputs) == 1 else f"{len(inputs)} files"
    lead = f"Through {' and '.join(names)}, beside usual codecs at equal bytes."
    size = page.write(Page(f"{title}, compared", lead, sections, "vq compare", (again,)), output, force=running.force)
    if running.as_json:
        console.emit_json({"page": str(output), "size_bytes": size, "files": [str(path) for path in inputs]})
    console.say(f"{output}: {console.size(size)}")
    if opened:
        console.open_page(output)


def _images(
    paths: Sequence[Path], models: Sequence[LoadedModel], qualities: str | None, named: str | None
) -> Iterator[Section]:
    from vqcli.evaluation.image import baselines, rate_distortion
    from vqcli.media import image
    from vqcli.pages import images
    from vqcli.pages.page import BUDGET
    from vqcli.pages.parts import Section

    codecs = checked(("JPEG", "AVIF") if named is None else words(named), baselines.CODECS)
    asked = numbers(qualities) or rate_distortion.spread(models[0])
    embedded = 1 + len(models) * len(asked)
    with console.progress("comparing") as progress:
        for index, path in enumerate(paths):
            whole = image.read(path).pixels
            # files of usual codecs lie in the page as they are
            pixels = images.fitting(whole, embedded, 0.8 * BUDGET / len(paths), MOST_PIXELS)
            made = []
            for row in images.rows(pixels, models, codecs, asked):
                made.append(row)
                progress((index + len(made) / len(asked)) / len(paths))

            def commands(coded: Coded, path: Path = path) -> list[str]:
                quality = ["--quality", f"{coded.point.quality:g}"] if coded.point.quality else []
                tag = f"-q{coded.point.quality:g}" if quality else ""
                target = f"{path.stem}-{coded.point.codec}{tag}.vqz"
                return [
                    shlex.join(["vq", "encode", str(path), "--model", coded.point.codec, *quality, "-o", target]),
                    shlex.join(["vq", "decode", target, "-o", str(Path(target).with_suffix(".png"))]),
                ]

            height, width = pixels.shape[:2]
            text = f"{width:,} x {height:,} pixels, {console.size(path.stat().st_size)} as a file."
            note = SHOWN
            if pixels.shape != whole.shape:
                text = f"The middle {width:,} x {height:,} of {whole.shape[1]:,} x {whole.shape[0]:,} pixels."
                note = f"All figures are of this part alone, at full scale. {SHOWN}"
            part = images.compared(path.name, pixels, made, commands, begin=len(made) // 3)
            yield Section(path.name, text, [part], note)


SHOWN = (
    "All figures are of the decoded pixels. JPEG, WebP and AVIF lie in the page as the files they are; what models"
    " decoded is shown as AVIF within about 45 dB. Differences are shown four times as large."
)


def _recordings(
    paths: Sequence[Path], models: Sequence[LoadedModel], qualities: str | None, named: str | None
) -> Iterator[Section]:
    from vqcli.errors import UsageError
    from vqcli.evaluation.speech import baselines, coding
    from vqcli.pages import recordings
    from vqcli.pages.parts import Section

    if qualities is not None:
        raise UsageError("models of speech have levels, no qualities", "leave --qualities out")
    codecs = checked((baselines.OPUS,) if named is None else words(named), baselines.CODECS)
    with console.progress("comparing") as progress:
        for index, path in enumerate(paths):
            waveforms: dict[str, Any] = {}

            def on_audio(made: dict[str, Any], kept: dict[str, Any] = waveforms) -> None:
                kept.update(made)

            def refuse(error: Exception) -> None:
                raise error

            first, *others = models
            points = list(coding.evaluate(first, [path], codecs=[*others, *codecs], on_audio=on_audio, complain=refuse))

            def commands(point: Point, path: Path = path) -> list[str]:
                if not point.levels:
                    return []
                target = f"{path.stem}-{point.codec}-{point.levels}.vqz"
                model = ["--model", point.codec, "--levels", str(point.levels)]
                return [
                    shlex.join(["vq", "encode", str(path), *model, "-o", target]),
                    shlex.join(["vq", "decode", target, "-o", str(Path(target).with_suffix(".wav"))]),
                ]

            seconds = points[0].seconds
            limit = round(min(MOST_SECONDS, 60 / len(paths)) * coding.metrics.RATE_HZ)
            shown = {title: samples[:limit] for title, samples in waveforms.items()}
            text = f"{seconds:.1f} s of sound, mixed to one channel at 16 kHz."
            if seconds * coding.metrics.RATE_HZ > limit:
                text += (
                    f" The first {limit / coding.metrics.RATE_HZ:.0f} s can be heard here; figures are of all of it."
                )
            progress((index + 1) / len(paths))
            yield Section(path.name, text, [recordings.compared(path.name, points, shown, commands)])


def checked(names: Sequence[str], known: Any) -> list[str]:
    """Names of usual codecs. Raises UsageError for one that is unknown."""
    from vqcli.errors import UsageError, near_matches

    for name in names:
        if name not in known:
            raise UsageError(f"no codec {name}", near_matches(name, known))
    return list(names)
