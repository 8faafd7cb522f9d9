"""vq decode"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import complete, console, media, pictures
from vqcli.cli.files import process, suffix_named
from vqcli.cli.options import RUNNING, STREAM, Allowed, Output, Running, command, spelled
from vqcli.cli.pictures import Shown

if TYPE_CHECKING:
    from vqcli.api import Decoded
    from vqcli.batch import Job, Plan
    from vqcli.container.vqz import Vqz


@dataclass(frozen=True)
class PartOptions:
    """Which part of a file is decoded, and how."""

    levels: Annotated[
        int | None, typer.Option(help="Decode the first residual levels only.", min=1, show_default=False)
    ] = None
    start_s: Annotated[
        str | None,
        typer.Option(
            "--start", help="Where a part of a recording or clip begins: 90, 1:30 or 1:30.25.", show_default=False
        ),
    ] = None
    end_s: Annotated[
        str | None, typer.Option("--end", help="Where that part ends; the rest is not decoded.", show_default=False)
    ] = None
    salvage: Annotated[
        bool,
        typer.Option("--salvage", help="Decode what is whole in a damaged file; the rest is grey, silent, or lossy."),
    ] = False
    seed: Annotated[
        int | None,
        typer.Option(help="For models whose decoding samples, as boxing-27bit.", min=0, show_default="always alike"),
    ] = None


FORMATS = ("png", "jpg", "webp", "avif", "tiff", "wav", "flac", "opus", "mp3", "mp4", "gif", "frames")  # to offer
FOREIGN = (".ecdc", ".dac")  # of other programs
Inputs = Annotated[list[Path], typer.Argument(help=".vqz files or folders of them; - is stdin.", show_default=False)]
Format = Annotated[
    str | None,
    typer.Option(
        help="Of results that have no name of their own: png, jpg, ...; wav, flac, ...; mp4, gif, frames, ...",
        show_default="png, wav, mp4",
        autocompletion=complete.among(*FORMATS),
    ),
]
FileModel = Annotated[
    str | None,
    typer.Option(
        help="Where the file's model lies, if not on the search path.",
        show_default=False,
        autocompletion=complete.models,
    ),
]
Verify = Annotated[
    bool,
    typer.Option("--verify", help="Read the result again: without loss its pixels are compared, else codes alone."),
]


@command
def decode(
    inputs: Inputs,
    output: Output = None,
    format: Format = None,
    part: PartOptions = PartOptions(),
    model: FileModel = None,
    allowed: Allowed = Allowed(),
    verify: Verify = False,
    show: Shown = False,
    running: Running = RUNNING,
) -> None:
    """Decode .vqz files into images, recordings and clips; the suffix of the output chooses the format.

    \b
    vq decode photo.vqz
    vq decode photo.vqz -o photo.webp
    vq decode photo.vqz --show
    vq decode talk.vqz -o talk.opus
    vq decode talk.ecdc
    vq decode talk.dac --model dac-44khz
    vq decode talk.vqz --start 1:30 --end 2:00 -o part.wav
    vq decode codes/ -o images/ --format jpg
    vq decode clip.vqz -o clip.mp4
    vq decode clip.vqz -o frames/
    vq decode photo.vqz --verify
    vq decode damaged.vqz --salvage
    vq decode frame.vqz --seed 3
    vq decode stranger.vqz --max-pixels 20000000 --max-seconds 600
    cat photo.vqz | vq decode - > photo.png
    """
    from vqcli import batch
    from vqcli.container import vqz
    from vqcli.errors import BadFile, UsageError
    from vqcli.files import refuse_existing

    decoder = _Decoder(part, model, allowed, running.device)
    given = None if format is None else suffix_named(format)
    as_frames = format is not None and format.lower().lstrip(".") == "frames"
    named: dict[str, Any] = {"format": format} if as_frames else {}  # all other formats are suffixes

    def suffix_of(path: Path) -> str:
        if given is not None:
            return "" if as_frames else given
        if path.suffix in FOREIGN:
            return ".wav"
        try:
            return media.of(vqz.read_header(path)[0].modality).suffix()
        except BadFile:  # decoding will say what is wrong
            return ".png"

    if STREAM in inputs or output == STREAM:
        if len(inputs) > 1 or running.as_json or verify:
            raise UsageError("a stream holds one file, no JSON, and cannot be read again", "name an output file")
        decoder.stream(inputs[0], output, format, named, running.force)
        pictures.preview([output] if show and output not in (None, STREAM) else [])
        return

    def work(job: Job) -> tuple[Decoded, float]:
        # reading says what is wrong with a source that is its own target, and writing which folders take frames
        if not job.in_folder and job.source != job.target and not job.target.is_dir():
            refuse_existing(job.target, running.force)  # before the work, not after it
        return decoder.decode(decoder.read(job.source), str(job.source), job.target, force=running.force, **named)

    def describe(job: Job, done: tuple[Decoded, float]) -> tuple[str, dict[str, Any]]:
        medium = media.of(done[0].header.modality)
        said, facts = medium.decoded_line(*done)
        places = {"source": str(job.source), "target": str(job.target)}
        checked, more = medium.verify_decoded(done[0], job.target) if verify else ("", {})
        said += _why_named(job.target, usual)
        return f"{job.source} -> {job.target} {said}" + f"\n  {checked}" * verify, places | facts | more

    plan = batch.plan(inputs, output, (".vqz", *FOREIGN), suffix_of)
    plan, usual = _beside_what_exists(plan, asked=output is None and not running.force)
    if given is None and output is not None and _is_of_frames(plan.jobs, output):
        plan, named["format"] = replace(plan, jobs=[replace(plan.jobs[0], target=output)]), "frames"
    process(plan, work, describe, "decode", running)
    if show:
        pictures.preview(job.target for job in plan.jobs)


def _beside_what_exists(plan: Plan, asked: bool) -> tuple[Plan, dict[Path, Path]]:
    """The plan with photo.decoded.png for photo.png where that exists, as beside the original; usual names by new ones.

    If that is not `asked` for, as an output was named or may be replaced, the plan as it is.
    Where both exist the job stays as it is, and is refused as any that would replace a file.
    """
    usual: dict[Path, Path] = {}
    if not asked:
        return plan, usual
    wanted = {job.target for job in plan.jobs}
    jobs: list[Job] = []
    for job in plan.jobs:
        other = job.target.with_stem(f"{job.target.stem}.decoded")
        if job.source != job.target and other not in wanted and _is_taken(job.target) and not _is_taken(other):
            usual[other] = job.target
            job = replace(job, target=other)
        jobs.append(job)
    return replace(plan, jobs=jobs), usual


def _why_named(target: Path, usual: dict[Path, Path]) -> str:
    """Why a result has not the usual name, if so; a folder of frames is never replaced."""
    if target not in usual:
        return ""
    return f" ({usual[target]} exists" + "; --force replaces it" * (not usual[target].is_dir()) + ")"


def _is_taken(target: Path) -> bool:
    """Whether a result of that name would replace something; an empty folder takes frames."""
    from vqcli.errors import OutputError, UsageError
    from vqcli.files import refuse_existing

    try:
        if target.is_dir():
            return any(target.iterdir())
        refuse_existing(target, force=False)
    except UsageError:
        return True
    except (OSError, OutputError):  # writing will say what is wrong
        return False
    return False


def _is_of_frames(jobs: list[Job], output: Path) -> bool:
    """Whether there is one clip, and an empty folder for it."""
    if len(jobs) != 1 or jobs[0].in_folder or not output.is_dir() or any(output.iterdir()):
        return False
    return jobs[0].target.suffix == media.of("video").suffix()


class _Decoder:
    """Files to results; a folder of files loads each model once."""

    def __init__(self, part: PartOptions, model: str | None, allowed: Allowed, device: str) -> None:
        from vqcli.container.bounds import Limits

        self._limits = Limits(allowed.max_pixels, allowed.max_seconds)
        self._times: dict[str, Any] = {
            "start_s": seconds("--start", part.start_s),
            "end_s": seconds("--end", part.end_s),
        }
        self._part, self._model, self._device = part, model, device
        self._models: dict[bytes, Any] = {}  # by digest

    def read(self, source: Path) -> Vqz:
        from vqcli.container import vqz

        # what lies outside of a part may be damaged
        lenient = self._part.salvage or any(at is not None for at in self._times.values())
        if source == STREAM:
            return vqz.read(console.data_in(), lenient, self._limits)
        if source.suffix in FOREIGN:
            return self._foreign(source)
        return vqz.read(source, lenient, self._limits)

    def stream(self, source: Path, output: Path | None, format: str | None, named: dict[str, Any], force: bool) -> None:
        """One file from or to a stream."""
        file = self.read(source)
        if output in (None, STREAM):
            with console.data_out() as stdout:
                self.decode(file, str(source), stdout, format=format or media.of(file.header.modality).suffix())
        else:
            self.decode(file, str(source), output, force=force, **named)

    def _foreign(self, source: Path) -> Vqz:
        """The codes of another program's file as those of the model that is named, or that has its name here."""
        from vqcli.codec import exchange
        from vqcli.container import vqz
        from vqcli.zoo import loading, store

        array, facts = exchange.read(source)
        assert facts is not None
        model = loading.load(store.find(self._model) if self._model else exchange.model_of(facts), self._device)
        file = vqz.unpack(vqz.pack(*exchange.file_of(model, exchange.restored(array, facts, model), "packed")))
        self._models[file.header.digest] = model
        return file

    def decode(self, file: Vqz, label: str, target: Any, **options: Any) -> tuple[Decoded, float]:
        """What became of a file, after it is written, and the seconds that took."""
        from vqcli import api

        header, part = file.header, self._part
        if header.digest not in self._models:
            self._models[header.digest] = api.load_for(header, self._model, self._device)
        most = {"max_pixels": self._limits.pixels, "max_seconds": self._limits.seconds}
        how: dict[str, Any] = {**most, "levels": part.levels, "salvage": part.salvage, "seed": part.seed, **self._times}
        begun = time.perf_counter()
        with console.progress(f"decoding {label}") as progress, spelled(PartOptions):
            result = api.decode(file, self._models[header.digest], progress=progress, **how)
            notes = result.save(target, **options)
        medium = media.of(header.modality)
        written = options.get("format") or Path(str(target)).suffix
        for note in [*(notes or ()), *medium.remarks(result, written, part.salvage)]:
            console.say(f"{label}: {note}")
        if result.fewer.any():
            console.warn(f"{label}: {result.fewer.mean():.1%} with fewer levels than the rest: the others are damaged")
        if result.lost.any():
            console.warn(f"{label}: {result.lost.mean():.1%} of the {medium.LOST} in the result")
        return result, time.perf_counter() - begun


def seconds(option: str, text: str | None) -> float | None:
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
