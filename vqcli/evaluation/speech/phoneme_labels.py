"""Phonemes of recordings, as labels beside audio files.

Labels are files of the same name as the audio: `.phn` (TIMIT: samples at 16 kHz) or `.lab` (VCTK: steps of 100 ns).
The 61 symbols of TIMIT are mapped to the usual 39 classes (Lee and Hon 1989), of which silence is one; the glottal stop
has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vqcli.errors import BadFile, UsageError
from vqcli.files import files_below
from vqcli.media import audio

SILENCE = "sil"
CLASSES = (
    *("aa", "ae", "ah", "aw", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw"),
    *("l", "r", "w", "y", "m", "n", "ng"),
    *("dh", "f", "hh", "s", "sh", "th", "v", "z"),
    *("b", "ch", "d", "dx", "g", "jh", "k", "p", "t"),
)
FOLDED = {
    **{"ao": "aa", "ax": "ah", "ax-h": "ah", "axr": "er", "hv": "hh", "ix": "ih", "ux": "uw", "zh": "sh"},
    **{"el": "l", "em": "m", "en": "n", "nx": "n", "eng": "ng"},
    **dict.fromkeys(("h#", "pau", "epi", "sp", "bcl", "dcl", "gcl", "pcl", "tcl", "kcl"), SILENCE),
    "q": SILENCE,  # the glottal stop has no class: left out as silence is
}

# Suffix of a file of labels: its steps in a second, and how many numbers stand before the symbol.
TICKS_HZ = {".phn": 16_000, ".lab": 10_000_000}
LARGEST_LABELS = 2**20  # bytes
SHORTEST_S = 0.02  # where alignment failed, phonemes have the aligner's shortest length, in VCTK 15 ms
NO_PHONEME = -1  # class of a position in silence


@dataclass(frozen=True, eq=False)
class PhonemeLabels:
    """Phonemes by their ends: `ends_s` float64 [N], rising, and `classes` int64 [N], NO_PHONEME for silence."""

    ends_s: np.ndarray
    classes: np.ndarray

    def at(self, times_s: np.ndarray) -> np.ndarray:
        """Class at each time, int64; NO_PHONEME after the end."""
        found = np.searchsorted(self.ends_s, times_s, side="right")
        return np.append(self.classes, NO_PHONEME)[found]


@dataclass(frozen=True, eq=False)
class LabelledUtterance:
    """An audio file, its labels, and the speaker, which is the name of its folder."""

    path: Path
    labels: PhonemeLabels
    speaker: str


def read_labels(path: Path) -> PhonemeLabels:
    """Labels of a .phn or .lab file. Raises BadFile for other files, and for lines that are not labels."""
    ticks_hz = TICKS_HZ.get(path.suffix.lower())
    if ticks_hz is None:
        raise BadFile(f"{path} has no labels that vq reads", "TIMIT's .phn or VCTK's .lab")
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_LABELS + 1)
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > LARGEST_LABELS:
        raise BadFile(f"{path} is too large for a label file")
    ends: list[int] = []
    classes: list[int] = []
    for number, line in enumerate(data.decode("ascii", "replace").splitlines(), 1):
        if not line.strip():
            continue
        found = re.fullmatch(r"\s*(\d{1,15})\s+(\d{1,15})\s+([A-Za-z#-]+)[0-2]?\s*", line)
        start, end = (int(found[1]), int(found[2])) if found else (0, -1)
        if found is None or end < start or (ends and end < ends[-1]):
            raise BadFile(
                f"{path}: line {number} is not a label", "a line holds start, end and symbol, in order of time"
            )
        symbol = FOLDED.get(found[3].lower(), found[3].lower())
        if symbol not in CLASSES and symbol != SILENCE:
            raise BadFile(f"{path}: line {number} names an unknown phoneme {symbol}")
        ends.append(end)
        classes.append(CLASSES.index(symbol) if symbol in CLASSES else NO_PHONEME)
    if not ends:
        raise BadFile(f"{path} holds no labels")
    return PhonemeLabels(np.array(ends) / ticks_hz, np.array(classes, np.int64))


def is_misaligned(labels: PhonemeLabels) -> bool:
    """Whether most phonemes have the shortest length of an aligner: the alignment of the clip failed."""
    lengths = np.diff(labels.ends_s, prepend=0.0)[labels.classes != NO_PHONEME]
    return bool(lengths.size and np.median(lengths) < SHORTEST_S)


def find_clips(folder: Path, complain: Callable[[BadFile], None] = lambda error: None) -> list[LabelledUtterance]:
    """The labelled audio files in a folder, by name; those with bad labels are reported to `complain` and left out.

    Raises UsageError if there are none, or of one speaker only.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", "name a folder with one folder for each speaker")
    clips = []
    for path in files_below(folder):
        label_files = [path.with_suffix(suffix) for suffix in TICKS_HZ if path.with_suffix(suffix).is_file()]
        if path.suffix.lower() not in audio.SUFFIXES or not label_files:
            continue
        try:
            labels = read_labels(label_files[0])
            if is_misaligned(labels):
                raise BadFile(f"{label_files[0]} is badly aligned: most of its phonemes have the shortest length")
        except BadFile as error:
            complain(error)
            continue
        clips.append(LabelledUtterance(path, labels, path.parent.name))
    if len({clip.speaker for clip in clips}) < 2:
        kinds = " or ".join(TICKS_HZ)
        raise UsageError(
            f"{folder} has labelled audio of {len({clip.speaker for clip in clips})} speakers; two are needed",
            f"SPEAKER/clip.flac with SPEAKER/clip{kinds} beside it",
        )
    return clips


def middles_s(positions: int, rate_hz: float) -> np.ndarray:
    """The middle of each position, in seconds."""
    return (np.arange(positions) + 0.5) / rate_hz
