"""vq eval rd"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import console
from vqcli.cli.eval import speech
from vqcli.cli.eval.baselines import chosen
from vqcli.cli.files import UNREAD, taken
from vqcli.cli.options import MEASURING, RUNNING, Measuring, Model, Running, command, numbers, span

if TYPE_CHECKING:
    from vqcli.evaluation.image.rate_distortion import Point
    from vqcli.zoo.store import ModelInfo


Inputs = Annotated[
    list[Path], typer.Argument(help="Images or clips of speech, or folders of them.", show_default=False)
]


@command
def rd(inputs: Inputs, model: Model = None, what: Measuring = MEASURING, running: Running = RUNNING) -> None:
    """Rate and distortion: bits per pixel of whole files, PSNR, MS-SSIM; other codecs and models at equal bytes.

    The BD-rate is the mean difference in bytes at equal PSNR or MS-SSIM: -20 % are a fifth fewer than the other codec.

    Of speech: kbit/s of whole files, for each number of levels; log-mel distance and correlation, pitch, STOI, wrong
    words; Opus at its lowest rate, Codec2 where its commands are installed, and other models.

    \b
    vq eval rd images/
    vq eval images/
    vq eval rd images/ --model tokens --baselines JPEG,WebP,photo-2
    vq eval rd images/ --model photo-2 --tune psnr --effort 3
    vq eval rd images/ --qualities 2,5,8 --plot rd.png --json
    vq eval rd images/ --baselines AVIF,JPEG-XL --rates 0.15,1.2 --ssimulacra2
    vq eval rd clips/ --plot spectrograms.webp
    vq eval rd clips/ --model encodec-24khz --baselines Opus,speech
    """
    from vqcli import api
    from vqcli.data import split
    from vqcli.errors import UsageError
    from vqcli.media import audio, image
    from vqcli.zoo import store

    suffixes = {"image": image.SUFFIXES, "audio": audio.SUFFIXES}
    named = store.find(model) if model else None
    asked = [named.modality] if named else list(suffixes)
    known, unread = ([suffix for modality in asked for suffix in of[modality]] for of in (suffixes, UNREAD))
    found = taken(inputs, known, unread)
    kept = split.held_out([job.name for job in found]) if what.held_out else [True] * len(found)
    paths = [job.source for job, keep in zip(found, kept, strict=True) if keep]
    if not paths:
        raise UsageError("none of the files is held out", "leave --held-out away to measure all of them")
    modalities = {named.modality} if named else {api.modality_of(path) for path in paths}
    if len(modalities) > 1:
        raise UsageError("there are images and audio", "--model says which of them to measure")
    [modality] = modalities
    measure = {"image": images, "audio": speech.measure}[modality]
    measure(named or store.find(store.DEFAULTS[modality]), paths, what, running)


def images(model: ModelInfo, paths: Sequence[Path], what: Measuring, running: Running) -> None:
    """Measure a model on images: a row for each quality and each baseline."""
    import numpy as np

    from vqcli.errors import BadFile
    from vqcli.evaluation import metrics
    from vqcli.evaluation.image import baselines, plots, rate_distortion, ssimulacra2
    from vqcli.files import refuse_existing
    from vqcli.media import image
    from vqcli.zoo import loading

    rates = span(what.rates)
    if what.ssimulacra2:
        ssimulacra2.require()
    if what.plot:
        plots.require_plots()
        refuse_existing(what.plot, running.force)
    codecs = chosen(what.baselines, baselines.USUAL, baselines.CODECS, model, running.device)
    loaded = loading.load(model, running.device)
    counts = metrics.CodeCounts(loaded.image.codebook_sizes)
    with console.progress("measuring", len(paths), "image") as progress:
        measured = rate_distortion.evaluate(
            loaded,
            [path.name for path in paths],
            lambda index: image.read(paths[index]).pixels,
            numbers(what.qualities) or rate_distortion.spread(loaded),
            codecs=codecs,
            making=rate_distortion.Making(what.coder, what.tune, what.effort),
            perceptual=ssimulacra2.score if what.ssimulacra2 else None,
            progress=progress,
            complain=console.leave_out,
            on_codes=counts.add,
        )
        points = list(measured)
    if not points:
        raise BadFile("none of the images could be read")
    _show(loaded.info, points, what, rates, running)
    if not loaded.image.qualities and not running.as_json:
        used, perplexity = np.mean(counts.usages(), axis=0)
        sizes = loaded.image.codebook_sizes
        console.say(f"codes used: {used:.1%} of each codebook, perplexity {perplexity:.0f} of {max(sizes)}")


def _show(
    model: ModelInfo, points: Sequence[Point], what: Measuring, rates: tuple[float, float], running: Running
) -> None:
    """The points as a plot, and as a table with what sets the model apart or as JSON."""
    from dataclasses import asdict

    from vqcli.evaluation.image import bd_rate, plots, rate_distortion
    from vqcli.evaluation.installation import machine

    means = rate_distortion.means(points)
    deltas = bd_rate.delta_rates(points, rates)
    if what.plot:
        title = f"{model.name}: mean of {console.plural(len({p.picture for p in points}), 'image')}"
        plots.rate_distortion_plot(means, deltas, what.plot, title, force=running.force)
        console.say(f"drawn to {what.plot}")
    shown = points if what.each else means
    if running.as_json:
        console.emit_json(
            {
                "model": model.name,
                "digest": model.digest.hex(),
                "machine": machine(),
                "tune": what.tune,
                "effort": what.effort,
                "points": [asdict(point) for point in shown],
                "bd_rate": [asdict(delta) for delta in deltas],
            }
        )
        return
    _table(shown)
    for codec, (psnr_db, ms_ssim) in rate_distortion.margins(means).items():
        console.say(f"{means[0].codec} above {codec}: {_span(psnr_db, '.2f')} dB, {_span(ms_ssim, '.4f')} MS-SSIM")
    for delta in deltas:
        console.say(
            f"BD-rate against {delta.codec}: {delta.percent:+.1f} % in {delta.measure}, "
            f"over {delta.low:.2f} to {delta.high:.2f} bits/pixel of it"
        )


def _table(points: Sequence[Point]) -> None:
    rows: list[tuple[Any, ...]] = [
        (
            f"{point.quality:g}" if point.quality else "–",
            point.codec,
            point.picture,
            f"{point.size_bytes:,}",
            f"{point.bits_per_pixel:.3f}",
            f"{point.psnr_db:.2f}",
            f"{point.ms_ssim:.4f}",
            "–" if point.flat_colour is None else f"{point.flat_colour:.2f}",
            *([] if point.ssimulacra2 is None else [f"{point.ssimulacra2:.1f}"]),
        )
        for point in points
    ]
    heads = ("quality", "codec", "images", "bytes", "bits/pixel", "PSNR dB", "MS-SSIM", "flat colour", "SSIMULACRA 2")
    console.emit_table(heads[: len(rows[0])], rows)


def _span(values: list[float], digits: str) -> str:
    return f"{min(values):+{digits}} to {max(values):+{digits}}"
