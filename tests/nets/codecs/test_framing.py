"""Where positions lie in time: counted as the segments are cut, and back from their number."""

import math

import numpy as np
import pytest

from vqcli.nets.codecs.framing import Framing

STEREO = Framing(320, 150, 47_520)  # EnCodec 48 kHz
LENGTHS = [*range(1, 2000, 97), *range(47_400, 48_500, 13), 95_040, 95_041, 95_200, 95_201, 480_000]


@pytest.mark.parametrize("framing", [STEREO, Framing(320), Framing(10, 12, 85), Framing(7, 5)])
def test_the_number_of_positions_tells_the_segments(framing):
    for N in LENGTHS:
        most = framing.segment * framing.stride
        lengths = [math.ceil(min(N - at, most) / framing.stride) for at in range(0, N, framing.hop)]
        T = framing.positions(N)
        assert sum(lengths) == T
        assert np.diff(framing.segments(T)).tolist() == lengths
        begins = framing.samples(T)
        assert begins[0] == 0 and len(begins) == T + 1 and begins[-1] >= N and (np.diff(begins) >= 0).all()


def test_where_segments_overlap_the_later_one_is_heard():
    assert STEREO.samples(300)[146:153].tolist() == [46_720, 47_040, 47_360, 47_520, 47_520, 47_840, 48_160]
    assert STEREO.positions_per_s(48_000) == pytest.approx(150 / 0.99)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="divide into segments"):
        Framing(10, 4, 30).segments(4)  # the fourth position comes with a second segment
    for hop in (100, 250):
        with pytest.raises(ValueError, match="cannot follow"):
            Framing(10, 24, hop)
