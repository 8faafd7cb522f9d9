"""Recordings: a folder of .npz files, each an episode: frames in order and the action after each.

    images   uint8 [T, H, W, 3]  the frames; grey ones may be [T, H, W]
    actions  strings [T]         the action after each frame, which leads to the next one; may be missing

Neighbouring frames are nearly alike, so the split is by files: an episode is trained on or held out as a whole. Folders
`train` and `val` are a split, other folders classes, as with images. `vq record` writes train/00000.npz, val/00001.npz,
... and recording.json, which describes the recording.
"""

from __future__ import annotations

import bisect
import itertools
import random
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import numpy as np

from vqcli.data import arrays, split
from vqcli.data.crops import rgb
from vqcli.errors import BadFile, UsageError
from vqcli.files import files_below, make_folder, replacing

FACTS = "recording.json"
LARGEST_FACTS = 2**12  # bytes
LARGEST_EPISODE = 2**30  # bytes of its frames
LONGEST = 20_000  # frames of a recorded episode, which is in memory as a whole
CACHE_BYTES = 2**32  # of frames in memory; beyond, the least recently used episode is dropped
LEAST_EPISODES = 8  # of a recording, unless a length is given
HELD_OUT_EVERY = 16  # one of so many episodes is held out: the second first, so that a short recording has one

Item = TypeVar("Item")
# The seed of an episode -> its frames, uint8 [H, W, 3], each with the name of the action taken after it.
Play = Callable[[int], Iterator[tuple[np.ndarray, str]]]


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What determines the episodes of a recording: the game, the seed, and the largest number of frames of each."""

    game: str
    seed: int
    length: Annotated[int, msgspec.Meta(ge=1, le=LONGEST)]
    format: int = 1


@dataclass(frozen=True, eq=False)
class Episode:
    """`images`: uint8 [T, H, W, 1 or 3], not to be written to. `actions`: T names, or none where they are unknown."""

    images: np.ndarray
    actions: tuple[str, ...]


@dataclass(frozen=True)
class Recorded:
    """What a recording holds; `held_out` of the episodes are not trained on."""

    frames: int
    episodes: int
    held_out: int
    size_bytes: int


class Episodes:
    """A source (sources.Source): the frames in all .npz files below a folder.

    A file is decoded when the first of its frames is read, and kept. Raises BadFile if the header of one is damaged.
    """

    decoded, stride = True, 1

    def __init__(self, path: Path, cache_bytes: int = CACHE_BYTES) -> None:
        files = episode_files(path)
        names = list(files)
        self._files = list(files.values())
        counts = [count_frames(file) for file in self._files]
        self._ends = list(itertools.accumulate(counts))
        self.names: Sequence[str] = [
            f"{name.removesuffix('.npz')}/{index:06d}"
            for name, count in zip(names, counts, strict=True)
            for index in range(count)
        ]
        self.labels: Sequence[str | None] = _repeated(split.labels(names), counts)
        self.held_out: Sequence[bool] = _repeated(split.held_out(names), counts)
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._room, self._lock = cache_bytes, threading.Lock()

    def read(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3]."""
        file = bisect.bisect(self._ends, index)
        return rgb(self._frames(file)[index - (self._ends[file - 1] if file else 0)])

    def _frames(self, file: int) -> np.ndarray:
        with self._lock:
            frames = self._cache.pop(file, None)
            if frames is None:
                frames = read_episode(self._files[file]).images
                self._room -= frames.nbytes
                while self._room < 0 and self._cache:
                    self._room += self._cache.popitem(last=False)[1].nbytes
            self._cache[file] = frames  # last: most recently used
            return frames


def _repeated(values: Sequence[Item], counts: Sequence[int]) -> list[Item]:
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]


def episode_files(path: Path) -> dict[str, Path]:
    """Name -> file of every .npz below a folder, sorted; hidden ones are left out, links to folders not followed."""
    files_by_name = {}
    for file in files_below(path):
        if file.suffix == ".npz":
            files_by_name[split.printable(file.relative_to(path).as_posix())] = file
    return dict(sorted(files_by_name.items()))


