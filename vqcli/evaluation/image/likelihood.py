"""Bits per dimension of held-out images under a model (the paper, 4.1; Kumar et al. 2018, 3.4).

    bits/dim = -log2 p(x) / (number of pixels x channels), for x of integers 0 .. 255

The figures are upper bounds on it, as p(x) of these models is intractable:

    vqvae2d    log p(x) >= log p(x | z_q) + log p(z_q), for the z_q that x is encoded to (section 3.2)
    vae2d      log p(x) >= E_q log p(x | z) - KL(q(z | x) || p(z)), with one sample of z
    vimco2d    log p(x) >= E log 1/S sum_s p(x, z_s) / q(z_s | x), with S samples; vimcogaussian2d too

p(x | z) is the decoder's distribution over integers (nets/layers/likelihood.py). p(z) is uniform, or the PixelCNN in
the model's folder. Sizes of lossless files are a third bound.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqcli import recipe
from vqcli.data.dataset import Dataset
from vqcli.errors import UsageError
from vqcli.evaluation.image import lossless
from vqcli.nets.codecs.vae2d import Baseline
from vqcli.nets.codecs.vqvae2d import ImageVQVAE
from vqcli.nets.layers.convnet2d import from_pixels, in_channels
from vqcli.nets.layers.likelihood import bits_per_dim
from vqcli.nets.priors.pixelcnn import PixelCNN
from vqcli.progress import ProgressCallback, silent
from vqcli.recipe import Data
from vqcli.zoo import priors
from vqcli.zoo.loading import LoadedModel

Limit = Callable[[Iterable[Any]], Iterator[Any]]

BATCH = 100
UNIFORM, PIXELCNN, FILES, SUM = "uniform prior", "pixelcnn prior", "lossless .vqz files", "sum over all codes"
LOSSLESS = 100  # images: files take longer than bounds
MOST_SUMMED = 2**16  # largest number of latents over which p(x) is summed
UNIT_DENSITY = math.log(2 * math.pi) / 2 + math.log(128)  # nats for a value, least of the report's eq. 7
DEFINITION = {
    UNIFORM: "-log p(x | z_q) - log p(z_q), every code alike",
    PIXELCNN: "-log p(x | z_q) - log p(z_q) under the learned prior",
    FILES: "8 bits x bytes of whole files that return every pixel",
    SUM: "-log of the sum over all z of p(x | z) p(z): p(x) itself",
    "vae2d": "-E_q log p(x | z) + KL(q || p), one sample of z",
    "vimco2d": "-log of the mean over samples of p(x, z) / q(z | x)",
    "vimcogaussian2d": "-log of the mean over samples of p(x, z) / q(z | x), z continuous",
}


@dataclass(frozen=True)
class Bound:
    """Mean over images, in bits/dim: reconstruction + prior = bits_per_dim, where the bound has these parts.

    under           the distribution of the latents: `UNIFORM`, `PIXELCNN`, `FILES`, `SUM`, or the family of a baseline
    reconstruction  -log2 p(x | z); None for a sum, also that of VIMCO's samples
    prior           -log2 p(z), or KL
    error           standard error of the mean
    """

    under: str
    pictures: int
    bits_per_dim: float
    reconstruction: float | None
    prior: float | None
    error: float

    @property
    def definition(self) -> str:
        return DEFINITION[self.under]


def measure(
    model: LoadedModel,
    images: Dataset,
    *,
    count: int | None = None,
    stored: int = LOSSLESS,
    limit: Limit = iter,
    progress: ProgressCallback = silent,
) -> list[Bound]:
    """Bounds on the first `count` images in a fixed random order, all if None; lossless files of the first `stored`.

    `limit` may end both earlier: it yields as many items as there is time for.
    Raises UsageError for a model without a likelihood, and for images that are not of the size it was trained on.
    """
    net = model.net
    if model.info.modality != "image" or net.likelihood is None:
        raise UsageError(
            f"model {model.info.name} has no likelihood: its decoder gives an image, not a distribution",
            "train one with model.arguments.likelihood, as the recipe cifar10-vqvae does",
        )
    data = recipe.from_dict(model.info.description["recipe"], model.info.name).data
    _check_sizes(images, data)
    batch = images.held_out_batch(data, min(count or len(images), len(images)))
    prior, labels = _prior_of(model, images, batch.labels)
    bits: dict[str, list[np.ndarray]] = {}
    for start in limit(range(0, len(batch), BATCH)):
        part = batch.part(start, start + BATCH)
        x = in_channels(from_pixels(part.pixels, model.device), net.channels)
        if not net.codebook_sizes:  # a baseline
            bounds = {model.info.description["family"]: _baseline(net, x)}
        else:
            bounds = _vqvae(net, x, prior, labels[start : start + BATCH])
        for under, nats in bounds.items():
            bits.setdefault(under, []).append(bits_per_dim(nats, x).cpu().numpy())  # (parts, B)
        progress(min(1.0, (start + BATCH) / len(batch)))
    means = [_mean(under, np.concatenate(parts, 1)) for under, parts in bits.items()]
    return (
        means if not (net.codebook_sizes and stored) else [*means, _lossless_files(model, batch.pixels[:stored], limit)]
    )


def _lossless_files(model: LoadedModel, pixels: np.ndarray, limit: Limit) -> Bound:
    """The sizes of lossless files, of pixels [N, H, W, 3]."""
    if model.net.channels == 1:
        pixels = pixels[..., :1]
    files = [lossless.encode_lossless(model, np.ascontiguousarray(item)) for item in limit(pixels)]
    parts = np.array([(file.size - file.codes, file.codes) for file in files]).T  # (2, N)
    return _mean(FILES, 8 * parts / pixels[0].size)


def _mean(under: str, bits: np.ndarray) -> Bound:
    """The bound of bits [2, N], reconstruction and prior, or [1, N], their sum."""
    total = bits.sum(0)
    parts = [float(part.mean()) for part in bits] if len(bits) == 2 else [None, None]
    error = float(total.std() / math.sqrt(len(total)))
    return Bound(under, len(total), float(total.mean()), parts[0], parts[1], error)


@torch.inference_mode()
def _vqvae(net: ImageVQVAE, x: Tensor, prior: PixelCNN | None, labels: Tensor) -> dict[str, Tensor]:
    """Nats by kind of bound: [2, B] of reconstruction and prior, or [1, B]."""
    assert net.likelihood is not None
    H, W = x.shape[-2:]
    codes = net.encode(x)
    nats = -net.likelihood.log_prob(net.decoder_output(codes), x)
    bounds = {UNIFORM: torch.stack([nats, torch.full_like(nats, net.uniform_nats(H, W))])}
    if prior is not None:
        bounds[PIXELCNN] = torch.stack([nats, prior.nats(codes, labels if prior.labels else None)])
    if math.prod(net.codebook_sizes) ** math.prod(net.grid(H, W)) <= MOST_SUMMED:
        bounds[SUM] = -log_sum(net, x)[None]
    return bounds


@torch.inference_mode()
def equation_7(model: LoadedModel, images: Dataset, count: int) -> float:
    """What the report prints in place of bits/dim (its eq. 7), in nats for a value: mean over `count` images.

    -log of a normal density of unit variance around the reconstruction, of values in -1 .. 1, plus log 128 for their
    scale, plus the prior's nats: signs as a bound has them, which the report's are not. The density alone is
    log(2 pi) / 2 + log 128 = 5.771 where the reconstruction is perfect, so figures below that are of another formula.
    """
    net, squares, total = model.net, 0.0, 0
    data = recipe.from_dict(model.info.description["recipe"], model.info.name).data
    batch = images.held_out_batch(data, min(count, len(images)))
    for start in range(0, len(batch), BATCH):
        x = in_channels(from_pixels(batch.part(start, start + BATCH).pixels, model.device), net.channels)
        squares += float((2 * (net.decode(net.encode(x)) - x)).double().square().sum())
        total += x.numel()
    prior = net.uniform_nats(*x.shape[-2:]) / x[0].numel()
    return squares / total / 2 + UNIT_DENSITY + prior


@torch.inference_mode()
def log_sum(net: ImageVQVAE, x: Tensor) -> Tensor:
    """log p(x) = log sum_z p(x | z) p(z) in nats, [B], over all z, p(z) uniform.

    For nets with few latents: "we empirically evaluate this approximation" (section 3.2).
    """
    assert net.likelihood is not None
    H, W = x.shape[-2:]
    grid, groups = net.grid(H, W), len(net.codebook_sizes)
    latents = itertools.product(*(range(K) for K in net.codebook_sizes for _ in range(math.prod(grid))))
    total = torch.full((len(x),), -torch.inf)
    while part := list(itertools.islice(latents, BATCH)):
        codes = torch.tensor(part, device=x.device).view(-1, groups, *grid)
        output = net.decoder(net.quantizer.lookup(codes))
        for index in range(len(x)):
            log_p = net.likelihood.log_prob(output, x[index : index + 1].expand(len(output), -1, -1, -1))
            total[index] = torch.logaddexp(total[index], torch.logsumexp(log_p, 0).cpu())
    return total - net.uniform_nats(H, W)


@torch.inference_mode()
def _baseline(net: Baseline, x: Tensor) -> Tensor:
    """Nats of the bound: [2, B] of reconstruction and KL; [1, B] of VIMCO, whose bound has no such parts."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bounds = [net.bound(part) for part in x.split(10)]  # VIMCO has many samples of each
    value, nats = (-torch.cat([getattr(b, name) for b in bounds]) for name in ("value", "log_likelihood"))
    return torch.stack([nats, value - nats]) if net.KL_APART else value[None]


def _prior_of(model: LoadedModel, images: Dataset, labels: np.ndarray) -> tuple[PixelCNN | None, Tensor]:
    """The prior of the model, and its number for the class of each image, int64 [N].

    An unknown class counts as none. None in place of a prior that requires a class if an image has none.
    """
    info = priors.find(model.info, "pixelcnn")
    if info is None:
        return None, torch.zeros(len(labels), dtype=torch.int64)
    known = np.array([info.number_of(name) for name in images.classes] + [-1])[labels]
    prior = priors.load_pixelcnn(info, model.device)
    fits = prior.unlabelled or not prior.labels or (known >= 0).all()
    return prior if fits else None, torch.from_numpy(np.where(known < 0, prior.labels, known)).to(model.device)


def _check_sizes(images: Dataset, data: Data) -> None:
    height, width = images.pixels(0).shape[:2]
    if data.size is None and (height, width) != (data.crop, data.crop):
        raise UsageError(
            f"the images are {width} x {height}, and the model was trained on {data.crop} x {data.crop}",
            "name the data set that it was trained on",
        )
