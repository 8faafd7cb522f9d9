"""What a model costs and how good it is, beside the usual codecs at equal bytes. Rates are those of whole files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vqcli import baselines, metrics, packing, tiles
from vqcli.errors import BadFile
from vqcli.zoo import LoadedModel


@dataclass(frozen=True)
class Point:
    """One picture through one codec.

    codec           name of a model or of a usual codec
    quality         of the model, also for the usual codecs that were given as many bytes; 0 if it has none
    bits_per_pixel  of the whole file, header included
    psnr_db         over all pixels and channels, peak 255
    ms_ssim         0 .. 1
    """

    codec: str
    quality: float
    picture: str
    size_bytes: int
    bits_per_pixel: float
    psnr_db: float
    ms_ssim: float


def evaluate(
    model: LoadedModel,
    names: Sequence[str],
    read: Callable[[int], np.ndarray],
    qualities: Iterable[float | None],
    *,
    beside: Iterable[str] = ("JPEG", "WebP", "AVIF"),
    coder: str = "auto",
    report: Callable[[float], None] = tiles.silent,
    complain: Callable[[BadFile], None] = lambda error: None,
    look: Callable[[np.ndarray], None] = lambda codes: None,
) -> Iterator[Point]:
    """Points of the model at each quality, and of each codec of `beside` at the same bytes, picture by picture.

    `read(i)` gives the pixels uint8 [H, W, 1 or 3] of the i-th of `names`. A picture that it cannot read is reported to
    `complain` and left out; `look` sees the codes of each, [groups, rows, columns].
    """
    qualities, beside = list(qualities), list(beside)
    for index, name in enumerate(names):
        try:
            pixels = read(index)
        except BadFile as error:
            complain(error)
            continue
        latents = tiles.encode_latents(model, pixels)
        for quality in qualities:
            tenths = tiles.resolve_quality(model, quality)
            codes = tiles.quantize(model, latents, pixels, tenths)
            look(codes.codes)
            size = packing.file_size(model, codes, coder=coder)
            yield measure(model.info.name, tenths / 10, name, pixels, tiles.decode_image(model, codes), size)
            for codec in beside:
                other = baselines.at_bytes(pixels, codec, size)
                yield measure(codec, tenths / 10, name, pixels, other.pixels, other.size_bytes)
        report((index + 1) / len(names))


def spread(model: LoadedModel, count: int = 6) -> list[float | None]:
    """Whole qualities over the scale of the model, or None for a model that has but one."""
    steps = tiles.qualities(model)
    return sorted({round(quality) for quality in np.linspace(1, steps, count).tolist()}) if steps else [None]


def means(points: Iterable[Point]) -> list[Point]:
    """One point for each codec and quality: the mean over pictures, in the order of first appearance."""
    groups: dict[tuple[float, str], list[Point]] = {}
    for point in points:
        groups.setdefault((point.quality, point.codec), []).append(point)
    return [
        Point(
            codec,
            quality,
            f"mean of {len(group)}",
            round(np.mean([point.size_bytes for point in group])),
            float(np.mean([point.bits_per_pixel for point in group])),
            float(np.mean([point.psnr_db for point in group])),
            float(np.mean([point.ms_ssim for point in group])),
        )
        for (quality, codec), group in sorted(groups.items(), key=lambda item: item[0][0])
    ]


def margins(points: list[Point]) -> dict[str, tuple[list[float], list[float]]]:
    """How far the first codec of `points` (means) is above each other: lists of dB and of MS-SSIM, one for each rate.

    Both are compared at the other codec's own rate, on the straight line between points over log(rate); rates
    outside of the first codec's range are left out.
    """
    own = points[0].codec
    above: dict[str, tuple[list[float], list[float]]] = {}
    line = [point for point in points if point.codec == own]
    curves = ([(p.bits_per_pixel, p.psnr_db) for p in line], [(p.bits_per_pixel, p.ms_ssim) for p in line])
    for point in points:
        at = [metrics.interpolate(curve, point.bits_per_pixel) for curve in curves]
        if point.codec != own and at[0] is not None and at[1] is not None:
            psnr_db, ms_ssim = above.setdefault(point.codec, ([], []))
            psnr_db.append(at[0] - point.psnr_db)
            ms_ssim.append(at[1] - point.ms_ssim)
    return above


def measure(codec: str, quality: float, name: str, pixels: np.ndarray, other: np.ndarray, size: int) -> Point:
    """The point of a decoded picture beside its original, both uint8 [H, W, C], from a file of `size` bytes."""
    rate = metrics.bits_per_pixel(size, pixels.shape[1], pixels.shape[0])
    return Point(codec, quality, name, size, rate, metrics.psnr(pixels, other), metrics.ms_ssim(pixels, other))
