"""How often a classifier names the class of a drawn picture: whether a prior knows what it was asked to draw.

The classifier learns on the spot, from real pictures (GAN-test of Shmelkov, Schmid and Alahari 2018, How good is my
GAN?). All that it learns from and judges went through the same codec, so that it judges what a picture shows and not
the codec's texture. Its rate on held-out real pictures says how much it knows; the uniform prior's, what it guesses.

    judge = train(model, real, data)                    minutes on one core
    judge.rate(*through(model, held_out, data))         real pictures
    judge.rate(samples.pixels, labels)                  drawn ones
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
from vqcli.nets.priors.autoregressive import AS_LEARNED, Sampling
from vqcli.progress import silent
from vqcli.recipe import Data
from vqcli.sampling import image
from vqcli.sampling.image import Samples
from vqcli.zoo import priors
from vqcli.zoo.loading import LoadedModel

CROPS = 2  # of each real picture, as the prior's training cuts them
PASSES = 40  # over the real pictures at most; in the given minutes there may be fewer
WIDTHS = (24, 48, 96, 160)
LEARNING_RATE = 4e-3
SHIFT = 0.1  # of the side: how far pictures are moved each way
TOP = 3
CODEC_SHARE = 0.25  # of the time that `train` reports on

Report = Callable[[float], None]


@dataclass(frozen=True)
class Rate:
    """How often pictures were given the class that they should show.

    top_1, top_3  shares of the pictures, 0 .. 1: as the first guess, among the first three
    pictures      their number
    by_class      (top_1, pictures) of each class that there were pictures of
    """

    top_1: float
    top_3: float
    pictures: int
    by_class: dict[str, tuple[float, int]]


class Block(nn.Module):
    """Two convolutions beside a short cut (He et al. 2016): [B, width, H, W] -> [B, out, H / stride, W / stride]."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.short_cut = nn.Identity() if width == out else nn.Conv2d(width, out, 1, stride, bias=False)
        last = self.body[-1]
        assert isinstance(last, nn.BatchNorm2d)
        nn.init.zeros_(last.weight)  # the block begins as its short cut

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.short_cut(x) + self.body(x))


