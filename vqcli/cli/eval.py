"""vq eval"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vqcli.cli import ui
from vqcli.cli.options import AsJson, Coder, Device, Force


def evaluate(
    inputs: Annotated[list[Path], typer.Argument(help="Pictures or folders of pictures.", show_default=False)],
    model: Annotated[str, typer.Option(help="Name or folder of a model.")] = "photo",
    qualities: Annotated[
        str | None,
        typer.Option(help="Qualities to measure, with commas.", show_default="six over the scale"),
    ] = None,
    beside: Annotated[
        str, typer.Option(help="Usual codecs at equal bytes, with commas; empty for none.")
    ] = "JPEG,WebP,AVIF",
    coder: Coder = "auto",
    plot: Annotated[
        Path | None, typer.Option(help="Draw rate and distortion to this PNG, SVG or PDF file.", show_default=False)
    ] = None,
    all_pictures: Annotated[bool, typer.Option("--all", help="A row for each picture, not only the means.")] = False,
    force: Force = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure a model on pictures: bits per pixel of whole files, PSNR, MS-SSIM; usual codecs at equal bytes beside it.

    \b
    vq eval pictures/
    vq eval pictures/ --model tokens --beside JPEG,WebP
    vq eval pictures/ --qualities 2,5,8 --plot rd.png --json
    """
    from dataclasses import asdict

    import numpy as np

    from vqcli import batch, evaluation, metrics, plots, tiles, zoo
    from vqcli.errors import UsageError
    from vqcli.files import refuse_existing
    from vqcli.media import image

    if plot:
        plots.require_plots()
        refuse_existing(plot, force)
    loaded = zoo.load(model, device)
    paths = [job.source for job in batch.plan(inputs, Path(), image.SUFFIXES, "")] if inputs else []
    codecs = [name for name in beside.split(",") if name]
    try:
        given: list[float | None] = [float(part) for part in (qualities or "").split(",") if part]
    except ValueError:
        raise UsageError(f"--qualities {qualities}: not numbers with commas between") from None

    sizes = loaded.net.quantizer.codebook_sizes
    counts = np.zeros((len(sizes), max(sizes)), np.int64)

    def look(codes: np.ndarray) -> None:
        for group, row in zip(codes, counts, strict=True):
            row += np.bincount(group.ravel(), minlength=len(row))

    with ui.progress(f"measuring {ui.plural(len(paths), 'picture')}") as shown:
        measured = evaluation.evaluate(
            loaded,
            [path.name for path in paths],
            lambda index: image.read(paths[index]).pixels,
            given or evaluation.spread(loaded),
            beside=codecs,
            coder=coder,
            report=shown,
            complain=ui.complain,
            look=look,
        )
        points = list(measured)
    if not points:
        raise UsageError("none of the pictures could be read")
    means = evaluation.means(points)
    if plot:
        title = f"{loaded.info.name}: mean of {ui.plural(len({p.picture for p in points}), 'picture')}"
        plots.rate_distortion_plot(means, plot, title, force=force)
        ui.say(f"drawn to {plot}")
    shown_points = points if all_pictures else means
    if as_json:
        ui.emit_json([asdict(point) for point in shown_points])
        return
    ui.emit_table(
        ("quality", "codec", "pictures", "bytes", "bits/pixel", "PSNR dB", "MS-SSIM"),
        [
            (
                f"{point.quality:g}" if point.quality else "–",
                point.codec,
                point.picture,
                f"{point.size_bytes:,}",
                f"{point.bits_per_pixel:.3f}",
                f"{point.psnr_db:.2f}",
                f"{point.ms_ssim:.4f}",
            )
            for point in shown_points
        ],
    )
    for codec, (psnr_db, ms_ssim) in evaluation.margins(means).items():
        ui.say(f"{means[0].codec} above {codec}: {_span(psnr_db, '.2f')} dB, {_span(ms_ssim, '.4f')} MS-SSIM")
    if not tiles.qualities(loaded):
        usage = [metrics.usage_and_perplexity(row[:K]) for row, K in zip(counts, sizes, strict=True)]
        used, perplexity = np.mean(usage, axis=0)
        ui.say(f"codes used: {used:.1%} of each codebook, perplexity {perplexity:.0f} of {max(sizes)}")


def _span(values: list[float], digits: str) -> str:
    return f"{min(values):+{digits}} to {max(values):+{digits}}"
