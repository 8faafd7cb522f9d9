"""Clips: files to frames uint8 [H, W, 3] in sRGB, one after the other; video_writing.py has the way back.

A clip may come from anywhere and be of any length, so it is read frame by frame: the first bytes choose one of a few
decoders, only some frames are in memory, and the size of each is checked before its pixels are decoded. libav gets an
open file and its format, so that no playlist can make it open another. Pillow reads GIF, animated WebP and PNG; folders
hold images. `VideoClip.notes` lists what was changed.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageColor
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from vqcli.container.bounds import NO_LIMITS, Limits
from vqcli.errors import BadFile, UsageError
from vqcli.files import name_of
from vqcli.media import image, video_libav
from vqcli.media.frames import (
    VideoClip,
    bounded,
    check_pixels,
    check_seconds,
    clip_of,
    from_frames,
    most_pixels,
    uneven,
)

EXTRA = "pip install 'vqcli[video]'"
FRAMES_PER_S = 25.0  # of folders, which have no rate
HEAD = 256  # bytes that identify a file

# What a scan of a folder takes for a clip besides animated images; reading goes by the content alone.
SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv", ".ts", ".m2ts", ".flv", ".wmv", ".3gp"),
)

# Offset, bytes, and what libav calls such a file.
_KINDS = (
    *((4, atom, "mov") for atom in (b"ftyp", b"moov", b"mdat", b"wide")),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (8, b"AVI ", "avi"),
    (0, b"\0\0\1\xba", "mpeg"),
    (0, b"\0\0\1\xb3", "mpegvideo"),
    (28, b"\x80theora", "ogg"),
    (0, b"FLV\1", "flv"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "asf"),
)
_NO_CLIP = ("avif", "avis", "heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1", "M4A ", "M4B ")  # of ftyp
_ANIMATED: tuple[tuple[bytes, Callable[[Any], ImageFile]], ...] = (
    (b"GIF8", GifImageFile), (b"\x89PNG\r\n\x1a\n", PngImageFile), (b"RIFF", WebPImageFile),
)  # fmt: skip


def available() -> bool:
    """Whether the extra is there, by which video files are read and written."""
    return find_spec("av") is not None


def kind_of(head: bytes) -> str | None:
    """What libav calls a video that begins with these bytes (HEAD of them); None for what is none."""
    if head[4:8] == b"ftyp" and head[8:12].decode("latin-1") in _NO_CLIP:
        return None
    if head[:1] == head[188:189] == b"G":  # two packets of a transport stream
        return "mpegts"
    return next((kind for offset, magic, kind in _KINDS if head.startswith(magic, offset)), None)


def is_clip(stream: BinaryIO) -> bool:
    """Whether a file that can be read again is a video, or a GIF, WebP or PNG of more than one frame."""
    head = stream.read(HEAD)
    stream.seek(0)
    if kind_of(head) is not None:
        return True
    decoder = _animated_decoder(head)
    if decoder is None:
        return False
    try:
        with _quiet():
            return bool(getattr(decoder(stream), "is_animated", False))
    except Exception as error:  # a damaged file counts as an image, whose reader reports the damage
        if isinstance(error, MemoryError) or getattr(error, "errno", None):  # of the system, not of the file
            raise
        return False
    finally:
        stream.seek(0)


@contextlib.contextmanager
def opened(
    source: Path | BinaryIO,
    *,
    frames_per_s: float | None = None,
    background: str = "white",
    limits: Limits = NO_LIMITS,
) -> Iterator[VideoClip]:
    """A clip to be read within the block: a video, an animated image, or a folder of images in natural order.

    `frames_per_s` is for folders, 25 if it is not given. Transparent pixels lie over `background`. Raises UsageError
    for an invalid rate or colour, and BadFile, here or from `frames`, for what is no clip, damaged, truncated,
    has frames of several sizes, or more than `limits`.
    """
    if isinstance(source, Path) and source.is_dir():
        per_s = FRAMES_PER_S if frames_per_s is None else frames_per_s
        yield from_frames(_in_folder(source, background, limits), per_s, str(source), _count(source), limits)
        return
    if frames_per_s is not None:
        raise UsageError("a file has its own frame rate", "--fps is for folders of frames, and for recordings")
    name = name_of(source)
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            head = stream.read(HEAD)
            stream.seek(0)
        except (OSError, ValueError) as error:
            raise BadFile(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from error
        if (kind := kind_of(head)) is not None:
            if not available():
                raise BadFile(f"{name} is a video, which needs an extra", EXTRA)
            yield stack.enter_context(video_libav.opened(stream, kind, name, _colour(background), limits))
        elif decoder := _animated_decoder(head):
            yield _by_pillow(stream, decoder, name, background, limits)
        else:
            raise BadFile(f"{name} is no clip", "MP4, MOV, MKV, WebM, AVI, GIF, and animated WebP and PNG are read")


# ---------------------------------------------------------------- folders of images


def _in_folder(folder: Path, background: str, limits: Limits) -> Iterator[np.ndarray]:
    for path in _image_files(folder):
        yield image.read(path, background=background, max_pixels=most_pixels(limits)).pixels


def _count(folder: Path) -> int:
    if not (count := len(_image_files(folder))):
        raise BadFile(f"no images in {folder}", "a folder of frames holds them as 000001.png, 000002.png, ...")
    return count


def _image_files(folder: Path) -> list[Path]:
    """In natural order, in which 10 comes after 9."""
    try:
        files = [path for path in folder.iterdir() if path.suffix.lower() in image.SUFFIXES and path.name[0] != "."]
    except OSError as error:
        raise BadFile(f"{folder} cannot be read: {error.strerror or error}") from error

    def order(path: Path) -> list[int | str]:
        # digits are at the odd places of what re.split returns, so numbers are compared with numbers
        return [int(part) if at % 2 else part for at, part in enumerate(re.split(r"([0-9]+)", path.name))]

    return sorted(files, key=order)


# ---------------------------------------------------------------- animated images


def _animated_decoder(head: bytes) -> Callable[[Any], ImageFile] | None:
    """The decoder of an image that may have several frames."""
    decoder = next((decoder for magic, decoder in _ANIMATED if head.startswith(magic)), None)
    # the fifth byte of a WebP's first chunk holds the animation flag; still images are left to media/image.py
    still = decoder is WebPImageFile and not (head[8:16] == b"WEBPVP8X" and len(head) > 20 and head[20] & 2)
    return None if still else decoder


def _colour(background: str) -> tuple[int, ...]:
    try:
        return ImageColor.getrgb(background)[:3]
    except ValueError:
        raise UsageError(f"unknown background colour: {background}", "a name such as white, or #rrggbb") from None


def _by_pillow(
    stream: BinaryIO, decoder: Callable[[Any], ImageFile], name: str, background: str, limits: Limits
) -> VideoClip:
    colour = _colour(background)
    durations_ms: list[float] = []

    def frames() -> Iterator[np.ndarray]:
        for index in range(getattr(file, "n_frames", 1)):
            with _decoding(name, f"frame {index + 1}"):
                file.seek(index)
                file.load()
                # browsers show a frame without a duration for a tenth of a second
                durations_ms.append(float(file.info.get("duration") or 100))
                check_seconds(sum(durations_ms) / 1000, name, limits)
                pixels = np.asarray(_flat(file, colour))
            yield pixels
        clip.frames_per_1000s = bounded(1e6 * len(durations_ms) / sum(durations_ms), name)
        if max(durations_ms) - min(durations_ms) > 10:  # some writers alternate to meet a rate
            clip.notes.append(uneven(clip.frames_per_1000s))

    with _decoding(name, "the header"):
        file = decoder(stream)
        check_pixels(file.width, file.height, name, limits)
        count = getattr(file, "n_frames", 1)
        cut = decoder is GifImageFile and not _has_trailer(stream)
    notes = ["a GIF without an end: perhaps cut short"] if cut else []
    # frames() sets the rate when it ends, and heeds the length
    clip = clip_of(frames(), name, round(1000 * FRAMES_PER_S), count, notes, replace(limits, seconds=None))
    return clip


def _has_trailer(stream: BinaryIO) -> bool:
    """Whether a GIF has its end marker; pillow does not notice frames that are missing altogether."""
    stream.seek(max(0, stream.seek(0, 2) - HEAD))
    return stream.read().rstrip(b"\0\r\n ").endswith(b";")


def _flat(file: ImageFile, colour: tuple[int, ...]) -> Image.Image:
    if not file.has_transparency_data:
        return file.convert("RGB")
    below = Image.new("RGBA", file.size, (*colour, 255))
    return Image.alpha_composite(below, file.convert("RGBA")).convert("RGB")


@contextlib.contextmanager
def _decoding(name: str, what: str) -> Iterator[None]:
    try:
        with _quiet():
            yield
    except (BadFile, MemoryError):
        raise
    except Exception as error:  # on hostile bytes the decoders raise arbitrary exceptions
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadFile(f"{name}: {what} is damaged or incomplete: {reason}") from error


def _quiet() -> warnings.catch_warnings[None]:
    """Without pillow's warnings about damage that it survives."""
    return warnings.catch_warnings(action="ignore")
