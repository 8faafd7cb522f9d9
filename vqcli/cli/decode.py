"""vq decode"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import ui
from vqcli.cli.options import STREAM, AsJson, Device, Force, Output

if TYPE_CHECKING:
    from vqcli.batch import Job
    from vqcli.codec import Decoded


def decode(
    inputs: Annotated[
        list[Path], typer.Argument(help=".vqz files or folders of them; - is stdin.", show_default=False)
    ],
    output: Output = None,
    format: Annotated[
        str, typer.Option(help="Of results that have no name of their own: png, jpg, webp, avif, ...")
    ] = "png",
    levels: Annotated[
        int | None, typer.Option(help="Decode the first residual levels only.", min=1, show_default=False)
    ] = None,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Decode what is whole in a damaged file; the rest is grey.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Where the file's model lies, if not on the search path.", show_default=False)
    ] = None,
    force: Force = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Decode .vqz files into pictures; the suffix of the output chooses the format.

    \b
    vq decode photo.vqz
    vq decode photo.vqz -o photo.webp
    vq decode codes/ -o pictures/ --format jpg
    vq decode damaged.vqz --salvage
    cat photo.vqz | vq decode - > photo.png
    """
    from vqcli import batch, codec, vqz
    from vqcli.errors import UsageError
    from vqcli.files import refuse_existing
    from vqcli.media import image

    models: dict[bytes, Any] = {}  # by digest: a folder of files loads each model once

    def decoded(file: vqz.Vqz, label: str) -> Decoded:
        digest = file.header.digest
        if digest not in models:
            models[digest] = codec.load_for(file.header, model, device)
        with ui.progress(f"decoding {label}") as report:
            result = codec.decode(file, models[digest], levels=levels, report=report)
        if result.lost.any():
            ui.say(f"{label}: {result.lost.mean():.1%} of the picture is lost, and grey in the result")
        return result

    if STREAM in inputs or output == STREAM:
        if len(inputs) > 1 or as_json:
            raise UsageError("a stream holds one file, and no JSON", "name an output file")
        source = inputs[0]
        file = vqz.unpack(sys.stdin.buffer.read(), salvage=salvage) if source == STREAM else vqz.read(source, salvage)
        result = decoded(file, str(source))
        if output in (None, STREAM):
            image.write(sys.stdout.buffer, result.pixels, format=format)
            sys.stdout.buffer.flush()
        elif output:
            result.save(output, force=force)
        return

    def work(job: Job) -> Decoded:
        if not job.in_folder and job.source != job.target:  # reading says what is wrong with such a file
            refuse_existing(job.target, force)  # before the work, not after it
        result = decoded(vqz.read(job.source, salvage), str(job.source))
        result.save(job.target, force=force)
        return result

    rows: list[dict[str, Any]] = []
    failed = skipped = 0
    for outcome in batch.run(batch.plan(inputs, output, (".vqz",), f".{format.lstrip('.')}"), work, force=force):
        if outcome.error:
            failed += 1
            ui.complain(outcome.error)
        elif outcome.skipped:
            skipped += 1
        elif outcome.result:
            job, (H, W, channels) = outcome.job, outcome.result.pixels.shape
            ui.say(f"{job.source} -> {job.target} {W} x {H}{' grey' * (channels == 1)}")
            rows.append(
                {"source": str(job.source), "target": str(job.target), "width": W, "height": H, "channels": channels}
            )
    if skipped:
        ui.say(f"{ui.plural(skipped, 'file')} skipped, already there (--force decodes again)")
    if as_json:
        ui.emit_json(rows)
    if failed:
        ui.say(f"vq: {ui.plural(failed, 'file')} could not be decoded")
        raise typer.Exit(3)
