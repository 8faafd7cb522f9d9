"""What a run trains: the nets with weights, the loss of a batch, and what to show of it.

A codec is trained on pictures; a prior on the codes that a finished codec makes of them, with all the crops and flips
of the recipe: a small set of pictures gives many sets of codes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vqcli.data.dataset import Batch, Dataset
from vqcli.data.speech import ClipBatch, Clips
from vqcli.errors import UsageError
from vqcli.nets.layers.convnet2d import from_pixels
from vqcli.recipe import Recipe
from vqcli.training.datasets.code_clips import CodeClips
from vqcli.training.datasets.code_windows import Windows
from vqcli.training.task import Task
from vqcli.training.tasks import speech, vqvae1d
from vqcli.training.tasks.baseline import BASELINES, BaselineTask
from vqcli.training.tasks.codec import CodecTask
from vqcli.training.tasks.finetune import FinishTask
from vqcli.training.tasks.frames import FramesTask
from vqcli.training.tasks.prior import OF_TIME, PriorTask
from vqcli.training.tasks.twostage2d import TwoStageTask
from vqcli.zoo import loading


def make(
    recipe: Recipe,
    codec: loading.LoadedModel | None,
    dataset: Dataset | Clips | CodeClips | Windows,
    device: torch.device,
) -> Task:
    """The task of a recipe, on its device. Raises UsageError if a prior by class misses the class of some picture."""
    if isinstance(dataset, Windows):
        assert codec is not None
        return FramesTask(recipe, codec, dataset.classes).to(device)
    if isinstance(dataset, CodeClips):
        assert codec is not None
        if recipe.model.family not in OF_TIME:
            raise UsageError(
                f"{recipe.model.family} does not learn from codes of clips", f"{' or '.join(OF_TIME)} does"
            )
        return PriorTask(recipe, codec, dataset.classes if recipe.model.family == "wavenet" else ()).to(device)
    if isinstance(dataset, Clips):
        return _of_clips(recipe, codec, dataset).to(device)
    if codec is None:
        return (BaselineTask if recipe.model.family in BASELINES else CodecTask)(recipe).to(device)
    if recipe.model.family == "twostage2d":
        return TwoStageTask(recipe, codec).to(device)
    without = int((dataset.labels < 0).sum()) if dataset.classes else 0
    if without and recipe.model.family == "pixelcnn":
        raise UsageError(
            f"{without} of {len(dataset)} pictures lie in no class folder", "put all into class folders, or none"
        )
    return PriorTask(recipe, codec, dataset.classes).to(device)


def _of_clips(recipe: Recipe, codec: loading.LoadedModel | None, clips: Clips) -> Task:
    family = recipe.model.family
    if family == "speech" and recipe.adversary is not None:
        if codec is None:
            raise UsageError("a finish needs the model that it finishes", "--codec NAME")
        return FinishTask(recipe, clips, codec)
    if family == "speech":
        return speech.SpeechTask(recipe, clips)
    if family == "vqvae1d":
        return vqvae1d.WaveTask(recipe, clips)
    raise UsageError(f"{family} does not learn from clips", "name a folder of pictures")


def as_input(batch: Batch | ClipBatch, device: torch.device) -> tuple[Tensor, ...]:
    """What a task takes, on the device: of clips as training/speech.py says, of pictures pixels and labels.

    uint8 [B, H, W, 3] becomes float [B, 3, H, W] in -0.5 .. 0.5; codes uint16 [B, *grid, groups] become int64
    [B, groups, *grid]; labels are int64 [B], of windows of video [B, context].
    """
    if isinstance(batch, ClipBatch):
        return speech.as_input(batch, device)
    labels = torch.from_numpy(batch.labels).to(device)
    if batch.pixels.dtype == np.uint16:
        return torch.from_numpy(batch.pixels.astype(np.int64)).to(device).movedim(-1, 1), labels
    return from_pixels(batch.pixels, device), labels
