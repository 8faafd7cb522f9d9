"""What all readers of video return: frames one after the other, within the limits of the .vqz format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain

import numpy as np

from vqcli.container.bounds import MAX_FRAME_PIXELS, MAX_PIXELS, NO_LIMITS, Limits
from vqcli.errors import BadFile, UsageError

MAX_FRAMES = 2**24
MAX_RATE_MHZ = 2**20  # frames per 1000 s


@dataclass
class VideoClip:
    """Frames that are being read.

    width, height     in pixels, of every frame
    frames            each uint8 [height, width, 3], to be taken once
    frames_per_1000s  1 .. 2^20; if they come unevenly their average, known after the last one only
    count             the number of frames, if known beforehand; a file may be wrong about it
    notes             what was changed or left out; all of it after the last frame
    """

    width: int
    height: int
    frames: Iterator[np.ndarray]
    frames_per_1000s: int
    count: int | None = None
    notes: list[str] = field(default_factory=list)


def from_frames(
    frames: Iterable[np.ndarray], frames_per_s: float, name: str, count: int | None = None, limits: Limits = NO_LIMITS
) -> VideoClip:
    """A clip of frames uint8 [H, W, 1 or 3]. Raises UsageError for a rate out of range, BadFile for frames of
    several sizes, too many frames, or more than `limits`."""
    if not 0.001 <= frames_per_s <= MAX_RATE_MHZ // 1000:
        raise UsageError(f"{frames_per_s:g} frames a second are not within 0.001 to {MAX_RATE_MHZ // 1000}")
    return clip_of(frames, name, round(frames_per_s * 1000), count, [], limits)


def clip_of(
    frames: Iterable[np.ndarray],
    name: str,
    frames_per_1000s: int,
    count: int | None,
    notes: list[str],
    limits: Limits = NO_LIMITS,
) -> VideoClip:
    """The clip of these frames; the first one sets the size. `limits` hold for its length at the rate that is given."""
    check_seconds(1000 * (count or 0) / frames_per_1000s, name, limits)
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise BadFile(f"{name} holds no frames")
    height, width = first.shape[:2]
    check_pixels(width, height, name, limits)
    checked = _checked(chain([first], frames), first.shape[:2], name, frames_per_1000s, limits)
    return VideoClip(width, height, checked, frames_per_1000s, count, notes)


def _checked(
    frames: Iterable[np.ndarray], size: tuple[int, ...], name: str, frames_per_1000s: int, limits: Limits
) -> Iterator[np.ndarray]:
    """The frames as RGB. Raises BadFile for one of another size than the first, or for too many."""
    for number, frame in enumerate(frames, 1):
        if frame.shape[:2] != size:
            height, width = frame.shape[:2]
            raise BadFile(f"{name}: frame {number} is {width} x {height} pixels, the first {size[1]} x {size[0]}")
        check_seconds(1000 * number / frames_per_1000s, name, limits)
        if number > MAX_FRAMES:
            raise BadFile(f"{name} is of more than {MAX_FRAMES:,} frames", "cut it into parts")
        yield np.ascontiguousarray(np.broadcast_to(frame, (*size, 3)))


def most_pixels(limits: Limits) -> int:
    return min(limits.pixels or MAX_FRAME_PIXELS, MAX_PIXELS)


def check_pixels(width: int, height: int, name: str, limits: Limits) -> None:
    """Raise BadFile for frames of more pixels than files may have that are decoded with the same limits."""
    most = most_pixels(limits)
    if width * height > most:
        hint = "--max-pixels allows more" if width * height <= MAX_PIXELS else ""
        raise BadFile(f"{name} is too large: frames of {width} x {height} pixels; {most:,} are allowed", hint)


def check_seconds(seconds: float, name: str, limits: Limits) -> None:
    if limits.seconds is not None and seconds > limits.seconds:
        raise BadFile(f"{name} is longer than the {limits.seconds:g} s that are allowed", "--max-seconds allows more")


def is_rate(frames_per_1000s: float | Fraction) -> bool:
    return 1 <= round(frames_per_1000s) <= MAX_RATE_MHZ


def bounded(frames_per_1000s: float, name: str) -> int:
    if not is_rate(frames_per_1000s):
        raise BadFile(f"{name} shows {frames_per_1000s / 1000:g} frames a second, which are not vq's 0.001 to 1048")
    return round(frames_per_1000s)


def uneven(frames_per_1000s: int) -> str:
    return f"uneven frames, now at their average of {frames_per_1000s / 1000:.4g} a second"
