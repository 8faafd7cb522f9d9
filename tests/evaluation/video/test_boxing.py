import numpy as np
import pytest

from vqcli.errors import UsageError
from vqcli.evaluation.video import boxing


def frame(white=None, black=None):
    """A ring with boxers of 10 x 6 pixels whose corner is at these places, and the score and the clock above."""
    made = np.full((84, 84, 3), (110, 156, 66), np.uint8)
    made[:, :4] = 0
    made[2:5, 20:30], made[2:9, 50:60] = 214, 0
    made[12:14], made[12:75, 14:17], made[12:75, 67:70] = ((195, 144, 61),) * 3
    for place, colour in ((white, 214), (black, 0)):
        if place is not None:
            made[place[0] : place[0] + 10, place[1] : place[1] + 6] = colour
    return made


def test_the_middle_of_each_boxer():
    found = boxing.find(np.stack([frame((20, 20), (40, 50)), frame((60, 17), (15, 61))]))
    np.testing.assert_allclose(found, [[[24.5, 22.5], [44.5, 52.5]], [[64.5, 19.5], [19.5, 63.5]]])


def test_a_boxer_that_is_not_there():
    found = boxing.find(np.stack([frame(black=(40, 50)), frame((20, 20))]))
    np.testing.assert_array_equal(np.isnan(found[..., 0]), [[True, False], [False, True]])


def test_drawn_beside_true():
    true = np.stack([frame((20, 20), (40, 50)), frame((50, 50), (20, 20))])
    moved = np.stack([frame((23, 24), (40, 50)), frame((50, 50), (20, 32))])
    places = boxing.compare(true, moved, np.array([1, 0]))
    assert places.found_true == places.found_drawn == 1
    assert places.distance == pytest.approx((5 + 0 + 0 + 12) / 4)
    assert places.kept == 0.5 and places.kept_other == 0
    assert places.distance_other > 20
    lost = boxing.compare(true, np.stack([frame((20, 20)), frame((50, 50))]), np.array([1, 0]))
    assert lost.found_drawn == lost.kept == 0 and lost.distance == 0
    nothing = boxing.compare(true, np.stack([frame(), frame()]), np.array([1, 0]))
    assert np.isnan(nothing.distance) and nothing.kept == 0


def test_other_frames():
    with pytest.raises(UsageError, match="not frames of boxing"):
        boxing.find(np.zeros((2, 24, 24, 3), np.uint8))
