"""Rate and distortion of a model and of baselines at equal bytes. Rates are those of whole files.

`evaluate` measures images, `code_costs` their codes under every coder, `pixelcnn_cost` under a prior.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from vqcli.codec import image_file, refinement, tiling
from vqcli.codec.image import search_quality
from vqcli.container import vqz
from vqcli.container.header import tune_of
from vqcli.data.dataset import Dataset
from vqcli.data.source import Source
from vqcli.data.sources import open_sources
from vqcli.entropy import coders
from vqcli.errors import BadFile, UsageError
from vqcli.evaluation import metrics
from vqcli.evaluation.image import baselines
from vqcli.nets.layers.convnet2d import from_pixels, in_channels
from vqcli.nets.priors.autoregressive import BATCH
from vqcli.progress import ProgressCallback, silent
from vqcli.sampling.image import data_of
from vqcli.zoo import priors
from vqcli.zoo.loading import LoadedModel
from vqcli.zoo.priors import PriorInfo


@dataclass(frozen=True)
class Point:
    """One image coded by one codec.

    codec           name of a model or of a baseline
    quality         of the model, also for the baselines at equal bytes; 0 if it has none
    bits_per_pixel  of the whole file, header included
    psnr_db         over all pixels and channels, peak 255
    ms_ssim         0 .. 1
    flat_colour     error of colour in flat areas (metrics.flat_colour_error); None where nothing is flat, or grey
    ssimulacra2     up to 100 (ssimulacra2.py); None if not measured
    """

    codec: str
    quality: float
    picture: str
    size_bytes: int
    bits_per_pixel: float
    psnr_db: float
    ms_ssim: float
    flat_colour: float | None = None
    ssimulacra2: float | None = None


@dataclass(frozen=True)
class Making:
    """How the model's files are made, as by `vq encode`."""

    coder: str = "auto"
    tune: str | None = None
    effort: int = 0


Perceptual = Callable[[np.ndarray, np.ndarray], float]  # of an image and what it was decoded to, uint8 [H, W, C]


def evaluate(
    model: LoadedModel,
    names: Sequence[str],
    read: Callable[[int], np.ndarray],
    qualities: Iterable[float | None],
    *,
    codecs: Iterable[str | LoadedModel] = ("JPEG", "WebP", "AVIF"),
    making: Making = Making(),
    perceptual: Perceptual | None = None,
    progress: ProgressCallback = silent,
    complain: Callable[[BadFile], None] = lambda error: None,
    on_codes: Callable[[np.ndarray], None] = lambda codes: None,
) -> Iterator[Point]:
    """Points of the model at each quality, and of `codecs`, or other models, at the same bytes, image by image.

    `read(i)` gives the pixels uint8 [H, W, 1 or 3] of the i-th of `names`. Images that it cannot read are reported to
    `complain` and left out; `on_codes` gets the codes of each, [n_codebooks, rows, columns].
    """
    qualities, codecs = list(qualities), list(codecs)
    refinement.check(model, making.effort)
    for index, name, pixels in readable(names, read, complain):
        latents = tiling.encode_latents(model, pixels)
        for quality in qualities:
            tenths = tiling.resolve_quality(model, quality, making.tune)
            codes = tiling.quantize(model, latents, pixels, tenths)
            if making.effort:
                codes = refinement.refined(model, pixels, codes, making.effort)
            on_codes(codes.codes)
            size = image_file.file_size(model, codes, coder=making.coder)
            decoded = tiling.decode_image(model, codes)
            _, of_tune = tune_of(tenths / 10)
            yield measure(model.info.name, of_tune, name, pixels, decoded, size, perceptual)
            for codec in codecs:
                other, decoded, within = _at_bytes(codec, pixels, size)
                yield measure(other, of_tune, name, pixels, decoded, within, perceptual)
        progress((index + 1) / len(names))


def _at_bytes(codec: str | LoadedModel, pixels: np.ndarray, size_bytes: int) -> tuple[str, np.ndarray, int]:
    """Name, decoded pixels and size of the best file of a codec within `size_bytes`; models of one rate have one."""
    if isinstance(codec, str):
        baseline = baselines.at_bytes(pixels, codec, size_bytes)
        return codec, baseline.pixels, baseline.size_bytes
    if tiling.qualities(codec):
        codes = search_quality(codec, pixels, 8 * size_bytes / (pixels.shape[0] * pixels.shape[1]))
    else:
        codes = tiling.encode_image(codec, pixels)
    return codec.info.name, tiling.decode_image(codec, codes), image_file.file_size(codec, codes)


