"""Audio files to float32 arrays [channels, N] at the sample rate of a model, and back.

A file may come from anywhere and be of any length, so it is read in blocks: the first bytes tell whether it is an audio
file, libsndfile decodes a block, soxr resamples it, and long results go to an unnamed temporary file. The length in the
header is not trusted. `Recording.notes` lists what was found or changed.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import soxr

from vqcli.container.bounds import MAX_SECONDS, NO_LIMITS, Limits
from vqcli.errors import BadFile, OutputError, UsageError
from vqcli.files import name_of, no_room, refuse_existing, replacing, seekable, spooled
from vqcli.media import mixing, sound_file
from vqcli.media.callbacks import CallbackFile
from vqcli.media.frames import check_seconds
from vqcli.media.sound_file import BLOCK, reason

LARGEST_BLOCK = 2**19  # samples that are made at once, whatever rate and number of channels a file declares
IN_MEMORY = 2**25  # bytes: what is longer, 8 minutes of one channel at 16 kHz, lies in a temporary file
MAX_CHANNELS = 64
RATES_HZ = range(1000, 768_001)
LOUDEST = 2.0**16  # in full scales; beyond, a sample is damaged

# What a scan of a folder takes for an audio file; reading goes by the content alone.
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".rf64")
READS = "vq reads WAV, FLAC, Ogg, Opus, MP3 and AIFF"

_MAGIC = (
    *((8, b"WAVE"), (0, b"RF64"), (0, b"fLaC"), (0, b"OggS"), (8, b"AIFF"), (8, b"AIFC"), (0, b".snd"), (0, b"caff")),
    *((0, b"riff\x2e\x91\xcf\x11"), (0, b"ID3"), (0, b"TAG")),
    *((0, bytes((0xFF, second))) for second in (0xE2, 0xE3, 0xF2, 0xF3, 0xFA, 0xFB)),  # frames of MP3
)
_FOREIGN = (
    *((4, b"ftyp", "MP4 or M4A"), (0, b"\x1aE\xdf\xa3", "Matroska or WebM"), (0, b"\x89PNG", "an image")),
    *((0, b"\xff\xd8\xff", "an image"), (0, b"GIF8", "an image"), (8, b"WEBP", "an image"), (0, b"%PDF", "a PDF")),
    (0, b"PK\3\4", "a zip archive"),
)


@dataclass(frozen=True, eq=False)
class Recording:
    """Audio at a model's sample rate.

    samples         float32 [channels, N], full scale is 1; a memory map of a temporary file if it is long
    source_*        of the file: its rate, its samples in each channel, its channels
    notes           what was found or changed, as "6 channels mixed down to one"
    """

    samples: np.ndarray
    rate_hz: int
    source_rate_hz: int
    source_samples: int
    source_channels: int
    notes: tuple[str, ...] = ()

    @property
    def length_s(self) -> float:
        return self.source_samples / self.source_rate_hz


def length_at(samples: int, from_hz: int, to_hz: int) -> int:
    """How many samples at one rate those at another become: never less than their time takes."""
    return -(-samples * to_hz // from_hz)


def is_audio(head: bytes) -> bool:
    """Whether a file that starts with these bytes (12 are enough) is an audio file of a kind that is read here."""
    return any(head.startswith(magic, offset) for offset, magic in _MAGIC)


# ---------------------------------------------------------------- files -> arrays


def read(source: Path | BinaryIO, rate_hz: int, mono: bool, keep: int = 1, limits: Limits = NO_LIMITS) -> Recording:
    """Read an audio file, resampled to `rate_hz`, channels alone or (`mono`), of more than `keep`, mixed to one.

    Raises BadFile, whose one line starts with the name, if the file is missing, no audio, of more than 24 hours,
    `limits` or 64 channels, or holds no samples. A truncated or damaged file is read up to the damage, with a note
    (about damaged MP3s libmpg123 also prints to stderr by itself).
    """
    name = name_of(source)
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            stream = _seekable(stream, name, stack)
        except (OSError, ValueError) as error:
            raise BadFile(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}", READS) from error
        try:
            file = sound_file.opened(stream)
            stack.enter_context(file.first)
        except sound_file.ERRORS as error:
            raise BadFile(f"{name} is damaged, or audio of an unknown kind: {reason(error)}", READS) from error
        if file.channels > MAX_CHANNELS:
            raise BadFile(f"{name} has {file.channels} channels; {MAX_CHANNELS} are allowed")
        if file.rate_hz not in RATES_HZ:
            raise BadFile(f"{name} has a sample rate of {file.rate_hz} Hz", "1,000 to 768,000 Hz are read")
        mixer = mixing.Mixer(file.weights) if mono and file.channels > keep else None
        notes: list[str] = []
        return _recording(file.blocks(notes), file.rate_hz, file.channels, rate_hz, mixer, notes, name, limits)


def from_samples(
    samples: np.ndarray, source_rate_hz: int, rate_hz: int, mono: bool, keep: int = 1, limits: Limits = NO_LIMITS
) -> Recording:
    """As `read`, of float samples [N] or [channels, N] at `source_rate_hz`. Raises UsageError for other arrays."""
    planes = samples[None] if samples.ndim == 1 else samples
    if planes.dtype.kind != "f" or planes.ndim != 2 or not 0 < len(planes) <= MAX_CHANNELS or not planes.size:
        raise UsageError(f"samples are {samples.dtype} {samples.shape}", "they must be float [N] or [channels, N]")
    if source_rate_hz not in RATES_HZ:
        raise UsageError(f"no sample rate of {source_rate_hz} Hz", "1,000 to 768,000 Hz are taken")
    starts = range(0, planes.shape[1], BLOCK)
    blocks = (planes[:, at : at + BLOCK].T.astype(np.float32) for at in starts)
    mixer = mixing.Mixer(mixing.weights(len(planes))) if mono and len(planes) > keep else None
    return _recording(blocks, source_rate_hz, len(planes), rate_hz, mixer, [], "the array", limits)


def _seekable(stream: BinaryIO, name: str, stack: contextlib.ExitStack) -> BinaryIO:
    """The stream, or a temporary copy if it is a pipe, once it is seen to begin like an audio file."""
    head = stream.read(64)
    if b"VQZ" in head[:8]:
        raise BadFile(f"{name} is a .vqz file, not audio", "vq decode reads it, --levels drops levels")
    if not is_audio(head):
        text = bytes(range(32, 127)) + b"\t\n\r\f"
        kind = next((kind for offset, magic, kind in _FOREIGN if head.startswith(magic, offset)), None)
        kind = kind or ("an empty file" if not head else "of no known kind" if head.translate(None, text) else "text")
        video = kind[:1].isupper()
        hint = "extract its audio with: ffmpeg -i IN out.wav" if video else READS
        raise BadFile(f"{name} is {kind}, not audio{' that vq reads' * video}", hint)
    if stream.seekable():
        stream.seek(0)
        return stream
    return spooled(stream, stack, head)


def _recording(
    blocks: Iterable[np.ndarray],
    source_hz: int,
    channels: int,
    rate_hz: int,
    mixer: mixing.Mixer | None,
    notes: list[str],
    name: str,
    limits: Limits,
) -> Recording:
    """Clean, mix, resample and keep blocks [n, channels]."""
    kept = channels if mixer is None else 1
    total = written = invalid = clipped = 0
    resampler = soxr.ResampleStream(source_hz, rate_hz, kept, dtype="float32", quality="HQ")
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as store:
        last = np.empty((0, kept), np.float32)
        for block in itertools.chain(blocks, [None]):
            if block is not None:
                total += len(block)
                check_seconds(total / source_hz, name, limits)
                if total > MAX_SECONDS * source_hz:
                    raise BadFile(f"{name} is longer than {MAX_SECONDS // 3600} hours", "cut it into parts")
                if bad := int(np.count_nonzero(outside := ~(np.abs(block) <= LOUDEST))):
                    invalid += bad
                    block[outside] = 0
                clipped += int(np.count_nonzero(np.abs(block) >= 0.999))
                block = block if mixer is None else mixer(block)
            resampled = resampler.resample_chunk(last if block is None else block, last=block is None)
            written += len(resampled)
            _store(store, resampled, name)
        if total == 0:
            raise BadFile(f"{name} holds no samples", "; ".join(notes) or READS)
        N = length_at(total, source_hz, rate_hz)  # soxr rounds to the nearest, which may be none
        _store(store, np.zeros((max(0, N - written), kept), np.float32), name)
        samples = _array(store, N, kept)
    if invalid:
        notes.append(f"{invalid} samples that are not finite or out of range set to 0")
    if clipped > 0.001 * total * channels:
        notes.append(f"clipped: {clipped / (total * channels):.1%} of the samples lie at full scale")
    if mixer is not None and channels > 1:
        notes += mixer.notes()
    return Recording(samples, rate_hz, source_hz, total, channels, tuple(notes))


def _store(store: tempfile.SpooledTemporaryFile[bytes], block: np.ndarray, name: str) -> None:
    try:
        store.write(np.ascontiguousarray(block, "<f4").tobytes())
    except OSError as error:
        raise no_room(f"the samples of {name}", error) from error


def _array(store: tempfile.SpooledTemporaryFile[bytes], N: int, channels: int) -> np.ndarray:
    """float32 [channels, N] of what was stored as [N, channels]."""
    size = 4 * N * channels
    if size > IN_MEMORY:
        store.flush()
        # the file has no name; it lives as long as the map
        return np.memmap(store, np.dtype("<f4"), "r+", shape=(N, channels)).T  # type: ignore[call-overload]
    store.seek(0)
    return np.frombuffer(bytearray(store.read(size)), "<f4").reshape(N, channels).T


# ---------------------------------------------------------------- arrays -> files


class _Format(NamedTuple):
    name: str
    subtype: str
    channels: int
    rates_hz: tuple[int, ...] = ()  # () is any


_OPUS_HZ = (8000, 12_000, 16_000, 24_000, 48_000)
_MP3_HZ = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_WRITTEN = {
    ".wav": _Format("WAV", "PCM_16", MAX_CHANNELS),
    ".flac": _Format("FLAC", "PCM_16", 8),
    ".ogg": _Format("OGG", "VORBIS", MAX_CHANNELS),
    ".opus": _Format("OGG", "OPUS", MAX_CHANNELS, _OPUS_HZ),
    ".mp3": _Format("MP3", "MPEG_LAYER_III", 2, _MP3_HZ),
    ".aiff": _Format("AIFF", "PCM_16", MAX_CHANNELS),
    ".aif": _Format("AIFF", "PCM_16", MAX_CHANNELS),
}
KNEE = 0.95  # where the soft limit begins in a block that would clip


def write(
    target: Path | BinaryIO,
    samples: np.ndarray | Iterable[np.ndarray],
    rate_hz: int,
    *,
    format: str | None = None,
    force: bool = False,
) -> None:
    """Write float samples [channels, N], or blocks [channels, n] one after the other, to a new file or to a stream.

    `format` is a suffix such as "flac", by default that of `target`; with `force` an old file is replaced. Blocks with
    peaks above full scale are limited softly from 0.95 on. Opus and MP3 have some rates only: others are resampled to
    the next. Raises UsageError for an unknown format or an existing file, OutputError if the format cannot hold it
    or the file cannot be written; the errors of a stream are its own.
    """
    form = format_of(target, format)
    if isinstance(target, Path):
        refuse_existing(target, force)  # before the work, not after it
    blocks = iter([samples] if isinstance(samples, np.ndarray) else samples)
    first = next(blocks, np.zeros((1, 0), np.float32))
    channels = len(first)
    if channels > form.channels:
        raise OutputError(
            f"{form.name} holds {form.channels} channels at most, not {channels}",
            f"try {'.wav' if channels > 8 else '.flac'}",
        )
    to_hz = next((rate for rate in form.rates_hz if rate >= rate_hz), form.rates_hz[-1]) if form.rates_hz else rate_hz
    blocks = itertools.chain([first], blocks)
    if to_hz != rate_hz:
        blocks = resampled(blocks, rate_hz, to_hz, channels)
    if isinstance(target, Path):
        with replacing(target, force=force) as stream:
            _write(stream, blocks, to_hz, channels, form)
    else:
        with seekable(target) as stream:
            _write(stream, blocks, to_hz, channels, form)


def format_of(target: Path | BinaryIO, format: str | None = None) -> _Format:
    """How a file of that name is written. Raises UsageError for an unknown suffix."""
    suffix = "." + format.lower().lstrip(".") if format else target.suffix.lower() if isinstance(target, Path) else ""
    if suffix not in _WRITTEN:
        raise UsageError(f"unknown kind of audio to write: {suffix or 'no suffix'}", f"known: {', '.join(_WRITTEN)}")
    return _WRITTEN[suffix]


def _write(stream: BinaryIO, blocks: Iterable[np.ndarray], rate_hz: int, channels: int, form: _Format) -> None:
    written = 0
    called = CallbackFile(stream)
    try:
        with soundfile.SoundFile(called, "w", rate_hz, channels, subtype=form.subtype, format=form.name) as file:
            for block in blocks:
                for at in range(0, block.shape[1], BLOCK):
                    part = limited(block[:, at : at + BLOCK])
                    written += 2 * part.size
                    if form.name == "WAV" and written > 2**32 - 2**10:
                        raise OutputError(
                            "a WAV file holds 4 GB at most", "write .flac, or parts with --start and --end"
                        )
                    file.write(np.ascontiguousarray(part.T))
                    called.check()
        called.check()
    except soundfile.SoundFileError as error:
        raise OutputError(
            f"{form.name} cannot hold {channels} channels at {rate_hz} Hz: {reason(error)}", "try .wav"
        ) from error


def limited(block: np.ndarray) -> np.ndarray:
    """The block, or if a peak of it is above full scale the block with all beyond the knee compressed below 1."""
    if not block.size or np.abs(block).max() <= 1:
        return block
    beyond = np.maximum(np.abs(block) - KNEE, 0) / (1 - KNEE)
    return np.where(beyond > 0, np.sign(block) * (KNEE + (1 - KNEE) * np.tanh(beyond)), block).astype(block.dtype)


def restore(
    blocks: Iterable[np.ndarray], rate_hz: int, source_rate_hz: int, source_samples: int, channels: int, skip: int = 0
) -> Iterator[np.ndarray]:
    """Blocks float32 [1 or channels, n] at a model's rate as blocks [channels, m] of the original: exactly
    `source_samples` at `source_rate_hz` after the first `skip` of them. One channel goes to all; silence fills up.
    """
    left = source_samples
    for block in resampled(blocks, rate_hz, source_rate_hz):
        start = min(skip, block.shape[1])
        skip -= start
        part = block[:, start : start + left]
        left -= part.shape[1]
        many = channels if len(part) == 1 else 1
        for at in range(0, part.shape[1], step := LARGEST_BLOCK // many):  # channels are as many as a file says
            yield np.repeat(part[:, at : at + step], many, axis=0)
        if not left:
            return
    for at in range(0, left, step := min(BLOCK, LARGEST_BLOCK // channels)):
        yield np.zeros((channels, min(step, left - at)), np.float32)


def resampled(
    blocks: Iterable[np.ndarray], from_hz: int, to_hz: int, channels: int | None = None
) -> Iterator[np.ndarray]:
    """Blocks [channels, n] at another rate; the same whatever the blocks."""
    resampler = None
    step = min(BLOCK, max(1, LARGEST_BLOCK * from_hz // to_hz))
    for block in blocks:
        if from_hz == to_hz:
            yield block
            continue
        resampler = resampler or soxr.ResampleStream(from_hz, to_hz, len(block), dtype="float32", quality="HQ")
        for at in range(0, block.shape[1], step):
            yield resampler.resample_chunk(np.ascontiguousarray(block[:, at : at + step].T, np.float32)).T
        channels = len(block)
    if resampler is not None:
        yield resampler.resample_chunk(np.empty((0, channels or 1), np.float32), last=True).T
