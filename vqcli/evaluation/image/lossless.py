"""What pictures take to return pixel for pixel, beside the usual codecs. Bytes are those of whole files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vqcli.codec import image
from vqcli.container import vqz
from vqcli.errors import BadFile, VqError
from vqcli.evaluation.image import baselines
from vqcli.evaluation.image.rate_distortion import readable
from vqcli.progress import Report, silent
from vqcli.zoo.loading import LoadedModel


@dataclass(frozen=True)
class Stored:
    """One picture in one file.

    values           pixels x channels, by which bits/dim are counted
    codes_bytes      of a model's file without its remainder; None for the usual codecs
    coder            of the remainder
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
    report: Report = silent,
    complain: Callable[[BadFile], None] = lambda error: None,
) -> Iterator[Stored]:
    """Files of the model and of each codec of `codecs`, picture by picture, each decoded again and compared.

    `read(i)` gives the pixels uint8 [H, W, 1 or 3] of the i-th of `names`; what it cannot read goes to `complain`.
    Raises VqError for a file that does not return its picture.
    """
    for index, name, pixels in readable(names, read, complain):
        if pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
            pixels = np.ascontiguousarray(pixels[..., :1])  # grey, as sources hand everything over in colour
        file = of_model(model, pixels, quality)
        facts = {"picture": name, "pixels": pixels.shape[0] * pixels.shape[1], "values": pixels.size}
        yield Stored(model.info.name, **facts, size_bytes=file.size, codes_bytes=file.codes, coder=file.coder)
        for codec in codecs:
            other = baselines.without_loss(pixels, codec)
            _check(codec, name, other.pixels, pixels)
            yield Stored(codec, **facts, size_bytes=other.size_bytes)
        report((index + 1) / len(names))


@dataclass(frozen=True)
class Mean:
    """Over the files of one codec; `codes_bytes` is None for the usual codecs."""

    codec: str
    pictures: int
    size_bytes: float
    codes_bytes: float | None
    bits_per_pixel: float
    bits_per_dim: float


def means(stored: Sequence[Stored]) -> list[Mean]:
    """One for each codec, in the order of first appearance."""
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
class File:
    """Bytes of a whole file and of what is not the remainder, whose coder it names."""

    size: int
    codes: int
    coder: int


def of_model(model: LoadedModel, pixels: np.ndarray, quality: float | None = None) -> File:
    """The file that returns pixels uint8 [H, W, 1 or 3]. Raises VqError if it does not."""
    encoded = image.encode(pixels, model, quality=quality, lossless=True)
    decoded = image.decode(vqz.unpack(encoded.data), model)
    _check(model.info.name, "a picture", decoded.pixels, pixels)
    assert encoded.header.remainder is not None
    rest = sum(map(len, encoded.payloads[-encoded.header.chunk_count :]))
    return File(len(encoded.data), len(encoded.data) - rest, encoded.header.remainder.coder)


def _check(codec: str, name: str, returned: np.ndarray, pixels: np.ndarray) -> None:
    if not np.array_equal(returned, pixels):
        raise VqError(f"{codec} does not return {name} as it was")
