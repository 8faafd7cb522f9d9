import numpy as np
import pytest

from vqcli.entropy import prior2d_stages


def order(levels: int, H: int, W: int) -> np.ndarray:
    """The number of the phase that tells each position; fails if two do."""
    told = np.full((H, W), -1)
    for p, phase in enumerate(prior2d_stages.phases(levels)):
        for top, left, step in phase.lattices:
            assert (told[top::step, left::step] == -1).all()
            told[top::step, left::step] = p
    return told


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (16, 16), (13, 21)], ids=str)
@pytest.mark.parametrize("levels", [0, 1, 2, 3])
def test_phases_part_the_grid(levels, shape):
    told = order(levels, *shape)
    assert (told >= 0).all()
    assert len(prior2d_stages.phases(levels)) == 1 + 2 * levels


def test_the_finest_phase_tells_half_of_all():
    told = order(3, 64, 64)
    shares = np.bincount(told.ravel()) / told.size
    assert shares.tolist() == [1 / 64, 1 / 64, 2 / 64, 4 / 64, 8 / 64, 16 / 64, 32 / 64]


@pytest.mark.parametrize("reach", [2, 3])
def test_taps_see_earlier_phases_alone_and_stay_within_the_margin(reach):
    told = order(3, 96, 96)
    for p, phase in enumerate(prior2d_stages.phases(3)):
        taps = prior2d_stages.taps(phase.kind, reach)
        assert len(taps) == len(set(taps)) == (0 if p == 0 else 12 if reach == 2 else 16 if phase.kind == 1 else 24)
        for top, left, step in phase.lattices:
            for y, x in taps:
                dy, dx = y * phase.spacing, x * phase.spacing
                assert max(abs(dy), abs(dx)) <= prior2d_stages.margin(3)
                seen = told[32 + top + dy : 64 + dy : step, 32 + left + dx : 64 + dx : step]
                assert (seen < p).all()


def test_slices():
    assert prior2d_stages.slices(7, (1, 2, 4)) == [range(0, 1), range(1, 3), range(3, 7)]
    for sizes in ((1, 2), (7, 1), (8, -1), ()):
        with pytest.raises(ValueError, match="slices"):
            prior2d_stages.slices(7, sizes)
