"""The training images nearest to sampled ones: whether a prior draws images of its own or copies.

All are compared as the codec gives them back, training images mirrored too, as a prior learns from both. A copy is
much nearer to a training image than a held-out image is, so the distances of those stand beside.

    found = nearest(model, samples.codes, samples.pixels, real, data)
    found.distance.mean(), found.equal.mean()
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vqcli.data.dataset import Dataset
from vqcli.evaluation.image.rate_distortion import codes_of
from vqcli.media import drawing
from vqcli.nets.layers.convnet2d import in_channels, to_pixels
from vqcli.progress import ProgressCallback, silent
from vqcli.recipe import Data
from vqcli.zoo.loading import LoadedModel

BATCH = 32  # training images at once
SHOWN = 9  # samples in an image of pairs


@dataclass(frozen=True)
class Nearest:
    """Of N images, the nearest training image by pixels and that by codes.

    distance  float32 [N], root mean square difference of pixels in grey values
    pixels    uint8 [N, H, W, 3], the nearest by that, as the codec gives it back
    equal     float32 [N], the largest share of equal codes, 0 .. 1
    by_codes  uint8 [N, H, W, 3], the nearest by that
    """

    distance: np.ndarray
    pixels: np.ndarray
    equal: np.ndarray
    by_codes: np.ndarray


def nearest(
    model: LoadedModel,
    codes: np.ndarray,
    pixels: np.ndarray,
    real: Dataset,
    data: Data,
    progress: ProgressCallback = silent,
) -> Nearest:
    """The nearest of the centre crops of `real` and their mirror images.

    codes   [N, n_codebooks, rows, columns] of the images to compare
    pixels  uint8 [N, crop, crop, 3], the same images decoded
    """
    N, flat = len(pixels), pixels.reshape(len(pixels), -1).astype(np.float32)
    found = Nearest(np.full(N, np.inf, np.float32), pixels.copy(), np.full(N, -1, np.float32), pixels.copy())
    batch = real.held_out_batch(data, len(real))  # centre crops, whatever part of the data `real` is
    for first in range(0, len(batch), BATCH):
        straight = batch.pixels[first : first + BATCH]
        theirs, decoded = coded(model, np.concatenate([straight, straight[:, :, ::-1]]))
        rows = decoded.reshape(len(decoded), -1).astype(np.float32)
        squares = (flat**2).sum(1)[:, None] + (rows**2).sum(1) - 2 * flat @ rows.T
        distance = np.sqrt(squares.clip(0) / flat.shape[1])
        equal = np.stack([(theirs == one).mean((1, 2, 3), dtype=np.float32) for one in codes])
        for score, best, images in ((-distance, -found.distance, found.pixels), (equal, found.equal, found.by_codes)):
            better = score.max(1) > best
            images[better] = decoded[score.argmax(1)[better]]
        np.minimum(found.distance, distance.min(1), out=found.distance)
        np.maximum(found.equal, equal.max(1), out=found.equal)
        progress(min(1.0, (first + BATCH) / len(batch)))
    return found


def coded(model: LoadedModel, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes int64 [N, n_codebooks, rows, columns] of images uint8 [N, H, W, 3], and the images of these codes."""
    codes = codes_of(model, np.ascontiguousarray(pixels))
    decoded = to_pixels(in_channels(model.net.decode(codes), 3))[:, : pixels.shape[1], : pixels.shape[2]]
    return codes.cpu().numpy(), decoded


def picture(samples: np.ndarray, found: Nearest) -> np.ndarray:
    """Some of the samples uint8 [N, H, W, 3], each with its nearest by pixels and by codes right of it: RGB."""
    step = max(1, len(samples) // SHOWN)
    chosen = range(0, len(samples), step)[:SHOWN]
    wide = 3
    triples = [drawing.side_by_side([samples[i], found.pixels[i], found.by_codes[i]], gap=1) for i in chosen]
    rows = [triples[first : first + wide] for first in range(0, len(triples), wide)]
    return drawing.grid(rows, gap=8)
