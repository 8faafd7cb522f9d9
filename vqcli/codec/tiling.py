"""Pixels -> codes -> pixels, through a model.

Images of any size: the net sees tiles with a margin as wide as its reach, so that tiled codes equal those
of the whole image (up to ties within float error) and memory is bounded by the tile. A net that sees an image as
a whole does so up to LARGEST_WHOLE, and sees larger ones in tiles that overlap (tiles.py). What becomes of the codes
in a file is in image_file.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from vqcli.codec.codes import ImageCodes, code_type
from vqcli.codec.tiles import Tiles, Window, blended, exact, within
from vqcli.container.header import QUALITIES_OF_TUNE
from vqcli.errors import BadFile, UsageError
from vqcli.files import release, storage
from vqcli.nets.codecs.base import VALUE_RANGE, ImageCodec
from vqcli.nets.layers.convnet2d import from_pixels, in_channels, to_pixels
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo.loading import LoadedModel

TILE = 1024  # pixels: the net's working set stays at some hundred MiB
LARGE = (
    2**26
)  # pixels of an image whose codes leave less room: its tiles have half the side, or fewer rows if it is wide
LARGEST_WHOLE = 2**21  # pixels of an image that a net sees as a whole, at some 3 kB each
OVERLAPPING, MARGIN = 768, 64  # pixels: tiles of larger ones, near to the sizes that such nets are trained on


def resolve_quality(model: LoadedModel, quality: float | None, tune: str | None = None) -> int:
    """A quality in tenths, as files have it, checked against the model; None is the model's middle.

    0 for models without qualities. `tune` None is the first of the model's.
    """
    steps, offset = qualities(model), tune_offset(model, tune)
    if steps == 0:
        if quality is not None:
            raise UsageError(f"model {model.info.name} has one quality only", "leave --quality and --bpp out")
        return 0
    if quality is None:
        return 10 * ((steps + 1) // 2) + offset
    if not 1 <= quality <= steps:
        raise UsageError(f"quality {quality:g} is not within 1 to {steps}")
    return round(quality * 10) + offset


def tune_offset(model: LoadedModel, tune: str | None) -> int:
    """Tenths of quality at which the qualities of a tune begin. Raises UsageError for a model without it."""
    known = model.image.tunes
    if tune is None or (known and tune == known[0]):
        return 0
    if tune not in known:
        has = f"has {' and '.join(known)}" if known else "has but one"
        raise UsageError(f"model {model.info.name} has no tune {tune}: it {has}", "leave --tune out")
    return 10 * QUALITIES_OF_TUNE * known.index(tune)


def qualities(model: LoadedModel) -> int:
    """Number of whole quality steps, 0 for models that have but one quality."""
    return model.image.qualities


def frame_size(model: LoadedModel) -> tuple[int, int] | None:
    """Height and width of the images that the model is for; None for images of any size."""
    return model.image.frame_size


def check_size(model: LoadedModel, height: int, width: int) -> None:
    """Raise UsageError if the model takes images of one size only, and this is another."""
    size = frame_size(model)
    if size and tuple(size) != (height, width):
        raise UsageError(
            f"model {model.info.name} is for images of {size[1]} x {size[0]} pixels, and this is {width} x {height}",
            "resize it first",
        )


def sees_whole(net: ImageCodec) -> bool:
    """Whether an image is too large for a net as soon as it is larger than the net's memory allows."""
    return net.decoder_margin is None and net.frame_size is None


