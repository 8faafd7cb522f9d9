"""Accuracy of a classifier on samples of a class-conditional prior: do samples show their class?

The classifier is trained on real images (GAN-test of Shmelkov, Schmid and Alahari 2018, How good is my GAN?). All its
inputs are decoded by the same codec, so that the codec's artefacts do not matter. Its accuracy on held-out real images
is the upper limit, that on samples of the uniform prior is chance.

    classifier = train(model, real, data)                    minutes on one core
    classifier.accuracy(*reconstructions(model, held_out, data))         real images
    classifier.accuracy(samples.pixels, labels)                          samples
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.data.dataset import Dataset
from vqcli.errors import UsageError
from vqcli.evaluation.fitting import BATCH, fit
from vqcli.evaluation.image.rate_distortion import codes_of
from vqcli.nets.layers.convnet2d import in_channels, to_pixels
from vqcli.nets.priors.autoregressive import Sampling
from vqcli.progress import ProgressCallback, silent
from vqcli.recipe import Data
from vqcli.sampling import image
from vqcli.sampling.image import Samples
from vqcli.zoo import priors
from vqcli.zoo.loading import LoadedModel

CROPS = 2  # of each real image, as in the prior's training
PASSES = 40  # over the real images at most; the time limit may allow fewer
WIDTHS = (24, 48, 96, 160)
LEARNING_RATE = 4e-3
SHIFT = 0.1  # of the side: images are shifted by up to this each way
TOP = 3
CODEC_SHARE = 0.25  # of the time that `train` reports on


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on some images.

    top_1, top_3  0 .. 1
    pictures      number of images
    by_class      (top_1, pictures) of each class that occurs
    """

    top_1: float
    top_3: float
    pictures: int
    by_class: dict[str, tuple[float, int]]


class Block(nn.Module):
    """Two convolutions with a skip connection (He et al. 2016): [B, width, H, W] -> [B, out, H / s, W / s]."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.short_cut = nn.Identity() if width == out else nn.Conv2d(width, out, 1, stride, bias=False)
        last = self.body[-1]
        assert isinstance(last, nn.BatchNorm2d)
        nn.init.zeros_(last.weight)  # the block begins as its skip connection

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.short_cut(x) + self.body(x))


class ClassifierNet(nn.Module):
    """Images uint8 [B, H, W, 3] -> logits [B, classes]; half a million weights. Any size of 16 pixels or more."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        first = WIDTHS[0]
        self.stem = nn.Sequential(nn.Conv2d(3, first, 5, 2, 2, bias=False), nn.BatchNorm2d(first), nn.ReLU())
        pairs = zip((first, *WIDTHS), WIDTHS, strict=False)
        self.blocks = nn.Sequential(*(Block(a, b, 1 + (index > 0)) for index, (a, b) in enumerate(pairs)))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(WIDTHS[-1], classes))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.logits(pixels.movedim(-1, 1).float() / 127.5 - 1)

    def logits(self, x: Tensor) -> Tensor:
        """Logits of x [B, 3, H, W], about -1 .. 1."""
        logits: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return logits


@dataclass(frozen=True)
class Classifier:
    """A trained classifier. `pictures`: number of its training images; `passes`: over these images."""

    net: ClassifierNet
    classes: tuple[str, ...]
    pictures: int
    passes: float

    @property
    def weights(self) -> int:
        return sum(weight.numel() for weight in self.net.parameters())

    @torch.inference_mode()
    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """float32 [N, classes] of images uint8 [N, H, W, 3], summed with those of their mirror images."""
        device = next(self.net.parameters()).device
        parts = [torch.from_numpy(pixels[i : i + BATCH]).to(device) for i in range(0, len(pixels), BATCH)]
        return torch.cat([self.net(part) + self.net(part.flip(2)) for part in parts]).cpu().numpy()

    def accuracy(self, pixels: np.ndarray, labels: np.ndarray) -> Accuracy:
        """Accuracy on images uint8 [N, H, W, 3] with labels int64 [N], indices of `classes`. N is 1 or more."""
        logits = self.logits(pixels)
        rank = (logits > np.take_along_axis(logits, labels[:, None], 1)).sum(1)  # number of classes with larger logits
        correct = {name: rank[labels == number] == 0 for number, name in enumerate(self.classes) if number in labels}
        by_class = {name: (float(named.mean()), len(named)) for name, named in correct.items()}
        return Accuracy(float((rank == 0).mean()), float((rank < TOP).mean()), len(rank), by_class)


