"""An image through codecs at several rates, as a comparison to look at."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from vqcli.codec import image as codec_image
from vqcli.codec.image import EncodedImage
from vqcli.container import vqz
from vqcli.container.header import tune_of
from vqcli.evaluation.image import baselines
from vqcli.evaluation.image.rate_distortion import Point, measure
from vqcli.files import size_text
from vqcli.pages import inline
from vqcli.pages.parts import Comparison, Shot, Step, curve
from vqcli.zoo.loading import LoadedModel

ORIGINAL = "original"
COLUMNS = ("file", "bits/pixel", "PSNR dB", "MS-SSIM", "encode")
BYTES_PER_PIXEL = 0.26  # of an embedded photograph in base64, about, at worst; noise takes several times as many
FEWEST_PIXELS = 128 * 128


@dataclass(frozen=True, eq=False)
class Coded:
    """An image through a codec: its point, decoded pixels uint8 [H, W, C], the seconds it took to encode, and its
    file if browsers decode that."""

    point: Point
    pixels: np.ndarray
    seconds: float
    file: tuple[bytes, str] | None = None  # and its MIME type
    encoded: EncodedImage | None = field(default=None, repr=False)

    def uri(self) -> str:
        return inline.uri(*self.file) if self.file else inline.photograph(self.pixels)


def by_model(pixels: np.ndarray, model: LoadedModel, quality: float | None, name: str = "") -> Coded:
    """Through a model at a quality, from its file as anyone would decode it."""
    warm(model.info.name, model, pixels.shape[2])
    begun = time.perf_counter()
    encoded = codec_image.encode(pixels, model, quality=quality)
    took_s = time.perf_counter() - begun
    decoded = codec_image.decode(vqz.unpack(encoded.data), model)
    point = measure(model.info.name, quality or 0, name, pixels, decoded.pixels, len(encoded.data))
    return Coded(point, decoded.pixels, took_s, encoded=encoded)


_WARM: set[str] = set()  # models that this process has encoded with


def warm(name: str, model: LoadedModel, channels: int) -> None:
    """Encode once before anything is timed: what is compiled or loaded on first use is no time of the codec."""
    if name not in _WARM:
        _WARM.add(name)
        if model.image.frame_size is None:
            codec_image.encode(np.zeros((64, 64, channels), np.uint8), model)


def at_bytes(pixels: np.ndarray, codec: str | LoadedModel, size_bytes: int, name: str = "") -> Coded:
    """The best of a codec, or of a model with several qualities, within so many bytes."""
    if isinstance(codec, str):
        coded = baselines.at_bytes(pixels, codec, size_bytes)
        point = measure(codec, coded.quality, name, pixels, coded.pixels, coded.size_bytes)
        file = (coded.data, inline.MIME[codec]) if codec in inline.MIME else None
        return Coded(point, coded.pixels, coded.seconds, file)
    if not codec.image.qualities:
        return by_model(pixels, codec, None, name)
    found = codec_image.encode(pixels, codec, size_bytes=size_bytes)
    return by_model(pixels, codec, tune_of(found.image.quality / 10)[1], name)  # once more, for its time


def shot(coded: Coded) -> Shot:
    point = coded.point
    height, width = coded.pixels.shape[:2]
    at = ((point.bits_per_pixel, point.psnr_db), (point.bits_per_pixel, point.ms_ssim))
    return Shot(point.codec, coded.uri(), width, height, cells(point, coded.seconds), at)


def cells(point: Point, seconds: float) -> tuple[str, ...]:
    """What the table says of a point, as COLUMNS; `seconds` are those of encoding."""
    return (
        size_text(point.size_bytes),
        f"{point.bits_per_pixel:.3f}",
        f"{point.psnr_db:.2f}",
        f"{point.ms_ssim:.4f}",
        f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms",
    )


def compared(
    name: str,
    pixels: np.ndarray,
    rows: Sequence[Sequence[Coded]],
    commands: Callable[[Coded], Sequence[str]],
    begin: int = 0,
) -> Comparison:
    """A comparison of rows of results, a row for each step and its own model first."""
    height, width = pixels.shape[:2]
    steps = []
    for row in rows:
        own = row[0].point
        label = f"{own.quality:g}: {size_text(own.size_bytes)}" if own.quality else size_text(own.size_bytes)
        steps.append(Step(label, [shot(coded) for coded in row], commands(row[0])))
    curves = []
    if len(rows) > 1:
        for title, of in (("PSNR", 0), ("MS-SSIM", 1)):
            lines: dict[str, list[tuple[float, float]]] = {}
            for step in steps:
                for one in step.shots:
                    lines.setdefault(one.codec, []).append(one.at[of])
            curves.append(curve(title, "bits per pixel", "dB" if of == 0 else "0 to 1", lines))
    return Comparison(
        name, Shot(ORIGINAL, inline.photograph(pixels), width, height), steps, COLUMNS, tuple(curves), begin
    )  # fmt: skip


def rows(
    pixels: np.ndarray, models: Sequence[LoadedModel], codecs: Sequence[str], qualities: Sequence[float | None]
) -> Iterator[list[Coded]]:
    """A row for each quality of the first model; the other models and codecs at its bytes."""
    first, *others = models
    single = {other.info.name: by_model(pixels, other, None) for other in others if not other.image.qualities}
    for quality in qualities:
        own = by_model(pixels, first, quality)
        size_bytes = own.point.size_bytes
        more = [single.get(other.info.name) or at_bytes(pixels, other, size_bytes) for other in others]
        yield [own, *more, *(at_bytes(pixels, codec, size_bytes) for codec in codecs)]


def fitting(pixels: np.ndarray, copies: int, budget: float, most_pixels: float = math.inf) -> np.ndarray:
    """The middle of an image, as large as so many copies of it may be within a budget of bytes, at full scale."""
    most = min(most_pixels, budget / (BYTES_PER_PIXEL * copies))
    while True:
        part = _middle(pixels, max(FEWEST_PIXELS, most))
        needed = copies * len(inline.photograph(part))
        if needed <= budget or most <= FEWEST_PIXELS:
            return part
        most *= 0.95 * budget / needed


def _middle(pixels: np.ndarray, most: float) -> np.ndarray:
    """The middle of an image, of at most so many pixels."""
    height, width = pixels.shape[:2]
    share = min(1.0, (most / (height * width)) ** 0.5)
    rows, columns = (max(1, round(side * share)) for side in (height, width))
    top, left = (height - rows) // 2, (width - columns) // 2
    return pixels[top : top + rows, left : left + columns]
