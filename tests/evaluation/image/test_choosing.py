"""The best setting for sampling, and the training images nearest to samples."""

import numpy as np
import pytest

from vqcli.data.dataset import Dataset
from vqcli.data.shapes import Shapes
from vqcli.evaluation.image import choosing, nearest
from vqcli.evaluation.image.classifier import Accuracy
from vqcli.nets.priors.autoregressive import Sampling
from vqcli.recipe import Data


def measured(guidance, top_1, variety):
    sampling = Sampling(guidance=guidance) if guidance else None
    return choosing.Measured(sampling, Accuracy(top_1, top_1, 600, {}), variety)


def test_the_most_varied_within_a_standard_error_of_the_highest_is_best():
    found = [measured(None, 0.9, 99), measured(1, 0.2, 50), measured(3, 0.633, 40), measured(4, 0.635, 30)]
    assert choosing.best(found) is found[2]  # an error is 0.0197
    assert choosing.best([*found, measured(5, 0.66, 20)]).sampling == Sampling(guidance=5)
    assert choosing.best(found[:2]) is found[1]


def test_variety_is_the_distance_to_the_nearest_of_the_class():
    pixels = np.zeros((4, 20, 16, 3), np.uint8)
    pixels[1] = 10
    pixels[3] = 30
    assert choosing.variety(pixels, np.array([0, 0, 1, 1])) == pytest.approx((10 + 30) / 2)
    assert choosing.variety(pixels[:1], np.array([0])) == 0.0
    grain = np.indices((20, 16)).sum(0)[..., None] % 2 * np.uint8(200)
    assert choosing.variety(np.stack([grain + pixels[0], pixels[0] + 100]), np.zeros(2, int)) < 45  # 100 by pixels


def test_a_copy_is_found_mirrored_too(make_model):
    model = make_model("copying", widths=[8, 8], dim=4, blocks=1, quantizer={"kind": "vector", "K": 8})
    data, source = Data(size=16, crop=16, batch=8), Shapes(40, size=16)
    real = Dataset(source, held_out=False)
    batch = real.held_out_batch(data, 3).pixels
    codes, pixels = nearest.coded(model, np.stack([batch[0], batch[1][:, ::-1], 255 - batch[2]]))
    found = nearest.nearest(model, codes, pixels, real, data)
    assert found.distance[:2].max() < 0.1 and found.equal[:2].min() == 1
    assert np.array_equal(found.pixels[:2], pixels[:2]) and found.by_codes.shape == pixels.shape
    assert nearest.picture(pixels, found).shape == (16 + 2 * 8, 3 * (3 * 16 + 2) + 4 * 8, 3)
