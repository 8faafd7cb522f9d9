"""Clips: frames uint8 [H, W, 3] to a video file, an animated image, or a folder of images.

Frames are written one by one to a temporary file or folder, which is renamed at the end. H.264 and VP9 run at such a
high quality that visible losses come from the codes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from vqcli.errors import BadFile, OutputError, UsageError
from vqcli.files import HINT, refuse_existing, replacing, seekable, temporary_folder
from vqcli.media import image
from vqcli.media.callbacks import CallbackFile
from vqcli.media.video import EXTRA, available

FRAMES = "frames"  # the name of the format that is a folder of them


class _Codec(NamedTuple):
    format: str
    name: str
    options: dict[str, str]


_H264 = ("libx264", {"crf": "12", "preset": "medium"})
_CODECS = {
    ".mp4": _Codec("mp4", *_H264),
    ".m4v": _Codec("mp4", *_H264),
    ".mov": _Codec("mov", *_H264),
    ".mkv": _Codec("matroska", *_H264),
    ".webm": _Codec("webm", "libvpx-vp9", {"crf": "12", "b": "0", "deadline": "good", "cpu-used": "4"}),
}
KNOWN = (*_CODECS, ".gif", ".webp")
_BT709 = {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1}  # what players assume without a tag


def write(
    target: Path | BinaryIO,
    frames: Iterable[np.ndarray],
    frames_per_1000s: int,
    *,
    format: str | None = None,
    force: bool = False,
) -> tuple[str, ...]:
    """Write frames uint8 [H, W, 3], all of one size, at a rate, to a new file, a folder or a stream.

    `format` is a suffix such as "mp4", or "frames", by default that of `target`: a path without one becomes a folder of
    000001.png and so on. With `force` an old file is replaced, and in an old folder its frames are. Returns what the
    user should know. Of frames in a row that are equal WebP makes one that is shown for longer.
    Raises UsageError for an unknown format or what exists, OutputError if the format cannot hold the clip or it cannot
    be written; the errors of a stream are its own.
    """
    suffix = format_of(target, format)
    if isinstance(target, Path) and suffix == FRAMES:
        return _write_folder(target, frames, force)
    if isinstance(target, Path):
        refuse_existing(target, force)  # before the work, not after it
        with replacing(target, force=force) as stream:
            return _write(stream, frames, frames_per_1000s, suffix)
    with seekable(target) as stream:
        return _write(stream, frames, frames_per_1000s, suffix)


def format_of(target: Path | BinaryIO, format: str | None = None) -> str:
    """How a clip of that name is written: a suffix, or FRAMES. Raises UsageError for an unknown one."""
    given = (format or "").lower().lstrip(".")
    if given == FRAMES or (not given and isinstance(target, Path) and not target.suffix):
        if not isinstance(target, Path):
            raise UsageError("a stream cannot be a folder of frames", "name a folder")
        return FRAMES
    suffix = f".{given}" if given else target.suffix.lower() if isinstance(target, Path) else ""
    if suffix not in KNOWN:
        known = f"known: {', '.join(KNOWN)}, or a folder without a suffix"
        raise UsageError(f"unknown kind of clip to write: {suffix or 'no suffix'}", known)
    if suffix in _CODECS and not available():
        raise OutputError(f"writing {suffix} needs an extra", f"{EXTRA}, or write a .gif or a folder of frames")
    return suffix


def _write(stream: Any, frames: Iterable[np.ndarray], frames_per_1000s: int, suffix: str) -> tuple[str, ...]:
    """To a file that can be sought in."""
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise BadFile("a clip needs a frame at least")
    frames = chain([first], frames)
    if suffix in _CODECS:
        return _write_video(stream, frames, first.shape[:2], frames_per_1000s, _CODECS[suffix])
    if suffix == ".gif":
        return _write_gif(stream, frames, first.shape[:2], frames_per_1000s)
    return _write_webp(stream, frames, frames_per_1000s)


# ---------------------------------------------------------------- videos


def _write_video(
    stream: Any, frames: Iterable[np.ndarray], size: tuple[int, ...], frames_per_1000s: int, codec: _Codec
) -> tuple[str, ...]:
    import av

    height, width = size
    rate = Fraction(frames_per_1000s, 1000)
    called = CallbackFile(stream)
    try:
        if codec.name not in av.codecs_available:
            raise OutputError(f"libav lacks {codec.name} here", "write a .gif, or a folder of frames")
        with av.open(called, "w", format=codec.format) as container:
            track: Any = container.add_stream(codec.name, rate=rate, options=codec.options)
            track.width, track.height = width, height
            track.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"  # the latter halves both sides
            for name, value in _BT709.items():
                setattr(track.codec_context, name, value)
            for number, pixels in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                frame = frame.reformat(format=track.pix_fmt, dst_colorspace="ITU709", dst_color_range="MPEG")
                frame.pts, frame.time_base = number, 1 / rate
                container.mux(track.encode(frame))
                called.check()
            container.mux(track.encode(None))
        called.check()
    except av.error.FFmpegError as error:
        reason = " ".join(str(error.strerror or error).split())
        raise OutputError(
            f"{codec.format} cannot hold frames of {width} x {height} at {frames_per_1000s / 1000:g} a second: "
            f"{reason}",
            "a folder of frames holds any",
        ) from error
    return ()


# ---------------------------------------------------------------- animated images


def _write_gif(
    stream: BinaryIO, frames: Iterable[np.ndarray], size: tuple[int, ...], frames_per_1000s: int
) -> tuple[str, ...]:
    """Each frame with a palette of its own. Pillow holds all frames of a GIF and joins equal ones: so it makes GIFs of
    one frame here, whose parts (GIF89a, sections 20 to 22) are put together."""
    height, width = size
    if max(size) > 65535:
        raise OutputError(f"GIF cannot hold {width} x {height} pixels", "write a .mp4")
    stream.write(b"GIF89a" + struct.pack("<HHBBB", width, height, 0x70, 0, 0))
    stream.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0")  # for ever
    shown = 0  # in hundredths of a second
    for number, pixels in enumerate(frames, 1):
        until = max(round(1e5 * number / frames_per_1000s), shown + 1)  # so that rounding does not add up
        delay, shown = min(until - shown, 65535), until
        stream.write(b"\x21\xf9\x04" + struct.pack("<BHBB", 4, delay, 0, 0) + _gif_image(pixels))
    stream.write(b"\x3b")
    if 1e5 % frames_per_1000s:
        return (f"GIF counts in hundredths of a second: {1e5 * number / shown / 1000:.4g} frames a second",)
    return ()


def _gif_image(pixels: np.ndarray) -> bytes:
    """The image of a frame in a GIF: its descriptor, its palette, its pixels."""
    alone = BytesIO()
    Image.fromarray(pixels).quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(alone, "GIF")
    data = alone.getvalue()
    bits = data[10] & 7  # the global palette has 2^(bits + 1) colours
    palette = data[13 : 13 + 3 * 2 ** (bits + 1)]
    at = 13 + len(palette)
    while data[at] == 0x21:  # extensions: blocks of at most 255 bytes, the last one empty
        at += 2
        while data[at]:
            at += data[at] + 1
        at += 1
    # the descriptor: a comma, the place, the size, and now a palette of its own
    return data[at : at + 9] + bytes([data[at + 9] | 0x80 | bits]) + palette + data[at + 10 : -1]


def _write_webp(stream: BinaryIO, frames: Iterator[np.ndarray], frames_per_1000s: int) -> tuple[str, ...]:
    images = (Image.fromarray(pixels) for pixels in frames)
    length_ms = max(round(1e6 / frames_per_1000s), 1)
    try:
        next(images).save(stream, "WEBP", save_all=True, append_images=images, duration=length_ms, loop=0, quality=90)
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None):  # of the system, not of Pillow
            raise
        raise OutputError(f"WebP cannot hold this clip: {error}", "try .mp4") from error
    if 1e6 % frames_per_1000s:
        return (f"WebP counts in thousandths of a second: {1000 / length_ms:.4g} frames a second",)
    return ()


# ---------------------------------------------------------------- folders


def _write_folder(folder: Path, frames: Iterable[np.ndarray], force: bool) -> tuple[str, ...]:
    """Into a temporary folder next to it, which is renamed at the end; nothing but frames is ever replaced."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} exists and is no folder", "name a new folder")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise UsageError(f"{folder} exists and is not empty", "--force replaces the frames in it")
    try:
        with temporary_folder(folder.parent) as temporary:
            for number, pixels in enumerate(frames, 1):
                (temporary / f"{number:06d}.png").write_bytes(image.encode_bytes(pixels, "PNG", compress_level=6))
            if not (folder.is_dir() and any(folder.iterdir())):
                temporary.rename(folder)  # in one step, and not over a folder that was filled meanwhile
                return ()
            for old in folder.iterdir():
                if re.fullmatch(r"\d{6,8}\.png", old.name, re.ASCII):
                    old.unlink()
            for path in sorted(temporary.iterdir()):
                path.replace(folder / path.name)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}", HINT) from error
    return ()
