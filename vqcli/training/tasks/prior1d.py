"""Priors learn the codes that a finished codec makes of clips, over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqcli.codec.codes import books
from vqcli.data.source import Source
from vqcli.entropy.prior1d_net import SequenceNet
from vqcli.nets.priors import rounding
from vqcli.recipe import Recipe
from vqcli.training.datasets import base as datasets
from vqcli.training.datasets.code_clips import CodeClips
from vqcli.training.export import prior1d
from vqcli.training.export.finished import Finished
from vqcli.training.losses import Loss
from vqcli.training.tasks.base import PriorTask, needed
from vqcli.zoo import registry
from vqcli.zoo.loading import LoadedModel
from vqcli.zoo.store import ModelInfo

FLOATS_SHARE = 0.3  # of the time that is left; writing the same clips by every coder takes about twice as long


class SequencePriorTask(PriorTask):
    """A prior over codes in time, by speaker where the family has labels."""

    THINGS, KINDS = "clips", "speakers"

    @classmethod
    def open(cls, recipe: Recipe, codec: LoadedModel | None, source: Source | list[Path], held_out: bool) -> CodeClips:
        codec = needed(codec, "a prior")
        return CodeClips(datasets.clips(recipe, source, held_out), codec)

    @classmethod
    def begin(cls, recipe: Recipe, codec: LoadedModel | None, dataset: CodeClips) -> SequencePriorTask:
        by_class = getattr(registry.family_of(recipe.model.family), "BY_CLASS", False)
        classes = dataset.classes if by_class else ()
        arguments = recipe.model.arguments | ({"labels": len(classes)} if by_class else {})
        return cls(recipe, needed(codec, "a prior"), classes, arguments)

    def forward(self, codes: Tensor, labels: Tensor) -> Loss:
        """The loss of codes int64 [B, groups, T] of speakers [B]."""
        bits = self.prior.bits_per_code(codes, labels, None)
        return Loss(bits, {"bits_per_code": bits})

    def rounded(self) -> SequenceNet | None:
        return rounding.rounded_sequence(self.prior) if self.prior.EXACT else None

    @torch.no_grad()
    def measure(self, finished: Finished[CodeClips], net: SequenceNet | None) -> dict[str, Any]:
        """Bits for a held-out code under the prior, under the frequencies of codes alone, and under none.

        Of a prior in integers they are those of the bytes it writes for whole clips, beside those of the floats it was
        made from; and bits a second, level by level, beside other coders.
        """
        held_out, validation = finished.held_out, finished.validation
        assert held_out is not None and validation is not None
        sizes, _ = books(self.codec)
        told = list(held_out.sequences.values())
        order_0 = []
        for group, K in enumerate(sizes):
            count = np.full(K, 0.5)
            for codes in finished.dataset.sequences.values():
                count += np.bincount(codes[group], minlength=K)
            bits = -np.log2(count / count.sum())
            order_0.append(np.concatenate([bits[codes[group]] for codes in told]).mean())
        if net is None:
            found: dict[str, Any] = {"bits_per_code": round(validation.measure(self)["bits_per_code"], 4)}
        else:
            device = next(self.prior.parameters()).device
            floats, coded = 0.0, []
            for codes in finished.budget.part(FLOATS_SHARE).limit(told):
                coded.append(codes)
                whole = torch.from_numpy(codes.astype(np.int64))[None].to(device)
                floats += float(self.prior.bits_per_code(whole, None, None)) * codes.size
            told = coded
            positions = sum(codes.shape[1] for codes in told)
            levels = prior1d.bits_per_second(self.codec, told, held_out.rate_hz, net)
            total = sum(level["prior"] for level in levels) * positions / held_out.rate_hz
            found = {
                "bits_per_code": round(total / (positions * len(sizes)), 4),
                "float_bits_per_code": round(floats / (positions * len(sizes)), 4),
                "bits_per_second": levels,
            }
        return found | {
            "on": f"{len(told)} held-out clips",
            "order_0": round(float(np.mean(order_0)), 4),
            "uniform": round(float(np.mean(np.log2(sizes))), 4),
        }

    def write_card(self, finished: Finished[Any], info: ModelInfo, description: dict[str, Any]) -> None:
        prior1d.write_card(finished.folder, description)


TASK = SequencePriorTask
