"""vq decode"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import console
from vqcli.cli.options import STREAM, AsJson, Device, Force, Output

if TYPE_CHECKING:
    from vqcli.api import Decoded, DecodedImage
    from vqcli.batch import Job


def decode(
    inputs: Annotated[
        list[Path], typer.Argument(help=".vqz files or folders of them; - is stdin.", show_default=False)
    ],
    output: Output = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="Of results that have no name of their own: png, jpg, ...; wav, flac, ...; mp4, gif, frames, ...",
            show_default="png, wav, mp4",
        ),
    ] = None,
    levels: Annotated[
        int | None, typer.Option(help="Decode the first residual levels only.", min=1, show_default=False)
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Where a part of a recording or clip begins: 90, 1:30 or 1:30.25.", show_default=False),
    ] = None,
    end: Annotated[
        str | None, typer.Option(help="Where that part ends; the rest is not decoded.", show_default=False)
    ] = None,
    salvage: Annotated[
        bool,
        typer.Option("--salvage", help="Decode what is whole in a damaged file; the rest is grey, silent, or lossy."),
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(help="For models whose decoding draws, as boxing-27bit.", min=0, show_default="always alike"),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Where the file's model lies, if not on the search path.", show_default=False)
    ] = None,
    force: Force = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Decode .vqz files into pictures, recordings and clips; the suffix of the output chooses the format.

    \b
    vq decode photo.vqz
    vq decode photo.vqz -o photo.webp
    vq decode talk.vqz -o talk.opus
    vq decode talk.vqz --start 1:30 --end 2:00 -o part.wav
    vq decode codes/ -o pictures/ --format jpg
    vq decode clip.vqz -o clip.mp4
    vq decode clip.vqz -o frames/
    vq decode damaged.vqz --salvage
    vq decode frame.vqz --seed 3
    cat photo.vqz | vq decode - > photo.png
    """
    from vqcli import api, batch
    from vqcli.container import vqz
    from vqcli.errors import BadFile, UsageError
    from vqcli.files import refuse_existing

    part: dict[str, Any] = {"start_s": _seconds("--start", start), "end_s": _seconds("--end", end)}
    how: dict[str, Any] = {"levels": levels, "salvage": salvage, "seed": seed, **part}
    lenient = salvage or any(at is not None for at in part.values())  # what lies outside of a part may be damaged
    as_frames = format is not None and format.lower().lstrip(".") == "frames"
    named: dict[str, Any] = {"format": format} if as_frames else {}  # all other formats are suffixes
    models: dict[bytes, Any] = {}  # by digest: a folder of files loads each model once

    def decoded(file: vqz.Vqz, label: str, target: Any, **options: Any) -> tuple[Decoded, float]:
        """What became of a file, after it is written, and the seconds that took."""
        digest = file.header.digest
        if digest not in models:
            models[digest] = api.load_for(file.header, model, device)
        begun = time.perf_counter()
        with console.progress(f"decoding {label}") as report:
            result = api.decode(file, models[digest], report=report, **how)
            notes = result.save(target, **options)
        for note in notes or ():
            console.say(f"{label}: {note}")
        if isinstance(result, api.DecodedImage):
            _say_if_not_exact(result, label, salvage, options.get("format") or Path(str(target)).suffix)
        if result.lost.any():
            console.say(f"{label}: {result.lost.mean():.1%} of the {LOST[file.header.modality]} in the result")
        return result, time.perf_counter() - begun

    def suffix_of(path: Path) -> str:
        if format is not None:
            return "" if as_frames else f".{format.lstrip('.')}"
        try:
            return _suffix(vqz.read_header(path)[0].modality)
        except BadFile:  # decoding will say what is wrong
            return ".png"

    if STREAM in inputs or output == STREAM:
        if len(inputs) > 1 or as_json:
            raise UsageError("a stream holds one file, and no JSON", "name an output file")
        source = inputs[0]
        file = vqz.unpack(sys.stdin.buffer.read(), salvage=lenient) if source == STREAM else vqz.read(source, lenient)
        if output in (None, STREAM):
            wanted = format or _suffix(file.header.modality)
            decoded(file, str(source), sys.stdout.buffer, format=wanted)
            sys.stdout.buffer.flush()
        else:
            decoded(file, str(source), output, force=force, **named)
        return

    def work(job: Job) -> tuple[Decoded, float]:
        # reading says what is wrong with a source that is its own target, and writing which folders take frames
        if not job.in_folder and job.source != job.target and not job.target.is_dir():
            refuse_existing(job.target, force)  # before the work, not after it
        return decoded(vqz.read(job.source, lenient), str(job.source), job.target, force=force, **named)

    rows: list[dict[str, Any]] = []
    failed = skipped = 0
    for outcome in batch.run(batch.plan(inputs, output, (".vqz",), suffix_of), work, force=force):
        if outcome.error:
            failed += 1
            console.complain(outcome.error)
        elif outcome.skipped:
            skipped += 1
        elif outcome.result:
            (result, took_s), job = outcome.result, outcome.job
            said, facts = _told(result, took_s)
            console.say(f"{job.source} -> {job.target} {said}")
            rows.append({"source": str(job.source), "target": str(job.target), **facts})
    if skipped:
        console.say(f"{console.plural(skipped, 'file')} skipped, already there (--force decodes again)")
    if as_json:
        console.emit_json(rows)
    if failed:
        console.say(f"vq: {console.plural(failed, 'file')} could not be decoded")
        raise typer.Exit(3)


