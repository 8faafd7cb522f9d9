"""The end of a run: the trained net becomes a model folder, measured, with the statistics of its codes and a card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from vqcli.data.dataset import Batch, Dataset
from vqcli.data.speech import Clips
from vqcli.entropy.prior1d_net import SequenceNet
from vqcli.entropy.prior2d_net import Net
from vqcli.nets.priors import rounding
from vqcli.nets.priors.exact import ExactPrior
from vqcli.nets.priors.exact1d import SequencePrior
from vqcli.training.budget import Budget
from vqcli.training.datasets.code_clips import CodeClips
from vqcli.training.datasets.code_windows import Windows
from vqcli.training.export import card, card_speech, prior1d, speech
from vqcli.training.export.codec import _export_codec
from vqcli.training.export.prior2d import _bits_per_code
from vqcli.training.task import Task
from vqcli.training.tasks import frames
from vqcli.training.tasks.baseline import BaselineTask
from vqcli.training.tasks.codec import CodecTask
from vqcli.training.tasks.finetune import FinishTask
from vqcli.training.tasks.frames import FramesTask
from vqcli.training.tasks.prior import PriorTask
from vqcli.training.tasks.speech import SpeechTask
from vqcli.training.tasks.twostage2d import TwoStageTask
from vqcli.training.tasks.vqvae1d import WaveTask
from vqcli.training.validation import Validation
from vqcli.zoo import loading, priors, store, weights


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
        info = speech.export(task, dataset, held_out, folder, description, budget)
        card_speech.write(folder, info.description)
        return info
    if isinstance(task, PriorTask | FramesTask):
        assert not isinstance(dataset, Clips)
        info = _export_prior(task, dataset, held_out, validation, folder, description, budget)
        description["measured"] = priors.describe(priors.path_of(folder, task.recipe.model.family)).description[
            "measured"
        ]
        if isinstance(dataset, CodeClips):
            prior1d.write_card(folder, description)
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
        description["measured"] = prior1d.measure(task, dataset, held_out, validation, net, budget)
    else:
        assert isinstance(dataset, Dataset) and not isinstance(net, SequenceNet)
        description["measured"] = _bits_per_code(task, dataset, validation, net, budget)
    if net is None:
        arrays = weights.packed(task.prior.state_dict(), task.recipe.model.eight_bits)
    else:
        arrays = net.arrays()
    priors.save(folder, arrays, description)
    return store.describe(folder)
