"""Bits per dimension: how likely a model finds pictures that it has not seen (the paper, 4.1; the report, 3.4).

    bits/dim = -log2 p(x) / (number of pixels x channels), for x of whole values 0 .. 255

What is printed is an upper bound on it, as no model here gives p(x) itself:

    vqvae2d    log p(x) >= log p(x | z_q) + log p(z_q), of the one z_q that x is encoded to (section 3.2)
    vae2d      log p(x) >= E_q log p(x | z) - KL(q(z | x) || p(z)), with one sample of z
    vimco2d    log p(x) >= E log 1/S sum_s p(x, z_s) / q(z_s | x), with S samples

p(x | z) is that of the model's decoder and gives each value its mass (nets/likelihood.py). p(z) is uniform, the
PixelCNN that lies beside the model; and files that return every pixel say what is had of it in bytes.
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
from vqcli.progress import Report, silent
from vqcli.recipe import Data
from vqcli.zoo import priors
from vqcli.zoo.loading import LoadedModel

Limit = Callable[[Iterable[Any]], Iterator[Any]]

BATCH = 100
UNIFORM, PIXELCNN, FILES, SUM = "uniform prior", "pixelcnn prior", "lossless .vqz files", "sum over all codes"
STORED = 100  # pictures: files take longer than bounds
MOST_SUMMED = 2**16  # codes of a picture, whose sum is still done
DEFINITION = {
    UNIFORM: "-log p(x | z_q) - log p(z_q), every code alike",
    PIXELCNN: "-log p(x | z_q) - log p(z_q) under the learned prior",
    FILES: "8 bits x bytes of whole files that return every pixel",
    SUM: "-log of the sum over all z of p(x | z) p(z): p(x) itself",
    "vae2d": "-E_q log p(x | z) + KL(q || p), one sample of z",
    "vimco2d": "-log of the mean over samples of p(x, z) / q(z | x)",
}


@dataclass(frozen=True)
class Bound:
    """Mean over pictures, in bits/dim: reconstruction + prior = bits_per_dim, where the bound has these parts.

    under           what the latents cost by: `UNIFORM`, `PIXELCNN`, `FILES`, `SUM`, or the family of a baseline
    reconstruction  -log2 p(x | z); None for a sum, also that of VIMCO's samples
    prior           -log2 p(z), or KL
    error           of the mean, one standard deviation: of drawing other pictures
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
    pictures: Dataset,
    *,
    count: int | None = None,
    stored: int = STORED,
    limit: Limit = iter,
    report: Report = silent,
) -> list[Bound]:
    """Bounds on the first `count` pictures, in a fixed mixed order, all if None; and the files of the first `stored`.

    `limit` may end both before that: of what it is given it yields as many as there is time for.
    Raises UsageError for a model without a likelihood, and for pictures that are not of the size it was trained on.
    """
    net = model.net
    if model.info.modality != "image" or net.likelihood is None:
        raise UsageError(
            f"model {model.info.name} has no likelihood: its decoder makes a picture, no distribution",
            "train one with model.arguments.likelihood, as the recipe cifar10-vqvae does",
        )
    data = recipe.from_dict(model.info.description["recipe"], model.info.name).data
    _check_sizes(pictures, data)
    batch = pictures.held_out_batch(data, min(count or len(pictures), len(pictures)))
    prior, labels = _prior_of(model, pictures, batch.labels)
    found: dict[str, list[np.ndarray]] = {}
    for start in limit(range(0, len(batch), BATCH)):
        part = batch.part(start, start + BATCH)
        x = in_channels(from_pixels(part.pixels, model.device), net.channels)
        if not net.codebook_sizes:  # a baseline
            bounds = {model.info.description["family"]: _baseline(net, x)}
        else:
            bounds = _vqvae(net, x, prior, labels[start : start + BATCH])
        for under, nats in bounds.items():
            found.setdefault(under, []).append(bits_per_dim(nats, x).cpu().numpy())  # (parts, B)
        report(min(1.0, (start + BATCH) / len(batch)))
    means = [_mean(under, np.concatenate(parts, 1)) for under, parts in found.items()]
    return means if not (net.codebook_sizes and stored) else [*means, _stored(model, batch.pixels[:stored], limit)]


