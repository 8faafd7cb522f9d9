"""The end of a run: the trained net becomes a model folder, measured, with the statistics of its codes and a card."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqcli.codec import tiling
from vqcli.data.clips import Clips
from vqcli.data.dataset import Batch, Dataset
from vqcli.entropy import prior2d, statistics
from vqcli.entropy.prior1d_net import SequenceNet
from vqcli.entropy.prior2d_net import Net
from vqcli.errors import BadFile
from vqcli.nets.priors import rounding
from vqcli.nets.priors.exact import ExactPrior
from vqcli.nets.priors.exact1d import SequencePrior
from vqcli.training import card, card_speech, export_codes, export_speech, frames
from vqcli.training.budget import Budget
from vqcli.training.code_clips import CodeClips
from vqcli.training.finish import FinishTask
from vqcli.training.frames import FramesTask, Windows
from vqcli.training.speech import SpeechTask, WaveTask
from vqcli.training.task import Task
from vqcli.training.tasks import BaselineTask, CodecTask, PriorTask, as_input
from vqcli.training.twostage import TwoStageTask
from vqcli.training.validation import Validation
from vqcli.zoo import loading, priors, store, weights

ENERGIES = 16  # classes for scalar codes; codes of a vector quantizer have no order and get one
SAMPLES = 250  # pictures whose codes are counted
QUALITIES_EACH = 3  # of each picture, in turn
LEAST = 12  # of these samples, however short the time
COUNTING_SHARE = 0.5  # of the time that is left; the rest is for measuring
LIMITS = (15, 31, 63, 127)  # few sizes, so that a header tells the codebooks of all groups in 12 bytes


def export(
    task: Task,
    dataset: Dataset | Clips | CodeClips | Windows,
    held_out: Dataset | Clips | CodeClips | Windows | None,
    validation: Validation | None,
    folder: Path,
    facts: dict[str, Any],
    budget: Budget,
) -> store.ModelInfo:
    """Write the model of a finished run to `folder`. `facts` joins its description: steps, time, machine.

    As much is counted and measured as there is time for in the budget, and at least something of each.
    """
    description = {
        "family": task.recipe.model.family,
        "arguments": task.recipe.model.arguments,
        "modality": task.recipe.modality,
        "recipe": task.recipe.to_dict(),
        "name": folder.resolve().name,
        **facts,
    }
    if isinstance(task, SpeechTask | WaveTask | FinishTask):
        assert isinstance(dataset, Clips) and isinstance(held_out, Clips | None)
        info = export_speech.export(task, dataset, held_out, folder, description, budget)
        card_speech.write(folder, info.description)
        return info
    if isinstance(task, PriorTask | FramesTask):
        assert not isinstance(dataset, Clips)
        info = _export_prior(task, dataset, held_out, validation, folder, description, budget)
        description["measured"] = priors.describe(priors.path_of(folder, task.recipe.model.family)).description[
            "measured"
        ]
        if isinstance(dataset, CodeClips):
            export_codes.write_card(folder, description)
            return info
    else:
        assert isinstance(task, CodecTask | BaselineTask | TwoStageTask)
        assert isinstance(dataset, Dataset) and isinstance(held_out, Dataset | None)
        if isinstance(task, CodecTask):
            info = _export_codec(task, dataset, folder, description, budget)
        else:
            if isinstance(task, TwoStageTask):  # it holds its first stage, so that it is a model of its own
                description |= {"arguments": task.arguments, "first": task.codec.name}
                description["recipe"] |= {"codec": task.codec.name}  # its folder is nobody's business
            info = loading.save(folder, task.model, None, description)
        if held_out is not None:
            # measured as it is shipped; then the figures join the header
            description |= info.description | {"measured": card.measure(loading.load(info, "cpu"), held_out, budget)}
            info = loading.save(folder, task.model, loading.load(info, "cpu").statistics, description)
    # what the model of a codec began with is not what its prior did
    card.write(folder, info.description | {"start": None} | description, validation.show(task) if validation else None)
    return info


def _export_codec(
    task: CodecTask, dataset: Dataset, folder: Path, description: dict[str, Any], budget: Budget
) -> store.ModelInfo:
    # the codes to be counted come from the weights as they are shipped, in float16
    info = loading.save(folder, task.model, None, description)
    model = loading.load(info, "cpu")
    samples = list(budget.part(COUNTING_SHARE).limit(sample_codes(model, dataset), LEAST))
    if task.rate is None:
        counted = statistics.fit(samples, model.net.quantizer.codebook_sizes)
        return loading.save(folder, task.model, counted, description)
    old = np.array(model.net.quantizer.codebook_sizes) // 2
    new = narrowed(samples, old)
    arguments = task.recipe.model.arguments
    description["arguments"] = arguments | {"quantizer": arguments["quantizer"] | {"limits": new.tolist()}}
    shift, sizes = (old - new)[:, None, None], 2 * new + 1
    counted = statistics.fit(
        (np.clip(codes - shift, 0, sizes[:, None, None] - 1) for codes in samples),
        sizes.tolist(),
        weights={name: weight.cpu().numpy() for name, weight in task.rate.fitted_weights().items()},
        energies=ENERGIES,
    )
    return loading.save(folder, task.model, counted, description)


def _export_prior(
    task: PriorTask | FramesTask,
    dataset: Dataset | CodeClips | Windows,
    held_out: Dataset | Clips | CodeClips | Windows | None,
    validation: Validation | None,
    folder: Path,
    description: dict[str, Any],
    budget: Budget,
) -> store.ModelInfo:
    """Write the prior beside a copy of its codec, so that the folder is a model of its own."""
    source = task.codec.info
    if folder.resolve() != source.folder.resolve():
        shutil.copyfile(source.path, folder / store.FILE)
    description |= {
        "arguments": task.arguments,
        "codec": source.digest.hex(),
        "recipe": description["recipe"] | {"codec": source.name},  # by name: its folder is nobody's business
        "classes": list(task.classes),
    }
    if isinstance(dataset, Windows):
        description["frame_size"] = list(dataset.frame_size)
    net: Net | SequenceNet | None = None
    if isinstance(task.prior, ExactPrior):
        net = rounding.rounded(task.prior)
    elif isinstance(task.prior, SequencePrior):
        net = rounding.rounded_sequence(task.prior)
    if validation is None:
        description["measured"] = {}
    elif isinstance(task, FramesTask):
        assert isinstance(dataset, Windows) and isinstance(validation.batch, Batch)
        description["measured"] = frames.measure(task, dataset, validation.batch, budget)
    elif isinstance(dataset, CodeClips):
        assert isinstance(held_out, CodeClips) and not isinstance(net, Net)
        description["measured"] = export_codes.measure(task, dataset, held_out, validation, net, budget)
    else:
        assert isinstance(dataset, Dataset) and not isinstance(net, SequenceNet)
        description["measured"] = _bits_per_code(task, dataset, validation, net, budget)
    if net is None:
        arrays = weights.packed(task.prior.state_dict(), task.recipe.model.eight_bits)
    else:
        arrays = net.arrays()
    priors.save(folder, arrays, description)
    return store.describe(folder)


@torch.no_grad()
def _bits_per_code(
    task: PriorTask, dataset: Dataset, validation: Validation, net: Net | None, budget: Budget
) -> dict[str, Any]:
    """Bits for a held-out code under the prior, under the frequencies of codes alone, and under none.

    Of a prior in integers they are those of the bytes it writes, with those of the floats it was made from beside them.
    """
    data, sizes = task.recipe.data, task.codec.net.quantizer.codebook_sizes
    counts = [np.full(K, 0.5) for K in sizes]
    for step in budget.part(COUNTING_SHARE).limit(range(-(-SAMPLES // data.batch))):
        batch = dataset.batch(data, 0, step * data.batch, data.batch)
        codes, _ = task.codes(as_input(batch, validation.device)[0])
        for group, count in enumerate(counts):
            count += np.bincount(codes[:, group].flatten().cpu().numpy(), minlength=len(count))
    held_out, quality = task.codes(as_input(validation.batch, validation.device)[0])
    bits = [
        -np.log2(count / count.sum())[held_out[:, group].cpu().numpy()].mean() for group, count in enumerate(counts)
    ]
    if net is None:
        under = {"bits_per_code": validation.measure(task)["bits_per_code"]}
    else:
        tenths = [0] * len(held_out) if quality is None else quality.mul(10).round().int().tolist()
        floats, written = [], []
        for i in budget.limit(range(len(held_out))):
            floats.append(float(task.prior.loss(held_out[i : i + 1], None if quality is None else quality[i : i + 1])))
            written.append(len(prior2d.encode(held_out[i].cpu().numpy(), tenths[i], net)))
        coded = len(written) * held_out[0].numel()
        under = {"bits_per_code": 8 * sum(written) / coded, "float_bits_per_code": float(np.mean(floats))}
    # a codec with qualities codes each picture at two
    pictures = len(validation.batch) if net is None else -(-len(written) * len(validation.batch) // len(held_out))
    return {
        "on": f"{pictures} held-out pictures",
        **{name: round(bits, 4) for name, bits in under.items()},
        # of the codes alone, spread over the pixels and channels that they stand for
        "bits_per_dim": round(
            under["bits_per_code"] * len(sizes) / (task.codec.net.channels * task.codec.net.stride**2), 4
        ),
        "order_0": round(float(np.mean(bits)), 4),
        "uniform": round(float(np.mean(np.log2(sizes))), 4),
    }


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
