"""Phoneme accuracy of speech codes (section 4.3 of the paper).

Each code is mapped to the phoneme that it occurs with most often. The label of a position is the phoneme at its middle
(phoneme_labels.py). Publications differ in two things, so both are measured both ways:

- held out: the map is fitted on one half of the speakers and scored on the other, then the reverse, and the accuracy is
  the mean of both. In sample: the map is fitted on all speakers and scored on the same, as the paper's seems to be.
- Silence is left out, of the map and of the score; or it is a class like the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vqcli.codec import windows
from vqcli.errors import BadFile, UsageError
from vqcli.evaluation.speech.phoneme_labels import CLASSES, NO_PHONEME, SILENCE, LabelledUtterance, middles_s
from vqcli.files import files_below
from vqcli.media import audio, drawing, mel
from vqcli.progress import silent
from vqcli.zoo.loading import LoadedModel


class Accuracy(NamedTuple):
    """Share of the positions that are named right: in halves of the speakers (mean of both), and in sample."""

    held_out: float
    in_sample: float


@dataclass(frozen=True, eq=False)
class Score:
    """Phoneme accuracy of codes.

    accuracy     of the phonemes that codes map to
    halves       of its held-out share: the map fitted on the first half of the speakers and scored on the second, and
                 the reverse
    most_common  accuracy of the most common class
    positions    number of scored positions
    speakers     number in both halves
    table        int64 [K, classes]: counts of codes and classes, over all speakers
    classes      names of the classes that occur
    """

    accuracy: Accuracy
    halves: tuple[float, float]
    most_common: Accuracy
    positions: int
    speakers: int
    table: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Scores:
    """The codes of a model's first codebook, and k-means of cepstra with as many codes at the same rate."""

    codes: Score
    kmeans: Accuracy


@dataclass(frozen=True)
class PhonemeResult:
    """Scores without silence, and with it as a class.

    clips       number of scored clips
    K, rate_hz  of the codebook: codes, positions per second
    """

    phonemes: Scores
    with_silence: Scores
    clips: int
    K: int
    rate_hz: float

    @property
    def bits_per_second(self) -> float:
        """Of the codebook, for equally likely codes, as in the paper."""
        return self.rate_hz * math.log2(self.K)


# ---------------------------------------------------------------- codes -> phonemes


def score(
    codes: Sequence[np.ndarray],
    classes: Sequence[np.ndarray],
    speakers: Sequence[str],
    K: int,
    *,
    with_silence: bool = False,
) -> Score:
    """The score of codes [P] of clips, given the class at each position [P] and the speaker of each clip.

    Codes without counts are mapped to the most common class.
    """
    names = (*CLASSES, SILENCE) if with_silence else CLASSES  # NO_PHONEME, -1, is the last
    tables = np.zeros((2, K, len(names)), np.int64)
    for own, labels, half in zip(codes, classes, halves(speakers), strict=True):
        scored = slice(None) if with_silence else labels != NO_PHONEME
        np.add.at(tables[half], (own[scored], labels[scored]), 1)
    if not tables.sum((1, 2)).all():
        raise UsageError("these clips are silent, or of one speaker only")
    table = tables.sum(0)
    splits = ((tables[0], tables[1]), (tables[1], tables[0]), (table, table))
    right = [float(scored[np.arange(K), likeliest(fitted)].sum() / scored.sum()) for fitted, scored in splits]
    common = [float(scored[:, fitted.sum(0).argmax()].sum() / scored.sum()) for fitted, scored in splits]
    occurring = np.flatnonzero(table.sum(0))
    return Score(
        accuracy=Accuracy(sum(right[:2]) / 2, right[2]),
        halves=(right[0], right[1]),
        most_common=Accuracy(sum(common[:2]) / 2, common[2]),
        positions=int(table.sum()),
        speakers=len(set(speakers)),
        table=table[:, occurring],
        classes=tuple(names[index] for index in occurring),
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
    # first, since it refuses clips without two halves
    own = [score(codes_of_clips, classes, speakers, K, with_silence=each) for each in (False, True)]
    if train is not None:
        centres = [kmeans(_features_of_folder(train, net.rate_hz, rate_hz, complain), K)] * 2
    else:
        half_of = halves(speakers)
        parts = [[points for points, at in zip(cepstra, half_of, strict=True) if at == half] for half in (0, 1)]
        centres = [kmeans(np.concatenate(part), K) for part in parts]
    codes_of_kmeans = [[assign(points, each) for points in cepstra] for each in centres]

    def of_kmeans(with_silence: bool) -> Accuracy:
        found = [score(each, classes, speakers, K, with_silence=with_silence) for each in codes_of_kmeans]
        held_out = sum(each.halves[half] for half, each in enumerate(found)) / 2
        return Accuracy(held_out, sum(each.accuracy.in_sample for each in found) / 2)

    without, with_silence = (Scores(each, of_kmeans(bool(n))) for n, each in enumerate(own))
    return PhonemeResult(without, with_silence, len(codes_of_clips), K, rate_hz)


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
    codes = found.phonemes.codes
    return (
        f"share of {codes.positions:,} positions of {1000 / found.rate_hz:g} ms whose code stands for the phoneme at "
        f"their middle, of {len(codes.classes)} classes, silence left out. Held out: the map from codes to phonemes "
        f"learned from half of {codes.speakers} speakers ({found.clips} clips), scored on the other half, and the "
        f"reverse. In sample: learned from all and scored on the same. With silence: it is one class more, of "
        f"{found.with_silence.codes.positions:,} positions"
    )
