"""Export of a codec that was trained with its entropy model: both files, the statistics of its codes, and its card."""

from __future__ import annotations

import numpy as np
import torch

from vqcli.data.dataset import Dataset
from vqcli.entropy import statistics
from vqcli.nets.codecs.lapped2d import LappedCodec
from vqcli.nets.layers.rate import ScalarRate, fit
from vqcli.nets.priors import rounding
from vqcli.training.export import codec
from vqcli.training.export.finished import FinishedRun
from vqcli.training.validation import TaskLike
from vqcli.zoo import loading, priors, store

FIT_STEPS, FIT_LEARNING_RATE, FIT_SAMPLES = 200, 0.1, 24
OF_THE_CODEC = ("arguments", "measured", "start", "format")  # what the entropy model's header does not repeat


def write(finished: FinishedRun[Dataset], task: TaskLike, net: LappedCodec) -> store.ModelInfo:
    """Write codec and entropy model, measure them, and write the card: the model."""
    folder, description = finished.folder, finished.description
    model = loading.load(loading.save(folder, net, None, description), "cpu")
    part = finished.budget.part(codec.COUNTING_SHARE)
    samples = list(part.limit(codec.sample_codes(model, finished.dataset), codec.LEAST))
    limits, samples, description = codec.limited(samples, description, net.codebook_sizes)
    weights = _context_weights(samples, limits)
    fitted = statistics.fit(
        samples, [2 * limit + 1 for limit in limits], weights=weights, energies=codec.ENERGY_CLASSES
    )
    info = loading.save(folder, net, fitted, description)
    write_entropy_model(info)
    info = codec.measure_and_describe(finished, task, net, info, description)
    write_entropy_model(info)  # the digest that it names has changed with the figures
    return info


def write_entropy_model(info: store.ModelInfo) -> None:
    """Write the integers of a codec's entropy model beside it, of the weights as they are in its file."""
    net = loading.load(info, "cpu").net.rate
    arguments = {
        "codebook_sizes": list(net.codebook_sizes),
        "qualities": net.qualities,
        "slices": [len(part) for part in net.groups],
        "levels": list(net.levels),
        "hidden": [part.bias.shape[-1] for part in net.slices],
    }
    facts = {name: value for name, value in info.description.items() if name not in OF_THE_CODEC}
    own = {"family": "exact", "arguments": arguments, "codec": info.digest.hex(), "classes": [], "measured": {}}
    priors.save(info.folder, rounding.rounded(net).arrays(), facts | own)


def _context_weights(samples: list[np.ndarray], limits: list[int]) -> dict[str, np.ndarray]:
    """Weights of the neighbours for the context coder, fitted to codes [dim, h, w] of some images."""
    rate = ScalarRate(len(limits), 1)
    middles = torch.tensor(limits)[:, None, None]
    values = [(torch.from_numpy(codes.astype(np.int32)) - middles).float()[None] for codes in samples[:FIT_SAMPLES]]
    fit(rate, lambda step: (values[step % len(values)], torch.ones(1)), FIT_STEPS, FIT_LEARNING_RATE)
    return {name: weight.numpy() for name, weight in rate.fitted_weights().items()}
