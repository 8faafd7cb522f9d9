"""Sizes of lossless files of a model and of baselines. Bytes are those of whole files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vqcli.codec import image
from vqcli.container import vqz
from vqcli.errors import BadFile, VqError
from vqcli.evaluation.image import baselines
from vqcli.evaluation.image.rate_distortion import readable
from vqcli.progress import ProgressCallback, silent
from vqcli.zoo.loading import LoadedModel


@dataclass(frozen=True)
class Stored:
    """One image in one file.

    values       pixels x channels, the denominator of bits/dim
    codes_bytes  of a model's file without the lossless residual; None for baselines
    coder        of the lossless residual
    """

    codec: str
    picture: str
    pixels: int
    values: int
    size_bytes: int
    codes_bytes: int | None = None
    coder: int | None = None

    @property
    def bits_per_pixel(self) -> float:
        return 8 * self.size_bytes / self.pixels

    @property
    def bits_per_dim(self) -> float:
        return 8 * self.size_bytes / self.values


def evaluate(
    model: LoadedModel,
    names: Sequence[str],
    read: Callable[[int], np.ndarray],
    *,
    quality: float | None = None,
    codecs: Sequence[str] = ("PNG", "WebP"),
    progress: ProgressCallback = silent,
    complain: Callable[[BadFile], None] = lambda error: None,
) -> Iterator[Stored]:
    """Files of the model and of each codec of `codecs`, image by image, each verified by decoding.

    `read(i)` gives the pixels uint8 [H, W, 1 or 3] of the i-th of `names`; what it cannot read goes to `complain`.
    Raises VqError for a file that does not decode to its image.
    """
    for index, name, pixels in readable(names, read, complain):
        if pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
            pixels = np.ascontiguousarray(pixels[..., :1])  # grey, which sources convert to RGB
        file = encode_lossless(model, pixels, quality)
        facts = {"picture": name, "pixels": pixels.shape[0] * pixels.shape[1], "values": pixels.size}
        yield Stored(model.info.name, **facts, size_bytes=file.size, codes_bytes=file.codes, coder=file.coder)
        for codec in codecs:
            baseline = baselines.encode_lossless(pixels, codec)
            _check(codec, name, baseline.pixels, pixels)
            yield Stored(codec, **facts, size_bytes=baseline.size_bytes)
        progress((index + 1) / len(names))


@dataclass(frozen=True)
class Mean:
    """Means over the files of one codec; `codes_bytes` is None for baselines."""

    codec: str
    pictures: int
    size_bytes: float
    codes_bytes: float | None
    bits_per_pixel: float
    bits_per_dim: float


def means(stored: Sequence[Stored]) -> list[Mean]:
    """Means for each codec, in the order of first appearance."""
    groups: dict[str, list[Stored]] = {}
    for file in stored:
        groups.setdefault(file.codec, []).append(file)
    return [_mean(codec, files) for codec, files in groups.items()]


def _mean(codec: str, files: Sequence[Stored]) -> Mean:
    codes = [file.codes_bytes for file in files if file.codes_bytes is not None]
    return Mean(
        codec,
        len(files),
        float(np.mean([file.size_bytes for file in files])),
        float(np.mean(codes)) if codes else None,
        float(np.mean([file.bits_per_pixel for file in files])),
        float(np.mean([file.bits_per_dim for file in files])),
    )


@dataclass(frozen=True)
class LosslessFile:
    """Bytes of a whole file and of the part that is not the lossless residual, and the coder of the residual."""

    size: int
    codes: int
    coder: int


def encode_lossless(model: LoadedModel, pixels: np.ndarray, quality: float | None = None) -> LosslessFile:
    """The lossless file of pixels uint8 [H, W, 1 or 3]. Raises VqError if it decodes to others."""
    encoded = image.encode(pixels, model, quality=quality, lossless=True)
    decoded = image.decode(vqz.unpack(encoded.data), model)
    _check(model.info.name, "an image", decoded.pixels, pixels)
    assert encoded.header.residual is not None
    residual = sum(len(payload or b"") for payload in encoded.payloads[-encoded.header.chunk_count :])
    return LosslessFile(len(encoded.data), len(encoded.data) - residual, encoded.header.residual.coder)


def _check(codec: str, name: str, decoded: np.ndarray, pixels: np.ndarray) -> None:
    if not np.array_equal(decoded, pixels):
        raise VqError(f"{codec} is not lossless on {name}")