def tiles_of(net: ImageCodec, height: int, width: int) -> Tiles | None:
    """The overlapping tiles for an image of this size; None if the net sees it whole, or as if it did."""
    if not sees_whole(net) or height * width <= LARGEST_WHOLE:
        return None
    return Tiles(max(4, OVERLAPPING // net.stride), max(1, MARGIN // net.stride))


def check_tiles(model: LoadedModel, tiles: Tiles | None, height: int, width: int) -> None:
    """Raise BadFile unless the model decodes an image of this size in such tiles, or without (None)."""
    net = model.image
    if tiles is None and tiles_of(net, height, width) is not None:
        raise BadFile(f"model {model.info.name} decodes {width} x {height} pixels in tiles, and the file names none")
    if tiles is not None and (tiles.side + 2 * tiles.margin) * net.stride * width > LARGE:
        raise BadFile(f"{width} pixels side by side are more than model {model.info.name} decodes in tiles")
    if tiles is not None and (not sees_whole(net) or tiles.largest * net.stride**2 > LARGEST_WHOLE):
        raise BadFile(f"tiles of {tiles.side} positions are none that model {model.info.name} decodes")


@torch.inference_mode()
def encode_image(
    model: LoadedModel,
    pixels: np.ndarray,
    *,
    quality: float | None = None,
    tune: str | None = None,
    progress: ProgressCallback = silent,
) -> ImageCodes:
    """Codes of pixels uint8 [H, W, 1 or 3]. Raises UsageError for a quality, tune or size that the model has not."""
    check_size(model, *pixels.shape[:2])
    tenths = resolve_quality(model, quality, tune)
    image = _empty(model, pixels, tenths)
    for inner, z_e in _latent_tiles(model, pixels, progress):
        image.codes[(slice(None), *inner)] = _codes(model, z_e, tenths)
        release(pixels)
        release(image.codes)
    return image


@torch.inference_mode()
def encode_images(
    model: LoadedModel, images: Sequence[np.ndarray], *, quality: float | None = None, tune: str | None = None
) -> list[ImageCodes]:
    """`encode_image` of images uint8 [H, W, C] of one grid of codes and as many channels, which the net sees at once.

    Those that it would see in tiles it sees one by one. Codes are those of `encode_image` up to ties within float
    error, as sums of a batch may be in another order.
    """
    heights, widths = zip(*(pixels.shape[:2] for pixels in images), strict=True)
    net, H, W = model.image, max(heights), max(widths)
    if len(images) == 1 or tiles_of(net, H, W) or (net.encoder_margin is not None and max(H, W) > TILE):
        return [encode_image(model, pixels, quality=quality, tune=tune) for pixels in images]
    for pixels in images:
        check_size(model, *pixels.shape[:2])
    tenths = resolve_quality(model, quality, tune)
    rows, columns = (slice(0, length * net.stride) for length in net.grid(H, W))
    z_e = latents_of(net, from_pixels(np.stack([padded(each, rows, columns) for each in images]), model.device))
    at = torch.full((len(images),), tenths / 10, device=model.device) if tenths else None
    made = []
    for pixels, codes in zip(images, net.quantize(z_e, at).cpu().numpy(), strict=True):
        image = _empty(model, pixels, tenths)
        image.codes[:] = codes
        made.append(image)
    return made


@torch.inference_mode()
def encode_latents(model: LoadedModel, pixels: np.ndarray, progress: ProgressCallback = silent) -> torch.Tensor:
    """Latents z_e [D, rows, columns] (float32, on the CPU) of pixels, for those who try several qualities on them."""
    check_size(model, *pixels.shape[:2])
    latents = torch.empty(model.image.latent_dim, *model.image.grid(*pixels.shape[:2]))
    for inner, z_e in _latent_tiles(model, pixels, progress):
        latents[(slice(None), *inner)] = z_e.cpu()
    return latents


@torch.inference_mode()
def quantize(model: LoadedModel, latents: torch.Tensor, pixels: np.ndarray, quality: int) -> ImageCodes:
    """Codes of latents [D, rows, columns] of these pixels, at a quality in tenths."""
    image = _empty(model, pixels, quality)
    some_rows = max(1, 2**22 // (latents.shape[0] * latents.shape[2]))
    for top in range(0, latents.shape[1], some_rows):
        rows = slice(top, top + some_rows)
        image.codes[:, rows] = _codes(model, latents[:, rows].to(model.device), quality)
    return image


def is_stochastic(model: LoadedModel) -> bool:
    """Whether decoding samples what the codes do not tell."""
    return model.image.stochastic


@torch.inference_mode()
def decode_image(
    model: LoadedModel, image: ImageCodes, progress: ProgressCallback = silent, seed: int | None = None
) -> np.ndarray:
    """Pixels uint8 [H, W, channels] of codes; fewer groups than the model has stand for its first levels.

    `seed` is for models whose decoding samples (nets/codecs/twostage2d.py); UsageError for others.
    """
    return joined(decode_bands(model, image, progress, seed), image)


def joined(bands: Iterator[np.ndarray], image: ImageCodes) -> np.ndarray:
    """Pixels uint8 [H, W, channels] of bands [h, W, channels] from top to bottom."""
    (W, H), top = image.size, 0
    pixels = storage((H, W, image.channels), np.uint8)
    for band in bands:
        pixels[top : top + len(band)] = band
        release(pixels)
        top += len(band)
    return pixels


@torch.inference_mode()
def decode_bands(
    model: LoadedModel, image: ImageCodes, progress: ProgressCallback = silent, seed: int | None = None
) -> Iterator[np.ndarray]:
    """`decode_image` in bands uint8 [h, W, channels] from top to bottom, each of whole positions of the grid."""
    if seed is not None and not is_stochastic(model):
        raise UsageError(f"model {model.info.name} decodes in one way only", "leave --seed out")
    (W, H), (rows, columns) = image.size, image.codes.shape[1:]
    if (rows, columns) != model.image.grid(H, W) or tuple(frame_size(model) or (H, W)) != (H, W):
        raise BadFile(f"a grid of {rows} x {columns} codes does not belong to {W} x {H} pixels")
    check_size(model, H, W)
    check_tiles(model, image.tiles, H, W)
    if image.tiles is not None:
        for _, x in _decoded_bands(model.image, image, image.tiles, seed, progress):
            yield to_pixels(x[None])[0]
        return
    stride, side = model.image.stride, TILE if H * W <= LARGE else TILE // 2
    step = rows if model.image.decoder_margin is None else max(1, min(side, LARGE // W) // stride)
    for top in range(0, rows, step):
        window = slice(top, min(top + step, rows)), slice(0, columns)
        first = top * stride
        band = np.empty((min(window[0].stop * stride, H) - first, W, image.channels), np.uint8)
        for (y, part), x, done in decoded_tiles(model.net, image, window, side, seed=seed):
            band[y.start - first : y.stop - first, part] = to_pixels(x[None])[0]
            progress((top + done * (window[0].stop - top)) / rows)
        release(image.codes)
        yield band


@torch.inference_mode()
def decoded_tiles(
    net: ImageCodec, image: ImageCodes, window: Window, side: int, *, raw: bool = False, seed: int | None = None
) -> Iterator[tuple[Window, torch.Tensor, float]]:
    """What a net makes of a window of the codes, tile by tile of `side` pixels, each exactly as within the whole.

    Yields the place in pixels, values [channels, h, w] where black is -0.5 and white 0.5, in the type of the net's
    weights, and the share of the work done after it; with `raw` the numbers [n, h, w] that the net's likelihood takes.
    """
    (W, H), stride = image.size, net.stride
    for inner, outer, done in exact(image.codes.shape[1:], window, max(1, side // stride), net.decoder_margin):
        x = _decoded(net, image, outer, raw, seed)
        top, left = (s.start * stride for s in inner)
        bottom, right = min(inner[0].stop * stride, H), min(inner[1].stop * stride, W)
        dy, dx = (s.start * stride for s in within(inner, outer))
        x = x[:, :, dy : dy + bottom - top, dx : dx + right - left]
        yield (slice(top, bottom), slice(left, right)), (x if raw else in_channels(x, image.channels))[0], done


def _decoded_bands(
    net: ImageCodec, image: ImageCodes, tiles: Tiles, seed: int | None, progress: ProgressCallback
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Values [channels, h, W] as `decoded_tiles` gives them, of overlapping tiles, and the rows of pixels they are."""
    (W, H), stride = image.size, net.stride

    def see(outer: Window) -> torch.Tensor:
        return in_channels(_decoded(net, image, outer, False, seed), image.channels)[0]

    for rows, x in blended(image.codes.shape[1:], tiles, stride, see, progress):
        y = slice(rows.start * stride, min(rows.stop * stride, H))
        yield y, x[:, : y.stop - y.start, :W]


def _decoded(net: ImageCodec, image: ImageCodes, outer: Window, raw: bool, seed: int | None) -> torch.Tensor:
    """What a net makes of the codes of a window alone, [1, channels, h * stride, w * stride]."""
    weight = next(net.parameters())  # type: ignore[attr-defined]
    quality = torch.tensor([image.quality / 10], dtype=weight.dtype, device=weight.device) if image.quality else None
    codes = torch.from_numpy(image.codes[(slice(None), *outer)].astype(np.int64)).to(weight.device)
    if raw:
        return net.decoder_output(codes[None], quality)
    return _given(net.decode(codes[None], quality, seed), net.value_range)


def _quality(model: LoadedModel, tenths: int) -> torch.Tensor | None:
    return torch.tensor([tenths / 10], device=model.device) if tenths else None


def _latent_tiles(
    model: LoadedModel, pixels: np.ndarray, progress: ProgressCallback
) -> Iterator[tuple[Window, torch.Tensor]]:
    """Windows that part the grid, each with its latents [D, rows, columns] on the model's device."""
    net = model.image
    rows, columns = net.grid(*pixels.shape[:2])
    whole = slice(0, rows), slice(0, columns)

    def see(outer: Window) -> torch.Tensor:
        region = padded(pixels, *(slice(s.start * net.stride, s.stop * net.stride) for s in outer))
        x = from_pixels(region[None], model.device)
        return latents_of(net, x)[0]

    if (tiles := tiles_of(net, *pixels.shape[:2])) is not None:
        for y, z_e in blended((rows, columns), tiles, 1, see, progress):
            yield (y, whole[1]), z_e
        return
    for inner, outer, done in exact((rows, columns), whole, TILE // net.stride, net.encoder_margin):
        yield inner, see(outer)[(slice(None), *within(inner, outer))]
        progress(done)


def _codes(model: LoadedModel, z_e: torch.Tensor, quality: int) -> np.ndarray:
    """Codes [groups, rows, columns] of latents [D, rows, columns]."""
    return model.image.quantize(z_e[None], _quality(model, quality))[0].cpu().numpy()


def _empty(model: LoadedModel, pixels: np.ndarray, quality: int) -> ImageCodes:
    """Codes to be filled in for pixels [H, W, C]."""
    H, W, channels = pixels.shape
    sizes = model.image.codebook_sizes
    codes = storage((len(sizes), *model.image.grid(H, W)), code_type(sizes))
    return ImageCodes(codes, (W, H), channels, quality, tiles_of(model.image, H, W))


def _taken(x: torch.Tensor, value_range: tuple[float, float]) -> torch.Tensor:
    """Values -0.5 .. 0.5 as a net takes them."""
    low, high = value_range
    return x if value_range == VALUE_RANGE else (x + 0.5) * (high - low) + low


def _given(x: torch.Tensor, value_range: tuple[float, float]) -> torch.Tensor:
    """What a net makes, as values -0.5 .. 0.5."""
    low, high = value_range
    return x if value_range == VALUE_RANGE else (x - low) / (high - low) - 0.5


def padded(pixels: np.ndarray, y: slice, x: slice) -> np.ndarray:
    """pixels[y, x], where what lies beyond the image repeats its border."""
    region = pixels[y, x]
    missing = (y.stop - y.start - region.shape[0], x.stop - x.start - region.shape[1])
    return np.pad(region, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge") if any(missing) else region


def latents_of(net: ImageCodec, x: torch.Tensor) -> torch.Tensor:
    """z_e of images [B, 3, H, W] in -0.5 .. 0.5, in the channels and the range that the net takes."""
    return net.latents(_taken(in_channels(x, net.channels), net.value_range))
