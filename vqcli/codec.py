"""Media -> codes -> .vqz and back: what `vq encode` and `vq decode` do, for callers in Python.

encoded = encode("photo.png", quality=5)      encoded.save("photo.vqz")
decoded = decode("photo.vqz")                 decoded.pixels
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vqcli import packing, tiles, vqz, zoo
from vqcli.errors import UsageError
from vqcli.media import image
from vqcli.packing import ImageCodes
from vqcli.tiles import Report, silent
from vqcli.vqz import Header, Vqz
from vqcli.zoo import LoadedModel

GREY = 128  # what salvaged pictures show where chunks are lost

Source = str | Path | BinaryIO | np.ndarray


@dataclass(frozen=True)
class Encoded:
    """A picture as codes and as the bytes of its .vqz file.

    notes  what the user should know: what was changed on reading the picture, a rate that could not be met
    """

    image: ImageCodes
    header: Header
    payloads: tuple[bytes, ...]
    pixels: np.ndarray
    notes: tuple[str, ...] = ()

    @cached_property
    def data(self) -> bytes:
        """The whole file."""
        return vqz.pack(self.header, self.payloads)

    @property
    def codes(self) -> np.ndarray:
        """uint16 [groups, rows, columns]."""
        return self.image.codes

    @property
    def bits_per_pixel(self) -> float:
        """Of the whole file, header included."""
        return 8 * len(self.data) / (self.image.size[0] * self.image.size[1])

    def save(self, path: str | Path, *, force: bool = False) -> int:
        """Write the .vqz file and return its size in bytes."""
        return vqz.write(Path(path), self.header, self.payloads, force=force)


@dataclass(frozen=True)
class Decoded:
    """A picture from codes.

    pixels  uint8 [H, W, 1 or 3]
    lost    bool [rows, columns] of the code grid: true where a chunk was damaged; grey in `pixels`
    """

    pixels: np.ndarray
    image: ImageCodes
    header: Header
    lost: np.ndarray = field(repr=False)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the picture; the suffix chooses the format."""
        image.write(Path(path), self.pixels, force=force)


def encode(
    source: Source,
    model: str | LoadedModel = zoo.DEFAULTS["image"],
    *,
    quality: float | None = None,
    bits_per_pixel: float | None = None,
    levels: int | None = None,
    coder: str = "auto",
    background: str = "white",
    metadata: dict[str, str] | None = None,
    device: str = "auto",
    report: Report = silent,
) -> Encoded:
    """Encode a picture: a path, an open file, or pixels uint8 [H, W] or [H, W, 1 or 3].

    quality         1 .. the model's number of qualities, to a tenth; None is its middle
    bits_per_pixel  instead of a quality: the best one whose file stays within this
    levels          keep the first residual levels only, for models that have several
    coder           'auto' (the smallest), 'packed', 'histogram', 'adaptive' or 'prior'

    Raises BadFile for what is no picture, ModelError, UsageError for options that do not fit the model.
    """
    if quality is not None and bits_per_pixel is not None:
        raise UsageError("quality and bits per pixel exclude each other", "give one of --quality and --bpp")
    picture = _read(source, background)
    loaded = zoo.load(model, device) if isinstance(model, str) else model
    if bits_per_pixel is not None:
        codes = tiles.search_quality(loaded, picture.pixels, bits_per_pixel, coder=coder, report=report)
    else:
        codes = tiles.encode_image(loaded, picture.pixels, quality=quality, report=report)
    if levels is not None:
        codes = packing.keep_levels(loaded, codes, levels)
    header, payloads = packing.pack_image(loaded, codes, coder=coder, metadata=metadata)
    encoded = Encoded(codes, header, payloads, picture.pixels, picture.notes)
    if bits_per_pixel is not None and encoded.bits_per_pixel > bits_per_pixel:
        note = f"model {loaded.info.name} cannot go down to {bits_per_pixel:g} bpp here"
        encoded = replace(encoded, notes=(*picture.notes, note))
    return encoded


def decode(
    source: str | Path | bytes | Vqz | Encoded,
    model: str | LoadedModel | None = None,
    *,
    levels: int | None = None,
    salvage: bool = False,
    device: str = "auto",
    report: Report = silent,
) -> Decoded:
    """Decode a .vqz file: a path, its bytes, or what `vqz` read of it.

    model    None finds the model the file names, by its digest; a model given must have that digest
    levels   decode the first residual levels only
    salvage  decode what is whole in a damaged file; lost chunks become grey

    Raises BadFile, DamagedChunks, ModelError if the model is missing or another, UsageError.
    """
    if isinstance(source, Encoded):
        source = source.data
    if isinstance(source, bytes):
        source = vqz.unpack(source, salvage=salvage)
    file = source if isinstance(source, Vqz) else vqz.read(Path(source), salvage)
    loaded = load_for(file.header, model, device)
    codes, lost = packing.unpack_image(loaded, file, levels=levels)
    pixels = tiles.decode_image(loaded, codes, report)
    if lost.any():
        H, W = pixels.shape[:2]
        stride = loaded.net.stride
        pixels[lost.repeat(stride, 0).repeat(stride, 1)[:H, :W]] = GREY
    return Decoded(pixels, codes, file.header, lost)


def load_for(header: Header, model: str | LoadedModel | None, device: str = "auto") -> LoadedModel:
    """The model that a file was made with. Raises ModelError if it is missing, or `model` is another one."""
    if model is None:
        return zoo.load(zoo.find_for_file(header.model, header.digest, header.joint), device)
    info = zoo.find(model) if isinstance(model, str) else model.info
    zoo.check_digest(info, header.model, header.digest, header.joint)
    return zoo.load(info, device) if isinstance(model, str) else model


def _read(source: Source, background: str) -> image.Picture:
    if isinstance(source, np.ndarray):
        pixels = source[..., None] if source.ndim == 2 else source
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
            raise UsageError(f"pixels are {source.dtype} {source.shape}", "they must be uint8 [H, W] or [H, W, 1 or 3]")
        return image.Picture(pixels)
    return image.read(Path(source) if isinstance(source, str) else source, background=background)
