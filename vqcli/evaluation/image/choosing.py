"""Which temperature and guidance a prior by class is best sampled with.

Guidance buys likeness to the class with variety, and a classifier sees likeness alone. So the rule is that of one
standard error (Breiman et al. 1984): among the settings whose accuracy lies within one standard error of the highest,
the one whose samples differ most from each other.

    made = sample(model, classes, count, (), seed)
    found = measure(made, classifier.train(...), real_of(...))
    best(found).sampling
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vqcli.data.dataset import Dataset
from vqcli.evaluation.image import classifier
from vqcli.evaluation.image.classifier import Accuracy, Classifier
from vqcli.nets.priors.autoregressive import Sampling
from vqcli.progress import ProgressCallback, silent
from vqcli.recipe import Data
from vqcli.zoo.loading import LoadedModel

GUIDANCE = (1.0, 1.5, 2.0, 3.0, 4.0)
TEMPERATURES = (1.0, 0.9)
THUMBNAIL = 8  # pixels each way, at which images are compared

Images = tuple[np.ndarray, np.ndarray]  # pixels uint8 [N, H, W, 3], labels int64 [N]


@dataclass(frozen=True)
class Measured:
    """A setting, None for real images; how often its samples are named right, and how much they differ (`variety`)."""

    sampling: Sampling | None
    accuracy: Accuracy
    variety: float


def sample(
    model: LoadedModel,
    classes: Sequence[str],
    count: int,
    labels: Sequence[str] = (),
    seed: int = 0,
    progress: ProgressCallback = silent,
) -> dict[Sampling, Images]:
    """`count` samples of each class, or of each of `labels`, at every setting, from the same random numbers."""
    settings = [Sampling(temperature, guidance=guidance) for temperature in TEMPERATURES for guidance in GUIDANCE]
    made = {}
    for number, sampling in enumerate(settings):

        def done(share: float, number: int = number) -> None:
            progress((number + share) / len(settings))

        options: Any = {"labels": labels, "sampling": sampling, "seed": seed, "progress": done}
        samples, numbers = classifier.sample(model, "pixelcnn", classes, count, **options)
        made[sampling] = samples.pixels, numbers
    return made


def real_of(model: LoadedModel, held_out: Images, real: Dataset, data: Data, count: int) -> tuple[Images, Images]:
    """Held-out images, whose accuracy stands beside, and `count` training images of each of their classes, whose
    variety does: held-out ones are too few of a class."""
    batch = real.held_out_batch(data, len(real))  # centre crops, whatever part of the data `real` is
    kept = [np.flatnonzero(batch.labels == label)[:count] for label in np.unique(held_out[1])]
    chosen = np.concatenate(kept)
    return held_out, (classifier.reconstruct(model, batch.pixels[chosen]), batch.labels[chosen])


def measure(made: dict[Sampling, Images], trained: Classifier, real: tuple[Images, Images]) -> list[Measured]:
    """Real images first, then the settings."""
    held_out, many = real
    found = [Measured(None, trained.accuracy(*held_out), variety(*many))]
    return found + [
        Measured(sampling, trained.accuracy(*images), variety(*images)) for sampling, images in made.items()
    ]


def variety(pixels: np.ndarray, labels: np.ndarray) -> float:
    """Mean distance of an image uint8 [H, W, 3] from the nearest other of its class: root mean square of the
    differences of thumbnails, in grey values. Thumbnails show what is where, and no grain."""
    N, H, W, _ = pixels.shape
    rows, columns = (np.linspace(0, length, min(THUMBNAIL, length) + 1).astype(int)[:-1] for length in (H, W))
    sums = np.add.reduceat(np.add.reduceat(pixels.astype(np.float64), rows, 1), columns, 2)
    areas = np.diff([*rows, H])[:, None, None] * np.diff([*columns, W])[:, None]
    small = (sums / areas).reshape(N, -1)
    nearest: list[float] = []
    for label in np.unique(labels):
        of_class = small[labels == label]
        squares = ((of_class[:, None] - of_class) ** 2).mean(-1)
        np.fill_diagonal(squares, np.inf)
        nearest += list(np.sqrt(squares.min(1)))
    return float(np.mean(nearest)) if np.isfinite(nearest).all() else 0.0  # of single images there is none


def best(found: Sequence[Measured]) -> Measured:
    """The setting by the rule of one standard error."""
    settings = [one for one in found if one.sampling is not None]
    highest = max(settings, key=lambda one: one.accuracy.top_1).accuracy
    error = math.sqrt(highest.top_1 * (1 - highest.top_1) / highest.pictures)
    near = [one for one in settings if one.accuracy.top_1 >= highest.top_1 - error]
    return max(near, key=lambda one: one.variety)
