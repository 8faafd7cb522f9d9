"""vq encode"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import ui
from vqcli.cli.options import STREAM, AsJson, Coder, Device, Force, Output

if TYPE_CHECKING:
    from vqcli.batch import Job
    from vqcli.codec import Encoded


def encode(
    inputs: Annotated[
        list[Path], typer.Argument(help="Pictures or folders of pictures; - is stdin.", show_default=False)
    ],
    output: Output = None,
    model: Annotated[str, typer.Option(help="Name or folder of a model: photo, tokens, ...")] = "photo",
    quality: Annotated[
        float | None, typer.Option("--quality", "-q", help="1 (small) to 10 (good), tenths allowed.", show_default="5")
    ] = None,
    bpp: Annotated[
        float | None, typer.Option(help="Bits per pixel instead: the best quality within.", min=0.0, show_default=False)
    ] = None,
    levels: Annotated[
        int | None, typer.Option(help="Keep the first residual levels only.", min=1, show_default=False)
    ] = None,
    coder: Coder = "auto",
    background: Annotated[str, typer.Option(help="What lies behind transparent pixels: a name or #rrggbb.")] = "white",
    shard: Annotated[
        str | None,
        typer.Option(help="One part of many machines: 2/8, or auto (torchrun, Slurm, MPI).", show_default=False),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Decode the written file and report its PSNR.")] = False,
    force: Force = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Encode pictures into .vqz files of codes.

    \b
    vq encode photo.png
    vq encode photo.png -o small.vqz --bpp 0.3
    vq encode pictures/ -o codes/ --quality 7
    vq encode photo.png --model tokens
    vq encode pictures/ -o codes/ --shard 2/8
    cat photo.png | vq encode - > photo.vqz
    """
    from vqcli import batch, codec, zoo
    from vqcli.errors import UsageError
    from vqcli.files import refuse_existing
    from vqcli.media.image import SUFFIXES

    loaded = zoo.load(model, device)
    options: dict[str, Any] = {
        "quality": quality, "bits_per_pixel": bpp, "levels": levels, "coder": coder, "background": background,
    }  # fmt: skip

    def encoded(source: Any, label: str) -> Encoded:
        with ui.progress(f"encoding {label}") as report:
            return codec.encode(source, loaded, report=report, **options)

    if STREAM in inputs or output == STREAM:
        if len(inputs) > 1 or as_json:
            raise UsageError("a stream holds one file, and no JSON", "name an output file")
        result = encoded(sys.stdin.buffer if inputs[0] == STREAM else inputs[0], str(inputs[0]))
        if output in (None, STREAM):
            sys.stdout.buffer.write(result.data)
            sys.stdout.buffer.flush()
        else:
            result.save(output, force=force)
        ui.say(_line(str(inputs[0]), str(output or "-"), result))
        return

    def work(job: Job) -> Encoded:
        if not job.in_folder and job.source != job.target:  # reading says what is wrong with such a file
            refuse_existing(job.target, force)  # before the work, not after it
        result = encoded(job.source, job.source.name)
        result.save(job.target, force=force)
        return result

    rows: list[dict[str, Any]] = []
    failed = skipped = 0
    jobs = batch.plan(inputs, output, SUFFIXES, ".vqz")
    if shard is not None:
        everything, jobs = len(jobs), batch.shard(jobs, shard)
        ui.say(f"part {shard}: {len(jobs)} of {ui.plural(everything, 'file')}")
    for outcome in batch.run(jobs, work, force=force):
        if outcome.error:
            failed += 1
            ui.complain(outcome.error)
        elif outcome.skipped:
            skipped += 1
        elif outcome.result:
            result, job = outcome.result, outcome.job
            ui.say(_line(str(job.source), str(job.target), result, job.source.stat().st_size))
            row = _facts(job, result)
            if verify:
                row["psnr_db"] = _verify(job.target, result, loaded)
                ui.say(f"  verified: PSNR {row['psnr_db']:.2f} dB")
            rows.append(row)
    if skipped:
        ui.say(f"{ui.plural(skipped, 'file')} skipped, already there (--force encodes again)")
    if as_json:
        ui.emit_json(rows)
    if failed:
        ui.say(f"vq: {ui.plural(failed, 'file')} could not be encoded")
        raise typer.Exit(3)


def _line(source: str, target: str, result: Encoded, source_bytes: int | None = None) -> str:
    before = f" {ui.size(source_bytes)}" if source_bytes else ""
    quality = f", quality {result.header.quality / 10:g}" if result.header.quality else ""
    notes = [*result.notes]
    if source_bytes and source_bytes < len(result.data):
        notes.append("the original was smaller")
    said = f" ({'; '.join(notes)})" if notes else ""
    return f"{source}{before} -> {target} {ui.size(len(result.data))}, {result.bits_per_pixel:.3f} bpp{quality}{said}"


def _facts(job: Job, result: Encoded) -> dict[str, Any]:
    from vqcli import coders

    header = result.header
    return {
        "source": str(job.source),
        "target": str(job.target),
        "source_bytes": job.source.stat().st_size,
        "size_bytes": len(result.data),
        "bits_per_pixel": result.bits_per_pixel,
        "quality": header.quality / 10 or None,
        "coder": coders.name_of(header.coder),
        "model": header.model,
        "notes": list(result.notes),
    }


def _verify(path: Path, result: Encoded, model: Any) -> float:
    from vqcli import codec, metrics

    return metrics.psnr(result.pixels, codec.decode(path, model).pixels)
