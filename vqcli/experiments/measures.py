"""How the experiments of the two documents are measured: a model and data to figures, each in one function.

`JUDGES` names them for the table (vqcli/experiments/table.py). Commands `vq eval ...` say more about each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vqcli import batch
from vqcli.data.dataset import Dataset, permutation
from vqcli.data.source import Source
from vqcli.errors import UsageError
from vqcli.evaluation import metrics
from vqcli.evaluation.image import classifier, likelihood, rate_distortion
from vqcli.evaluation.speech import coding, conversion, evaluators, phonemes
from vqcli.evaluation.video import actions, frames
from vqcli.media import audio
from vqcli.progress import Report
from vqcli.sampling import image
from vqcli.zoo import priors
from vqcli.zoo.loading import LoadedModel

CLASSIFIER_MINUTES = 3.0  # at most
MOST_SEEN = 10_000  # real pictures that it learns from
EACH = 50  # drawn pictures of a class, at most
FRAMES = 500  # of a recording, at most
STARTS = 20  # of drawn video, each with every action in turn, at most
VOICE = "p225"  # that clips are converted to


@dataclass(frozen=True)
class Measured:
    """One figure: `what` it is, with its unit, and as people read it."""

    what: str
    value: float
    text: str


@dataclass(frozen=True, eq=False)
class Material:
    """What is measured on: pictures or clips at `path`, at most `count` of them.

    `whole` if a model has learned from none of them; otherwise those that are held out. A classifier learns for
    `minutes` at most.
    """

    path: Path
    count: int
    minutes: float = CLASSIFIER_MINUTES
    whole: bool = False

    @cached_property
    def source(self) -> Source:
        return rate_distortion.open_images(self.path)

    @cached_property
    def pictures(self) -> Dataset:
        """The pictures to be measured."""
        return rate_distortion.to_measure(self.path) if self.whole else Dataset(self.source, held_out=True)

    @cached_property
    def clips(self) -> dict[Path, str]:
        """Clips, each with its speaker."""
        jobs = batch.plan([self.path], Path(), audio.SUFFIXES, "")
        return {job.source: conversion.speaker_of(job.name) for job in jobs[: self.count]}


class Part:
    """A source: some of the pictures of another, at most `seen` to train on and `unseen` that are held out, mixed."""

    def __init__(self, source: Source, seen: int, unseen: int) -> None:
        self._source, self._indices = source, [*_some(source, False, seen), *_some(source, True, unseen)]
        self.decoded, self.stride = source.decoded, source.stride
        self.names: Sequence[str] = [source.names[i] for i in self._indices]
        self.labels: Sequence[str | None] = [source.labels[i] for i in self._indices]
        self.held_out: Sequence[bool] = [source.held_out[i] for i in self._indices]

    def read(self, index: int) -> np.ndarray:
        return self._source.read(self._indices[index])


def _some(source: Source, held_out: bool, most: int) -> list[int]:
    ours = [index for index, held in enumerate(source.held_out) if held == held_out]
    return [ours[i] for i in permutation(len(ours), 0, 0)[:most].tolist()]


def by_likelihood(model: LoadedModel, material: Material, report: Report) -> list[Measured]:
    """Bits/dim of held-out pictures, under the prior that a model is trained with."""
    bound = likelihood.measure(model, material.pictures, count=material.count, stored=0, report=report)[0]
    text = f"bits/dim {bound.bits_per_dim:.3f} ({_many(bound.pictures, 'picture')})"
    return [Measured(f"bits/dim, {bound.under}", bound.bits_per_dim, text)]


def by_reconstruction(model: LoadedModel, material: Material, report: Report) -> list[Measured]:
    """PSNR of what a model gives back, mean over pictures, and the share of its codes that they use."""
    pictures, counts = material.pictures, metrics.CodeCounts(model.net.codebook_sizes)
    order = permutation(len(pictures), 0, 0)[: material.count].tolist()
    points = rate_distortion.evaluate(
        model,
        [pictures.names[i] for i in order],
        lambda index: pictures.pixels(order[index]),
        [None],
        codecs=(),
        coder="packed",
        report=report,
        on_codes=counts.add,
    )
    (mean,) = rate_distortion.means(points)
    used = float(np.mean([usage.used for usage in counts.usages()]))
    return [
        Measured("PSNR, dB", mean.psnr_db, f"PSNR {mean.psnr_db:.2f} dB ({_many(len(order), 'picture')})"),
        Measured("share of codes in use", used, f"codes in use {used:.0%}"),
    ]


def by_samples(model: LoadedModel, material: Material, report: Report) -> list[Measured]:
    """How often a classifier names the class of a drawn picture: of the learned prior, of the uniform one, of none."""
    piece = image.data_of(priors.find(model.info, "pixelcnn"))
    some = Part(material.source, MOST_SEEN, material.count)
    real, unseen = Dataset(some, held_out=False), Dataset(some, held_out=True)
    each = max(1, min(EACH, material.count // max(1, len(real.classes))))
    drawn = {
        name: classifier.sample(model, prior, real.classes, each, report=_within(report, 0.1 * number, 0.1))
        for number, (name, prior) in enumerate({"drawn": "pixelcnn", "uniform prior": "uniform"}.items())
    }
    judged = classifier.train(model, real, piece, minutes=material.minutes, report=_within(report, 0.2, 0.8))
    rates = {name: judged.accuracy(samples.pixels, labels) for name, (samples, labels) in drawn.items()}
    rates["real, held out"] = judged.accuracy(*classifier.reconstructions(model, unseen, piece))
    return [
        Measured(f"named right, {name}", rate.top_1, f"named right, {name}: {rate.top_1:.1%} of {rate.pictures:,}")
        for name, rate in rates.items()
    ]


def by_phonemes(model: LoadedModel, material: Material, report: Report) -> list[Measured]:
    """How much codes tell of phonemes, beside k-means of cepstra and the most common phoneme."""
    found = phonemes.measure(model, phonemes.find_clips(material.path)[: material.count], report=report)
    classes = f"of {len(found.codes.classes)} classes"
    shares = {"codes": found.codes.accuracy, "k-means": found.kmeans, "most common": found.codes.most_common}
    return [
        Measured(f"phonemes right {classes}, {name}", share, f"{name} {share:.1%}") for name, share in shares.items()
    ]


def by_speech(model: LoadedModel, material: Material, report: Report) -> list[Measured]:
    """How near speech comes back, with all levels; misheard words need the extra evaluators."""
    judges = evaluators.available()
    points = coding.evaluate(model, list(material.clips), codecs=(), with_evaluators=judges, report=report)
    return _of_speech(coding.means(points)[-1])


def by_conversion(model: LoadedModel, material: Material, report: Report) -> list[Measured]:
    """What becomes of words and voice when clips take another voice; both need the extra evaluators."""
    known: dict[str, list[Path]] = {}
    for path, speaker in material.clips.items():
        known.setdefault(speaker, []).append(path)
    judges = evaluators.available() and VOICE in known
    converted = list(conversion.evaluate(model, material.clips, [VOICE], known, with_evaluators=judges, report=report))
    if not converted:
        raise UsageError(f"none of the clips in {material.path} can be converted", f"they are of {VOICE}, or damaged")
    (mean,) = conversion.means(converted)
    like = mean.like_target
    return _of_speech(mean) + ([] if like is None else [Measured("likeness", like, f"likeness to {VOICE} {like:.2f}")])


def by_frames(model: LoadedModel, material: Material, report: Report) -> list[Measured]:
    """PSNR of held-out frames, and bits for a code of theirs under the priors that lie beside the model."""
    seen = frames.load_windows(material.path, min(material.count, FRAMES), frames.length_of(model))
    mean = frames.points(model, seen, codecs=(), report=_within(report, 0, 0.5))[0]
    costs = {cost.under: cost.bits_per_code for cost in frames.costs(model, seen, _within(report, 0.5, 0.5))}
    shown = {name: costs[name] for name in (frames.PIXELCNN, frames.BEFORE, frames.NOTHING) if name in costs}
    return [
        Measured("PSNR, dB", mean.psnr_db, f"PSNR {mean.psnr_db:.2f} dB ({_many(len(seen), 'frame')})"),
        *(Measured(f"bits a code, {name}", bits, f"{bits:.3f} bits a code, {name}") for name, bits in shown.items()),
    ]


def by_latents(model: LoadedModel, material: Material, report: Report) -> list[Measured]:
    """Whether the latents of two stages are used, and in Boxing how often the boxers stay where they were."""
    found = frames.latents(model, frames.load_windows(material.path, min(material.count, FRAMES), 1), report)
    told = [
        Measured("bits a code, right latents", found.right, f"bits a code {found.right:.3f}"),
        Measured("bits a code, shuffled latents", found.shuffled, f"shuffled latents {found.shuffled:.3f}"),
    ]
    if found.places is None:
        return told
    kept, other = found.places.kept, found.places.kept_other
    return [*told, Measured("both boxers kept", kept, f"both boxers kept {kept:.0%} (by chance {other:.0%})")]


def by_actions(model: LoadedModel, material: Material, report: Report) -> list[Measured]:
    """How often a classifier names the action that a drawn transition was told, and that of a real one."""
    starts = max(1, min(STARTS, material.count // 30))
    drawn = actions.sample(model, material.path, starts, report=_within(report, 0, 0.4))
    judged = actions.train(model, material.path, minutes=material.minutes, report=_within(report, 0.4, 0.5))
    rates = actions.accuracies(judged, model, material.path, drawn, _within(report, 0.9, 0.1))
    chance = f"(chance {1 / len(judged.actions):.0%})"
    named = {"drawn": rates[actions.CONDITIONED], "real, held out": rates[actions.REAL]}
    return [
        Measured(
            f"named right, {name}", one.share, f"named right, {name}: {one.share:.1%} of {one.transitions:,} {chance}"
        )
        for name, one in named.items()
    ]


def _within(report: Report, start: float, width: float) -> Report:
    """Tells the progress of a part of the work as that of the whole."""
    return lambda share: report(start + width * share)


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'s' * (count != 1)}"


def _of_speech(mean: coding.Point | conversion.Conversion) -> list[Measured]:
    wrong, near = mean.word_error, mean.log_mel_correlation
    words = [] if wrong is None else [Measured("words misheard", wrong, f"words misheard {wrong:.1%}")]
    return words + ([] if near is None else [Measured("log-mel correlation", near, f"log-mel correlation {near:.3f}")])


JUDGES: dict[str, Callable[[LoadedModel, Material, Report], list[Measured]]] = {
    "likelihood": by_likelihood,
    "reconstruction": by_reconstruction,
    "samples": by_samples,
    "phonemes": by_phonemes,
    "speech": by_speech,
    "conversion": by_conversion,
    "frames": by_frames,
    "latents": by_latents,
    "actions": by_actions,
}