def read_episode(path: Path) -> Episode:
    """One file of a recording. Raises BadFile."""
    with arrays.opened(path) as archive:
        images = arrays.image_array(archive, "images", LARGEST_EPISODE)
        if images is None:
            raise ValueError("it has no array called images")
        return Episode(images, _actions(archive, len(images)))


def read_actions(path: Path) -> tuple[str, ...]:
    """The actions of one file of a recording, without its frames; none where they are unknown. Raises BadFile."""
    with arrays.opened(path) as archive:
        return _actions(archive, arrays.count_images(archive, LARGEST_EPISODE))


def _actions(archive: zipfile.ZipFile, frames: int) -> tuple[str, ...]:
    actions = arrays.array(archive, "actions", arrays.LARGEST_LABELS)
    if actions is None:
        return ()
    if actions.dtype.kind != "U" or actions.shape != (frames,):
        raise ValueError(f"{frames} frames, actions {actions.dtype} {list(actions.shape)}")
    return tuple(split.printable(name) for name in actions.tolist())


def count_frames(path: Path) -> int:
    """How many frames a file holds, by its header. Raises BadFile."""
    with arrays.opened(path) as archive:
        return arrays.count_images(archive, LARGEST_EPISODE)


def record(
    play: Play,
    folder: Path,
    facts: Facts,
    frames: int,
    progress: Callable[[float], None] = lambda share: None,
) -> Recorded:
    """Play until the folder holds `frames` frames, the last episode cut short.

    Facts and its number alone determine an episode, so an interrupted recording continues with the next one. At any
    time the folder holds whole files only. `progress` is called with the share that is done, 0 to 1. Raises UsageError
    if the folder holds anything else, BadFile if an episode in it is damaged, OutputError.
    """
    _begin(folder, facts)
    done = number = 0
    while done < frames:
        path = folder / ("val" if number % HELD_OUT_EVERY == 1 else "train") / f"{number:05d}.npz"
        if path.exists():
            done += count_frames(path)
        else:
            seed = random.Random(f"{facts.seed} {number}").getrandbits(31)
            images, actions = [], []
            for image, action in itertools.islice(play(seed), min(facts.length, frames - done)):
                images.append(image)
                actions.append(action)
                done += 1
                progress(done / frames)
            with replacing(path) as stream:
                np.savez_compressed(stream, images=np.stack(images), actions=np.array(actions))
        number += 1
    return recorded(folder)


def episode_length(frames: int, most: int) -> int:
    """Frames of an episode of a recording: `most`, or fewer so that some episodes can be held out."""
    return min(most, -(-frames // LEAST_EPISODES))


def recorded(folder: Path) -> Recorded:
    """Counts and size of the recording in a folder. Raises BadFile."""
    files = episode_files(folder)
    return Recorded(
        frames=sum(count_frames(file) for file in files.values()),
        episodes=len(files),
        held_out=sum(split.held_out(list(files))),
        size_bytes=sum(file.stat().st_size for file in files.values()),
    )


def facts_of(folder: Path) -> Facts | None:
    """The facts of a folder's recording; None if nothing was recorded there yet. Raises BadFile."""
    path = folder / FACTS
    if not path.is_file():
        return None
    try:
        with path.open("rb") as stream:
            facts = msgspec.json.decode(stream.read(LARGEST_FACTS), type=Facts)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise BadFile(f"{path} cannot be read: {error}", "record into a new folder") from None
    if facts.format != 1:
        raise BadFile(f"{path} is of format {facts.format}", "a newer vq continues it")
    return facts


def _begin(folder: Path, facts: Facts) -> None:
    """Prepare a new folder, or check that an old one has the same facts."""
    existing = facts_of(folder)
    if existing is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is no recording", "name a new folder")
    if existing is not None and existing != facts:
        holds = f"{existing.game} of seed {existing.seed}, {existing.length} frames an episode at most"
        raise UsageError(f"{folder} holds {holds}", "name a new folder, or ask for the same to continue it")
    for name in ("train", "val"):
        make_folder(folder / name)
    if existing is None:
        with replacing(folder / FACTS) as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(facts)) + b"\n")
