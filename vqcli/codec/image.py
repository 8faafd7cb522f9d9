"""Images -> codes -> .vqz and back; api.py calls this for images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vqcli.codec import image_file, lossless, tiling
from vqcli.codec.codes import File, ImageCodes, keep_levels
from vqcli.codec.image_file import file_size
from vqcli.codec.tiling import encode_latents, qualities, quantize
from vqcli.container.vqz import Header, Vqz
from vqcli.entropy import coders
from vqcli.errors import UsageError
from vqcli.media import image
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo.loading import LoadedModel

LOSSLESS = 0.3  # the quality for images without loss, as a share of the model's: codes and residual are least there
WHAT, PLURAL, MODEL = "an image", "images", "image"
GREY = 128  # what salvaged images show where chunks are lost


@dataclass(frozen=True)
class EncodedImage(File):
    """An image as codes and as the bytes of its .vqz file.

    notes  what the user should know: what was changed on reading the image, a rate that could not be met
    """

    image: ImageCodes
    header: Header
    payloads: tuple[bytes, ...]
    pixels: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def codes(self) -> np.ndarray:
        """uint16 [groups, rows, columns]."""
        return self.image.codes

    @property
    def bits_per_pixel(self) -> float:
        """Of the whole file, header included."""
        return 8 * len(self.data) / (self.image.size[0] * self.image.size[1])

    @property
    def lossless(self) -> bool:
        """Whether the file returns `pixels` as they are."""
        return self.header.residual is not None


@dataclass(frozen=True)
class DecodedImage:
    """An image from codes.

    pixels  uint8 [H, W, 1 or 3]
    lost    bool [rows, columns] of the code grid: true where a chunk was damaged; grey in `pixels`
    exact   bool [rows, columns]: true where the pixels are those of the original, by the file's lossless residual
    """

    pixels: np.ndarray
    image: ImageCodes
    header: Header
    lost: np.ndarray = field(repr=False)
    exact: np.ndarray = field(repr=False)

    @property
    def codes(self) -> np.ndarray:
        """uint16 [groups, rows, columns]."""
        return self.image.codes

    n_frames = 1  # as a clip has

    def frames(self) -> Iterator[np.ndarray]:
        """The pixels, as those of a clip of one frame."""
        yield self.pixels

    @property
    def lossless(self) -> bool:
        """Whether every pixel is that of the original."""
        return bool(self.exact.all())

    def save(self, target: str | Path | BinaryIO, *, format: str | None = None, force: bool = False) -> None:
        """Write the image; the suffix chooses the format."""
        image.write(Path(target) if isinstance(target, str) else target, self.pixels, format=format, force=force)


def recognises(source: Path | BinaryIO | np.ndarray) -> bool:
    """Images are what nothing else recognises."""
    return False


def encode(
    source: Path | BinaryIO | np.ndarray,
    model: LoadedModel,
    *,
    quality: float | None = None,
    bits_per_pixel: float | None = None,
    lossless: bool = False,
    levels: int | None = None,
    coder: str = "auto",
    background: str | None = None,
    metadata: dict[str, str] | None = None,
    progress: ProgressCallback = silent,
) -> EncodedImage:
    """Encode an image: a path, an open file, or pixels uint8 [H, W] or [H, W, 1 or 3]. See `api.encode`."""
    if quality is not None and bits_per_pixel is not None:
        raise UsageError("quality and bits per pixel exclude each other", "give one of --quality and --bpp")
    if lossless and (bits_per_pixel is not None or levels is not None):
        raise UsageError("without loss a file takes what it takes, and all levels", "leave --bpp and --levels out")
    picture = _read(source, background or "white")
    if bits_per_pixel is not None:
        codes = search_quality(model, picture.pixels, bits_per_pixel, coder=coder, progress=progress)
    elif lossless:
        return _encode_lossless(picture, model, quality, coder, metadata, progress)
    else:
        codes = tiling.encode_image(model, picture.pixels, quality=quality, progress=progress)
    if levels is not None:
        codes = keep_levels(model, codes, levels)
    header, payloads = image_file.pack_image(model, codes, coder=coder, metadata=metadata)
    encoded = EncodedImage(codes, header, payloads, picture.pixels, picture.notes)
    if bits_per_pixel is not None and encoded.bits_per_pixel > bits_per_pixel:
        note = f"model {model.info.name} cannot go down to {bits_per_pixel:g} bpp here"
        encoded = replace(encoded, notes=(*picture.notes, note))
    return encoded


def _encode_lossless(
    picture: image.LoadedImage,
    model: LoadedModel,
    quality: float | None,
    coder: str,
    metadata: dict[str, str] | None,
    progress: ProgressCallback,
) -> EncodedImage:
    if tiling.is_stochastic(model):
        raise UsageError(f"model {model.info.name} samples what it decodes, so it is never exact", "--model photo")
    if quality is None and tiling.qualities(model):
        quality = max(1.0, LOSSLESS * tiling.qualities(model))
    codes = tiling.encode_image(model, picture.pixels, quality=quality, progress=lambda share: progress(share / 4))
    header, payloads = image_file.pack_image(model, codes, coder=coder, metadata=metadata)
    header, rest = lossless.pack(
        model, header, codes, picture.pixels, progress=lambda share: progress(0.25 + 0.75 * share)
    )  # fmt: skip
    return EncodedImage(codes, header, (*payloads, *rest), picture.pixels, picture.notes)


def decode(
    file: Vqz,
    model: LoadedModel,
    *,
    levels: int | None = None,
    salvage: bool = False,
    seed: int | None = None,
    progress: ProgressCallback = silent,
) -> DecodedImage:
    """Decode a parsed file with the model that it was made with. See `api.decode`."""
    codes, lost = image_file.unpack_image(model, file, levels=levels)
    if file.header.residual and levels in (None, file.header.levels):
        pixels, exact = lossless.unpack(model, file, codes, lost, salvage=salvage, progress=progress)
    else:
        pixels, exact = tiling.decode_image(model, codes, progress, seed), np.zeros_like(lost)
    if lost.any():
        H, W = pixels.shape[:2]
        stride = model.net.stride
        pixels[lost.repeat(stride, 0).repeat(stride, 1)[:H, :W]] = GREY
    return DecodedImage(pixels, codes, file.header, lost, exact)


def _read(source: Path | BinaryIO | np.ndarray, background: str) -> image.LoadedImage:
    if isinstance(source, np.ndarray):
        pixels = source[..., None] if source.ndim == 2 else source
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
            raise UsageError(f"pixels are {source.dtype} {source.shape}", "they must be uint8 [H, W] or [H, W, 1 or 3]")
        return image.LoadedImage(pixels)
    return image.read(source, background=background)


def search_quality(
    model: LoadedModel,
    pixels: np.ndarray,
    bits_per_pixel: float,
    *,
    coder: str = "auto",
    progress: ProgressCallback = silent,
) -> ImageCodes:
    """Codes at the highest quality whose whole file stays within `bits_per_pixel`, or at the lowest if none does."""
    if qualities(model) == 0:
        raise UsageError(f"model {model.info.name} has one rate only", "leave --bpp out, or use --model photo")
    latents = encode_latents(model, pixels, progress)
    target = bits_per_pixel * pixels.shape[0] * pixels.shape[1] / 8
    low, high = 10, 10 * qualities(model)
    # the prior takes its time, and a little less than the quick coder: look with that, then go up while there is room
    quick = coders.QUICK if coder == coders.AUTO and model.entropy_model else coder
    best = quantize(model, latents, pixels, low)
    while low < high:
        middle = (low + high + 1) // 2
        image = quantize(model, latents, pixels, middle)
        if file_size(model, image, coder=quick) <= target:
            low, best = middle, image
        else:
            high = middle - 1
    while quick != coder and low < 10 * qualities(model):
        image = quantize(model, latents, pixels, low + 1)
        if file_size(model, image, coder=coder) > target:
            break
        low, best = low + 1, image
    return best
