"""Audio files as libsndfile decodes them, block by block and forwards only; what it leaves out is noted.

soundfile seeks after every block, which in a damaged Ogg file skips or repeats samples; libsndfile reads the first
stream of a chain, and nothing of a WAV whose header was never filled in. All three are put right here.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from vqcli.media import mixing, ogg

BLOCK = 2**16  # samples of each channel at once
ERRORS = (soundfile.SoundFileError, OSError, TypeError, ValueError)  # of files that are damaged or of unknown kind
_UNKNOWN = 2**62  # samples: beyond, a header does not say how many
_OF_XIPH = ("VORBIS", "OPUS")  # codecs with an order of channels of their own


class _Forward(soundfile.SoundFile):
    """A file that is read from its beginning to its end."""

    def seekable(self) -> bool:
        return False


class _View(io.RawIOBase):
    """Bytes `begin` to `end` of a stream, those from `at` on replaced by `patch`."""

    def __init__(self, stream: BinaryIO, begin: int, end: int, at: int = 0, patch: bytes = b"") -> None:
        self._stream, self._begin, self._size, self._place = stream, begin, end - begin, 0
        self._at, self._patch = at, patch

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(0, (0, self._place, self._size)[whence] + offset)
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._stream.seek(self._begin + self._place)
        found = bytearray(self._stream.read(max(0, min(len(buffer), self._size - self._place))))
        for index, value in enumerate(self._patch, self._at - self._place):
            if 0 <= index < len(found):
                found[index] = value
        buffer[: len(found)] = found
        self._place += len(found)
        return len(found)


@dataclass(frozen=True, eq=False)
class Sound:
    """An open audio file. `weights` float32 [channels] mix it down; `links` are the streams of an Ogg chain."""

    first: soundfile.SoundFile
    weights: np.ndarray
    stream: BinaryIO
    links: list[ogg.Link]

    @property
    def rate_hz(self) -> int:
        return int(self.first.samplerate)

    @property
    def channels(self) -> int:
        return int(self.first.channels)

    def blocks(self, notes: list[str]) -> Iterator[np.ndarray]:
        """Samples float32 [n, channels] until there are no more; `notes` gets what is amiss."""
        yield from self._decoded(self.first, notes)
        for number, link in enumerate(self.links[1:], 2):
            which = f"stream {number} of {len(self.links)}"
            try:
                file = _Forward(_View(self.stream, link.begin, link.end))
            except ERRORS as error:
                notes.append(f"{which} left out: {reason(error)}")
                continue
            with file:
                if file.channels != self.channels:
                    notes.append(f"{which} left out: it has {file.channels} channels, not {self.channels}")
                    continue
                yield from _at_rate(self._decoded(file, notes), file, self.rate_hz)
        if self.links and not self.links[-1].whole:
            notes.append("its end is missing: cut short")

    def _decoded(self, file: soundfile.SoundFile, notes: list[str]) -> Iterator[np.ndarray]:
        done, failure = 0, None
        while failure is None:
            block = np.full((BLOCK, file.channels), np.nan, np.float32)
            try:
                block = file.read(out=block)
            except (soundfile.SoundFileError, OSError) as error:
                failure = error
                block = block[: np.isfinite(block).any(1).cumprod().sum()]  # the part that was filled
            done += len(block)
            if len(block):
                yield block
            elif failure is None:
                break
        if failure is not None:
            notes.append(f"damaged after {done / file.samplerate:.2f} s: {reason(failure)}")
        if self.links and done < file.frames < _UNKNOWN:
            notes.append(f"damaged: {(file.frames - done) / file.samplerate:.2f} s left out")
        # libsndfile corrects a length that the file cannot hold, and reports it in its log alone
        elif done < file.frames < _UNKNOWN or "should be" in file.extra_info:
            notes.append(f"its header gives another length; {done} samples are there")


def opened(stream: BinaryIO) -> Sound:
    """The audio of a stream that can be read again; close `first` at the end. Raises ERRORS."""
    stream.seek(0)
    head = stream.read(12)
    links = ogg.links(stream) if head.startswith(b"OggS") else []
    source: BinaryIO | _View = stream
    if len(links) > 1:
        source = _View(stream, 0, links[0].end)
    elif head[:4] == b"RIFF" and (at := _empty_data(stream)):
        source = _View(stream, 0, stream.seek(0, 2), at, b"\xff" * 4)  # as programs write that do not know
    source.seek(0)
    file = _Forward(source)
    # of a WAVE file with a mask, libsndfile's log alone tells it
    mask = re.search(r"Channel Mask\s*:\s*0x([0-9A-Fa-f]+)", file.extra_info)
    weights = mixing.weights(file.channels, int(mask[1], 16) if mask else None, file.subtype in _OF_XIPH)
    return Sound(file, weights, stream, links)


def _at_rate(blocks: Iterator[np.ndarray], file: soundfile.SoundFile, rate_hz: int) -> Iterator[np.ndarray]:
    """Blocks [n, channels] of a file at another rate."""
    if file.samplerate == rate_hz:
        yield from blocks
        return
    resampler = soxr.ResampleStream(file.samplerate, rate_hz, file.channels, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.empty((0, file.channels), np.float32), last=True)


def _empty_data(stream: BinaryIO) -> int:
    """Where a WAV has the length of its data, if that is 0 and yet bytes follow that are no chunks; else 0."""
    size, at, empty = stream.seek(0, 2), 12, 0
    while at + 8 <= size:
        stream.seek(at)
        head = stream.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"data" and not length:
            empty = at + 4
        elif head[:4] == b"data" or (empty and not head[:4].isalnum()):
            break
        at += 8 + length + length % 2
    return empty if empty and at < size else 0


def reason(error: Exception) -> str:
    """What libsndfile says, without the name of a Python object."""
    return " ".join(str(getattr(error, "error_string", error)).split()) or type(error).__name__
