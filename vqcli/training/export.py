"""The end of a run: the trained net becomes a model folder, with the statistics of its codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vqcli import tiles, zoo
from vqcli.coders import statistics
from vqcli.data.pictures import Pictures
from vqcli.recipe import Recipe
from vqcli.training.loop import Run

ENERGIES = 16  # classes for scalar codes; codes of a vector quantizer have no order and get one
SAMPLES = 250  # pictures whose codes are counted
QUALITIES_EACH = 3  # of each picture, in turn
LIMITS = (15, 31, 63, 127)  # few sizes, so that a header tells the codebooks of all groups in 12 bytes


def export(
    run: Run,
    recipe: Recipe,
    pictures: Pictures,
    folder: Path,
    facts: dict[str, Any],
    report: Callable[[float], None] = tiles.silent,
) -> zoo.ModelInfo:
    """Write the model of a finished run to `folder`. `facts` joins its description: data, steps, time, machine."""
    description = {
        "family": recipe.model.family,
        "arguments": recipe.model.arguments,
        "modality": recipe.modality,
        "recipe": recipe.to_dict(),
        **facts,
    }
    # the codes to be counted come from the weights as they are shipped, in float16
    info = zoo.save(folder, run.model, None, description)
    model = zoo.load(info, "cpu")
    samples = list(sample_codes(model, pictures, report))
    if run.rate is None:
        counted = statistics.fit(samples, model.net.quantizer.codebook_sizes)
        return zoo.save(folder, run.model, counted, description)
    old = np.array(model.net.quantizer.codebook_sizes) // 2
    new = narrowed(samples, old)
    arguments = recipe.model.arguments
    description["arguments"] = arguments | {"quantizer": arguments["quantizer"] | {"limits": new.tolist()}}
    shift, sizes = (old - new)[:, None, None], 2 * new + 1
    counted = statistics.fit(
        (np.clip(codes - shift, 0, sizes[:, None, None] - 1) for codes in samples),
        sizes.tolist(),
        weights={name: weight.cpu().numpy() for name, weight in run.rate.fitted_weights().items()},
        energies=ENERGIES,
    )
    return zoo.save(folder, run.model, counted, description)


def sample_codes(model: zoo.LoadedModel, pictures: Pictures, report: Callable[[float], None]) -> Iterator[np.ndarray]:
    """Codes int16 [groups, rows, columns] of some pictures, at some qualities each if the model has qualities."""
    paths = pictures.paths[:: max(1, len(pictures.paths) // SAMPLES)]
    steps = tiles.qualities(model)
    for done, path in enumerate(paths):
        pixels = pictures.read(path)
        if pixels is None:
            continue
        latents = tiles.encode_latents(model, pixels)
        each = min(QUALITIES_EACH, steps)
        # at least the best quality of the first picture, so that every range is seen at its widest
        for quality in [steps - (done + i * steps // each) % steps for i in range(each)] or [0]:
            yield tiles.quantize(model, latents, pixels, 10 * quality).codes.astype(np.int16)
        report((done + 1) / len(paths))


def narrowed(samples: list[np.ndarray], limits: np.ndarray) -> np.ndarray:
    """Limits [groups] that leave a quarter of room beyond what was seen, in few steps that never grow again."""
    middle = limits[:, None, None]
    peaks = np.max([np.abs(codes - middle).max((1, 2)) for codes in samples], axis=0)
    steps = np.array([*LIMITS, limits.max()])
    needed = np.minimum(steps[np.searchsorted(steps[:-1], 1.25 * peaks)], limits)
    return np.maximum.accumulate(needed[::-1])[::-1]
