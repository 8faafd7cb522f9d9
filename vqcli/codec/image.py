"""Images -> codes -> .vqz and back; api.py calls this for images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vqcli.codec import chunks, image_file, lossless, refinement, tiling
from vqcli.codec.codes import File, ImageCodes, keep_levels
from vqcli.codec.image_file import file_size
from vqcli.codec.tiling import encode_latents, qualities, quantize
from vqcli.container.bounds import MAX_PIXELS, NO_LIMITS, Limits
from vqcli.container.payloads import Payloads
from vqcli.container.vqz import Header, Vqz
from vqcli.entropy import coders
from vqcli.errors import BadFile, UsageError
from vqcli.media import image
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo.loading import LoadedModel

LOSSLESS = 0.3  # the quality for images without loss, as a share of the model's: codes and residual are least there
WHAT, PLURAL, MODEL = "an image", "images", "image"
ENCODING_SHARE = 0.05  # of the time, where effort takes the rest
AT_ONCE = 2**24  # pixels of an image that is decoded at once; a larger one when its pixels are asked for
GREY = 128  # what salvaged images show where chunks are lost


@dataclass(frozen=True)
class EncodedImage(File):
    """An image as codes and as the bytes of its .vqz file.

    notes  what the user should know: what was changed on reading the image, a rate that could not be met
    """

    image: ImageCodes
    header: Header
    payloads: Sequence[bytes | None]
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
    """An image from codes. The pixels of a large one are made when they are asked for: whole, in bands, or into a file.

    lost    bool [rows, columns] of the code grid: true where the first level was damaged; grey in the pixels
    fewer   bool [rows, columns]: true where another level was, so that the pixels are of those before it
    exact   bool [rows, columns]: true where the pixels are those of the original, by the file's lossless residual
    """

    image: ImageCodes
    header: Header
    lost: np.ndarray = field(repr=False)
    fewer: np.ndarray = field(repr=False)
    exact: np.ndarray = field(repr=False)
    _bands: Callable[[], Iterator[np.ndarray]] = field(repr=False)
    _max_pixels: int | None = field(default=None, repr=False)  # that the caller allows

    @cached_property
    def pixels(self) -> np.ndarray:
        """uint8 [H, W, 1 or 3]."""
        return tiling.joined(self.bands(), self.image)

    def bands(self) -> Iterator[np.ndarray]:
        """The pixels from top to bottom, uint8 [h, W, 1 or 3] each, so that large images take little more memory than
        small ones. Raises BadFile after the last one if pixels without loss fail their checksum."""
        if "pixels" in self.__dict__:
            yield self.pixels
        else:
            yield from self._bands()

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
        target = Path(target) if isinstance(target, str) else target
        if "pixels" in self.__dict__:
            image.write(target, self.pixels, format=format, force=force)
        else:
            size = (*self.image.size, self.image.channels)
            most = self._max_pixels
            image.write_bands(target, self.bands(), size, format=format, force=force, max_pixels=most)


def recognises(source: Path | BinaryIO | np.ndarray) -> bool:
    """Images are what nothing else recognises."""
    return False


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """What can be chosen of the file of an image. See `api.encode`."""

    quality: float | None = None
    bits_per_pixel: float | None = None
    size_bytes: int | None = None
    lossless: bool = False
    tune: str | None = None
    effort: int = 0
    levels: int | None = None
    coder: str = "auto"
    background: str | None = None
    metadata: dict[str, str] | None = None

    def __post_init__(self) -> None:
        if sum(each is not None for each in (self.quality, self.bits_per_pixel, self.size_bytes)) > 1:
            raise UsageError("quality and sizes exclude each other", "give one of --quality, --bpp and --bytes")
        sizes = (self.bits_per_pixel, self.size_bytes, self.levels)
        if self.lossless and any(each is not None for each in sizes):
            raise UsageError(
                "without loss a file takes what it takes, and all levels", "leave --bpp, --bytes and --levels out"
            )
        if self.lossless and self.effort:
            raise UsageError("effort weighs bits against loss, and there is none without loss", "leave --effort out")


def encode(
    source: Path | BinaryIO | np.ndarray,
    model: LoadedModel,
    *,
    limits: Limits = NO_LIMITS,
    progress: ProgressCallback = silent,
    **options: Any,
) -> EncodedImage:
    """Encode an image: a path, an open file, or pixels uint8 [H, W] or [H, W, 1 or 3]; `options` of EncodeOptions."""
    chosen = EncodeOptions(**options)
    refinement.check(model, chosen.effort)
    picture = _read(source, chosen.background or "white", limits)
    if chosen.size_bytes is not None:
        height, width = picture.pixels.shape[:2]
        chosen = replace(chosen, bits_per_pixel=8 * chosen.size_bytes / (width * height), size_bytes=None)
    if chosen.lossless:
        return _encode_lossless(picture, model, chosen, progress)
    first = ENCODING_SHARE if chosen.effort else 1.0
    codes = _codes(model, picture.pixels, chosen, lambda share: progress(first * share))
    plain = codes
    if chosen.effort:
        codes = refinement.refined(
            model, picture.pixels, plain, chosen.effort, lambda share: progress(first + (1 - first) * share)
        )
    encoded = _packed(picture, model, codes, chosen)
    target = chosen.bits_per_pixel
    if target is not None and codes is not plain and encoded.bits_per_pixel > target:
        encoded = _packed(picture, model, plain, chosen)  # the search spent bits on looks
    if target is not None and encoded.bits_per_pixel > target:
        note = f"model {model.info.name} cannot go down to {target:g} bpp here"
        encoded = replace(encoded, notes=(*encoded.notes, note))
    return encoded


def _codes(model: LoadedModel, pixels: np.ndarray, chosen: EncodeOptions, progress: ProgressCallback) -> ImageCodes:
    """The encoder's codes, at the quality that was chosen or that fits."""
    if chosen.bits_per_pixel is None:
        return tiling.encode_image(model, pixels, quality=chosen.quality, tune=chosen.tune, progress=progress)
    return search_quality(model, pixels, chosen.bits_per_pixel, coder=chosen.coder, tune=chosen.tune, progress=progress)


