"""vq eval: pictures, unless the first word names something else to measure (a file eval_*.py each)"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vqcli.cli import ui
from vqcli.cli.eval_codes import codes
from vqcli.cli.eval_samples import samples
from vqcli.cli.options import AsJson, Coder, Device, Force


class CommandOrPictures(TyperGroup):
    """A group that is itself the command for all but the names of its commands."""

    allow_interspersed_args = True  # options may follow pictures, as in every command

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        if args and args[0] in self.commands:
            command, rest = self.commands[args[0]], args[1:]
            return command.make_context(f"{info_name} {args[0]}", rest, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


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

    A first word that is one of the commands below measures something else, with options of its own (vq eval samples
    --help); a folder of that name is samples/ or ./samples.

    \b
    vq eval samples animals/ --model tokens    how often drawn pictures show their class
    vq eval codes pictures/ --model tokens     bits for each code, under every coder
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
    given = numbers(qualities)

    sizes = loaded.net.quantizer.codebook_sizes
    counts = metrics.CodeCounts(sizes)
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
            look=counts.add,
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
        used, perplexity = np.mean(counts.usages(), axis=0)
        ui.say(f"codes used: {used:.1%} of each codebook, perplexity {perplexity:.0f} of {max(sizes)}")


def numbers(qualities: str | None) -> list[float | None]:
    """The option --qualities: numbers with commas between."""
    from vqcli.errors import UsageError

    try:
        return [float(part) for part in (qualities or "").split(",") if part]
    except ValueError:
        raise UsageError(f"--qualities {qualities}: not numbers with commas between") from None


def _span(values: list[float], digits: str) -> str:
    return f"{min(values):+{digits}} to {max(values):+{digits}}"


evaluations = typer.Typer(cls=CommandOrPictures, invoke_without_command=True, subcommand_metavar="| COMMAND [ARGS]...")
evaluations.callback()(evaluate)
evaluations.command()(samples)
evaluations.command()(codes)