LOST = {
    "image": "picture is lost, and grey",
    "audio": "recording is lost, and silent",
    "video": "clip is lost, and grey",
}
LOSSY = ("jpg", "jpeg", "webp", "avif")  # pictures that are not written as they are


def _suffix(modality: str) -> str:
    """Of results that have no name of their own."""
    if modality != "video":
        return {"image": ".png", "audio": ".wav"}[modality]
    from vqcli.media import video

    if not video.available():
        console.say(f"a clip becomes a .gif here; .mp4 needs an extra: {video.EXTRA}")
        return ".gif"
    return ".mp4"


def _say_if_not_exact(result: DecodedImage, label: str, salvage: bool, suffix: str) -> None:
    """Of a file that holds every pixel: say where the result has not."""
    if result.header.remainder is None:
        return
    kind = suffix.lower().lstrip(".")
    if result.lossless:
        if kind in LOSSY:
            console.say(f"{label} returns every pixel, and {kind} does not keep them (png does)")
    elif salvage and len(result.image.codes) == result.header.groups:
        console.say(f"{label}: {1 - result.exact.mean():.1%} of the picture without its remainder, so not exact")
    else:
        console.say(f"{label} returns every pixel with all its levels only: this is lossy")


def _told(result: Decoded, took_s: float) -> tuple[str, dict[str, Any]]:
    """What came out, for people and for machines."""
    from vqcli.api import DecodedAudio, DecodedVideo

    if isinstance(result, DecodedAudio):
        sound = {"length_s": result.length_s, "rate_hz": result.rate_hz, "channels": result.channels, "took_s": took_s}
        channels = console.plural(result.channels, "channel")
        return f"{result.rate_hz} Hz, {channels}, {console.speed(result.length_s, took_s)}", sound
    if isinstance(result, DecodedVideo):
        facts: dict[str, Any] = {"width": result.width, "height": result.height, "frames": result.count}
        facts |= {"frames_per_s": result.rate_mhz / 1000, "length_s": result.length_s, "took_s": took_s}
        frames = f"{console.plural(result.count, 'frame')}, {result.rate_mhz / 1000:g} a second"
        return f"{result.width} x {result.height}, {frames}, {console.speed(result.length_s, took_s)}", facts
    H, W, channels = result.pixels.shape
    said = f"{W} x {H}{' grey' * (channels == 1)}{', lossless' * result.lossless}"
    return said, {"width": W, "height": H, "channels": channels, "lossless": result.lossless}


def _seconds(option: str, text: str | None) -> float | None:
    """Seconds of '90', '1:30', '1:30.25' or '1:02:03'. Raises UsageError for what is none of these."""
    from vqcli.errors import UsageError

    if text is None:
        return None
    if not re.fullmatch(r"(\d{1,6}:){0,2}\d{1,6}(\.\d{1,9})?", text, re.ASCII):
        raise UsageError(f"{option} {text} is no time", "seconds such as 90 or 90.5, or minutes as 1:30")
    total = 0.0
    for number in text.split(":"):
        total = 60 * total + float(number)
    return total