def _stored(model: LoadedModel, pixels: np.ndarray, limit: Limit) -> Bound:
    """The bytes of real files, of pictures [N, H, W, 3]."""
    if model.net.channels == 1:
        pixels = pixels[..., :1]
    files = [lossless.of_model(model, np.ascontiguousarray(item)) for item in limit(pixels)]
    parts = np.array([(file.size - file.codes, file.codes) for file in files]).T  # (2, N)
    return _mean(FILES, 8 * parts / pixels[0].size)


def _mean(under: str, bits: np.ndarray) -> Bound:
    """Of [2, N]: reconstruction and prior; or of [1, N], the whole."""
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
    found = {UNIFORM: torch.stack([nats, torch.full_like(nats, net.uniform_nats(H, W))])}
    if prior is not None:
        found[PIXELCNN] = torch.stack([nats, prior.nats(codes, labels if prior.labels else None)])
    if math.prod(net.codebook_sizes) ** math.prod(net.grid(H, W)) <= MOST_SUMMED:
        found[SUM] = -log_sum(net, x)[None]
    return found


@torch.inference_mode()
def log_sum(net: ImageVQVAE, x: Tensor) -> Tensor:
    """log p(x) = log sum_z p(x | z) p(z) in nats, [B], over every z there is, p(z) uniform.

    Of nets so small that they can be counted: "we empirically evaluate this approximation" (section 3.2).
    """
    assert net.likelihood is not None
    H, W = x.shape[-2:]
    grid, groups = net.grid(H, W), len(net.codebook_sizes)
    every = itertools.product(*(range(K) for K in net.codebook_sizes for _ in range(math.prod(grid))))
    total = torch.full((len(x),), -torch.inf)
    while part := list(itertools.islice(every, BATCH)):
        codes = torch.tensor(part, device=x.device).view(-1, groups, *grid)
        made = net.decoder(net.quantizer.lookup(codes))
        for index in range(len(x)):
            log_p = net.likelihood.log_prob(made, x[index : index + 1].expand(len(made), -1, -1, -1))
            total[index] = torch.logaddexp(total[index], torch.logsumexp(log_p, 0).cpu())
    return total - net.uniform_nats(H, W)


@torch.inference_mode()
def _baseline(net: Baseline, x: Tensor) -> Tensor:
    """Nats of the bound: [2, B] of reconstruction and KL; [1, B] of VIMCO, whose samples share one bound."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bounds = [net.bound(part) for part in x.split(10)]  # of VIMCO, many samples of each
    value, nats = (-torch.cat([getattr(b, name) for b in bounds]) for name in ("value", "log_likelihood"))
    return torch.stack([nats, value - nats]) if net.KL_APART else value[None]


def _prior_of(model: LoadedModel, pictures: Dataset, labels: np.ndarray) -> tuple[PixelCNN | None, Tensor]:
    """The prior that lies beside the model, and the number that it has for the class of each picture, int64 [N].

    An unknown class is none, which not every prior can do without: then there is no prior for these pictures.
    """
    info = priors.find(model.info, "pixelcnn")
    if info is None:
        return None, torch.zeros(len(labels), dtype=torch.int64)
    known = np.array([info.number_of(name) for name in pictures.classes] + [-1])[labels]
    prior = priors.load_pixelcnn(info, model.device)
    fits = prior.unlabelled or not prior.labels or (known >= 0).all()
    return prior if fits else None, torch.from_numpy(np.where(known < 0, prior.labels, known)).to(model.device)


def _check_sizes(pictures: Dataset, data: Data) -> None:
    height, width = pictures.pixels(0).shape[:2]
    if data.size is None and (height, width) != (data.crop, data.crop):
        raise UsageError(
            f"the pictures are {width} x {height}, and the model was trained on {data.crop} x {data.crop}",
            "name the data set that it was made for",
        )
