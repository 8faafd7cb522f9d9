"""Phoneme accuracy of speech codes (section 4.3 of the paper).

Each code is mapped to the phoneme that it occurs with most often. The map is fitted on one half of the speakers and
scored on the other, then the reverse, and the accuracy is the mean of both. The label of a position is the phoneme at
its middle. Silence is left out, of the map and of the score.

Labels are files of the same name as the audio: `.phn` (TIMIT: samples at 16 kHz) or `.lab` (VCTK: steps of 100 ns).
The 61 symbols of TIMIT are mapped to the usual 39 classes (Lee and Hon 1989), of which silence is one; the glottal stop
has none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vqcli.codec import windows
from vqcli.errors import BadFile, UsageError
from vqcli.files import files_below
from vqcli.media import audio, drawing, mel
from vqcli.progress import silent
from vqcli.zoo.loading import LoadedModel

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


@dataclass(frozen=True, eq=False)
class Score:
    """Phoneme accuracy of codes.

    accuracies   share of the positions whose code maps to their phoneme: the map fitted on the first half of the
                 speakers and scored on the second, and the reverse
    most_common  accuracy of the most common phoneme, mean of both
    positions    number of scored positions, without silence
    speakers     number in both halves
    table        int64 [K, classes]: counts of codes and phonemes, over all speakers
    classes      names of the classes that occur
    """

    accuracies: tuple[float, float]
    most_common: float
    positions: int
    speakers: int
    table: np.ndarray
    classes: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        return sum(self.accuracies) / 2


@dataclass(frozen=True)
class PhonemeResult:
    """The codes of a model's first codebook, and k-means of cepstra with as many codes at the same rate.

    kmeans      accuracy of k-means
    clips       number of scored clips
    K, rate_hz  of the codebook: codes, positions per second
    """

    codes: Score
    kmeans: float
    clips: int
    K: int
    rate_hz: float

    @property
    def bits_per_second(self) -> float:
        """Of the codebook, for equally likely codes, as in the paper."""
        return self.rate_hz * math.log2(self.K)


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


# ---------------------------------------------------------------- codes -> phonemes


def score(codes: Sequence[np.ndarray], classes: Sequence[np.ndarray], speakers: Sequence[str], K: int) -> Score:
    """The score of codes [P] of clips, given the class at each position [P] and the speaker of each clip.

    Codes without counts are mapped to the most common phoneme.
    """
    tables = np.zeros((2, K, len(CLASSES)), np.int64)
    for own, labels, half in zip(codes, classes, halves(speakers), strict=True):
        voiced = labels != NO_PHONEME
        np.add.at(tables[half], (own[voiced], labels[voiced]), 1)
    if not tables.sum((1, 2)).all():
        raise UsageError("these clips are silent, or of one speaker only")
    splits = ((tables[0], tables[1]), (tables[1], tables[0]))
    right = [float(scored[np.arange(K), likeliest(fitted)].sum() / scored.sum()) for fitted, scored in splits]
    common = [scored[:, fitted.sum(0).argmax()].sum() / scored.sum() for fitted, scored in splits]
    table = tables.sum(0)
    occurring = np.flatnonzero(table.sum(0))
    return Score(
        accuracies=(right[0], right[1]),
        most_common=float(np.mean(common)),
        positions=int(table.sum()),
        speakers=len(set(speakers)),
        table=table[:, occurring],
        classes=tuple(CLASSES[index] for index in occurring),
    )


def halves(speakers: Sequence[str]) -> np.ndarray:
    """The half, 0 or 1, of the speaker of each clip: by name, 0 1 1 0 0 1 1 0 ...

    Alternating halves would separate women and men where they alternate, as they do in TIMIT by region.
    """
    names = sorted(set(speakers))
    return np.array([(names.index(speaker) + 1) // 2 % 2 for speaker in speakers])


def likeliest(table: np.ndarray) -> np.ndarray:
    """The phoneme [K] that each code maps to, from counts [K, classes]."""
    common = table.sum(0)
    return (table + common / (common.sum() + 1)).argmax(1)  # less than one count: breaks ties


# ---------------------------------------------------------------- k-means of cepstra


OFFSETS = (-3, 0, 3)  # frames of 10 ms
CEPSTRA = 13


def features(samples: np.ndarray, positions: int, rate_hz: float) -> np.ndarray:
    """Normalised cepstra float32 [positions, 39] around the middle of each position of samples [N] at 16 kHz.

    CEPSTRA coefficients, normalised to mean 0 and deviation 1 over the clip, at OFFSETS from the middle.
    """
    coefficients = mel.cepstra(mel.log_mel(samples), CEPSTRA).T  # (T, 13)
    if not len(coefficients):
        return np.zeros((positions, CEPSTRA * len(OFFSETS)), np.float32)
    coefficients = (coefficients - coefficients.mean(0)) / (coefficients.std(0) + 1e-5)
    # frame j is centred on (j + 1/2) HOP; a middle between two frames has the mean of both
    middle = middles_s(positions, rate_hz) * mel.RATE_HZ / mel.HOP - 0.5
    near = [np.floor(middle), np.ceil(middle)]
    parts = [
        sum(coefficients[np.clip(place + offset, 0, len(coefficients) - 1).astype(int)] for place in near) / 2
        for offset in OFFSETS
    ]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def kmeans(points: np.ndarray, K: int, *, rounds: int = 30, most: int = 60_000, seed: int = 0) -> np.ndarray:
    """Centres float32 [K, D] of points [N, D] (Lloyd), initialised by k-means++, from at most `most` of them."""
    if len(points) < K:
        raise UsageError(f"{len(points)} positions are too few for {K} codes")
    generator = np.random.default_rng(seed)
    points = points[generator.permutation(len(points))[:most]]
    first = points[: 80 * K]
    centres = [first[0]]
    nearest = ((first - centres[0]) ** 2).sum(1)
    while len(centres) < K:
        total = nearest.sum()
        chosen = generator.choice(len(first), p=nearest / total) if total > 0 else generator.integers(len(first))
        centres.append(first[chosen])
        nearest = np.minimum(nearest, ((first - first[chosen]) ** 2).sum(1))
    means = np.stack(centres)
    for _ in range(rounds):
        codes = assign(points, means)
        counts = np.bincount(codes, minlength=K)
        sums = np.stack([np.bincount(codes, points[:, d], K) for d in range(points.shape[1])], 1)
        means = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], means).astype(np.float32)
    return means


def assign(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The nearest centre, int64 [N], of points [N, D]."""
    half = (centres**2).sum(1) / 2
    parts = [(half - points[at : at + 4096] @ centres.T).argmin(1) for at in range(0, len(points), 4096)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


# ---------------------------------------------------------------- a model


def measure(
    model: LoadedModel,
    clips: Sequence[LabelledUtterance],
    train: Path | None = None,
    *,
    progress: Callable[[float], None] = silent,
    complain: Callable[[BadFile], None] = lambda error: None,
) -> PhonemeResult:
    """The score of a model's first codebook on labelled clips, and that of k-means of cepstra.

    k-means is fitted to the audio in the folder `train`, or without one to the speakers that its map is fitted to.
    Files that cannot be read are reported to `complain` and left out.
    """
    net = model.audio
    K, rate_hz = int(net.codebook_sizes[0]), net.rate_hz / net.stride
    codes_of_clips, cepstra, classes, speakers = [], [], [], []
    for number, clip in enumerate(clips):
        try:
            recording = audio.read(clip.path, net.rate_hz, mono=True)
        except BadFile as error:
            complain(error)
            continue
        codes = windows.encode_audio(model, recording).codes[0, 0].astype(np.int64)
        codes_of_clips.append(codes)
        cepstra.append(features(recording.samples[0], len(codes), rate_hz))
        classes.append(clip.labels.at(middles_s(len(codes), rate_hz)))
        speakers.append(clip.speaker)
        progress((number + 1) / len(clips))
    own = score(codes_of_clips, classes, speakers, K)

    def of_centres(centres: np.ndarray) -> Score:
        return score([assign(points, centres) for points in cepstra], classes, speakers, K)

    if train is not None:
        kmeans_accuracy = of_centres(kmeans(_features_of_folder(train, net.rate_hz, rate_hz, complain), K)).accuracy
    else:
        half_of = halves(speakers)
        accuracies = []
        for half in (0, 1):
            points = np.concatenate([points for points, at in zip(cepstra, half_of, strict=True) if at == half])
            accuracies.append(of_centres(kmeans(points, K)).accuracies[half])
        kmeans_accuracy = sum(accuracies) / 2
    return PhonemeResult(own, kmeans_accuracy, len(codes_of_clips), K, rate_hz)


MOST_FILES = 2000  # that k-means is fitted to


def _features_of_folder(
    folder: Path, net_rate_hz: int, rate_hz: float, complain: Callable[[BadFile], None]
) -> np.ndarray:
    paths, parts = [path for path in files_below(folder) if path.suffix.lower() in audio.SUFFIXES], []
    for path in paths[:: -(-len(paths) // MOST_FILES) or 1]:
        try:
            samples = audio.read(path, net_rate_hz, mono=True).samples[0]
        except BadFile as error:
            complain(error)
            continue
        parts.append(features(samples, int(len(samples) / net_rate_hz * rate_hz), rate_hz))
    if not parts:
        raise UsageError(f"no audio in {folder}")
    return np.concatenate(parts)


# ---------------------------------------------------------------- images


def sorted_codes(table: np.ndarray) -> np.ndarray:
    """Codes that occur, grouped by phoneme, those of the highest share first."""
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    order = np.lexsort((-shares.max(1), likeliest(table)))
    return order[table.sum(1)[order] > 0]


def heat_map(score: Score, scale: int = 8) -> np.ndarray:
    """RGB image uint8 of P(phoneme | code): a row for each phoneme with its name, a column for each code."""
    table = score.table[sorted_codes(score.table)]
    shares = table / table.sum(1, keepdims=True)  # (codes, classes)
    dark = np.sqrt(shares.T)[..., None]  # small shares stay visible
    colours = (255 - dark * (255 - np.array([20, 50, 120]))).astype(np.uint8)
    rows = [[row[None].repeat(2 * scale, 0).repeat(scale, 1)] for row in colours]
    return drawing.grid(rows, score.classes, gap=1)


# ---------------------------------------------------------------- text


def most_frequent(score: Score, top: int) -> list[tuple[int, int, list[tuple[str, float]]]]:
    """The `top` most frequent codes: code, count, and its three most frequent phonemes with their shares."""
    counts = score.table.sum(1)
    listed = []
    for code in np.argsort(-counts, kind="stable")[:top].tolist():
        if counts[code]:
            phonemes = np.argsort(-score.table[code], kind="stable")[:3].tolist()
            shares = [(score.classes[each], float(score.table[code, each] / counts[code])) for each in phonemes]
            listed.append((code, int(counts[code]), [(name, share) for name, share in shares if share]))
    return listed


def definition(found: PhonemeResult) -> str:
    """The definition of the figures as text, since it differs between publications."""
    codes = found.codes
    return (
        f"share of {codes.positions:,} positions of {1000 / found.rate_hz:g} ms whose code stands for the phoneme at "
        f"their middle, of {len(codes.classes)} classes, silence left out: the map from codes to phonemes learned from "
        f"half of {codes.speakers} speakers ({found.clips} clips), scored on the other half, and the reverse"
    )
