"""Codes from a prior instead of an image: what `vq sample` does, for callers in Python.

samples = sample("tokens", labels=["fox", "zebra"], count=4, seed=1)      samples.pixels
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Unpack

import msgspec
import numpy as np
from PIL import Image

from vqcli.codec import image_file, tiling
from vqcli.codec.codes import ImageCodes, code_type
from vqcli.container import vqz
from vqcli.data.crops import rgb
from vqcli.deprecation import renamed_keyword
from vqcli.errors import ModelError, UsageError, near_matches
from vqcli.files import numbered
from vqcli.media import drawing, image
from vqcli.media.image import MAX_PIXELS
from vqcli.nets.priors.autoregressive import Sampling, in_batches
from vqcli.nets.priors.pixelcnn_sampler import sampler_of
from vqcli.progress import Running, silent
from vqcli.recipe import Data
from vqcli.zoo import loading, priors, store
from vqcli.zoo.loading import LoadedModel
from vqcli.zoo.priors import PriorInfo

PREFERRED = "tokens"
PRIORS = ("pixelcnn", "uniform")
KEPT = ("top", "left", "box")
LARGEST = 4096  # samples at once
AGREED_SIZE = 64  # pixels each way, where neither a prior nor the user says more


@dataclass(frozen=True)
class Samples:
    """Sampled images, label after label, `count` of each.

    codes   uint16 [N, groups, rows, columns]
    pixels  uint8 [N, H, W, 3]
    labels  the class of each, None for none
    seed    equal seeds give equal samples on the same device; sample i does not depend on how many there are
    prior   what they were sampled from
    rows    of an image of all: one for each label that was asked for
    """

    codes: np.ndarray
    pixels: np.ndarray
    labels: tuple[str | None, ...]
    seed: int
    prior: str
    rows: int
    _model: LoadedModel = field(repr=False)

    n_frames = 1  # of each, as clips have

    def frames(self) -> Iterator[np.ndarray]:
        """uint8 [H, W, 3] of one after the other."""
        return iter(self.pixels)

    def image(self, index: int) -> ImageCodes:
        """One sample as the codes of an image, ready for a .vqz file."""
        height, width = self.pixels.shape[1:3]
        return ImageCodes(self.codes[index], (width, height), 3, 0, tiling.tiles_of(self._model.image, height, width))

    def save(self, target: str | Path, *, force: bool = False) -> list[Path]:
        """Write them, and return the file of each: a folder gets single images, .vqz files of codes, anything else one
        image of all."""
        target, total = Path(target), len(self.labels)
        if target.suffix not in ("", ".vqz"):
            each = total // self.rows
            lines = [list(self.pixels[row * each : (row + 1) * each]) for row in range(self.rows)]
            names = [str(self.labels[row * each]) for row in range(self.rows)] if self.rows > 1 else None
            image.write(target, self.pixels[0] if total == 1 else drawing.grid(lines, names), force=force)
            return [target] * total
        paths = numbered(target, [f"-{label}" if label else "" for label in self.labels], ".png", force)
        for index, (path, label) in enumerate(zip(paths, self.labels, strict=True)):
            if path.suffix == ".vqz":
                metadata = {"drawn_from": self.prior, "seed": str(self.seed), "sample": str(index)}
                metadata |= {"class": label} if label else {}
                vqz.write(path, *image_file.pack_image(self._model, self.image(index), metadata=metadata), force=force)
            else:
                image.write(path, self.pixels[index], force=force)
        return paths


def find_model() -> store.ModelInfo:
    """The model to sample from when none is named: the preferred one, else the first that has such a prior."""
    return priors.model_with("pixelcnn", "vq train pixelcnn images/ -o NAME trains one", PREFERRED)


def size_of(prior: PriorInfo | None) -> tuple[int, int]:
    """Height and width that a prior was trained on, in pixels."""
    side = data_of(prior).crop
    return side, side


def data_of(info: PriorInfo | None) -> Data:
    """How images are brought to the size that a prior was trained on; to the agreed size without one."""
    side = AGREED_SIZE
    data = info.description.get("recipe", {}).get("data") if info else None
    try:
        return msgspec.convert(data or {"size": side, "crop": side}, Data)
    except msgspec.ValidationError as error:
        raise ModelError(f"{info.path if info else ''} does not say what it was trained on: {error}") from None


@renamed_keyword("report", "progress")
def sample(
    model: str | LoadedModel,
    *,
    prior: str = "pixelcnn",
    labels: Sequence[str] = (),
    count: int = 1,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    sampling: Sampling | None = None,
    start: np.ndarray | None = None,
    keep: str = "top",
    **running: Unpack[Running],
) -> Samples:
    """Sample `count` images of each label, or of labels sampled at random if none is named.

    prior     'pixelcnn', or 'uniform': every code alike, what the paper trains its models under
    size      height and width in pixels, None for those the prior was trained on
    sampling  None for the temperature and guidance that the prior's file asks for
    start     pixels uint8 [H, W, 1 or 3] to complete: the `keep` part ('top', 'left', 'box': the middle) is kept, the
              rest is sampled. A prior goes row by row, so what is sampled knows of the kept part what lies before it

    Raises ModelError if the model has no such prior, UnknownLabel, UsageError for what does not fit together.
    """
    if prior not in PRIORS:
        raise UsageError(f"no prior {prior}", near_matches(prior, PRIORS))
    if isinstance(model, str):
        model = loading.load(model, running.get("device", "auto"))
    progress = running.get("progress", silent)
    if model.image.qualities:
        raise UsageError(f"model {model.info.name} has no prior to sample from", "--model tokens has one")
    info = priors.find(model.info, prior) if prior != "uniform" else None
    if prior != "uniform" and info is None:
        raise ModelError(f"model {model.info.name} has no prior {prior}", "vq train pixelcnn --codec trains one")
    if labels and (info is None or not info.classes):
        raise UsageError(f"the {prior} prior of {model.info.name} knows no classes", "leave --class out")
    H, W = size or tiling.frame_size(model) or size_of(info)
    names = _labels(info, labels, count, seed)
    if not 1 <= len(names) <= LARGEST or min(H, W) < 1 or len(names) * H * W > MAX_PIXELS:
        raise UsageError(f"{len(names)} samples of {W} x {H} pixels are too many or too few to sample")

    sampling = sampling or priors.sampling(info)
    sizes = model.net.codebook_sizes
    shape = (len(names), len(sizes), *model.net.grid(H, W))
    codes, kept = np.zeros(shape, np.int64), np.zeros(shape[2:], bool)
    if start is not None:
        codes[:] = tiling.encode_image(model, fitted(start, H, W)).codes
        kept = kept_part(keep, *shape[2:])
    uniforms = np.stack([np.random.default_rng([seed, index]).random(shape[1:]) for index in range(len(names))])
    if info is None:
        sampled = (uniforms * np.array(sizes)[:, None, None]).astype(np.int64)
        codes = np.where(kept, codes, sampled)
    else:
        numbers = np.array([info.label_of(name) for name in names if name]) if info.classes else None
        net = priors.load_pixelcnn(info, model.device)
        if sampling.guidance != 1 and not net.unlabelled:
            raise UsageError("this prior has not learned to do without a class", "leave --guidance out")
        keep_mask = np.broadcast_to(kept, shape)
        codes = in_batches(sampler_of(net), codes, keep_mask, uniforms, numbers, sampling, progress)
    stored = codes.astype(code_type(model.net.codebook_sizes))
    tiles = tiling.tiles_of(model.image, H, W)
    pixels = [tiling.decode_image(model, ImageCodes(item, (W, H), 3, 0, tiles)) for item in stored]
    return Samples(stored, np.stack(pixels), tuple(names), seed, prior, len(labels) or 1, model)


def kept_part(keep: str, rows: int, columns: int) -> np.ndarray:
    """bool [rows, columns], true where a completion keeps the codes it is given: one half, or the middle box."""
    kept = np.zeros((rows, columns), bool)
    if keep == "top":
        kept[: rows // 2] = True
    elif keep == "left":
        kept[:, : columns // 2] = True
    elif keep == "box":
        kept[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4] = True
    else:
        raise UsageError(f"no part {keep} to keep", near_matches(keep, KEPT))
    return kept


def fitted(pixels: np.ndarray, H: int, W: int) -> np.ndarray:
    """The middle of an image uint8 [h, w, 1 or 3], reduced or enlarged to cover H x W pixels: uint8 [H, W, 3]."""
    height, width = pixels.shape[:2]
    ratio = min(Fraction(height, H), Fraction(width, W))
    box_height, box_width = float(H * ratio), float(W * ratio)
    top, left = (height - box_height) / 2, (width - box_width) / 2
    picture = Image.fromarray(rgb(pixels))
    box = (left, top, left + box_width, top + box_height)
    return np.asarray(picture.resize((W, H), Image.Resampling.LANCZOS, box=box))


def _labels(info: PriorInfo | None, labels: Sequence[str], count: int, seed: int) -> list[str | None]:
    if labels and info is not None:
        classes = [info.classes[info.label_of(name)] for name in labels]
        return [name for name in classes for _ in range(count)]
    if info is not None and info.classes:
        draw = np.random.default_rng([seed, LARGEST])
        return [info.classes[int(draw.random() * len(info.classes))] for _ in range(count)]
    return [None] * count
