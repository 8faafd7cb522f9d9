"""vq encode"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import console
from vqcli.cli.options import STREAM, AsJson, Coder, Device, Force, Output

if TYPE_CHECKING:
    from vqcli.api import Encoded
    from vqcli.batch import Job


def encode(
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Pictures, recordings, clips, or folders of them; - is stdin.", show_default=False),
    ],
    output: Output = None,
    model: Annotated[
        str | None, typer.Option(help="Name or folder of a model.", show_default="photo, or speech for sound")
    ] = None,
    quality: Annotated[
        float | None,
        typer.Option(
            "--quality", "-q", help="Of pictures and clips: 1 (small) to 10 (good), tenths too.", show_default="5"
        ),
    ] = None,
    bpp: Annotated[
        float | None, typer.Option(help="Bits per pixel instead: the best quality within.", min=0.0, show_default=False)
    ] = None,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Of pictures: return every pixel. --quality then changes bytes only.")
    ] = False,
    levels: Annotated[
        int | None, typer.Option(help="Keep the first residual levels only.", min=1, show_default=False)
    ] = None,
    mono: Annotated[
        bool | None,
        typer.Option(
            "--mono/--channels", help="Mix all channels of a recording, or code each alone.", show_default="--mono"
        ),
    ] = None,
    frames: Annotated[
        bool, typer.Option("--frames", help="Each folder is one clip, its pictures are the frames.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(help="Frames per second of folders of frames, and of episodes.", show_default="25, episodes 10"),
    ] = None,
    coder: Coder = "auto",
    background: Annotated[
        str | None, typer.Option(help="What lies behind transparent pixels: a name or #rrggbb.", show_default="white")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="One part of many machines: 2/8, or auto (torchrun, Slurm, MPI).", show_default=False),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Decode the written file; report the PSNR, or that a picture is equal.")
    ] = False,
    force: Force = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Encode pictures, recordings and clips into .vqz files of codes.

    \b
    vq encode photo.png
    vq encode talk.wav -o talk.vqz
    vq encode photo.png -o small.vqz --bpp 0.3
    vq encode pictures/ -o codes/ --quality 7
    vq encode photo.png --lossless --verify
    vq encode talk.wav --levels 1 --channels
    vq encode photo.png --model tokens
    vq encode clip.mp4
    vq encode holiday/ --frames --rate 30 -o holiday.vqz
    vq encode pictures/ -o codes/ --shard 2/8
    cat photo.png | vq encode - > photo.vqz
    """
    from vqcli import api, batch
    from vqcli.errors import UsageError
    from vqcli.files import refuse_existing
    from vqcli.media import audio, image, video
    from vqcli.zoo import loading, store

    models: dict[str, Any] = {}  # by name: a folder of files loads each model once
    chosen = None if model is None else loading.load(model, device)
    options: dict[str, Any] = {
        "quality": quality, "bits_per_pixel": bpp, "lossless": lossless, "levels": levels, "coder": coder,
        "background": background, "mono": mono, "frames_per_s": rate,
    }  # fmt: skip

    def encoded(source: Path) -> tuple[Encoded, float]:
        """What became of a file, and the seconds it took."""
        if model is None and (source.is_file() or source.is_dir()):  # what is neither can be looked at only once
            default = store.DEFAULTS[api.modality_of(source)]
            if default not in models:
                models[default] = loading.load(default, device)
            loaded = models[default]
        else:
            loaded = chosen
        begun = time.perf_counter()
        with console.progress(f"encoding {source.name}") as report:
            opened: Any = sys.stdin.buffer if source == STREAM else source
            return api.encode(opened, loaded, report=report, device=device, **options), time.perf_counter() - begun

    if STREAM in inputs or output == STREAM:
        if len(inputs) > 1 or as_json:
            raise UsageError("a stream holds one file, and no JSON", "name an output file")
        result, took_s = encoded(inputs[0])
        if output in (None, STREAM):
            sys.stdout.buffer.write(result.data)
            sys.stdout.buffer.flush()
        else:
            result.save(output, force=force)
        console.say(_line(str(inputs[0]), str(output or "-"), result, took_s))
        return

    def work(job: Job) -> tuple[Encoded, float]:
        if not job.in_folder and job.source != job.target:  # reading says what is wrong with such a file
            refuse_existing(job.target, force)  # before the work, not after it
        result, took_s = encoded(job.source)
        result.save(job.target, force=force)
        return result, took_s

    rows: list[dict[str, Any]] = []
    failed = skipped = 0
    shown = image.SUFFIXES + (video.SUFFIXES if video.available() else ())  # others would fail one by one
    suffixes = {"image": shown, "audio": audio.SUFFIXES}
    taken = suffixes[chosen.info.modality] if chosen else shown + audio.SUFFIXES
    jobs = _clips(inputs, output) if frames else batch.plan(inputs, output, taken, ".vqz")
    if shard is not None:
        everything, jobs = len(jobs), batch.shard(jobs, shard)
        console.say(f"part {shard}: {len(jobs)} of {console.plural(everything, 'file')}")
    for outcome in batch.run(jobs, work, force=force):
        if outcome.error:
            failed += 1
            console.complain(outcome.error)
        elif outcome.skipped:
            skipped += 1
        elif outcome.result:
            (result, took_s), job = outcome.result, outcome.job
            console.say(_line(str(job.source), str(job.target), result, took_s, _source_bytes(job)))
            row = _facts(job, result, took_s)
            if verify:
                loaded = chosen or models.get(store.DEFAULTS[result.header.modality])
                row |= _verify(job, result, loaded, rate, background)
            rows.append(row)
    if skipped:
        console.say(f"{console.plural(skipped, 'file')} skipped, already there (--force encodes again)")
    if as_json:
        console.emit_json(rows)
    if failed:
        console.say(f"vq: {console.plural(failed, 'file')} could not be encoded")
        raise typer.Exit(3)


