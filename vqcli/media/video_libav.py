"""Video files by libav: upright frames, notes on what was left out, and a check for missing frames."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from vqcli.container.bounds import MAX_PIXELS, NO_LIMITS, Limits
from vqcli.errors import BadFile
from vqcli.media.frames import VideoClip, bounded, check_pixels, check_seconds, clip_of, is_rate, most_pixels, uneven

FRAMES_PER_S = 25.0  # of a file without a rate
_WHITE = (255, 255, 255)
# Decoders that see the alpha of WebM, by those of libav that do not.
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@contextlib.contextmanager
def opened(
    stream: BinaryIO, kind: str, name: str, background: tuple[int, ...] = _WHITE, limits: Limits = NO_LIMITS
) -> Iterator[VideoClip]:
    """The first video of a file, to be read within the block; `kind` is what libav calls such files.

    Frames with alpha lie over the colour `background`.

    Raises BadFile, here or from `frames`.
    """
    import av
    from av.stream import Disposition

    av.logging.set_level(None)  # errors come as exceptions
    with contextlib.ExitStack() as stack:
        try:
            container = stack.enter_context(av.open(stream, "r", format=kind, metadata_errors="replace"))
            shown = [track for track in container.streams.video if not track.disposition & Disposition.attached_pic]
            if not shown:
                raise BadFile(f"{name} holds no video", "extract its audio with: ffmpeg -i IN out.wav")
            track = shown[0]
            if track.codec_context is None:
                raise BadFile(f"{name} is coded in a way that libav does not know")
            check_pixels(track.width, track.height, name, limits)
            decoder = _decoder(track)
            # it counts what it pads frames with
            decoder.options = {"max_pixels": str(min(2 * most_pixels(limits) + 2**20, MAX_PIXELS))}
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise BadFile(f"{name} is damaged or incomplete: {_reason(error)}") from error
        notes = ["audio left out"] if container.streams.audio else []
        if track.sample_aspect_ratio not in (None, 0, 1):
            notes.append(f"pixels {float(track.sample_aspect_ratio):.3g} times as wide as high, taken for square")
        if track.codec_context.color_trc in (16, 18):  # PQ and HLG (ITU-T H.273, table 3)
            notes.append("high dynamic range taken for sRGB")
        rates = (rate for rate in (track.average_rate, track.guessed_rate) if rate and is_rate(1000 * rate))
        rate = next(rates, Fraction(FRAMES_PER_S))  # containers hold all sorts of rates
        times = _FrameTimes()

        def frames() -> Iterator[np.ndarray]:
            yield from _decoded(container, track, decoder, name, float(rate), times, background, limits)
            if times.transparent:
                clip.notes.append("alpha composited over the background")
            if times.damaged:
                clip.notes.append(f"{times.damaged} damaged frames, patched by the decoder")
            if times.uneven:
                clip.frames_per_1000s = bounded(1000 * times.frames_per_s, name)
                clip.notes.append(uneven(clip.frames_per_1000s))

        clip = clip_of(frames(), name, round(1000 * rate), track.frames or None, notes, limits)
        yield clip


@dataclass
class _FrameTimes:
    """Presentation times of frames in s, by what shows whether they are even; what is damaged, or has alpha."""

    first: float | None = None
    last: float = 0.0
    end: float = 0.0
    gaps: tuple[float, float] = (1e9, 0.0)  # the shortest, the longest
    count: int = 0
    damaged: int = 0
    transparent: bool = False

    def add(self, time: float | None, length: float) -> None:
        self.count += 1
        if time is None:
            return
        if self.first is None:
            self.first = time
        elif time > self.last:
            self.gaps = min(self.gaps[0], time - self.last), max(self.gaps[1], time - self.last)
        self.last, self.end = time, max(self.end, time + length)

    @property
    def frames_per_s(self) -> float:
        return (self.count - 1) / (self.last - (self.first or 0))

    @property
    def uneven(self) -> bool:
        """By more than what rounding to whole milliseconds explains."""
        shortest, longest = self.gaps
        return 0 < shortest <= longest and longest - shortest > max(0.0025, 0.1 / self.frames_per_s)


def _decoder(track: Any) -> Any:
    """What decodes a track, with its alpha if it has one."""
    import av

    other = _WITH_ALPHA.get(track.codec_context.name)
    if other is None or track.metadata.get("alpha_mode", track.metadata.get("ALPHA_MODE")) != "1":
        return track.codec_context
    try:
        decoder = av.CodecContext.create(other, "r")
    except (av.error.FFmpegError, ValueError):  # not in this build
        return track.codec_context
    decoder.extradata = track.codec_context.extradata
    return decoder


def _rgb(frame: Any, background: tuple[int, ...], times: _FrameTimes) -> np.ndarray:
    """Pixels uint8 [H, W, 3], alpha laid over the background."""
    if not any(component.is_alpha for component in frame.format.components):
        return frame.to_ndarray(format="rgb24")
    pixels = frame.to_ndarray(format="rgba")
    alpha = pixels[..., 3:].astype(np.uint16)
    if alpha.min() == 255:
        return np.ascontiguousarray(pixels[..., :3])
    times.transparent = True
    mixed = pixels[..., :3] * alpha + np.array(background, np.uint16) * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def _decoded(
    container: Any,
    track: Any,
    decoder: Any,
    name: str,
    rate: float,
    times: _FrameTimes,
    background: tuple[int, ...],
    limits: Limits,
) -> Iterator[np.ndarray]:
    """Upright frames [H, W, 3]; BadFile if there are fewer than the file promises, or more than `limits`."""
    import av

    promised_s = _promised_s(container, track)
    promised = track.frames or round((promised_s or 0) * rate)
    packets = 0
    try:
        for packet in container.demux(track):
            packets += packet.size > 0
            for frame in decoder.decode(packet):
                times.damaged += frame.is_corrupt
                times.add(frame.time, float((frame.duration or 0) * (frame.time_base or 0)) or 1 / rate)
                check_pixels(frame.width, frame.height, name, limits)
                check_seconds(times.end - (times.first or 0), name, limits)
                yield np.rot90(_rgb(frame, background, times), round(frame.rotation / 90))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        after = f"ends after {times.count} of {promised} frames" if promised > times.count else "is damaged"
        raise BadFile(f"{name} {after}: {_reason(error)}") from error
    # editors cut by telling players to skip what the file still has, so both frames and time must be short
    if packets < (track.frames or packets + 1) and promised_s is not None and times.end < promised_s - 3 / rate:
        raise BadFile(f"{name} ends after {times.count} of {promised} frames", "it is truncated: copy it again")


def _promised_s(container: Any, track: Any) -> float | None:
    """When the last frame ends, as the file has it."""
    if track.duration is not None and track.time_base is not None:
        return float(track.duration * track.time_base)
    duration = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", track.metadata.get("DURATION", ""), re.ASCII)
    if duration:
        return 3600 * int(duration[1]) + 60 * int(duration[2]) + float(duration[3])
    return container.duration / 1e6 if container.duration and len(container.streams) == 1 else None


def _reason(error: Exception) -> str:
    """What libav says, without its number and the name of a function."""
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
