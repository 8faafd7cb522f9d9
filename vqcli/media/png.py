"""What Pillow leaves undone of PNGs: 16-bit colours, the transparent colour of deep and shallow grey, gamma."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from vqcli.media import colour, depth

# The raw modes by which Pillow keeps the high bytes of 16-bit samples, and those by which it keeps the low ones.
_LOW_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}
_LEVELS = {"L;2": 3, "L;4": 15}


def loaded(file: PngImageFile, notes: list[str]) -> Image.Image:
    """The pixels with 8 bits a sample, in sRGB unless an ICC profile says otherwise, with alpha."""
    if said := _code_points(file):
        notes.append(said)
    raw = str(file.tile[0].args) if file.tile else ""
    samples = _samples(file, raw)
    key = file.info.get("transparency")
    if samples is None:
        if key is not None and raw in _LEVELS:  # the colour is as stored, the pixels are scaled
            file.info["transparency"] = int(key) * 255 // _LEVELS[raw]
        if raw.endswith(";16B"):  # grey with alpha: Pillow has no mode for the low bytes
            notes.append("16 bits reduced to 8")
        return _in_srgb(file, notes)
    colours, alpha = (samples, None) if samples.shape[2] in (1, 3) else (samples[..., :3], samples[..., 3:])
    reduced = depth.to_8_bits(colours, notes)
    converted = _by_gamma(file, colours, 65535, notes)
    reduced = reduced if converted is None else converted
    if key is not None and alpha is None:
        alpha = np.where((colours == np.asarray(key)).all(-1, keepdims=True), 0, 65535).astype(np.uint16)
    if alpha is not None:
        reduced = np.concatenate([reduced, depth.scaled(alpha, 0, 65535)], -1)
    image = Image.fromarray(reduced[..., 0] if reduced.shape[2] == 1 else reduced)
    image.info = {name: value for name, value in file.info.items() if name != "transparency"}
    return image


def _code_points(file: PngImageFile) -> str:
    """What to say of colours that are told by a cICP chunk alone (PNG, third edition, 11.3.2.6) and are not sRGB."""
    data = file.fp.getbuffer()  # type: ignore[union-attr]
    at = len(b"\x89PNG\r\n\x1a\n")
    while at + 12 <= len(data) and (kind := bytes(data[at + 4 : at + 8])) != b"IDAT":
        length = int.from_bytes(data[at : at + 4], "big")
        if kind == b"cICP" and length == 4 and "icc_profile" not in file.info:
            primaries, transfer = data[at + 8], data[at + 9]
            known = primaries in (1, 2) and transfer in (2, 13)  # ITU-T H.273: BT.709 and sRGB, 2 is unspecified
            return "" if known else f"colours of primaries {primaries} and transfer {transfer} (cICP) taken for sRGB"
        at += length + 12
    return ""


def _samples(file: PngImageFile, raw: str) -> np.ndarray | None:
    """16-bit samples [H, W, channels], decoded; of other depths None."""
    low: Any = None
    if raw in _LOW_BYTES:
        with PngImageFile(BytesIO(file.fp.getvalue())) as again:  # type: ignore[union-attr]
            again.tile = [again.tile[0]._replace(args=_LOW_BYTES[raw])]
            again.load()
            low = np.asarray(again)
    file.load()
    if low is not None:
        return np.asarray(file).astype(np.uint16) << 8 | low
    return np.asarray(file)[..., None] if file.mode == "I;16" else None


def _in_srgb(file: PngImageFile, notes: list[str]) -> Image.Image:
    """8-bit pixels, converted if their gamma or chromaticities are others than those of sRGB."""
    if "gamma" not in file.info and "chromaticity" not in file.info:
        return file
    grey = file.mode in ("1", "L", "LA")
    image = file.convert(("LA" if grey else "RGBA") if file.has_transparency_data else "L" if grey else "RGB")
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    count = 1 if grey else 3
    converted = _by_gamma(file, pixels[..., :count], 255, notes)
    if converted is None:
        return file
    pixels = np.concatenate([converted, pixels[..., count:]], -1)
    found = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    found.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return found


def _by_gamma(file: PngImageFile, values: np.ndarray, white: int, notes: list[str]) -> np.ndarray | None:
    """As `colour.by_gamma`; a profile and the mark of sRGB come before gamma and chromaticities (PNG, 13.13)."""
    if "icc_profile" in file.info or "srgb" in file.info:
        return None
    return colour.by_gamma(values, white, file.info.get("gamma"), file.info.get("chromaticity"), notes)
