"""The colours of flat areas, as training weighs them and evaluation measures them."""

import numpy as np
import pytest
import torch

from vqcli.evaluation import metrics
from vqcli.nets.layers import distortion


def tensor(pixels):
    return torch.tensor(pixels).movedim(-1, 0)[None] / 255 - 0.5


def test_it_is_the_squared_error_that_evaluation_measures():
    flat = np.full((48, 64, 3), 90, np.uint8)
    other = flat + np.array([12, 0, 20], np.uint8)
    weighed = distortion.flat_colour(tensor(other), tensor(flat))
    assert float(weighed) == pytest.approx(metrics.flat_colour_error(flat, other) ** 2 - distortion.VISIBLE, rel=1e-3)


def test_what_is_textured_or_invisible_does_not_count():
    flat = np.full((32, 32, 3), 90, np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, flat.shape).astype(np.uint8)
    assert distortion.flat_colour(tensor(noise // 2), tensor(noise)) == 0
    assert distortion.flat_colour(tensor(flat + 1), tensor(flat)) == 0
    assert distortion.flat_colour(tensor(flat[:8]), tensor(noise[:8])) == 0  # smaller than a window


def test_its_gradient_takes_the_colour_back():
    flat = tensor(np.full((32, 32, 3), 90, np.uint8))
    image = (flat + torch.tensor([0.1, 0.0, -0.1])[:, None, None]).requires_grad_()
    distortion.flat_colour(image, flat).sum().backward()
    assert (image.grad[:, 0] > 0).all() and (image.grad[:, 2] < 0).all()
