"""H.264 as a baseline at equal bytes. Needs the extra `video` (PyAV)."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from vqcli.errors import UsageError
from vqcli.evaluation.metrics import mse
from vqcli.media import video

NAME = "H.264"
CRFS = [step / 4 for step in range(4 * 51, -1, -1)]  # from the smallest streams to the largest
PRESET = "slower"
LAYOUTS = ("yuv420p", "yuv444p")  # chroma at half the resolution, which needs even sides, and at full resolution
START = re.compile(rb"\x00*\x00\x00\x01")  # of a unit in a stream (H.264, annex B)
NOTES = 6  # type of the units with version and settings of x264: some 700 bytes without image data


@dataclass(frozen=True, eq=False)
class CodedVideo:
    crf: float
    size_bytes: int
    frames: np.ndarray  # decoded, uint8, of the original shape
    fits: bool = True  # false if the smallest stream of the codec is above the size limit


def require() -> None:
    """Raise UsageError if the extra is not installed: call it before the work."""
    if not video.available():
        raise UsageError(f"{NAME} is made by PyAV, which is not installed", video.EXTRA)


def at_bytes(frames: np.ndarray, size_bytes: int, frames_per_s: int = 10) -> CodedVideo:
    """The best stream of frames uint8 [T, H, W, 3] that is not above `size_bytes`, by bisection over crf.

    Without a container and without the encoder's metadata. Chroma at half or at full resolution, whichever has the
    lower error: the former is bad at hard edges. Raises UsageError without the extra.
    """
    require()
    layouts = LAYOUTS[1:] if frames.shape[1] % 2 or frames.shape[2] % 2 else LAYOUTS
    streams = [_at_bytes(frames, size_bytes, frames_per_s, layout) for layout in layouts]
    return min(streams, key=lambda one: (not one.fits, mse(one.frames, frames)))


def _at_bytes(frames: np.ndarray, size_bytes: int, frames_per_s: int, layout: str) -> CodedVideo:
    streams: dict[float, bytes] = {}

    def size_at(crf: float) -> int:
        streams[crf] = _encode(frames, crf, frames_per_s, layout)
        return len(streams[crf])

    fitting = bisect_right(CRFS, size_bytes, key=size_at)
    crf = CRFS[max(fitting - 1, 0)]
    return CodedVideo(crf, len(streams[crf]), _decode(streams[crf]), fits=fitting > 0)


def _encode(frames: np.ndarray, crf: float, frames_per_s: int, layout: str) -> bytes:
    import av

    codec = av.CodecContext.create("libx264", "w")
    codec.height, codec.width = frames.shape[1:3]
    codec.pix_fmt, codec.framerate, codec.thread_count = layout, Fraction(frames_per_s), 1
    codec.options = {"crf": str(crf), "preset": PRESET}
    packets = []
    for number, pixels in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = frame.reformat(format=layout, dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts = number
        packets += codec.encode(frame)
    stream = b"".join(bytes(packet) for packet in [*packets, *codec.encode(None)])
    units = [unit for unit in START.split(stream) if unit and unit[0] & 31 != NOTES]
    return b"".join(b"\0\0\1" + unit for unit in units)


def _decode(stream: bytes) -> np.ndarray:
    import av

    codec = av.CodecContext.create("h264", "r")
    codec.thread_count = 1
    frames = []
    for packet in [*codec.parse(stream), *codec.parse(b""), None]:
        frames += codec.decode(packet)
    images = (frame.reformat(format="rgb24", src_colorspace="ITU709", src_color_range="MPEG") for frame in frames)
    return np.stack([image.to_ndarray() for image in images])
