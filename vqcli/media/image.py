"""Image files to uint8 arrays [H, W, C] of grey (C = 1) or sRGB (C = 3), and back.

A file may come from anywhere, so reading goes by steps: the first bytes choose one of a few decoders, the size in the
header is checked, and only then are pixels decoded. The decoders are called directly, not through `Image.open`, whose
check of the size is a global of the process and only warns at first. `LoadedImage.notes` lists what was changed on the
way to 8-bit sRGB.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageColor, ImageOps
from PIL.AvifImagePlugin import AvifImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.WebPImagePlugin import WebPImageFile

from vqcli.container.bounds import MAX_PIXELS
from vqcli.errors import BadFile, OutputError, UsageError
from vqcli.files import Body, LargeFile, body_of, name_of, refuse_existing, release, replacing, seekable, storage
from vqcli.media import band_writing, bmp, colour, depth, png, png_writing, tiff

Undecoded = ImageFile | tiff.Page | bmp.Bitmap
Decoder = Callable[[Body], Undecoded]

# What a scan of a folder takes for an image; reading goes by the content alone.
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".heic", ".heif"),
    *(".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".pbm"),
)

# Offset and bytes that tell a kind of file: one that is decoded here, or what to call it.
_KINDS: tuple[tuple[int, bytes, Decoder | str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", PngImageFile),
    (0, b"\xff\xd8\xff", JpegImageFile),
    (8, b"WEBPVP8", WebPImageFile),
    (4, b"ftypavif", AvifImageFile),
    (4, b"ftypavis", AvifImageFile),
    *((0, magic, tiff.opened) for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (0, b"BM", bmp.opened),
    (0, b"GIF8", GifImageFile),
    *((0, b"P%d%c" % (n, space), PpmImageFile) for n in range(1, 7) for space in b" \t\r\n"),
    *((4, b"ftyp" + brand, "HEIC") for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1")),
    *((0, magic, "JPEG 2000") for magic in (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")),
    *((0, magic, "JPEG XL") for magic in (b"\0\0\0\x0cJXL ", b"\xff\x0a")),
    (4, b"ftypM4A", "audio"),
    (4, b"ftyp", "a video"),
    (8, b"WAVE", "audio"),
    (0, b"%PDF", "a PDF"),
    (0, b"PK\3\4", "a zip archive"),
)


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """`pixels`: uint8 [H, W, C], C = 1 grey or 3 sRGB. `notes`: what was changed, as "first of 12 frames"."""

    pixels: np.ndarray
    notes: tuple[str, ...] = ()


def read(source: Path | BinaryIO, *, background: str = "white", max_pixels: int = MAX_PIXELS) -> LoadedImage:
    """Read the first frame of an image, upright, with its alpha laid over `background` (a name or #rrggbb).

    Raises UsageError if the colour is unknown, and BadFile, whose one line starts with the name, if the file
    is missing, no image, damaged, or of more than `max_pixels` (in GIF, TIFF and WebP also if it is of more
    than twice Pillow's `MAX_IMAGE_PIXELS`). About damaged TIFFs libtiff may also print to stderr by itself.
    """
    try:
        ImageColor.getrgb(background)
    except ValueError:
        raise UsageError(f"unknown background colour: {background}", "a name such as white, or #rrggbb") from None
    name = name_of(source)
    decoder, data = _open(source, name, max_bytes=8 * max_pixels + 2**26)
    with data if isinstance(data, LargeFile) else contextlib.nullcontext():
        return _of_data(data, decoder, name, background, max_pixels)


def _of_data(data: Body, decoder: Decoder, name: str, background: str, max_pixels: int) -> LoadedImage:
    try:
        with _quiet(), decoder(data) as image:
            if image.width * image.height <= max_pixels:
                return _decode(image, background)
            excess = f"{image.width} x {image.height} pixels; {max_pixels} are allowed"
    except Image.DecompressionBombError as error:
        excess = str(error)
    except MemoryError:  # of this machine, not of the file
        raise
    except Exception as error:  # on hostile bytes the decoders raise arbitrary exceptions
        with _quiet():
            what = tiff.unsupported(data) if decoder is tiff.opened else ""
        if what:
            raise BadFile(f"{name} is a TIFF {what}, which vq does not read", "save it as PNG") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadFile(f"{name} is damaged or incomplete: {reason}") from error
    raise BadFile(f"{name} is too large: {excess}", "--max-pixels allows more" if max_pixels < MAX_PIXELS else "")


def _open(source: Path | BinaryIO, name: str, max_bytes: int) -> tuple[Decoder, Body]:
    """Read the file if it begins like an image, and find what decodes it."""
    try:
        with source.open("rb") if isinstance(source, Path) else contextlib.nullcontext(source) as stream:
            head = stream.read(64)
            decoder = _decoder(head, name)
            body = body_of(stream, max_bytes, head)
    except (OSError, ValueError) as error:
        raise BadFile(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if body.seek(0, os.SEEK_END) == max_bytes:
        raise BadFile(f"{name} is too large: more than {max_bytes} bytes")
    body.seek(0)
    return decoder, body


def is_known(head: bytes) -> bool:
    """Whether a file that begins with these bytes (64 of them) is of a kind that has a name here, read or not."""
    return any(head.startswith(magic, offset) for offset, magic, _ in _KINDS)


def _decoder(head: bytes, name: str) -> Decoder:
    """The decoder for a file that starts with `head`; BadFile says what the file looks like if there is none."""
    if b"vqz" in head[:8].lower():
        raise BadFile(f"{name} is a .vqz file, not an image", "vq decode reads it, --levels drops levels")
    kind = next((kind for offset, magic, kind in _KINDS if head.startswith(magic, offset)), None)
    if kind == "HEIC":
        try:
            from pillow_heif import HeifImageFile
        except ImportError:
            raise BadFile(f"{name} is a HEIC image, which needs an extra", "pip install 'vqcli[heic]'") from None
        return HeifImageFile
    if kind is None:
        text = bytes(range(32, 127)) + b"\t\n\r\f"
        kind = "an empty file" if not head else "of no known kind" if head.translate(None, text) else "text"
    if kind in ("JPEG 2000", "JPEG XL"):
        raise BadFile(f"{name} is a {kind} image, which vq does not read", "save it as PNG")
    if isinstance(kind, str):
        raise BadFile(f"{name} is {kind}, not an image", "PNG, JPEG, WebP, AVIF, TIFF, BMP and GIF are read")
    return kind


_lock, _silent_threads, _saved_filters = threading.Lock(), 0, warnings.catch_warnings()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings while any thread is inside: Pillow warns about damage that it survives.

    The filters are global to the process: a thread that restored what it saw could restore another thread's silence.
    """
    global _silent_threads, _saved_filters
    with _lock:
        _silent_threads += 1
        if _silent_threads == 1:
            _saved_filters = warnings.catch_warnings(action="ignore")
            _saved_filters.__enter__()
    try:
        yield
    finally:
        with _lock:
            _silent_threads -= 1
            if _silent_threads == 0:
                _saved_filters.__exit__(None, None, None)


# ---------------------------------------------------------------- any mode -> 8-bit grey or sRGB


def _decode(file: Undecoded, background: str) -> LoadedImage:
    notes = []
    if (frames := getattr(file, "n_frames", 1)) > 1:
        notes.append(f"first of {frames} frames")
    image = _loaded(file, notes)
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # what is upright would be copied
            image = ImageOps.exif_transpose(image)
    except Exception:  # only the orientation is damaged, not the pixels
        notes.append("damaged EXIF ignored")
    profile = image.info.get("icc_profile")
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        alpha = image.getchannel("A")
    flat = colour.to_srgb(image, profile, notes)
    if alpha is not None and np.asarray(alpha).min() < 255:
        rgb = ImageColor.getrgb(background)[:3]
        mode = "L" if flat.mode == "L" and len(set(rgb)) == 1 else "RGB"
        below = Image.new(mode, flat.size, rgb[: len(mode)])
        below.paste(flat.convert(mode), mask=alpha)
        flat = below
        notes.append(f"alpha composited over {background}")
    return LoadedImage(_pixels(flat), tuple(notes))


def _pixels(image: Image.Image) -> np.ndarray:
    """uint8 [H, W, 1 or 3], in bands: at once Pillow copies an image three times over. Large ones lie in a file."""
    pixels = storage((image.height, image.width, len(image.getbands())), np.uint8)
    step = max(1, _AT_ONCE // image.width)
    for top in range(0, image.height, step):
        band = image.crop((0, top, image.width, min(top + step, image.height)))
        pixels[top : top + step] = np.asarray(band).reshape(band.height, band.width, -1)
        release(pixels)
    return pixels


def _loaded(file: Undecoded, notes: list[str]) -> Image.Image:
    """The pixels with 8 bits a sample, orientation, profile and transparency still to be heeded."""
    if isinstance(file, tiff.Page | bmp.Bitmap):
        return file.image(notes)
    if isinstance(file, PngImageFile):
        return png.loaded(file, notes)
    file.load()
    if file.mode == "F" or file.mode.startswith("I"):
        values = np.asarray(file)
        if values.dtype == np.int32 and values.min() >= 0 and values.max() < 2**16:
            values = values.astype(np.uint16)  # as Pillow has 16 bits of most files
        image = Image.fromarray(depth.to_8_bits(values, notes))
        image.info = file.info
        return image
    return file


# ---------------------------------------------------------------- arrays -> files

_JPEG: tuple[str, dict[str, Any]] = ("JPEG", {"quality": 95, "subsampling": "4:4:4"})
_TIFF: tuple[str, dict[str, Any]] = ("TIFF", {"compression": "tiff_adobe_deflate"})
_WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {"compress_level": 6}),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": ("WEBP", {"quality": 90}),
    ".avif": ("AVIF", {"quality": 90}),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": ("BMP", {}),
    ".ppm": ("PPM", {}),
    ".pgm": ("PPM", {}),
}
_IN_BANDS = {
    "PNG": png_writing.write,
    "JPEG": band_writing.jpeg,
    "TIFF": band_writing.tiff,
    "BMP": band_writing.bmp,
    "PPM": band_writing.ppm,
}
MAX_AT_ONCE = 2**25  # pixels of what is not written in bands
_AT_ONCE = 2**22  # pixels that are copied at once


def write(
    target: Path | BinaryIO,
    pixels: np.ndarray,
    *,
    force: bool = False,
    format: str | None = None,
    quality: int | None = None,
) -> None:
    """Write uint8 [H, W, 1 or 3] to a new file (with `force`: or over an old one), or to a stream.

    `format` is a suffix such as "png", by default that of `target`; `quality` is 1 to 100, where the format has one.
    Raises UsageError for an unknown format or an existing file, OutputError if the format cannot hold the image
    or the file cannot be written; the errors of a stream are its own.
    """
    suffix = _suffix(target, format)
    pillow_format, settings = _WRITTEN[suffix]
    if quality is not None:
        if "quality" not in settings or not 1 <= quality <= 100:
            raise UsageError(f"no quality {quality} for {suffix}", "1 to 100, for JPEG, WebP and AVIF")
        settings = settings | {"quality": quality}
    if isinstance(target, Path):
        refuse_existing(target, force)  # before the work, not after it
    data = encode_bytes(pixels, pillow_format, **settings)
    with replacing(target, force=force) if isinstance(target, Path) else contextlib.nullcontext(target) as stream:
        stream.write(data)


def write_bands(
    target: Path | BinaryIO,
    bands: Iterable[np.ndarray],
    size: tuple[int, int, int],
    *,
    force: bool = False,
    format: str | None = None,
    max_pixels: int | None = None,
) -> None:
    """`write` an image of width, height and channels that comes in bands uint8 [h, W, channels] from top to bottom.

    No more than a band is in memory. Of WebP and AVIF, which take some 30 bytes a pixel, all is: OutputError for more
    than `max_pixels` of them, by default MAX_AT_ONCE.
    """
    pillow_format, settings = _WRITTEN[_suffix(target, format)]
    if isinstance(target, Path):
        refuse_existing(target, force)
    width, height, channels = size
    write_in_bands = _IN_BANDS.get(pillow_format)
    if write_in_bands is None and width * height > (max_pixels or MAX_AT_ONCE):
        raise OutputError(
            f"{pillow_format} of {width} x {height} pixels takes {30 * width * height / 1e9:.1f} GB of memory to write",
            f"try .png; --max-pixels {width * height} allows it",
        )
    with replacing(target, force=force) if isinstance(target, Path) else seekable(target) as stream:
        if write_in_bands is not None:
            write_in_bands(stream, bands, width, height, channels)
            return
        canvas, top = Image.new("L" if channels == 1 else "RGB", (width, height)), 0
        for band in bands:
            canvas.paste(Image.fromarray(band[..., 0] if channels == 1 else band), (0, top))
            top += len(band)
        stream.write(_saved(canvas, pillow_format, settings))


def _suffix(target: Path | BinaryIO, format: str | None) -> str:
    """The suffix of a format such as "png", or that of the target. Raises UsageError if nothing is written so."""
    suffix = "." + format.lower().lstrip(".") if format else target.suffix.lower() if isinstance(target, Path) else ""
    if suffix not in _WRITTEN:
        raise UsageError(f"unknown kind of image to write: {suffix or 'no suffix'}", f"known: {', '.join(_WRITTEN)}")
    return suffix


def encode_bytes(pixels: np.ndarray, format: str, **options: Any) -> bytes:
    """An image uint8 [H, W, 1 or 3] as the bytes of a file in Pillow's `format`, with Pillow's `options`."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        raise UsageError(f"not an image: {pixels.dtype} {list(pixels.shape)}", "pixels are uint8 [H, W, 1 or 3]")
    return _saved(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), format, options)


def _saved(image: Image.Image, format: str, options: dict[str, Any]) -> bytes:
    stream = BytesIO()
    try:
        image.save(stream, format, **options)
    except (OSError, ValueError) as error:
        raise OutputError(f"{format} cannot hold {image.width} x {image.height} pixels: {error}", "try .png") from error
    return stream.getvalue()
