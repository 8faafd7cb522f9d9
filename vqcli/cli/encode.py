"""vq encode"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import console, media, reducing
from vqcli.cli.files import UNREAD_IMAGES, UNREAD_SOUNDS, process, refuse_foreign, size_of
from vqcli.cli.media import audio, image, video
from vqcli.cli.options import RUNNING, STREAM, Allowed, Coder, Model, Output, Running, command, spelled

if TYPE_CHECKING:
    from vqcli.api import Encoded
    from vqcli.batch import Job, Plan
    from vqcli.codec.levels import Reduced
    from vqcli.zoo.loading import LoadedModel


@dataclass(frozen=True)
class CodeOptions:
    """Of codes, whatever they stand for."""

    levels: Annotated[
        int | None, typer.Option(help="Keep the first residual levels only.", min=1, show_default=False)
    ] = None
    size_bytes: Annotated[
        int | None,
        typer.Option("--bytes", help="The best quality, or most levels, within this size.", min=1, show_default=False),
    ] = None
    coder: Coder = "auto"


@dataclass(frozen=True)
class FileOptions:
    """Of many files."""

    frames: Annotated[bool, typer.Option("--frames", help="Each folder is one clip, its images are the frames.")] = (
        False
    )
    shard: Annotated[
        str | None,
        typer.Option(help="One part of many machines: 2/8, or auto (torchrun, Slurm, MPI).", show_default=False),
    ] = None
    verify: Annotated[
        bool, typer.Option("--verify", help="Decode the written file: codes are compared, pixels too if without loss.")
    ] = False


CHOICES = (image.EncodeOptions, audio.EncodeOptions, video.EncodeOptions, CodeOptions)
Inputs = Annotated[
    list[Path],
    typer.Argument(
        help="Images, recordings, clips, or folders of them, or .vqz files; - is stdin.", show_default=False
    ),
]


@command
def encode(
    inputs: Inputs,
    output: Output = None,
    model: Model = None,
    images: image.EncodeOptions = image.EncodeOptions(),
    sounds: audio.EncodeOptions = audio.EncodeOptions(),
    clips: video.EncodeOptions = video.EncodeOptions(),
    codes: CodeOptions = CodeOptions(),
    files: FileOptions = FileOptions(),
    allowed: Allowed = Allowed(),
    running: Running = RUNNING,
) -> None:
    """Encode images, recordings and clips into .vqz files of codes; of a .vqz file, drop levels.

    \b
    vq encode photo.png
    vq encode talk.wav -o talk.vqz
    vq encode photo.png -o small.vqz --bpp 0.3
    vq encode images/ -o codes/ --quality 7
    vq encode photo.png --lossless --verify
    vq encode photo.png --model photo-2 --tune psnr --effort 3
    vq encode talk.wav --levels 1 --channels
    vq encode talk.wav --kbps 1.5
    vq encode talk.vqz --levels 1 -o words.vqz
    vq encode photo.png --model tokens
    vq encode clip.mp4
    vq encode holiday/ --frames --fps 30 -o holiday.vqz
    vq encode images/ -o codes/ --shard 2/8
    vq encode stranger.png --max-pixels 20000000 --max-seconds 600
    cat photo.png | vq encode - > photo.vqz
    """
    from vqcli.codec.levels import Reduced
    from vqcli.errors import UsageError
    from vqcli.files import refuse_existing

    refuse_foreign(output)
    given = {"image": images, "audio": sounds, "video": clips}
    # whether a medium has what was set is checked where it meets the file
    options: dict[str, Any] = {
        name: value for each in (images, sounds, clips, codes) for name, value in asdict(each).items()
    }
    encoder = _Encoder(_Models(model, running.device), options, allowed)
    if STREAM in inputs or output == STREAM:
        if len(inputs) > 1 or running.as_json:
            raise UsageError("a stream holds one file, and no JSON", "name an output file")
        _stream(encoder, inputs[0], output, running)
        return

    def work(job: Job) -> tuple[Encoded | Reduced, float]:
        if not job.in_folder and job.source != job.target:  # reading says what is wrong with such a file
            refuse_existing(job.target, running.force)  # before the work, not after it
        result, took_s = encoder.encode(job.source)
        if files.verify and isinstance(result, Reduced):
            raise UsageError(f"--verify decodes what was encoded, and {job.source} was so before", "leave --verify out")
        result.save(job.target, force=running.force)
        return result, took_s

    def describe(job: Job, done: tuple[Encoded | Reduced, float]) -> tuple[str, dict[str, Any]]:
        result, took_s = done
        if isinstance(result, Reduced):
            return reducing.line(job.source, job.target, result), reducing.facts(job.source, job.target, result)
        before = size_of(job.source)
        line, facts = _line(str(job.source), str(job.target), result, took_s, before), _facts(job, result, took_s)
        if files.verify:
            from vqcli import api

            with console.progress(f"verifying {job.target.name}") as progress:
                decoded = api.decode(job.target, encoder.models.of(job.source), progress=progress)
                modality = result.header.modality
                said, more = media.of(modality).verify(result, decoded, job.source, given[modality])
            return f"{line}\n  {said}", facts | more
        return line, facts

    process(_plan(inputs, output, files, encoder), work, describe, "encode", running)


def _plan(inputs: list[Path], output: Path | None, files: FileOptions, encoder: _Encoder) -> Plan:
    """What is to be encoded, or the part of it that this machine does."""
    from vqcli import batch

    if files.frames:
        plan = batch.Plan(_folders(inputs, output), [])
    else:
        plan = batch.plan(inputs, output, encoder.suffixes, ".vqz", encoder.models.unread)
    if files.shard is None:
        return plan
    jobs = batch.shard(plan.jobs, files.shard)
    console.say(f"part {files.shard}: {len(jobs)} of {console.plural(len(plan.jobs), 'file')}")
    return replace(plan, jobs=jobs)


@dataclass(frozen=True)
class _Encoder:
    """Files to results, by the models and options of the call."""

    models: _Models
    options: dict[str, Any]
    allowed: Allowed

    def encode(self, source: Path) -> tuple[Encoded | Reduced, float]:
        """What became of a file, and the seconds it took."""
        from vqcli import api

        begun = time.perf_counter()
        if reducing.asked(chosen := self._set()) and reducing.is_coded(source):
            with spelled(*CHOICES):
                return reducing.reduced(source, chosen, self.models.name, self.allowed), time.perf_counter() - begun
        loaded = self.models.of(source)
        begun = time.perf_counter()
        opened: Any = console.data_in() if source == STREAM else source
        with console.progress(f"encoding {source.name}") as progress, spelled(*CHOICES):
            how: dict[str, Any] = {"device": self.models.device, **asdict(self.allowed), **self.options}
            result = api.encode(opened, loaded, progress=progress, **how)
            return result, time.perf_counter() - begun

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of files in folders that it takes: coded ones too where levels are to be dropped."""
        return (*self.models.suffixes, *reducing.SUFFIXES * reducing.asked(self._set()))

    def _set(self) -> dict[str, Any]:
        """The options that are not as they are without being named."""
        usual = {name: value for each in CHOICES for name, value in asdict(each()).items()}
        return {name: value for name, value in self.options.items() if value != usual[name]}


