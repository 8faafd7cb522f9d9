import numpy as np
import pytest

from vqcli.errors import UsageError
from vqcli.evaluation import metrics
from vqcli.evaluation.video import h264
from vqcli.media import video


@pytest.fixture
def clip(picture):
    """Eight frames of a smooth picture that moves."""
    whole = picture(32, 48)
    smooth = np.mean([np.roll(whole, (dy, dx), (0, 1)) for dy in range(4) for dx in range(4)], axis=0).astype(np.uint8)
    return np.stack([smooth[:, at : at + 32] for at in range(8)])


def test_the_best_stream_that_fits(clip):
    pytest.importorskip("av")
    small, large = h264.at_bytes(clip, 400), h264.at_bytes(clip, 2000)
    assert small.fits and large.fits and small.size_bytes <= 400 and 1000 < large.size_bytes <= 2000
    assert small.crf > large.crf
    assert small.frames.shape == clip.shape and small.frames.dtype == np.uint8
    assert metrics.psnr(clip, large.frames) > metrics.psnr(clip, small.frames) > 15
    # frames come back in their order
    errors = [[metrics.mse(one, other) for other in clip] for one in large.frames]
    assert np.argmin(errors, 1).tolist() == list(range(8))


def test_what_does_not_fit(clip):
    pytest.importorskip("av")
    least = h264.at_bytes(clip, 10)
    assert not least.fits and least.crf == 51 and least.size_bytes > 10


def test_odd_sides(clip):
    pytest.importorskip("av")
    odd = clip[:4, :31, :29]
    assert h264.at_bytes(odd, 1500).frames.shape == odd.shape


def test_colour_is_halved_where_that_is_better(clip):
    """At hard edges of colour all of it comes nearer, at few bytes in smooth pictures half of it does."""
    pytest.importorskip("av")
    edges = np.zeros_like(clip)
    edges[:, :, ::2] = (250, 0, 0)
    edges[:, :, 1::2] = (0, 0, 250)
    halved = h264._at_bytes(edges, 4000, 10, "yuv420p")
    best = h264.at_bytes(edges, 4000)
    assert metrics.psnr(edges, best.frames) > metrics.psnr(edges, halved.frames) + 5
    smooth = {layout: h264._at_bytes(clip, 600, 10, layout) for layout in h264.LAYOUTS}
    assert metrics.mse(h264.at_bytes(clip, 600).frames, clip) == min(
        metrics.mse(one.frames, clip) for one in smooth.values()
    )


def test_streams_hold_no_notes(clip):
    pytest.importorskip("av")
    assert b"x264" not in h264._encode(clip, 30.0, 10, "yuv420p")


def test_without_the_extra(clip, monkeypatch):
    monkeypatch.setattr(video, "available", lambda: False)
    with pytest.raises(UsageError, match=r"H\.264 is made by PyAV") as raised:
        h264.at_bytes(clip, 400)
    assert "vqcli[video]" in raised.value.hint