def _packed(picture: image.LoadedImage, model: LoadedModel, codes: ImageCodes, chosen: EncodeOptions) -> EncodedImage:
    if chosen.levels is not None:
        codes = keep_levels(model, codes, chosen.levels)
    header, payloads = image_file.pack_image(model, codes, coder=chosen.coder, metadata=chosen.metadata)
    return EncodedImage(codes, header, payloads, picture.pixels, (*picture.notes, *model.info.notes))


def _encode_lossless(
    picture: image.LoadedImage, model: LoadedModel, chosen: EncodeOptions, progress: ProgressCallback
) -> EncodedImage:
    if tiling.is_stochastic(model):
        raise UsageError(f"model {model.info.name} samples what it decodes, so it is never exact", "--model photo-2")
    if model.image.decoder_margin is None:
        raise UsageError(f"model {model.info.name} sees an image as a whole, which is never exact", "--model photo-2")
    quality = chosen.quality
    if quality is None and tiling.qualities(model):
        quality = max(1.0, LOSSLESS * tiling.qualities(model))
    codes = tiling.encode_image(
        model, picture.pixels, quality=quality, tune=chosen.tune, progress=lambda share: progress(share / 4)
    )
    header, payloads = image_file.pack_image(model, codes, coder=chosen.coder, metadata=chosen.metadata)
    header, rest = lossless.pack(
        model, header, codes, picture.pixels, progress=lambda share: progress(0.25 + 0.75 * share)
    )  # fmt: skip
    return EncodedImage(
        codes, header, Payloads(chain(payloads, rest)), picture.pixels, (*picture.notes, *model.info.notes)
    )


