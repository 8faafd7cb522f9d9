"""Train priors over the sequences of codes that a trained codec makes of utterances: of recordings, or of what
is codes already, .vqz files or shards of vq tokenize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqcli.codec.codes import books
from vqcli.data.source import Given
from vqcli.entropy.prior1d_net import SequenceNet
from vqcli.nets.priors import rounding
from vqcli.recipe import Recipe
from vqcli.training.datasets import base as datasets
from vqcli.training.datasets.code_clips import CodeSequences
from vqcli.training.datasets.coded_clips import CodedClips, are_coded
from vqcli.training.export import prior1d
from vqcli.training.export.finished import FinishedRun
from vqcli.training.losses import Loss
from vqcli.training.tasks.base import PriorTask, require_codec
from vqcli.zoo import registry
from vqcli.zoo.loading import LoadedModel
from vqcli.zoo.store import ModelInfo

FLOATS_SHARE = 0.3  # of the time that is left; coding the same clips with every coder takes about twice as long


class SequencePriorTask(PriorTask):
    """A prior over sequences of codes, conditioned on the speaker where the family has labels."""

    ITEMS, CLASSES = "clips", "speakers"

    @classmethod
    def open(cls, recipe: Recipe, codec: LoadedModel | None, source: Given, held_out: bool) -> CodeSequences:
        codec = require_codec(codec, "a prior")
        if isinstance(source, Sequence) and are_coded(source):
            return CodeSequences(CodedClips(source, codec, held_out=held_out), codec)
        return CodeSequences(datasets.clips_for(codec.audio, recipe, source, held_out), codec)

    @classmethod
    def build(cls, recipe: Recipe, codec: LoadedModel | None, dataset: CodeSequences) -> SequencePriorTask:
        by_class = getattr(registry.family_of(recipe.model.family), "BY_CLASS", False)
        classes = dataset.classes if by_class else ()
        arguments = recipe.model.arguments | ({"labels": len(classes)} if by_class else {})
        return cls(recipe, require_codec(codec, "a prior"), classes, arguments)

    def forward(self, codes: Tensor, labels: Tensor) -> Loss:
        """The loss of codes int64 [B, n_codebooks, T] of speakers [B]."""
        bits = self.prior.bits_per_code(codes, labels, None)
        return Loss(bits, {"bits_per_code": bits})

    def integer_net(self) -> SequenceNet | None:
        return rounding.rounded_sequence(self.prior) if self.prior.EXACT else None

    @torch.no_grad()
    def measure(self, finished: FinishedRun[CodeSequences], net: SequenceNet | None) -> dict[str, Any]:
        """Bits for a held-out code under the prior, under the code frequencies, and under a uniform prior.

        For an entropy model, which is an integer net, they are the bits of the bytes that it codes whole clips to; also
        the bits of the float net it was rounded from, and bits per second of each level by each coder.
        """
        held_out, validation = finished.held_out, finished.validation
        assert held_out is not None and validation is not None
        sizes, _ = books(self.codec)
        clips = list(held_out.sequences.values())
        order_0 = []
        for n, K in enumerate(sizes):
            count = np.full(K, 0.5)
            for codes in finished.dataset.sequences.values():
                count += np.bincount(codes[n], minlength=K)
            bits = -np.log2(count / count.sum())
            order_0.append(np.concatenate([bits[codes[n]] for codes in clips]).mean())
        if net is None:
            measured: dict[str, Any] = {"bits_per_code": round(validation.measure(self)["bits_per_code"], 4)}
        else:
            device = next(self.prior.parameters()).device
            floats, coded = 0.0, []
            for codes in finished.budget.part(FLOATS_SHARE).limit(clips):
                coded.append(codes)
                whole = torch.from_numpy(codes.astype(np.int64))[None].to(device)
                floats += float(self.prior.bits_per_code(whole, None, None)) * codes.size
            clips = coded
            positions = sum(codes.shape[1] for codes in clips)
            levels = prior1d.bits_per_second(self.codec, clips, held_out.rate_hz, net)
            finished.say(prior1d.saving(levels))
            total = sum(level["prior"] for level in levels) * positions / held_out.rate_hz
            measured = {
                "bits_per_code": round(total / (positions * len(sizes)), 4),
                "float_bits_per_code": round(floats / (positions * len(sizes)), 4),
                "bits_per_second": levels,
            }
        return measured | {
            "on": f"{len(clips)} held-out clips",
            "order_0": round(float(np.mean(order_0)), 4),
            "uniform": round(float(np.mean(np.log2(sizes))), 4),
        }

    def write_card(self, finished: FinishedRun[Any], info: ModelInfo, description: dict[str, Any]) -> None:
        prior1d.write_card(finished.folder, info.description, description)


TASK = SequencePriorTask
