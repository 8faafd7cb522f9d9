"""Measurements of the experiments: functions from a model and data to figures.

`MEASURES` has their names in the table (table.py). Commands `vq eval ...` print more about each.
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
from vqcli.evaluation.speech import coding, conversion, evaluators, phoneme_labels, phonemes
from vqcli.evaluation.video import actions, frames
from vqcli.media import audio
from vqcli.progress import ProgressCallback
from vqcli.sampling import image
from vqcli.zoo import priors
from vqcli.zoo.loading import LoadedModel

CLASSIFIER_MINUTES = 3.0  # at most
MOST_TRAINED = 10_000  # training images of the classifier
SAMPLES_PER_CLASS = 50  # at most
FRAMES = 500  # of a recording, at most
STARTS = 20  # of sampled video, each with every action, at most
TARGET = "p225"  # speaker that clips are converted to


@dataclass(frozen=True)
class Measurement:
    """One figure: `what` it is, with its unit, and as text."""

    what: str
    value: float
    text: str


@dataclass(frozen=True, eq=False)
class EvaluationData:
    """Images or clips at `path` to evaluate on, at most `count` of them.

    `whole` if none of them are training data of the model; otherwise those that are held out. A classifier is trained
    for `minutes` at most.
    """

    path: Path
    count: int
    minutes: float = CLASSIFIER_MINUTES
    whole: bool = False

    @cached_property
    def source(self) -> Source:
        return rate_distortion.open_images(self.path)

    @cached_property
    def images(self) -> Dataset:
        """The images to evaluate on."""
        return rate_distortion.to_measure(self.path) if self.whole else Dataset(self.source, held_out=True)

    @cached_property
    def clips(self) -> dict[Path, str]:
        """Clips, each with its speaker."""
        jobs = batch.plan([self.path], Path(), audio.SUFFIXES, "").jobs
        return {job.source: conversion.speaker_of(job.name) for job in jobs[: self.count]}


class Subset:
    """A random subset of a source: at most `trained` images to train on and `held_out` that are held out."""

    def __init__(self, source: Source, trained: int, held_out: int) -> None:
        self._source, self._indices = source, [*_chosen(source, False, trained), *_chosen(source, True, held_out)]
        self.decoded, self.stride = source.decoded, source.stride
        self.names: Sequence[str] = [source.names[i] for i in self._indices]
        self.labels: Sequence[str | None] = [source.labels[i] for i in self._indices]
        self.held_out: Sequence[bool] = [source.held_out[i] for i in self._indices]

    def read(self, index: int) -> np.ndarray:
        return self._source.read(self._indices[index])


def _chosen(source: Source, held_out: bool, most: int) -> list[int]:
    candidates = [index for index, held in enumerate(source.held_out) if held == held_out]
    return [candidates[i] for i in permutation(len(candidates), 0, 0)[:most].tolist()]


def by_likelihood(model: LoadedModel, data: EvaluationData, progress: ProgressCallback) -> list[Measurement]:
    """Bits/dim of held-out images, under the prior that a model is trained with."""
    bound = likelihood.measure(model, data.images, count=data.count, stored=0, progress=progress)[0]
    text = f"bits/dim {bound.bits_per_dim:.3f} ({_many(bound.pictures, 'picture')})"
    return [Measurement(f"bits/dim, {bound.under}", bound.bits_per_dim, text)]


def by_reconstruction(model: LoadedModel, data: EvaluationData, progress: ProgressCallback) -> list[Measurement]:
    """PSNR of reconstructions, mean over images, and codebook usage."""
    images, counts = data.images, metrics.CodeCounts(model.net.codebook_sizes)
    order = permutation(len(images), 0, 0)[: data.count].tolist()
    points = rate_distortion.evaluate(
        model,
        [images.names[i] for i in order],
        lambda index: images.pixels(order[index]),
        [None],
        codecs=(),
        making=rate_distortion.Making("packed"),
        progress=progress,
        on_codes=counts.add,
    )
    (mean,) = rate_distortion.means(points)
    used = float(np.mean([usage.used for usage in counts.usages()]))
    return [
        Measurement("PSNR, dB", mean.psnr_db, f"PSNR {mean.psnr_db:.2f} dB ({_many(len(order), 'picture')})"),
        Measurement("share of codes in use", used, f"codes in use {used:.0%}"),
    ]


def by_equation_7(model: LoadedModel, data: EvaluationData, progress: ProgressCallback) -> list[Measurement]:
    """The report's eq. 7 of a VQ-VAE in nats for a value; less is better."""
    nats = likelihood.equation_7(model, data.images, data.count)
    return [Measurement("nats, the report's eq. 7", nats, f"eq. 7 of the report {nats:.3f} nats")]