def readable(
    names: Sequence[str], read: Callable[[int], np.ndarray], complain: Callable[[BadFile], None]
) -> Iterator[tuple[int, str, np.ndarray]]:
    """Number, name and pixels of each image; those that cannot be read are reported to `complain`."""
    for index, name in enumerate(names):
        try:
            pixels = read(index)
        except BadFile as error:
            complain(error)
        else:
            yield index, name, pixels


def spread(model: LoadedModel, count: int = 6) -> list[float | None]:
    """Integer qualities spread over the range of the model, or None for a model with one."""
    steps = tiling.qualities(model)
    return sorted({round(quality) for quality in np.linspace(1, steps, count).tolist()}) if steps else [None]


def means(points: Iterable[Point]) -> list[Point]:
    """One point for each codec and quality: the mean over images, in the order of first appearance."""
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
            mean_of(point.flat_colour for point in group),
            mean_of(point.ssimulacra2 for point in group),
        )
        for (quality, codec), group in sorted(groups.items(), key=lambda item: item[0][0])
    ]


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of those that there are."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def margins(points: list[Point]) -> dict[str, tuple[list[float], list[float]]]:
    """Differences of the first codec of `points` (means) to each other one: lists of dB and of MS-SSIM by rate.

    Both are compared at the other codec's rates, interpolated over log(rate); rates outside of the first codec's
    range are left out.
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


def measure(
    codec: str,
    quality: float,
    name: str,
    pixels: np.ndarray,
    decoded: np.ndarray,
    size: int,
    perceptual: Perceptual | None = None,
) -> Point:
    """The point of a decoded image, both uint8 [H, W, C], from a file of `size` bytes."""
    rate = metrics.bits_per_pixel(size, pixels.shape[1], pixels.shape[0])
    similar = metrics.psnr(pixels, decoded), metrics.ms_ssim(pixels, decoded)
    flat = metrics.flat_colour_error(pixels, decoded)
    return Point(
        codec,
        quality,
        name,
        size,
        rate,
        *similar,
        None if math.isnan(flat) else flat,
        perceptual(pixels, decoded) if perceptual else None,
    )


# ---------------------------------------------------------------- codes


@dataclass(frozen=True)
class CodeCost:
    """Bits of the codes of some images under one distribution.

    under           name of a coder, or of a distribution that no coder uses
    quality         of the model; 0 if it has none
    pictures        number of images
    bits_per_code   payload bits of all images over codes of all images
    size_bytes      of a whole file, mean over images; None without a coder
    bits_per_pixel  of whole files, mean over images; without a coder of all codes over all pixels
    """

    under: str
    quality: float
    pictures: int
    bits_per_code: float
    size_bytes: int | None
    bits_per_pixel: float


class _File(NamedTuple):
    payload_bytes: int
    size_bytes: int
    codes: int
    pixels: int


ORDER_0 = "order 0"  # the empirical frequencies of the measured codes: a bound for coders without context


def code_costs(
    model: LoadedModel,
    names: Sequence[str],
    read: Callable[[int], np.ndarray],
    qualities: Iterable[float | None],
    *,
    progress: ProgressCallback = silent,
    complain: Callable[[BadFile], None] = lambda error: None,
) -> list[CodeCost]:
    """Costs under each coder that the model has tables for, and under `ORDER_0`, for each quality.

    `read(i)` gives the pixels uint8 [H, W, 1 or 3] of the i-th of `names`. Images that it cannot read are reported to
    `complain` and left out. Raises BadFile if none is left.
    """
    tenths = [tiling.resolve_quality(model, quality) for quality in qualities]
    sizes = model.net.codebook_sizes
    counts = {quality: metrics.CodeCounts(sizes) for quality in tenths}
    given = coders.Given(sizes, model.statistics, model.entropy_model[0] if model.entropy_model else None)
    usable = coders.candidates(coders.AUTO, given)
    files: dict[tuple[int, str], list[_File]] = {}
    for index, _, pixels in readable(names, read, complain):
        latents, area = tiling.encode_latents(model, pixels), pixels.shape[0] * pixels.shape[1]
        for quality in tenths:
            image = tiling.quantize(model, latents, pixels, quality)
            counts[quality].add(image.codes)
            for coder in usable:
                header, payloads = image_file.pack_image(model, image, coder=coder)
                file = _File(sum(map(len, payloads)), len(vqz.pack(header, payloads)), image.codes.size, area)
                files.setdefault((quality, coder), []).append(file)
        progress((index + 1) / len(names))
    if not files:
        raise BadFile("none of the images could be read")
    costs = []
    for quality in tenths:
        first, *others = (_cost(coder, quality, files[quality, coder]) for coder in usable)
        perplexities = [usage.perplexity for usage in counts[quality].usages()]
        bits = float(np.log2(perplexities).mean())  # all codebooks have as many codes
        _, _, codes, pixels = np.sum(files[quality, usable[0]], axis=0).tolist()
        costs += [first, CodeCost(ORDER_0, quality / 10, first.pictures, bits, None, bits * codes / pixels), *others]
    return costs


def _cost(coder: str, quality: int, files: list[_File]) -> CodeCost:
    payload, size, codes, pixels = np.array(files, np.int64).T
    bits, rate = 8 * payload.sum() / codes.sum(), (8 * size / pixels).mean()
    return CodeCost(coder, quality / 10, len(files), float(bits), round(float(size.mean())), float(rate))


@torch.inference_mode()
def pixelcnn_cost(
    model: LoadedModel, info: PriorInfo, images: Dataset, progress: ProgressCallback = silent
) -> CodeCost:
    """Cost under a PixelCNN of centre crops of all images, of the size that it was trained on.

    Teacher-forced: each code given the true ones before it, and the class if the prior has one of the name that
    `images` has. Raises UsageError if it requires a class and has none of them.
    """
    data = data_of(info)
    net = priors.load_pixelcnn(info, model.device)
    batch = images.held_out_batch(data, len(images))
    names = [images.classes[label] if label >= 0 else "" for label in batch.labels]
    numbers = np.array([info.number_of(name) for name in names])
    if net.unlabelled:
        numbers[numbers < 0] = net.labels  # the row for no label
    kept = np.flatnonzero((numbers >= 0) | (net.labels == 0))
    if not len(kept):
        raise UsageError("the pixelcnn prior has none of these classes", f"known: {', '.join(info.classes)}")
    nats, codes_each = 0.0, 0
    for part in np.array_split(kept, -(-len(kept) // BATCH)):
        codes = codes_of(model, batch.pixels[part])
        label = torch.from_numpy(numbers[part]).to(model.device) if net.labels else None
        nats += float(net.loss(codes, label)) * len(part)
        codes_each = codes[0].numel()
        progress(float((part[-1] + 1) / (kept[-1] + 1)))
    bits = nats / math.log(2) / len(kept)
    of_class = ", given the class" if info.classes and numbers[kept].min() < net.labels else ""
    under = f"pixelcnn at {data.crop} x {data.crop}{of_class}"
    return CodeCost(under, 0.0, len(kept), bits, None, bits * codes_each / data.crop**2)


@torch.inference_mode()
def codes_of(model: LoadedModel, pixels: np.ndarray) -> torch.Tensor:
    """Codes int64 [N, n_codebooks, rows, columns] of small images uint8 [N, H, W, 3] as one batch; no qualities."""
    x = in_channels(from_pixels(pixels, model.device), model.net.channels)
    codes: torch.Tensor = model.image.quantize(model.image.latents(x))
    return codes


def to_measure(data: Path) -> Dataset:
    """The held-out images of a folder with `train` and `val`, else all images."""
    source = open_images(data)
    if not {"train", "val"} <= {name.partition("/")[0] for name in source.names}:
        source.held_out = [True] * len(source.names)
    return Dataset(source, held_out=True)


def open_images(data: Path) -> Source:
    """The source at a path. Raises UsageError if it holds codes."""
    source = open_sources([data])
    if source.stride != 1:
        raise UsageError(f"{data} holds codes", "name the images that were encoded")
    return source


def loss_of_integers(entropy_model: PriorInfo) -> float | None:
    """Extra bits of the integer entropy model, as a share of those of its float net; None if not measured."""
    measured = entropy_model.description.get("measured", {})
    floats, integers = measured.get("float_bits_per_code"), measured.get("bits_per_code")
    return integers / floats - 1 if floats and integers else None
