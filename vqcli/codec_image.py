"""Pictures -> codes -> .vqz and back; codec.py calls this for what is a picture."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vqcli import packing, remainder, tiles
from vqcli.container.vqz import Header, Vqz
from vqcli.errors import UsageError
from vqcli.media import image
from vqcli.packing import ImageCodes
from vqcli.tiles import Report, silent
from vqcli.zoo.loading import LoadedModel

LOSSLESS = 0.3  # the quality for pictures without loss, as a share of the model's: codes and remainder are least there
GREY = 128  # what salvaged pictures show where chunks are lost


@dataclass(frozen=True)
class EncodedImage(packing.File):
    """A picture as codes and as the bytes of its .vqz file.

    notes  what the user should know: what was changed on reading the picture, a rate that could not be met
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
        return self.header.remainder is not None


@dataclass(frozen=True)
class DecodedImage:
    """A picture from codes.

    pixels  uint8 [H, W, 1 or 3]
    lost    bool [rows, columns] of the code grid: true where a chunk was damaged; grey in `pixels`
    exact   bool [rows, columns]: true where the pixels are those of the original, by the file's remainder
    """

    pixels: np.ndarray
    image: ImageCodes
    header: Header
    lost: np.ndarray = field(repr=False)
    exact: np.ndarray = field(repr=False)

    @property
    def lossless(self) -> bool:
        """Whether every pixel is that of the original."""
        return bool(self.exact.all())

    def save(self, target: str | Path | BinaryIO, *, format: str | None = None, force: bool = False) -> None:
        """Write the picture; the suffix chooses the format."""
        image.write(Path(target) if isinstance(target, str) else target, self.pixels, format=format, force=force)


def encode_image(
    source: Path | BinaryIO | np.ndarray,
    model: LoadedModel,
    *,
    quality: float | None = None,
    bits_per_pixel: float | None = None,
    lossless: bool = False,
    levels: int | None = None,
    coder: str = "auto",
    background: str = "white",
    metadata: dict[str, str] | None = None,
    report: Report = silent,
) -> EncodedImage:
    """Encode a picture: a path, an open file, or pixels uint8 [H, W] or [H, W, 1 or 3]. See `codec.encode`."""
    if quality is not None and bits_per_pixel is not None:
        raise UsageError("quality and bits per pixel exclude each other", "give one of --quality and --bpp")
    if lossless and (bits_per_pixel is not None or levels is not None):
        raise UsageError("without loss a file takes what it takes, and all levels", "leave --bpp and --levels out")
    picture = _read(source, background)
    if bits_per_pixel is not None:
        codes = tiles.search_quality(model, picture.pixels, bits_per_pixel, coder=coder, report=report)
    elif lossless:
        return _encode_lossless(picture, model, quality, coder, metadata, report)
    else:
        codes = tiles.encode_image(model, picture.pixels, quality=quality, report=report)
    if levels is not None:
        codes = packing.keep_levels(model, codes, levels)
    header, payloads = packing.pack_image(model, codes, coder=coder, metadata=metadata)
    encoded = EncodedImage(codes, header, payloads, picture.pixels, picture.notes)
    if bits_per_pixel is not None and encoded.bits_per_pixel > bits_per_pixel:
        note = f"model {model.info.name} cannot go down to {bits_per_pixel:g} bpp here"
        encoded = replace(encoded, notes=(*picture.notes, note))
    return encoded


def _encode_lossless(
    picture: image.Picture,
    model: LoadedModel,
    quality: float | None,
    coder: str,
    metadata: dict[str, str] | None,
    report: Report,
) -> EncodedImage:
    if tiles.draws(model):
        raise UsageError(f"model {model.info.name} draws what it decodes, so it is never exact", "--model photo")
    if quality is None and tiles.qualities(model):
        quality = max(1.0, LOSSLESS * tiles.qualities(model))
    codes = tiles.encode_image(model, picture.pixels, quality=quality, report=lambda share: report(share / 4))
    header, payloads = packing.pack_image(model, codes, coder=coder, metadata=metadata)
    header, rest = remainder.pack(
        model, header, codes, picture.pixels, report=lambda share: report(0.25 + 0.75 * share)
    )  # fmt: skip
    return EncodedImage(codes, header, (*payloads, *rest), picture.pixels, picture.notes)


def decode_image(
    file: Vqz,
    model: LoadedModel,
    *,
    levels: int | None = None,
    salvage: bool = False,
    seed: int | None = None,
    report: Report = silent,
) -> DecodedImage:
    """Decode a parsed file with the model that it was made with. See `codec.decode`."""
    codes, lost = packing.unpack_image(model, file, levels=levels)
    if file.header.remainder and levels in (None, file.header.levels):
        pixels, exact = remainder.unpack(model, file, codes, lost, salvage=salvage, report=report)
    else:
        pixels, exact = tiles.decode_image(model, codes, report, seed), np.zeros_like(lost)
    if lost.any():
        H, W = pixels.shape[:2]
        stride = model.net.stride
        pixels[lost.repeat(stride, 0).repeat(stride, 1)[:H, :W]] = GREY
    return DecodedImage(pixels, codes, file.header, lost, exact)


def _read(source: Path | BinaryIO | np.ndarray, background: str) -> image.Picture:
    if isinstance(source, np.ndarray):
        pixels = source[..., None] if source.ndim == 2 else source
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
            raise UsageError(f"pixels are {source.dtype} {source.shape}", "they must be uint8 [H, W] or [H, W, 1 or 3]")
        return image.Picture(pixels)
    return image.read(source, background=background)