def decode(
    file: Vqz,
    model: LoadedModel,
    *,
    levels: int | None = None,
    salvage: bool = False,
    seed: int | None = None,
    limits: Limits = NO_LIMITS,
    progress: ProgressCallback = silent,
) -> DecodedImage:
    """Decode a parsed file with the model that it was made with. See `api.decode`."""
    codes, damaged = image_file.unpack_image(model, file, levels=levels)
    exact = np.zeros_like(damaged)

    def lossy() -> Iterator[np.ndarray]:
        return tiling.decode_bands(model, codes, progress, seed)

    def without_loss() -> Iterator[np.ndarray]:
        return lossless.decode_bands(model, file, codes, damaged, exact, progress)

    made = lossy
    if file.header.residual and levels in (None, file.header.levels):
        made = without_loss
        if salvage and not _sound(without_loss()):
            exact[:] = False

            def made() -> Iterator[np.ndarray]:
                return lossless.lossy_bands(model, codes)

    there = chunks.whole_levels(file, levels)

    def of_levels(count: int) -> Iterator[np.ndarray]:
        return tiling.decode_bands(model, keep_levels(model, codes, count), seed=seed)

    def bands() -> Iterator[np.ndarray]:
        found = {whole: of_levels(whole) if whole else None for whole in np.unique(there[damaged]).tolist()}
        return _mended(made(), found, there, model.net.stride)

    result = DecodedImage(codes, file.header, there == 0, damaged & (there > 0), exact, bands, limits.pixels)
    if codes.size[0] * codes.size[1] <= AT_ONCE:
        result.pixels  # noqa: B018, so that what is wrong with the file is said here
    return result


def _sound(bands: Iterator[np.ndarray]) -> bool:
    """Whether the pixels can be had without loss, as far as their chunks are there."""
    try:
        for _ in bands:
            pass
    except BadFile:
        return False
    return True


def _mended(
    bands: Iterator[np.ndarray], found: dict[int, Iterator[np.ndarray] | None], there: np.ndarray, stride: int
) -> Iterator[np.ndarray]:
    """Bands of whole positions, each position the best that it still has: of fewer levels where only these are `there`
    [rows, columns], whose bands `found` has, and grey without any."""
    top = 0
    takers = {whole: None if others is None else _rows(others) for whole, others in found.items()}
    for band in bands:
        levels = there[top // stride : -(-(top + len(band)) // stride)].repeat(stride, 0).repeat(stride, 1)
        levels = levels[: len(band), : band.shape[1]]
        for whole, take in takers.items():
            other = None if take is None else take(len(band))
            band[levels == whole] = GREY if other is None else other[levels == whole]
        top += len(band)
        yield band


def _rows(bands: Iterator[np.ndarray]) -> Callable[[int], np.ndarray]:
    """What gives so many rows at a time, from top to bottom, of bands of any heights."""
    waiting: list[np.ndarray] = []

    def take(count: int) -> np.ndarray:
        while sum(map(len, waiting)) < count:
            waiting.append(next(bands))
        rows = np.concatenate(waiting)
        waiting[:] = [rows[count:]]
        return rows[:count]

    return take


def _read(source: Path | BinaryIO | np.ndarray, background: str, limits: Limits) -> image.LoadedImage:
    if isinstance(source, np.ndarray):
        pixels = source[..., None] if source.ndim == 2 else source
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
            raise UsageError(f"pixels are {source.dtype} {source.shape}", "they must be uint8 [H, W] or [H, W, 1 or 3]")
        return image.LoadedImage(pixels)
    return image.read(source, background=background, max_pixels=min(limits.pixels or MAX_PIXELS, MAX_PIXELS))


def search_quality(
    model: LoadedModel,
    pixels: np.ndarray,
    bits_per_pixel: float,
    *,
    coder: str = "auto",
    tune: str | None = None,
    progress: ProgressCallback = silent,
) -> ImageCodes:
    """Codes at the highest quality whose whole file stays within `bits_per_pixel`, or at the lowest if none does."""
    if qualities(model) == 0:
        raise UsageError(f"model {model.info.name} has one rate only", "leave --bpp out, or use --model photo-2")
    latents = encode_latents(model, pixels, progress)
    target = bits_per_pixel * pixels.shape[0] * pixels.shape[1] / 8
    offset = tiling.tune_offset(model, tune)
    low, high = 10 + offset, 10 * qualities(model) + offset
    highest = high
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
    while quick != coder and low < highest:
        image = quantize(model, latents, pixels, low + 1)
        if file_size(model, image, coder=coder) > target:
            break
        low, best = low + 1, image
    return best
