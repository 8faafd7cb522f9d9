"""Colours of files to sRGB: by ICC profiles through Little CMS, by the gamma and chromaticities of PNGs here."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

# x and y of white, red, green and blue as PNGs have them (IEC 61966-2-1, ITU-R BT.709)
SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_SAME = 0.005  # of x and y: what rounding of published numbers explains
_GAMMA = 1 / 2.2  # how files name the curve of sRGB
_SAME_GAMMA = 0.05  # as a share, as in libpng
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_AT_ONCE = 2**20  # pixels that are converted at once


def to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """To mode L or RGB without alpha, by the embedded profile if it is sound and is not sRGB already."""
    if image.mode in ("CMYK", "YCbCr", "LAB"):
        flat = image
        notes.append(f"{image.mode} converted")
    else:
        mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
        flat = image if image.mode == mode else image.convert(mode)  # converting to its own mode copies it
    if profile or flat.mode == "LAB":
        try:
            flat = _by_profile(flat, profile, notes)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            notes.append("unusable ICC profile ignored")
    return flat if flat.mode in ("L", "RGB") else flat.convert("RGB")


def _by_profile(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """Through Little CMS to L or RGB; a LAB image without a profile defines its colours itself."""
    source = ImageCms.ImageCmsProfile(BytesIO(profile) if profile else ImageCms.createProfile("LAB"))
    # an RGB profile in a grey file is against the rules, and common
    mode = "RGB" if image.mode == "L" and source.profile.xcolor_space.strip() == "RGB" else image.mode
    transform = ImageCms.buildTransform(
        *(source, ImageCms.createProfile("sRGB"), mode, "RGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if mode in ("L", "RGB"):
        # sRGB goes by many names, so look at what the profile does to ramps of red, green, blue and grey
        ramps = np.arange(256)[:, None, None] * [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]  # (256, 4, 3)
        ramps = ramps[:, 3:] if mode == "L" else ramps
        moved = ImageCms.applyTransform(Image.fromarray(ramps.astype(np.uint8)).convert(mode), transform)
        if np.abs(np.asarray(moved) - ramps).max() <= 2:
            return image
    if profile:
        description = "".join(filter(str.isprintable, ImageCms.getProfileDescription(source)))
        notes.append(f"ICC profile {description[:60]} converted to sRGB")
    converted = ImageCms.applyTransform(image.convert(mode), transform)
    assert converted is not None  # it is None only when converting in place
    return converted.getchannel("G") if image.mode == "L" else converted


def by_gamma(
    values: np.ndarray, white: int, gamma: float | None, chromaticities: tuple[float, ...] | None, notes: list[str]
) -> np.ndarray | None:
    """Unsigned samples [H, W, 1 or 3] up to `white` as uint8 in sRGB; None if they are of sRGB already.

    A sample is its light to the power of `gamma`; no gamma is the curve of sRGB. The `chromaticities` are x and y of
    white, red, green and blue. What makes no sense is ignored, as for a bad profile.
    """
    curved = gamma is not None and abs(gamma / _GAMMA - 1) > _SAME_GAMMA
    other = chromaticities is not None and max(abs(np.subtract(chromaticities, SRGB))) > _SAME and values.shape[2] == 3
    if not (curved or other):
        return None
    matrix = _to_linear_srgb(chromaticities) if other and chromaticities is not None else None
    if (curved and not 0.1 <= (gamma or 0) <= 10) or (other and matrix is None):
        notes.append("unusable gamma and chromaticities ignored")
        return None
    light = np.arange(white + 1) / white
    light = light ** (1 / gamma) if curved and gamma else _linear(light)
    notes.append(
        " and ".join([f"gamma {gamma:.3g}"] * curved + ["chromaticities"] * bool(other)) + " converted to sRGB"
    )
    if matrix is None:
        converted: np.ndarray = np.rint(255 * _encoded(light)).astype(np.uint8)[values]
        return converted
    table, found = light.astype(np.float32), np.empty(values.shape, np.uint8)
    step = max(1, _AT_ONCE // values.shape[1])
    for at in range(0, len(values), step):
        part = table[values[at : at + step]] @ matrix.T.astype(np.float32)
        found[at : at + step] = np.rint(255 * _encoded(part.clip(0, 1)))
    return found


def _to_linear_srgb(chromaticities: tuple[float, ...]) -> np.ndarray | None:
    """Linear RGB of other primaries to that of sRGB, [3, 3], whites adapted by Bradford; None if they span nothing."""
    try:
        ours, white = _to_xyz(SRGB)
        theirs, their_white = _to_xyz(chromaticities)
        cones = _BRADFORD @ np.stack([white, their_white], 1)
        adapted = np.linalg.inv(_BRADFORD) @ np.diag(cones[:, 0] / cones[:, 1]) @ _BRADFORD
        matrix: np.ndarray = np.linalg.inv(ours) @ adapted @ theirs
    except (np.linalg.LinAlgError, ValueError, ZeroDivisionError, FloatingPointError):
        return None
    return matrix if np.isfinite(matrix).all() and abs(matrix).max() < 100 else None


def _to_xyz(chromaticities: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Linear RGB to CIE XYZ, [3, 3], and the white, [3]."""
    x, y = np.array(chromaticities, np.float64).reshape(4, 2).T
    if (y <= 0).any():
        raise ValueError("a colour without luminance")
    white, *primaries = (np.stack([x, y, 1 - x - y]) / y).T
    columns = np.stack(primaries, 1)
    return columns * np.linalg.solve(columns, white), white


def _linear(encoded: np.ndarray) -> np.ndarray:
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _encoded(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
