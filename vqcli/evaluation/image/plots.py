"""Plots of measurements as image files. Needs the extra `report` (matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from vqcli.errors import UsageError
from vqcli.evaluation.image.bd_rate import DeltaRate, ms_ssim_db
from vqcli.evaluation.image.rate_distortion import Point
from vqcli.files import replacing


def require_plots() -> None:
    """Raise UsageError if the extra is not installed: call it before the work."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError("a plot needs an extra that is not installed", "pip install 'vqcli[report]'") from None


def rate_distortion_plot(
    points: Sequence[Point], deltas: Sequence[DeltaRate], path: Path, title: str, *, force: bool = False
) -> None:
    """Draw PSNR and MS-SSIM over bits per pixel, one line for each codec, to a PNG, SVG or PDF file.

    The legends give the BD-rate of the first codec against each other one.
    """
    require_plots()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for codec in dict.fromkeys(point.codec for point in points):
        line = sorted((p for p in points if p.codec == codec), key=lambda p: p.bits_per_pixel)
        own = codec == points[0].codec
        style = {
            "marker": "o",
            "markersize": 4,
            "linewidth": 2.2 if own else 1.2,
            "zorder": 3 if own else 2,
        }
        rates = [p.bits_per_pixel for p in line]
        found = {delta.measure: f"{codec} ({delta.percent:+.1f} %)" for delta in deltas if delta.codec == codec}
        left.plot(rates, [p.psnr_db for p in line], **style | {"label": found.get("PSNR", codec)})
        right.plot(rates, [ms_ssim_db(p.ms_ssim) for p in line], **style | {"label": found.get("MS-SSIM", codec)})
    for axes, label in ((left, "PSNR (dB)"), (right, "MS-SSIM (dB)")):
        axes.set_xlabel("bits per pixel, whole file")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(title="BD-rate of the first against" if deltas else None)
    figure.suptitle(title)
    data = BytesIO()
    figure.savefig(data, format=path.suffix.lstrip(".").lower() or "png", dpi=120)
    with replacing(path, force=force) as stream:
        stream.write(data.getvalue())