def _clips(inputs: list[Path], output: Path | None) -> list[Job]:
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


def _source_bytes(job: Job) -> int:
    """Of a file, or of all files in a folder."""
    if not job.source.is_dir():
        return job.source.stat().st_size
    return sum(path.stat().st_size for path in job.source.iterdir() if path.is_file())


def _line(source: str, target: str, result: Encoded, took_s: float, source_bytes: int | None = None) -> str:
    from vqcli.api import EncodedAudio, EncodedVideo

    before = f" {console.size(source_bytes)}" if source_bytes else ""
    quality = f", quality {result.header.quality / 10:g}" if result.header.quality else ""
    if isinstance(result, EncodedAudio):
        rate = f"{result.kbit_per_s:.2f} kbit/s, {console.speed(result.audio.length_s, took_s)}"
    elif isinstance(result, EncodedVideo):
        each = f"{len(result.data) / result.frames:.0f} bytes a frame"
        rate = (
            f"{console.plural(result.frames, 'frame')}, {result.length_s:.2f} s, {result.kbit_per_s:.2f} kbit/s, {each}"
        )
        rate += quality
    else:
        rate = f"{result.bits_per_pixel:.3f} bpp{quality}"
        if result.lossless:  # what reading changed does not come back
            rate += ", lossless as read" if result.notes else ", lossless"
    notes = [*result.notes]
    if source_bytes and source_bytes < len(result.data):
        notes.append("the original was smaller")
    said = f" ({'; '.join(notes)})" if notes else ""
    return f"{source}{before} -> {target} {console.size(len(result.data))}, {rate}{said}"


def _facts(job: Job, result: Encoded, took_s: float) -> dict[str, Any]:
    from vqcli.api import EncodedAudio, EncodedVideo
    from vqcli.entropy import coders

    header = result.header
    rate: dict[str, Any]
    if isinstance(result, EncodedAudio):
        rate = {"kbit_per_s": result.kbit_per_s, "length_s": result.audio.length_s, "took_s": took_s}
    elif isinstance(result, EncodedVideo):
        rate = {"frames": result.frames, "length_s": result.length_s, "kbit_per_s": result.kbit_per_s}
        rate |= {"bits_per_pixel": result.bits_per_pixel, "took_s": took_s}
    else:
        rate = {"bits_per_pixel": result.bits_per_pixel, "lossless": result.lossless}
    return {
        "source": str(job.source),
        "target": str(job.target),
        "source_bytes": _source_bytes(job),
        "size_bytes": len(result.data),
        **rate,
        "quality": header.quality / 10 or None,
        "coder": coders.name_of(header.coder),
        "model": header.model,
        "notes": list(result.notes),
    }


def _verify(job: Job, result: Encoded, model: Any, rate: float | None, background: str | None) -> dict[str, Any]:
    """Decode what was written, and say how it compares."""
    import numpy as np

    from vqcli import api
    from vqcli.codec import video as codec_video
    from vqcli.errors import VqError
    from vqcli.evaluation import metrics

    decoded = api.decode(job.target, model)
    if isinstance(decoded, api.DecodedAudio):
        seconds = sum(block.shape[1] for block in decoded.blocks()) / decoded.rate_hz
        console.say(f"  verified: decodes to {seconds:.2f} s")
        return {"decoded_s": seconds}
    if isinstance(decoded, api.DecodedVideo):
        with codec_video.opened(job.source, frames_per_s=rate, background=background or "white") as clip:
            errors = [metrics.mse(a, b) for a, b in zip(clip.frames, decoded.frames(), strict=True)]
        psnr_db = 10 * math.log10(255**2 / max(float(np.mean(errors)), 1e-10))
        console.say(f"  verified: PSNR {psnr_db:.2f} dB over {console.plural(len(errors), 'frame')}")
        return {"psnr_db": psnr_db}
    assert isinstance(result, api.EncodedImage)
    if result.lossless:
        if not (decoded.lossless and np.array_equal(result.pixels, decoded.pixels)):
            raise VqError(f"{job.target} does not return the pixels", "this is a defect of vq: please report it")
        console.say("  verified: every pixel is equal")
        return {"equal": True}
    psnr_db = metrics.psnr(result.pixels, decoded.pixels)
    console.say(f"  verified: PSNR {psnr_db:.2f} dB")
    return {"psnr_db": psnr_db}
