"""Rate and distortion of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vqcli.cli import console

if TYPE_CHECKING:
    from vqcli.zoo.store import ModelInfo

BESIDE = "JPEG,WebP,AVIF"


def pictures(
    model: ModelInfo,
    paths: Sequence[Path],
    device: str,
    *,
    qualities: Sequence[float | None],
    beside: str,
    coder: str,
    plot: Path | None,
    each: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Measure a model on pictures: a row for each quality and each codec beside."""
    from dataclasses import asdict

    import numpy as np

    from vqcli.codec import tiling
    from vqcli.errors import UsageError
    from vqcli.evaluation import metrics
    from vqcli.evaluation.image import plots, rate_distortion
    from vqcli.files import refuse_existing
    from vqcli.media import image
    from vqcli.zoo import loading

    if plot:
        plots.require_plots()
        refuse_existing(plot, force)
    loaded = loading.load(model, device)
    codecs = [name for name in beside.split(",") if name]
    sizes = loaded.net.codebook_sizes
    counts = metrics.CodeCounts(sizes)
    with console.progress(f"measuring {console.plural(len(paths), 'picture')}") as shown:
        measured = rate_distortion.evaluate(
            loaded,
            [path.name for path in paths],
            lambda index: image.read(paths[index]).pixels,
            qualities or rate_distortion.spread(loaded),
            beside=codecs,
            coder=coder,
            report=shown,
            complain=console.complain,
            look=counts.add,
        )
        points = list(measured)
    if not points:
        raise UsageError("none of the pictures could be read")
    means = rate_distortion.means(points)
    if plot:
        title = f"{loaded.info.name}: mean of {console.plural(len({p.picture for p in points}), 'picture')}"
        plots.rate_distortion_plot(means, plot, title, force=force)
        console.say(f"drawn to {plot}")
    shown_points = points if each else means
    if as_json:
        console.emit_json([asdict(point) for point in shown_points])
        return
    console.emit_table(
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
    for codec, (psnr_db, ms_ssim) in rate_distortion.margins(means).items():
        console.say(f"{means[0].codec} above {codec}: {_span(psnr_db, '.2f')} dB, {_span(ms_ssim, '.4f')} MS-SSIM")
    if not tiling.qualities(loaded):
        used, perplexity = np.mean(counts.usages(), axis=0)
        console.say(f"codes used: {used:.1%} of each codebook, perplexity {perplexity:.0f} of {max(sizes)}")


def _span(values: list[float], digits: str) -> str:
    return f"{min(values):+{digits}} to {max(values):+{digits}}"