class Classifier(nn.Module):
    """Pictures uint8 [B, H, W, 3] -> logits [B, classes], by half a million weights. Any size of 16 pixels or more."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        first = WIDTHS[0]
        self.stem = nn.Sequential(nn.Conv2d(3, first, 5, 2, 2, bias=False), nn.BatchNorm2d(first), nn.ReLU())
        pairs = zip((first, *WIDTHS), WIDTHS, strict=False)
        self.blocks = nn.Sequential(*(Block(a, b, 1 + (index > 0)) for index, (a, b) in enumerate(pairs)))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(WIDTHS[-1], classes))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.look(pixels.movedim(-1, 1).float() / 127.5 - 1)

    def look(self, x: Tensor) -> Tensor:
        """Logits of x [B, 3, H, W], about -1 .. 1."""
        logits: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return logits


@dataclass(frozen=True)
class Judge:
    """A classifier that has learned. `pictures`: how many it learned from; `passes`: how often it saw each."""

    net: Classifier
    classes: tuple[str, ...]
    pictures: int
    passes: float

    @property
    def weights(self) -> int:
        return sum(weight.numel() for weight in self.net.parameters())

    @torch.inference_mode()
    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """float32 [N, classes] of pictures uint8 [N, H, W, 3] and of their mirror images, together."""
        device = next(self.net.parameters()).device
        parts = [torch.from_numpy(pixels[i : i + BATCH]).to(device) for i in range(0, len(pixels), BATCH)]
        return torch.cat([self.net(part) + self.net(part.flip(2)) for part in parts]).cpu().numpy()

    def rate(self, pixels: np.ndarray, labels: np.ndarray) -> Rate:
        """How often pictures uint8 [N, H, W, 3] are given labels int64 [N], indices of `classes`. N is 1 or more."""
        logits = self.logits(pixels)
        rank = (logits > np.take_along_axis(logits, labels[:, None], 1)).sum(1)  # how many classes seem likelier
        seen = {name: rank[labels == number] == 0 for number, name in enumerate(self.classes) if number in labels}
        by_class = {name: (float(named.mean()), len(named)) for name, named in seen.items()}
        return Rate(float((rank == 0).mean()), float((rank < TOP).mean()), len(rank), by_class)


def train(
    model: LoadedModel,
    real: Dataset,
    data: Data,
    *,
    minutes: float = 3.0,
    passes: int = PASSES,
    seed: int = 0,
    report: Report = silent,
) -> Judge:
    """A judge of the classes of `real`, from crops of its pictures by `data`, through the codec.

    Learning ends after `passes` over the pictures or after `minutes`, whichever is sooner; equal seeds give the same
    judge only in the former case. Raises UsageError if there are fewer than two classes, or crops are too small.
    """
    if len(real.classes) < 2:
        raise UsageError("the pictures are of no classes that could be told apart", "a subfolder for each class")
    if data.crop < 16:
        raise UsageError(f"pictures of {data.crop} x {data.crop} pixels are too small to judge", "16 or more")
    total = CROPS * len(real)
    made = []
    for first in range(0, total, BATCH):
        batch = real.batch(data, seed, first, min(BATCH, total - first))
        known = batch.labels >= 0
        made.append((recoded(model, batch.pixels[known]), batch.labels[known]))
        report(CODEC_SHARE * (first + len(batch)) / total)
    pixels, labels = (np.concatenate(parts) for parts in zip(*made, strict=True))
    if len(pixels) < 2:
        raise UsageError("none of the pictures to learn from has a class", "a subfolder for each class")

    def told(share: float) -> None:
        report(CODEC_SHARE + (1 - CODEC_SHARE) * share)

    # noise of its own: the caller's random state does not notice
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        net = Classifier(len(real.classes)).to(model.device)
        each = min(BATCH, len(pixels)) * CROPS / len(pixels)  # passes in a step
        steps = math.ceil(passes / each)
        pictures = torch.from_numpy(pixels).to(model.device)

        def look(chosen: Tensor) -> Tensor:
            return net.look(distorted(pictures, chosen))

        done = fit(net, look, labels, learning_rate=LEARNING_RATE, steps=steps, seconds=60 * minutes, report=told)
    return Judge(net.eval(), real.classes, len(real), done * each)


def distorted(pictures: Tensor, chosen: Tensor) -> Tensor:
    """The chosen of pictures uint8 [N, H, W, 3], moved and mirrored, lighter or darker: [B, 3, H, W], about -1 .. 1."""
    (B,), (H, W) = chosen.shape, pictures.shape[1:3]
    rows, columns = (_moved(length, B) for length in (H, W))  # (B, H), (B, W)
    columns = torch.where(torch.rand(B, 1) < 0.5, columns, columns.flip(1))
    at = (part.to(pictures.device) for part in (rows[:, :, None], columns[:, None, :]))
    x = pictures[(chosen[:, None, None], *at)].movedim(-1, 1).float() / 127.5 - 1  # (B, 3, H, W)
    contrast, light = 0.8 + 0.4 * torch.rand(B, 1, 1, 1), 0.3 * (torch.rand(B, 1, 1, 1) - 0.5)
    return x * contrast.to(x.device) + light.to(x.device)


def _moved(length: int, count: int) -> Tensor:
    """Where `count` moved pictures take their rows from: int64 [count, length]; what is missing is mirrored."""
    reach = round(SHIFT * length)
    at = torch.arange(length) + torch.randint(-reach, reach + 1, (count, 1))
    return length - 1 - (length - 1 - at.abs()).abs()


def draw(
    model: LoadedModel,
    prior: str,
    classes: Sequence[str],
    count: int,
    *,
    sampling: Sampling = AS_LEARNED,
    seed: int = 0,
    report: Report = silent,
) -> tuple[Samples, np.ndarray]:
    """`count` pictures of each class that the prior knows, and their labels int64 [N], indices of `classes`.

    Codes of the prior 'uniform' are of no class: each class is expected of equally many. Raises UsageError for a prior
    without classes or with others than these, and as `sampling.image.sample` does.
    """
    if prior == "uniform":
        labels = np.repeat(np.arange(len(classes)), count)
        return image.sample(model, prior=prior, count=len(labels), seed=seed, report=report), labels
    info = priors.find(model.info, prior) if prior in image.PRIORS else None
    known = info.classes if info else ()
    if info and not known:
        raise UsageError(f"the {prior} prior of {model.info.name} knows no classes, so none can be recognised")
    if unknown := [name for name in known if name not in classes]:
        raise UsageError(f"there are no real pictures of {', '.join(unknown)}", f"known: {', '.join(classes)}")
    drawn = image.sample(model, prior=prior, labels=known, count=count, seed=seed, sampling=sampling, report=report)
    return drawn, np.repeat([classes.index(name) for name in known], count)


def through(model: LoadedModel, pictures: Dataset, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """The middles of all pictures that have a class, through the codec: uint8 [N, crop, crop, 3], labels int64 [N]."""
    batch = pictures.held_out_batch(data, len(pictures))
    known = batch.labels >= 0
    if not known.any():
        raise UsageError("none of the held-out pictures has a class", "a subfolder for each class")
    return recoded(model, batch.pixels[known]), batch.labels[known]


@torch.inference_mode()
def recoded(model: LoadedModel, pixels: np.ndarray) -> np.ndarray:
    """Pictures uint8 [N, H, W, 3] encoded and decoded again, side by side, by a model without qualities."""
    made = [pixels[:0]]
    for first in range(0, len(pixels), BATCH // 2):
        codes = codes_of(model, pixels[first : first + BATCH // 2])
        made.append(to_pixels(in_channels(model.net.decode(codes), 3))[:, : pixels.shape[1], : pixels.shape[2]])
    return np.concatenate(made)
