import numpy as np
import pytest

from vqcli.errors import UsageError
from vqcli.media import drawing

RAMP = (np.arange(24 * 40 * 3) % 256).astype(np.uint8).reshape(24, 40, 3)


def test_side_by_side():
    row = drawing.side_by_side([RAMP, RAMP[..., :1]], gap=4)
    assert row.shape == (24, 84, 3)
    assert np.array_equal(row[:, :40], RAMP)
    assert (row[:, 40:44] == 255).all()
    captioned = drawing.side_by_side([RAMP, RAMP], ["left", "right"], gap=4)
    assert np.array_equal(captioned[-24:, 44:], RAMP)
    assert captioned[:-24].min() < 100  # there is a caption
    with pytest.raises(UsageError):
        drawing.side_by_side([RAMP, RAMP[:5]])


def test_codes_image():
    codes = np.array([[0, 1, 0], [511, 1, 0]])
    drawn = drawing.codes_image(codes, 512, 3)
    assert drawn.shape == (6, 9, 3) and drawn.dtype == np.uint8
    cells = drawn[::3, ::3]
    assert np.array_equal(drawn, cells.repeat(3, 0).repeat(3, 1))
    assert (cells[0, 0] == cells[0, 2]).all() and (cells[0, 0] != cells[0, 1]).any()
    every = drawing.codes_image(np.arange(512)[None], 512, 1)[0]
    assert len(np.unique(every, axis=0)) == 512
    with pytest.raises(UsageError):
        drawing.codes_image(codes, 511, 3)