def train(
    model: LoadedModel,
    real: Dataset,
    data: Data,
    *,
    minutes: float = 3.0,
    passes: int = PASSES,
    seed: int = 0,
    progress: ProgressCallback = silent,
) -> Classifier:
    """Train a classifier on the classes of `real`, on crops of its images by `data`, decoded by the codec.

    Training ends after `passes` over the images or after `minutes`, whichever is sooner; equal seeds give the same
    classifier only in the former case. Raises UsageError if there are fewer than two classes, or crops are too small.
    """
    if len(real.classes) < 2:
        raise UsageError("the images have fewer than two classes", "a subfolder for each class")
    if data.crop < 16:
        raise UsageError(f"images of {data.crop} x {data.crop} pixels are too small to classify", "16 or more")
    total = CROPS * len(real)
    parts = []
    for first in range(0, total, BATCH):
        batch = real.batch(data, seed, first, min(BATCH, total - first))
        known = batch.labels >= 0
        parts.append((reconstruct(model, batch.pixels[known]), batch.labels[known]))
        progress(CODEC_SHARE * (first + len(batch)) / total)
    pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    if len(pixels) < 2:
        raise UsageError("none of the training images has a class", "a subfolder for each class")

    def fit_progress(share: float) -> None:
        progress(CODEC_SHARE + (1 - CODEC_SHARE) * share)

    # its own random state: the caller's is unchanged
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        net = ClassifierNet(len(real.classes)).to(model.device)
        each = min(BATCH, len(pixels)) * CROPS / len(pixels)  # passes in a step
        steps = math.ceil(passes / each)
        images = torch.from_numpy(pixels).to(model.device)

        def logits_of(chosen: Tensor) -> Tensor:
            return net.logits(augment(images, chosen))

        done = fit(
            net,
            logits_of,
            labels,
            learning_rate=LEARNING_RATE,
            steps=steps,
            seconds=60 * minutes,
            progress=fit_progress,
        )
    return Classifier(net.eval(), real.classes, len(real), done * each)


def augment(images: Tensor, chosen: Tensor) -> Tensor:
    """The chosen of images uint8 [N, H, W, 3], shifted, mirrored, lighter or darker: [B, 3, H, W], about -1 .. 1."""
    (B,), (H, W) = chosen.shape, images.shape[1:3]
    rows, columns = (_shifted(length, B) for length in (H, W))  # (B, H), (B, W)
    columns = torch.where(torch.rand(B, 1) < 0.5, columns, columns.flip(1))
    at = (part.to(images.device) for part in (rows[:, :, None], columns[:, None, :]))
    x = images[(chosen[:, None, None], *at)].movedim(-1, 1).float() / 127.5 - 1  # (B, 3, H, W)
    contrast, light = 0.8 + 0.4 * torch.rand(B, 1, 1, 1), 0.3 * (torch.rand(B, 1, 1, 1) - 0.5)
    return x * contrast.to(x.device) + light.to(x.device)


def _shifted(length: int, count: int) -> Tensor:
    """Indices int64 [count, length] of rows of `count` randomly shifted images; reflected at the borders."""
    reach = round(SHIFT * length)
    at = torch.arange(length) + torch.randint(-reach, reach + 1, (count, 1))
    return length - 1 - (length - 1 - at.abs()).abs()


def sample(
    model: LoadedModel,
    prior: str,
    classes: Sequence[str],
    count: int,
    *,
    labels: Sequence[str] = (),
    sampling: Sampling | None = None,
    seed: int = 0,
    progress: ProgressCallback = silent,
) -> tuple[Samples, np.ndarray]:
    """`count` samples of each class of the prior or of those in `labels`, and int64 [N], their indices of `classes`.

    The prior 'uniform' has no classes: its samples get all labels equally often. Raises UsageError for a prior without
    classes or with others than these, and as `sampling.image.sample` does.
    """
    if prior == "uniform":
        numbers = np.repeat(np.arange(len(classes)), count)
        return image.sample(model, prior=prior, count=len(numbers), seed=seed, progress=progress), numbers
    info = priors.find(model.info, prior) if prior in image.PRIORS else None
    known = _known(info, labels) if info else ()
    if info and not known:
        raise UsageError(f"the {prior} prior of {model.info.name} has no classes, so none can be recognised")
    if unknown := [name for name in known if name not in classes]:
        raise UsageError(f"there are no real images of {', '.join(unknown)}", f"known: {', '.join(classes)}")
    samples = image.sample(
        model, prior=prior, labels=known, count=count, seed=seed, sampling=sampling, progress=progress
    )
    return samples, np.repeat([classes.index(name) for name in known], count)


def _known(info: priors.PriorInfo, labels: Sequence[str]) -> tuple[str, ...]:
    """The classes of a prior, or those of some of its names."""
    return tuple(dict.fromkeys(info.classes[info.label_of(name)] for name in labels)) if labels else info.classes


def reconstructions(model: LoadedModel, images: Dataset, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Decoded centre crops of all images that have a class: uint8 [N, crop, crop, 3], labels int64 [N]."""
    batch = images.held_out_batch(data, len(images))
    known = batch.labels >= 0
    if not known.any():
        raise UsageError("none of the held-out images has a class", "a subfolder for each class")
    return reconstruct(model, batch.pixels[known]), batch.labels[known]


@torch.inference_mode()
def reconstruct(model: LoadedModel, pixels: np.ndarray) -> np.ndarray:
    """Images uint8 [N, H, W, 3] encoded and decoded as batches, by a model without qualities."""
    parts = [pixels[:0]]
    for first in range(0, len(pixels), BATCH // 2):
        codes = codes_of(model, pixels[first : first + BATCH // 2])
        parts.append(to_pixels(in_channels(model.net.decode(codes), 3))[:, : pixels.shape[1], : pixels.shape[2]])
    return np.concatenate(parts)
