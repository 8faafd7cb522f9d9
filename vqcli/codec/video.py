"""Clips -> codes -> .vqz and back; api.py calls this for clips.

Frames are coded one by one by a model of images, and no more than a chunk of them is in memory. For those who work on
codes: `codes_of` reads the codes of a clip or of a .vqz file, `frames_of` makes frames of codes, video_file.py files.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vqcli.codec import chunks, tiling, video_file
from vqcli.codec.codes import File, ImageCodes, VideoCodes, check_levels, keep_levels, part_in
from vqcli.codec.image import GREY
from vqcli.container import vqz
from vqcli.container.bounds import NO_LIMITS, Limits
from vqcli.container.vqz import Header, Vqz
from vqcli.data import recordings
from vqcli.deprecation import renamed
from vqcli.errors import BadFile, DamagedChunks, UsageError
from vqcli.media import audio, video, video_writing
from vqcli.media.frames import VideoClip, from_frames
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo import store
from vqcli.zoo.loading import LoadedModel

WHAT, PLURAL, MODEL = "a clip", "clips", "image"
RECORDED_PER_S = 10.0  # frames a second of what `vq record` wrote, and of arrays: they do not tell

Source = Path | BinaryIO | np.ndarray


@dataclass(frozen=True)
class EncodedVideo(File):
    """A clip as the bytes of its .vqz file.

    notes  what the user should know: what was left out or changed on reading the clip
    """

    header: Header
    payloads: Sequence[bytes | None]
    notes: tuple[str, ...] = ()
    _model: LoadedModel | None = field(default=None, repr=False, compare=False)

    @cached_property
    def codes(self) -> np.ndarray:
        """uint16 [groups, T, rows, columns], decoded from the file: a clip is never in memory while it is encoded."""
        assert self._model is not None
        return video_file.unpack_video(self._model, vqz.unpack(self.data))[0].codes

    @property
    def n_frames(self) -> int:
        return self.header.size[2]

    frames = renamed("frames", "n_frames")

    @property
    def length_s(self) -> float:
        return 1000 * self.n_frames / self.header.size[3]

    @property
    def kbit_per_s(self) -> float:
        """Of the whole file, header included; 1000 bits a second."""
        return 8 * len(self.data) / self.length_s / 1000

    @property
    def bits_per_pixel(self) -> float:
        """Of the whole file, header included."""
        width, height, frames, _ = self.header.size
        return 8 * len(self.data) / (width * height * frames)


@dataclass(frozen=True)
class DecodedVideo:
    """A clip from codes, or a part of it. Frames are made when they are asked for, one by one or into a file.

    n_frames          of the part
    frames_per_1000s  as files have it
    lost              bool [n_frames]: true where the first level was damaged; these frames are grey
    fewer             bool [n_frames]: true where another level was; these frames are of the levels before it
    """

    width: int
    height: int
    n_frames: int
    frames_per_1000s: int
    header: Header
    lost: np.ndarray = field(repr=False)
    fewer: np.ndarray = field(repr=False)
    _whole: np.ndarray = field(repr=False)  # levels of each frame
    _model: LoadedModel = field(repr=False)
    _file: Vqz = field(repr=False)
    _first: int  # frame of the original where the part begins
    _levels: int | None = None
    _seed: int | None = None
    _progress: ProgressCallback = field(default=silent, repr=False)

    count = renamed("count", "n_frames")
    rate_mhz = renamed("rate_mhz", "frames_per_1000s")

    @property
    def frames_per_s(self) -> float:
        return self.frames_per_1000s / 1000

    @property
    def length_s(self) -> float:
        return 1000 * self.n_frames / self.frames_per_1000s

    @cached_property
    def codes(self) -> np.ndarray:
        """uint16 [groups, T, rows, columns] of the part."""
        wanted = slice(self._first, self._first + self.n_frames)
        return video_file.unpack_video(self._model, self._file, levels=self._levels, wanted=wanted)[0].codes

    def frames(self) -> Iterator[np.ndarray]:
        """uint8 [height, width, 3] each. Raises BadFile after the last one if the codes fail their checksum."""
        wanted = slice(self._first, self._first + self.n_frames)
        parts = video_file.unpack_frames(self._model, self._file, levels=self._levels, wanted=wanted)
        for number, ((frame, damaged), levels) in enumerate(zip(parts, self._whole, strict=True), 1):
            if damaged and not levels:
                yield np.full((self.height, self.width, 3), GREY, np.uint8)
            else:  # the best that each frame still has
                kept = keep_levels(self._model, frame, int(levels)) if damaged else frame
                yield tiling.decode_image(self._model, kept, seed=self._seed)
            self._progress(number / self.n_frames)

    def save(self, target: str | Path | BinaryIO, *, format: str | None = None, force: bool = False) -> tuple[str, ...]:
        """Write the clip as it is made; the suffix chooses the format, none is a folder of frames. Returns notes."""
        target = Path(target) if isinstance(target, str) else target
        return video_writing.write(target, self.frames(), self.frames_per_1000s, format=format, force=force)


def recognises(source: Source) -> bool:
    """Whether it is a folder, an episode, a stream or file of moving images, or an array of frames."""
    if isinstance(source, np.ndarray):
        return source.ndim == 4
    if not isinstance(source, Path):
        return video.is_clip(source)
    if source.is_dir() or source.suffix.lower() == ".npz":
        return True
    if source.suffix.lower() in audio.SUFFIXES:
        return False
    try:
        with source.open("rb") as stream:
            return video.is_clip(stream)
    except (FileNotFoundError, PermissionError):  # reading will say what is wrong
        return False
    except OSError as error:  # which may be gone when it is read: never take a clip for an image
        raise BadFile(f"{source} cannot be read: {error.strerror or error}") from error


def encode(
    source: Source,
    model: LoadedModel,
    *,
    quality: float | None = None,
    levels: int | None = None,
    coder: str = "auto",
    frames_per_s: float | None = None,
    background: str | None = None,
    metadata: dict[str, str] | None = None,
    limits: Limits = NO_LIMITS,
    progress: ProgressCallback = silent,
) -> EncodedVideo:
    """Encode a clip: what `opened` takes. See `api.encode`."""
    with opened(source, frames_per_s=frames_per_s, background=background or "white", limits=limits) as clip:
        frames = _coded(model, clip.frames, quality, levels, progress, clip.count)
        header, payloads = video_file.pack_frames(model, frames, clip.frames_per_1000s, coder=coder, metadata=metadata)
        # the rate of uneven frames is known now
        header = video_file.with_rate(header, clip.frames_per_1000s)
        return EncodedVideo(header, payloads, (*clip.notes, *model.info.notes), model)


def decode(
    file: Vqz,
    model: LoadedModel,
    *,
    levels: int | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    salvage: bool = False,
    seed: int | None = None,
    limits: Limits = NO_LIMITS,
    progress: ProgressCallback = silent,
) -> DecodedVideo:
    """Decode a parsed file with the model that it was made with. See `api.decode`."""
    video_file.check_video(model, file.header)
    check_levels(file.header, levels)
    width, height, frames, frames_per_1000s = file.header.size
    first, count = part_in(start_s, end_s, frames, frames_per_1000s / 1000)
    damaged = video_file.lost_frames(file, levels)[first : first + count]
    if damaged.any() and not salvage:
        raise DamagedChunks("chunks of this part are damaged", file.damaged, "--salvage decodes the rest")
    whole = chunks.whole_levels(file, levels)[first : first + count, 0, 0]
    places = damaged & (whole == 0), damaged & (whole > 0), whole
    return DecodedVideo(
        width, height, count, frames_per_1000s, file.header, *places, model, file, first, levels, seed, progress
    )


@contextlib.contextmanager
def opened(
    source: Source, *, frames_per_s: float | None = None, background: str = "white", limits: Limits = NO_LIMITS
) -> Iterator[VideoClip]:
    """A clip to be read within the block: what `media.video.opened` takes, an episode of `vq record` (.npz), or pixels
    uint8 [T, H, W, 1 or 3].

    `frames_per_s` is for folders (25 if it is not given), episodes and pixels (10). Raises UsageError and BadFile.
    """
    if isinstance(source, Path) and source.suffix.lower() == ".npz":
        images, name = recordings.read_episode(source).images, str(source)
    elif isinstance(source, np.ndarray):
        images, name = source, "the array"
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:
            raise UsageError(f"pixels are {images.dtype} {images.shape}", "a clip is uint8 [T, H, W, 1 or 3]")
    else:
        with video.opened(source, frames_per_s=frames_per_s, background=background, limits=limits) as clip:
            yield clip
        return
    per_s = RECORDED_PER_S if frames_per_s is None else frames_per_s
    yield from_frames(images, per_s, name, len(images), limits)


# ---------------------------------------------------------------- codes themselves


def codes_of(
    source: str | Source,
    model: LoadedModel,
    *,
    most_frames: int | None = None,
    last: bool = False,
    quality: float | None = None,
    frames_per_s: float | None = None,
) -> VideoCodes:
    """Codes of a clip, or those in a .vqz file of one that this model made; of the first frames, or the `last` ones, if
    there are more than `most_frames`.

    Raises BadFile, UsageError, and ModelError for a file of another model.
    """
    source = Path(source) if isinstance(source, str) else source
    if isinstance(source, Path) and source.suffix.lower() == ".vqz":
        file = vqz.read(source)
        store.check_digest(model.info, file.header.model, file.header.digest, file.header.joint)
        video_file.check_video(model, file.header)
        frames = file.header.size[2]
        kept = min(most_frames or frames, frames)
        wanted = slice(frames - kept, frames) if last else slice(0, kept)
        return video_file.unpack_video(model, file, wanted=wanted)[0]
    with opened(source, frames_per_s=frames_per_s) as clip:
        some = deque(clip.frames, most_frames) if last else islice(clip.frames, most_frames)
        frames_codes = list(_coded(model, some, quality, None, silent, None))
        codes = np.stack([frame.codes for frame in frames_codes], axis=1)  # (groups, T, rows, columns)
        first = frames_codes[0]
        return VideoCodes(codes, first.size, clip.frames_per_1000s, first.quality, first.tiles)


def frames_of(model: LoadedModel, codes: VideoCodes) -> Iterator[np.ndarray]:
    """Frames uint8 [H, W, 3] of codes, one after the other."""
    return (tiling.decode_image(model, frame) for frame in codes.frames())


def _coded(
    model: LoadedModel,
    frames: Iterable[np.ndarray],
    quality: float | None,
    levels: int | None,
    progress: ProgressCallback,
    count: int | None,
) -> Iterator[ImageCodes]:
    for number, pixels in enumerate(frames, 1):
        codes = tiling.encode_image(model, pixels, quality=quality)
        yield codes if levels is None else keep_levels(model, codes, levels)
        if count:  # which a file may be wrong about
            progress(min(number / count, 1.0))
