"""Train the paper's VQ-VAE of waveforms (section 4.3): eq. 3 with a WaveNet decoder."""

from __future__ import annotations

from torch import Tensor

from vqcli.data.speech import Utterances
from vqcli.nets.codecs.vqvae1d import WaveVQVAE
from vqcli.recipe import Recipe
from vqcli.training.export import speech as exports
from vqcli.training.export.finished import FinishedRun
from vqcli.training.losses import Loss
from vqcli.training.tasks.base import UtteranceTask
from vqcli.zoo import registry, store
from vqcli.zoo.loading import LoadedModel


class WaveTask(UtteranceTask):
    """The paper's speech net: strided convolutions as encoder, a WaveNet as decoder."""

    model: WaveVQVAE

    @classmethod
    def build(cls, recipe: Recipe, codec: LoadedModel | None, dataset: Utterances) -> WaveTask:
        return cls(recipe, dataset)

    def __init__(self, recipe: Recipe, clips: Utterances) -> None:
        self.arguments = recipe.model.arguments | {"speakers": len(clips.classes)}
        model = registry.build(recipe.model.family, self.arguments)
        super().__init__(recipe, model.codebook_sizes)
        self.model, self.speakers = model, clips.speakers()

    def forward(self, samples: Tensor, pitch: Tensor, profile: Tensor, labels: Tensor) -> Loss:
        """Eq. 3 with a WaveNet decoder: nats for each sample and the quantizer's terms."""
        samples = samples.clamp(-1, 1)
        nats, quantized = self.model(samples, labels)
        value = nats + sum(quantized.losses.values())
        return Loss(value, {"nats": nats, **quantized.losses}, quantized.codes if self.training else None)

    def export(self, finished: FinishedRun[Utterances]) -> store.ModelInfo:
        return exports.export(finished, self.model, self.arguments, ["sound"], self.speakers)


TASK = WaveTask
