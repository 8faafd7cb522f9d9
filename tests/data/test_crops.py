import random

import numpy as np

from vqcli.data import crops
from vqcli.recipe import Data


def test_colours_change_within_bounds(picture):
    """Brightness first: grey pixels away from the mean of the picture follow it by a factor of at most 1 + colour."""
    pixels = picture(40, 40)
    grey = np.full((8, 8, 3), 100, np.uint8)
    brightness = {int(crops.recoloured(grey, 0.25, random.Random(seed))[0, 0, 0]) for seed in range(50)}
    assert 80 <= min(brightness) < 90 and 110 < max(brightness) <= 125
    changed = [crops.recoloured(pixels, 0.25, random.Random(seed)) for seed in range(3)]
    assert all(other.shape == pixels.shape and (other != pixels).any() for other in changed)
    assert (changed[0] != changed[1]).any()
    assert np.array_equal(changed[0], crops.recoloured(pixels, 0.25, random.Random(0)))


def test_without_colour_the_draws_stay_as_they_were(picture):
    pixels = picture(60, 50)
    plain, coloured = Data(crop=32), Data(crop=32, colour=0.5)
    one, other = (crops.random_crop(pixels, data, random.Random("0 7")) for data in (plain, coloured))
    assert (one != other).any()
    assert crops.on_a_grid(coloured, 4).colour == 0
