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

CONTEXTS = 24  # for scalar codes; codes of a vector quantizer have no order and get one
SAMPLES = 300  # pictures whose codes are counted


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
    weights = None
    if run.rate is not None:
        weights = {name: weight.cpu().numpy() for name, weight in run.rate.fitted_weights().items()}
    counted = statistics.fit(
        sample_codes(model, pictures, report),
        model.net.quantizer.codebook_sizes,
        weights=weights,
        contexts=CONTEXTS if weights else 1,
    )
    return zoo.save(folder, run.model, counted, description)


def sample_codes(model: zoo.LoadedModel, pictures: Pictures, report: Callable[[float], None]) -> Iterator[np.ndarray]:
    """Codes [groups, rows, columns] of some pictures, at every whole quality if the model has qualities."""
    paths = pictures.paths[:: max(1, len(pictures.paths) // SAMPLES)]
    for done, path in enumerate(paths):
        pixels = pictures.read(path)
        if pixels is None:
            continue
        latents = tiles.encode_latents(model, pixels)
        for quality in range(1, tiles.qualities(model) + 1) or [0]:
            yield tiles.quantize(model, latents, pixels, 10 * quality).codes
        report((done + 1) / len(paths))
