"""Pixels -> codes -> pixels, through a model.

Images of any size: the net sees tiles with a margin as wide as its reach, so that tiled codes equal those
of the whole image (up to ties within float error) and memory is bounded by the tile. What becomes of the
codes in a file is in image_file.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from vqcli.codec.codes import ImageCodes, code_type
from vqcli.container.header import QUALITIES_OF_TUNE
from vqcli.errors import BadFile, UsageError
from vqcli.nets.codecs.base import VALUE_RANGE, ImageCodec
from vqcli.nets.layers.convnet2d import from_pixels, in_channels, to_pixels
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo.loading import LoadedModel

TILE = 1024  # pixels: the net's working set stays at some hundred MiB
LARGEST_WHOLE = 2**21  # pixels of an image that a net sees as a whole, at some 3 kB each

Window = tuple[slice, slice]


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
    if size is None and model.image.encoder_margin is None and height * width > LARGEST_WHOLE:
        raise UsageError(
            f"model {model.info.name} sees an image as a whole, at most {LARGEST_WHOLE / 1e6:.1f} megapixels",
            "resize it first",
        )


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
    return image


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
    if seed is not None and not is_stochastic(model):
        raise UsageError(f"model {model.info.name} decodes in one way only", "leave --seed out")
    (W, H), (rows, columns) = image.size, image.codes.shape[1:]
    if (rows, columns) != model.image.grid(H, W) or tuple(frame_size(model) or (H, W)) != (H, W):
        raise BadFile(f"a grid of {rows} x {columns} codes does not belong to {W} x {H} pixels")
    check_size(model, H, W)
    pixels = np.empty((H, W, image.channels), np.uint8)
    for part, x, done in decoded_tiles(model.net, image, (slice(0, rows), slice(0, columns)), TILE, seed=seed):
        pixels[part] = to_pixels(x[None])[0]
        progress(done)
    return pixels


@torch.inference_mode()
def decoded_tiles(
    net: ImageCodec, image: ImageCodes, window: Window, side: int, *, raw: bool = False, seed: int | None = None
) -> Iterator[tuple[Window, torch.Tensor, float]]:
    """What a net makes of a window of the codes, tile by tile of `side` pixels.

    Yields the place in pixels, values [channels, h, w] where black is -0.5 and white 0.5, in the type of the net's
    weights, and the share of the work done after it; with `raw` the numbers [n, h, w] that the net's likelihood takes.
    """
    (W, H), stride = image.size, net.stride
    weight = next(net.parameters())  # type: ignore[attr-defined]
    quality = torch.tensor([image.quality / 10], dtype=weight.dtype, device=weight.device) if image.quality else None
    for inner, outer, done in _tiles(image.codes.shape[1:], window, max(1, side // stride), net.decoder_margin):
        codes = torch.from_numpy(image.codes[(slice(None), *outer)].astype(np.int64)).to(weight.device)
        x = (
            net.decoder_output(codes[None], quality)
            if raw
            else _given(net.decode(codes[None], quality, seed), net.value_range)
        )
        top, left = (s.start * stride for s in inner)
        bottom, right = min(inner[0].stop * stride, H), min(inner[1].stop * stride, W)
        dy, dx = (s.start * stride for s in _within(inner, outer))
        x = x[:, :, dy : dy + bottom - top, dx : dx + right - left]
        yield (slice(top, bottom), slice(left, right)), (x if raw else in_channels(x, image.channels))[0], done


def _quality(model: LoadedModel, tenths: int) -> torch.Tensor | None:
    return torch.tensor([tenths / 10], device=model.device) if tenths else None


def _latent_tiles(
    model: LoadedModel, pixels: np.ndarray, progress: ProgressCallback
) -> Iterator[tuple[Window, torch.Tensor]]:
    """Windows that part the grid, each with its latents [D, rows, columns] on the model's device."""
    net = model.image
    rows, columns = net.grid(*pixels.shape[:2])
    whole = slice(0, rows), slice(0, columns)
    for inner, outer, done in _tiles((rows, columns), whole, TILE // net.stride, net.encoder_margin):
        region = padded(pixels, *(slice(s.start * net.stride, s.stop * net.stride) for s in outer))
        x = from_pixels(region[None], model.device)
        z_e = net.latents(_taken(in_channels(x, net.channels), net.value_range))[0]
        yield inner, z_e[(slice(None), *_within(inner, outer))]
        progress(done)


def _codes(model: LoadedModel, z_e: torch.Tensor, quality: int) -> np.ndarray:
    """Codes [groups, rows, columns] of latents [D, rows, columns]."""
    return model.image.quantize(z_e[None], _quality(model, quality))[0].cpu().numpy()


def _empty(model: LoadedModel, pixels: np.ndarray, quality: int) -> ImageCodes:
    """Codes to be filled in for pixels [H, W, C]."""
    H, W, channels = pixels.shape
    sizes = model.image.codebook_sizes
    return ImageCodes(np.empty((len(sizes), *model.image.grid(H, W)), code_type(sizes)), (W, H), channels, quality)


def _tiles(
    grid: tuple[int, ...], window: Window, side: int, margin: int | None
) -> Iterator[tuple[Window, Window, float]]:
    """Windows that part a window of a grid: (inner, outer with its margin, share of the work done after it).

    Without a margin the net sees the whole grid at once.

    The outer window ends at the border of the grid, where the net pads tile and whole image alike.
    """
    rows, columns = grid
    if margin is None:
        margin = side = max(rows, columns)
    tops, lefts = (range(s.start, s.stop, side) for s in window)
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            bottom, right = min(top + side, window[0].stop), min(left + side, window[1].stop)
            outer = (
                slice(max(top - margin, 0), min(bottom + margin, rows)),
                slice(max(left - margin, 0), min(right + margin, columns)),
            )
            yield (slice(top, bottom), slice(left, right)), outer, (i * len(lefts) + j + 1) / (len(tops) * len(lefts))


def _taken(x: torch.Tensor, value_range: tuple[float, float]) -> torch.Tensor:
    """Values -0.5 .. 0.5 as a net takes them."""
    low, high = value_range
    return x if value_range == VALUE_RANGE else (x + 0.5) * (high - low) + low


def _given(x: torch.Tensor, value_range: tuple[float, float]) -> torch.Tensor:
    """What a net makes, as values -0.5 .. 0.5."""
    low, high = value_range
    return x if value_range == VALUE_RANGE else (x - low) / (high - low) - 0.5


def _within(inner: Window, outer: Window) -> Window:
    """The inner window in coordinates of the outer one."""
    y, x = (slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
    return y, x


def padded(pixels: np.ndarray, y: slice, x: slice) -> np.ndarray:
    """pixels[y, x], where what lies beyond the image repeats its border."""
    region = pixels[y, x]
    missing = (y.stop - y.start - region.shape[0], x.stop - x.start - region.shape[1])
    return np.pad(region, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge") if any(missing) else region
