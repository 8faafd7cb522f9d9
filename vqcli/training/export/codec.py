"""Export of an image codec: code statistics, the limits of scalar codebooks, measurements and card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import nn

from vqcli.codec import tiling
from vqcli.data.dataset import Dataset
from vqcli.entropy import statistics
from vqcli.errors import BadFile
from vqcli.nets.layers.rate import ScalarRate
from vqcli.training.export import card
from vqcli.training.export.finished import FinishedRun
from vqcli.training.validation import TaskLike
from vqcli.zoo import loading, store

ENERGY_CLASSES = 16  # classes of neighbouring scalar codes; codes of a vector quantizer have no order and get one class
SAMPLES = 250  # images whose codes are counted
QUALITIES_EACH = 3  # of each image, in turn
LEAST = 12  # of these samples, however short the time
COUNTING_SHARE = 0.5  # of the time that is left; the rest is for measuring
LIMITS = (15, 31, 63, 127)  # few sizes, so that 12 bytes of a header hold the codebook sizes


def write_coded(
    finished: FinishedRun[Dataset], net: nn.Module, rate: ScalarRate | None
) -> tuple[store.ModelInfo, dict[str, Any]]:
    """Write a codec with statistics of its codes, for scalar codes with the rate model and with codebooks limited to
    the range in use: the model, and its description."""
    folder, description = finished.folder, finished.description
    # codes are counted with the weights as they are shipped, in float16
    info = loading.save(folder, net, None, description)
    model = loading.load(info, "cpu")
    samples = list(finished.budget.part(COUNTING_SHARE).limit(sample_codes(model, finished.dataset), LEAST))
    if rate is None:
        fitted = statistics.fit(samples, model.net.codebook_sizes)
        return loading.save(folder, net, fitted, description), description
    limits, samples, description = limited(samples, description, model.net.codebook_sizes)
    fitted = statistics.fit(
        samples,
        [2 * limit + 1 for limit in limits],
        weights={name: weight.cpu().numpy() for name, weight in rate.fitted_weights().items()},
        energies=ENERGY_CLASSES,
    )
    return loading.save(folder, net, fitted, description), description


def limited(
    samples: list[np.ndarray], description: dict[str, Any], codebook_sizes: Sequence[int]
) -> tuple[list[int], list[np.ndarray], dict[str, Any]]:
    """Limits of scalar codebooks to the range that samples of their codes use, these codes in that range, and the
    description of the model with the limits."""
    old = np.array(codebook_sizes) // 2
    new = fitted_limits(samples, old)
    arguments = description["arguments"]
    quantizer = arguments.get("quantizer", {}) | {"limits": new.tolist()}
    shift, last = (old - new)[:, None, None], 2 * new[:, None, None]
    codes = [np.clip(each - shift, 0, last) for each in samples]
    return new.tolist(), codes, description | {"arguments": arguments | {"quantizer": quantizer}}


def measure_and_describe(
    finished: FinishedRun[Dataset], task: TaskLike, net: nn.Module, info: store.ModelInfo, description: dict[str, Any]
) -> store.ModelInfo:
    """Measure a model on held-out images as it is shipped, write the figures to its header, and write its card."""
    if finished.held_out is not None:
        model = loading.load(info, "cpu")
        measured = card.measure(model, finished.held_out, finished.budget)
        description = description | info.description | {"measured": measured}
        info = loading.save(finished.folder, net, model.statistics, description)
    facts = info.description | {"start": None} | description
    card.write(finished.folder, facts, finished.examples(task))
    return info


def sample_codes(model: loading.LoadedModel, dataset: Dataset) -> Iterator[np.ndarray]:
    """Codes int16 [n_codebooks, rows, columns] of some images, at some qualities each if the model has qualities."""
    steps = tiling.qualities(model)
    for done, index in enumerate(range(0, len(dataset), max(1, len(dataset) // SAMPLES))):
        try:
            pixels = dataset.pixels(index)
        except BadFile:
            continue
        latents = tiling.encode_latents(model, pixels)
        each = min(QUALITIES_EACH, steps)
        # at least the best quality of the first image, which has the widest ranges
        for quality in [steps - (done + i * steps // each) % steps for i in range(each)] or [0]:
            yield tiling.quantize(model, latents, pixels, 10 * quality).codes.astype(np.int16)


def fitted_limits(samples: list[np.ndarray], limits: np.ndarray) -> np.ndarray:
    """Limits [n_codebooks] a quarter above the largest codes in the samples, in few steps that never increase."""
    middle = limits[:, None, None]
    peaks = np.max([np.abs(codes - middle).max((1, 2)) for codes in samples], axis=0)
    steps = np.array([*LIMITS, limits.max()])
    needed = np.minimum(steps[np.searchsorted(steps[:-1], 1.25 * peaks)], limits)
    return np.maximum.accumulate(needed[::-1])[::-1]
