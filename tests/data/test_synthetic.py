import random

import numpy as np
import pytest

from vqcli.data import synthetic

KINDS = (
    synthetic.text,
    synthetic.screenshot,
    synthetic.line_art,
    synthetic.gradient,
    synthetic.dark_sky,
    synthetic.pattern,
)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_draw_equal_images(kind):
    first, again, other = (kind(random.Random(seed), 96) for seed in (1, 1, 2))
    assert first.shape == (96, 96, 3) and first.dtype == np.uint8
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_kinds_are_what_they_say():
    rng = random.Random(3)
    assert all(synthetic.dark_sky(rng, 64).mean() < 100 for _ in range(20))
    steps = [np.abs(np.diff(synthetic.gradient(rng, 64).astype(int), axis=1)) for _ in range(20)]
    assert np.median([step.mean() for step in steps]) < 8  # smooth
    colours = [len(np.unique(synthetic.screenshot(rng, 64).reshape(-1, 3), axis=0)) for _ in range(20)]
    assert np.median(colours) < 200  # flat
    patterns = [synthetic.pattern(rng, 64).reshape(-1, 3) for _ in range(30)]
    assert sum(len(np.unique(pixels, axis=0)) == 2 for pixels in patterns) > 10


def test_all_kinds_are_drawn():
    rng = random.Random(4)
    assert len({synthetic.draw(rng, 16).tobytes() for _ in range(30)}) == 30