def by_samples(model: LoadedModel, data: EvaluationData, progress: ProgressCallback) -> list[Measurement]:
    """Accuracy of a classifier on samples of the learned prior, of the uniform one, and on real images."""
    piece = image.data_of(priors.find(model.info, "pixelcnn"))
    subset = Subset(data.source, MOST_TRAINED, data.count)
    real, held_out = Dataset(subset, held_out=False), Dataset(subset, held_out=True)
    each = max(1, min(SAMPLES_PER_CLASS, data.count // max(1, len(real.classes))))
    drawn = {
        name: classifier.sample(model, prior, real.classes, each, progress=_within(progress, 0.1 * number, 0.1))
        for number, (name, prior) in enumerate({"drawn": "pixelcnn", "uniform prior": "uniform"}.items())
    }
    trained = classifier.train(model, real, piece, minutes=data.minutes, progress=_within(progress, 0.2, 0.8))
    rates = {name: trained.accuracy(samples.pixels, labels) for name, (samples, labels) in drawn.items()}
    rates["real, held out"] = trained.accuracy(*classifier.reconstructions(model, held_out, piece))
    return [
        Measurement(f"named right, {name}", rate.top_1, f"named right, {name}: {rate.top_1:.1%} of {rate.pictures:,}")
        for name, rate in rates.items()
    ]


def by_phonemes(model: LoadedModel, data: EvaluationData, progress: ProgressCallback) -> list[Measurement]:
    """Phoneme accuracy of codes, held out and in sample, of k-means of cepstra and of the most common phoneme."""
    found = phonemes.measure(model, phoneme_labels.find_clips(data.path)[: data.count], progress=progress)
    codes, kmeans = found.phonemes.codes, found.phonemes.kmeans
    classes = f"of {len(codes.classes)} classes"
    shares = {
        "codes": codes.accuracy.held_out,
        "codes in sample": codes.accuracy.in_sample,
        "k-means": kmeans.held_out,
        "most common": codes.most_common.held_out,
    }
    return [
        Measurement(f"phonemes right {classes}, {name}", share, f"{name} {share:.1%}") for name, share in shares.items()
    ]


def by_speech(model: LoadedModel, data: EvaluationData, progress: ProgressCallback) -> list[Measurement]:
    """Quality of decoded speech with all levels; word errors need the extra evaluators."""
    installed = evaluators.available()
    points = coding.evaluate(model, list(data.clips), codecs=(), with_evaluators=installed, progress=progress)
    return _of_speech(coding.means(points)[-1])


def by_conversion(model: LoadedModel, data: EvaluationData, progress: ProgressCallback) -> list[Measurement]:
    """Word errors and speaker similarity of converted clips; both need the extra evaluators."""
    known: dict[str, list[Path]] = {}
    for path, speaker in data.clips.items():
        known.setdefault(speaker, []).append(path)
    installed = evaluators.available() and TARGET in known
    converted = list(
        conversion.evaluate(model, data.clips, [TARGET], known, with_evaluators=installed, progress=progress)
    )
    if not converted:
        raise UsageError(f"none of the clips in {data.path} can be converted", f"they are of {TARGET}, or damaged")
    (mean,) = conversion.means(converted)
    like = mean.like_target
    return _of_speech(mean) + (
        [] if like is None else [Measurement("likeness", like, f"likeness to {TARGET} {like:.2f}")]
    )


def by_frames(model: LoadedModel, data: EvaluationData, progress: ProgressCallback) -> list[Measurement]:
    """PSNR of held-out frames, and bits for their codes under the priors of the model."""
    windows = frames.load_windows(data.path, min(data.count, FRAMES), frames.length_of(model))
    mean = frames.points(model, windows, codecs=(), progress=_within(progress, 0, 0.5))[0]
    costs = {cost.under: cost.bits_per_code for cost in frames.costs(model, windows, _within(progress, 0.5, 0.5))}
    shown = {name: costs[name] for name in (frames.PIXELCNN, frames.BEFORE, frames.NOTHING) if name in costs}
    return [
        Measurement("PSNR, dB", mean.psnr_db, f"PSNR {mean.psnr_db:.2f} dB ({_many(len(windows), 'frame')})"),
        *(Measurement(f"bits a code, {name}", bits, f"{bits:.3f} bits a code, {name}") for name, bits in shown.items()),
    ]


def by_latents(model: LoadedModel, data: EvaluationData, progress: ProgressCallback) -> list[Measurement]:
    """Whether the latents of two stages are used, and in Boxing how often the boxers keep their positions."""
    found = frames.latents(model, frames.load_windows(data.path, min(data.count, FRAMES), 1), progress)
    figures = [
        Measurement("bits a code, right latents", found.right, f"bits a code {found.right:.3f}"),
        Measurement("bits a code, shuffled latents", found.shuffled, f"shuffled latents {found.shuffled:.3f}"),
    ]
    if found.places is None:
        return figures
    kept, other = found.places.kept, found.places.kept_other
    return [*figures, Measurement("both boxers kept", kept, f"both boxers kept {kept:.0%} (by chance {other:.0%})")]


def by_actions(model: LoadedModel, data: EvaluationData, progress: ProgressCallback) -> list[Measurement]:
    """Accuracy of a classifier of actions on sampled transitions and on real ones."""
    starts = max(1, min(STARTS, data.count // 30))
    drawn = actions.sample(model, data.path, starts, progress=_within(progress, 0, 0.4))
    trained = actions.train(model, data.path, minutes=data.minutes, progress=_within(progress, 0.4, 0.5))
    rates = actions.accuracies(trained, model, data.path, drawn, _within(progress, 0.9, 0.1))
    chance = f"(chance {1 / len(trained.actions):.0%})"
    named = {"drawn": rates[actions.CONDITIONED], "real, held out": rates[actions.REAL]}
    return [
        Measurement(
            f"named right, {name}", one.share, f"named right, {name}: {one.share:.1%} of {one.transitions:,} {chance}"
        )
        for name, one in named.items()
    ]


def _within(progress: ProgressCallback, start: float, width: float) -> ProgressCallback:
    """Reports the progress of a part of the work as progress of the whole."""
    return lambda share: progress(start + width * share)


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'s' * (count != 1)}"


def _of_speech(mean: coding.Point | conversion.Conversion) -> list[Measurement]:
    wrong, near = mean.word_error, mean.log_mel_correlation
    words = [] if wrong is None else [Measurement("words misheard", wrong, f"words misheard {wrong:.1%}")]
    return words + (
        [] if near is None else [Measurement("log-mel correlation", near, f"log-mel correlation {near:.3f}")]
    )


MEASURES: dict[str, Callable[[LoadedModel, EvaluationData, ProgressCallback], list[Measurement]]] = {
    "likelihood": by_likelihood,
    "reconstruction": by_reconstruction,
    "equation-7": by_equation_7,
    "samples": by_samples,
    "phonemes": by_phonemes,
    "speech": by_speech,
    "conversion": by_conversion,
    "frames": by_frames,
    "latents": by_latents,
    "actions": by_actions,
}
