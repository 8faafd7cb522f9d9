"""The end of a run of a model of images: counts of its codes, codebooks as wide as they are used, figures and card."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn

from vqcli.codec import tiling
from vqcli.data.dataset import Dataset
from vqcli.entropy import statistics
from vqcli.errors import BadFile
from vqcli.nets.layers.rate import ScalarRate
from vqcli.training.export import card
from vqcli.training.export.finished import Finished
from vqcli.training.validation import Judged
from vqcli.zoo import loading, store

ENERGIES = 16  # classes for scalar codes; codes of a vector quantizer have no order and get one
SAMPLES = 250  # pictures whose codes are counted
QUALITIES_EACH = 3  # of each picture, in turn
LEAST = 12  # of these samples, however short the time
COUNTING_SHARE = 0.5  # of the time that is left; the rest is for measuring
LIMITS = (15, 31, 63, 127)  # few sizes, so that a header tells the codebooks of all groups in 12 bytes


def write_coded(
    finished: Finished[Dataset], net: nn.Module, rate: ScalarRate | None
) -> tuple[store.ModelInfo, dict[str, Any]]:
    """Write a codec with counts of its codes, of scalar ones with the rate model too: the model, and its description
    with codebooks as wide as they are used."""
    folder, description = finished.folder, finished.description
    # the codes to be counted come from the weights as they are shipped, in float16
    info = loading.save(folder, net, None, description)
    model = loading.load(info, "cpu")
    samples = list(finished.budget.part(COUNTING_SHARE).limit(sample_codes(model, finished.dataset), LEAST))
    if rate is None:
        counted = statistics.fit(samples, model.net.codebook_sizes)
        return loading.save(folder, net, counted, description), description
    old = np.array(model.net.codebook_sizes) // 2
    new = narrowed(samples, old)
    arguments = description["arguments"]
    description = description | {
        "arguments": arguments | {"quantizer": arguments["quantizer"] | {"limits": new.tolist()}}
    }
    shift, sizes = (old - new)[:, None, None], 2 * new + 1
    counted = statistics.fit(
        (np.clip(codes - shift, 0, sizes[:, None, None] - 1) for codes in samples),
        sizes.tolist(),
        weights={name: weight.cpu().numpy() for name, weight in rate.fitted_weights().items()},
        energies=ENERGIES,
    )
    return loading.save(folder, net, counted, description), description


def measure_and_describe(
    finished: Finished[Dataset], task: Judged, net: nn.Module, info: store.ModelInfo, description: dict[str, Any]
) -> store.ModelInfo:
    """Measure a model on held-out pictures as it is shipped, put the figures into its header, and write its card."""
    if finished.held_out is not None:
        model = loading.load(info, "cpu")
        measured = card.measure(model, finished.held_out, finished.budget)
        description = description | info.description | {"measured": measured}
        info = loading.save(finished.folder, net, model.statistics, description)
    facts = info.description | {"start": None} | description
    card.write(finished.folder, facts, finished.shown(task))
    return info


def sample_codes(model: loading.LoadedModel, dataset: Dataset) -> Iterator[np.ndarray]:
    """Codes int16 [groups, rows, columns] of some pictures, at some qualities each if the model has qualities."""
    steps = tiling.qualities(model)
    for done, index in enumerate(range(0, len(dataset), max(1, len(dataset) // SAMPLES))):
        try:
            pixels = dataset.pixels(index)
        except BadFile:
            continue
        latents = tiling.encode_latents(model, pixels)
        each = min(QUALITIES_EACH, steps)
        # at least the best quality of the first picture, so that every range is seen at its widest
        for quality in [steps - (done + i * steps // each) % steps for i in range(each)] or [0]:
            yield tiling.quantize(model, latents, pixels, 10 * quality).codes.astype(np.int16)


def narrowed(samples: list[np.ndarray], limits: np.ndarray) -> np.ndarray:
    """Limits [groups] that leave a quarter of room beyond what was seen, in few steps that never grow again."""
    middle = limits[:, None, None]
    peaks = np.max([np.abs(codes - middle).max((1, 2)) for codes in samples], axis=0)
    steps = np.array([*LIMITS, limits.max()])
    needed = np.minimum(steps[np.searchsorted(steps[:-1], 1.25 * peaks)], limits)
    return np.maximum.accumulate(needed[::-1])[::-1]