def _stream(encoder: _Encoder, source: Path, output: Path | None, running: Running) -> None:
    """One file from or to a stream."""
    from vqcli.codec.levels import Reduced

    result, took_s = encoder.encode(source)
    if output in (None, STREAM):
        with console.data_out() as stdout:
            stdout.write(result.data)
    else:
        result.save(output, force=running.force)
    if isinstance(result, Reduced):
        console.say(reducing.line(source, output or STREAM, result))
    else:
        console.say(_line(str(source), str(output or "-"), result, took_s))


class _Models:
    """The model of each file: the one that was named, or the default of its medium, loaded once."""

    def __init__(self, name: str | None, device: str) -> None:
        from vqcli.zoo import loading

        self.device, self.name = device, name
        self._named = None if name is None else loading.load(name, device)
        self._loaded: dict[str, LoadedModel] = {}

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of files in folders that it can encode."""
        from vqcli.media import audio, image, video

        shown = image.SUFFIXES + (video.SUFFIXES if video.available() else ())  # others would fail one by one
        of_modality = {"image": shown, "audio": audio.SUFFIXES}
        return of_modality[self._named.info.modality] if self._named else shown + audio.SUFFIXES

    @property
    def unread(self) -> tuple[str, ...]:
        """Of files in folders that are of its media, and that it cannot read."""
        from vqcli.media import video

        clips = () if video.available() else video.SUFFIXES
        of_modality = {"image": (*UNREAD_IMAGES, *clips), "audio": UNREAD_SOUNDS}
        return of_modality[self._named.info.modality] if self._named else (*UNREAD_IMAGES, *clips, *UNREAD_SOUNDS)

    def of(self, source: Path) -> LoadedModel | None:
        from vqcli import api
        from vqcli.zoo import loading, store

        # what is neither file nor folder can be looked at only once
        if self._named is not None or not (source.is_file() or source.is_dir()):
            return self._named
        default = store.DEFAULTS[api.modality_of(source)]
        if default not in self._loaded:
            self._loaded[default] = loading.load(default, self.device)
        return self._loaded[default]


def _folders(inputs: list[Path], output: Path | None) -> list[Job]:
    """A job for each folder, which is a clip."""
    from vqcli.batch import Job
    from vqcli.errors import UsageError

    if files := [path for path in inputs if not path.is_dir()]:
        raise UsageError(f"{files[0]} is no folder of frames", "leave --frames out")
    into = output if output is not None and (len(inputs) > 1 or output.is_dir()) else None
    jobs = []
    for folder in inputs:
        folder = folder if folder.name else folder.resolve()  # as . has none
        name = folder.name
        target = into / f"{name}.vqz" if into else output or folder.with_name(f"{name}.vqz")
        jobs.append(Job(folder, target, False, name))
    if len({job.target for job in jobs}) < len(jobs):
        raise UsageError("two of these folders would become one file", "rename one of them")
    return jobs


def _line(source: str, target: str, result: Encoded, took_s: float, source_bytes: int | None = None) -> str:
    before = f" {console.size(source_bytes)}" if source_bytes else ""
    notes = [*result.notes]
    if source_bytes and source_bytes < len(result.data):
        notes.append("the original was smaller")
    said = f" ({'; '.join(notes)})" if notes else ""
    rate = media.of(result.header.modality).line(result, took_s)
    return f"{source}{before} -> {target} {console.size(len(result.data))}, {rate}{said}"


def _facts(job: Job, result: Encoded, took_s: float) -> dict[str, Any]:
    from vqcli.entropy import coders

    header = result.header
    return {
        "source": str(job.source),
        "target": str(job.target),
        "source_bytes": size_of(job.source),
        "size_bytes": len(result.data),
        **media.of(header.modality).facts(result, took_s),
        **media.quality_facts(header),
        "coder": coders.name_of(header.coder),
        "model": header.model,
        "notes": list(result.notes),
    }
