"""What commands ask and say of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcli.cli import complete, console
from vqcli.cli.options import Effort, Request, Tune

if TYPE_CHECKING:
    from vqcli.api import DecodedImage, EncodedImage
    from vqcli.container.vqz import Header
    from vqcli.zoo.loading import LoadedModel

PLURAL = "images"
PRIOR, SAMPLE = "pixelcnn", Path("sample.png")
LOST = "image is lost, and grey"
LOSSY = ("jpg", "jpeg", "webp", "avif")  # formats that do not keep every pixel

Quality = Annotated[
    float | None,
    typer.Option("--quality", "-q", help="Of images and clips: 1 (small) to 10 (good), tenths too.", show_default="5"),
]
Background = Annotated[
    str | None, typer.Option(help="What lies behind transparent pixels: a name or #rrggbb.", show_default="white")
]


@dataclass(frozen=True)
class EncodeOptions:
    quality: Quality = None
    bits_per_pixel: Annotated[
        float | None,
        typer.Option("--bpp", help="Bits per pixel instead: the best quality within.", min=0.0, show_default=False),
    ] = None
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Of images: return every pixel. --quality then changes bytes only.")
    ] = False
    tune: Tune = None
    effort: Effort = 0
    background: Background = None


@dataclass(frozen=True)
class SampleOptions:
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--class", help="A class by name; several make rows.", show_default=False, autocompletion=complete.classes
        ),
    ] = None
    height: Annotated[
        int | None, typer.Option(help="Of new images, in pixels.", min=1, max=99999, show_default="as trained")
    ] = None
    width: Annotated[
        int | None, typer.Option(help="Of new images, in pixels.", min=1, max=99999, show_default="as trained")
    ] = None
    keep: Annotated[
        str | None,
        typer.Option(
            help="What of the image to keep: top, left or box (the middle).",
            show_default="top",
            autocompletion=complete.among("top", "left", "box"),
        ),
    ] = None


def suffix() -> str:
    return ".png"


def quality_of(header: Header) -> str:
    """The quality and tune of a file, to end a line with."""
    from vqcli.container.header import TUNES, tune_of

    tune, quality = tune_of(header.quality / 10)
    return f", quality {quality:g}{f' ({tune})' * (tune != TUNES[0])}" if header.quality else ""


def line(result: EncodedImage, took_s: float) -> str:
    said = f"{result.bits_per_pixel:.3f} bpp{quality_of(result.header)}"
    if result.lossless:  # what reading changed does not come back
        said += ", lossless as read" if result.notes else ", lossless"
    return said


def facts(result: EncodedImage, took_s: float) -> dict[str, Any]:
    return {"bits_per_pixel": result.bits_per_pixel, "lossless": result.lossless}


def decoded_line(result: DecodedImage, took_s: float) -> tuple[str, dict[str, Any]]:
    (W, H), channels = result.image.size, result.image.channels
    said = f"{W} x {H}{' grey' * (channels == 1)}{', lossless' * result.lossless}"
    return said, {"width": W, "height": H, "channels": channels, "lossless": result.lossless}


def remarks(result: DecodedImage, format: str, salvage: bool) -> list[str]:
    """Of a file that holds every pixel: where the result has not, written in that format."""
    kind = format.lower().lstrip(".")
    if result.header.residual is None or (result.lossless and kind not in LOSSY):
        return []
    if result.lossless:
        return [f"the file returns every pixel, and {kind} does not keep them (png does)"]
    if salvage and len(result.image.codes) == result.header.groups:
        return [f"{1 - result.exact.mean():.1%} of the image without its lossless residual, so not exact"]
    return ["the file returns every pixel with all its levels only: this is lossy"]


def header_facts(header: Header, size_bytes: int, lengths: tuple[int, ...]) -> dict[str, Any]:
    width, height, channels = header.size
    bits_per_pixel = round(8 * size_bytes / (width * height), 4)
    return {"width": width, "height": height, "channels": channels, "bits_per_pixel": bits_per_pixel}


def verify(
    result: EncodedImage, decoded: DecodedImage, source: Path, options: EncodeOptions
) -> tuple[str, dict[str, Any]]:
    import numpy as np

    from vqcli.errors import VqError
    from vqcli.evaluation import metrics

    if result.lossless:
        if not (decoded.lossless and np.array_equal(result.pixels, decoded.pixels)):
            raise VqError("the file does not return the pixels", "this is a defect of vq: please report it")
        return "verified: every pixel is equal", {"equal": True}
    if not np.array_equal(result.codes, decoded.codes):
        raise VqError("the file does not return the codes", "this is a defect of vq: please report it")
    psnr_db = metrics.psnr(result.pixels, decoded.pixels)
    return f"verified: every code is equal, PSNR {psnr_db:.2f} dB", {"psnr_db": psnr_db}


def verify_decoded(result: DecodedImage, target: Path) -> tuple[str, dict[str, Any]]:
    from zlib import crc32

    import numpy as np

    from vqcli.cli.media import codes_verified
    from vqcli.errors import OutputError
    from vqcli.media import image

    residual = result.header.residual
    if residual is None or not result.lossless or target.suffix.lstrip(".").lower() in LOSSY:
        return codes_verified(bool(result.lost.any()))
    pixels = image.read(target).pixels
    if crc32(np.ascontiguousarray(pixels).data) != residual.pixels_crc:
        raise OutputError(f"{target} does not hold the pixels that were written", "check the disk, and decode again")
    return "verified: every pixel is that of the original", {"verified": "pixels"}


def sample(model: LoadedModel, target: Path, options: SampleOptions, request: Request) -> list[dict[str, Any]]:
    from vqcli.media import image
    from vqcli.sampling.image import sample, size_of
    from vqcli.zoo import priors

    labels, prior = options.labels or (), request.prior or PRIOR
    known = priors.find(model.info, PRIOR) if prior == PRIOR else None
    for name in labels:
        if known and known.label_of(name) >= 0 and name in known.remarks:
            console.say(f"{name}: {known.remarks[name]}")
    size = None
    if options.height or options.width:
        trained = size_of(known)
        size = options.height or trained[0], options.width or trained[1]
    with console.progress(f"sampling from {model.info.name}") as progress:
        made = sample(
            model,
            prior=prior,
            labels=labels,
            count=request.count or 4,
            size=size,
            seed=request.seed,
            sampling=request.sampling,
            start=image.read(request.start).pixels if request.start else None,
            keep=options.keep or "top",
            progress=progress,
        )
    written = made.save(target, force=request.force)
    of = f" of {', '.join(labels)}" if labels else ""
    count = console.plural(len(made.labels), "image")
    console.say(f"{count}{of} -> {target} (model {model.info.name}, seed {request.seed})")
    return [
        {"file": str(path), "class": label, "seed": request.seed}
        for path, label in zip(written, made.labels, strict=True)
    ]


def check_target(target: Path) -> None:
    """Any suffix may do: writing says what is wrong."""
