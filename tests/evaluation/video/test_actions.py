import numpy as np
import pytest
import torch

from tests.evaluation.conftest import ACTIONS, CONTEXT, SIDE
from vqcli.errors import ModelError, UsageError
from vqcli.evaluation import metrics
from vqcli.evaluation.video import actions, frames, h264
from vqcli.evaluation.video.actions import SampledClips
from vqcli.nets.priors.frames import UNKNOWN


@pytest.fixture
def model(model_with):
    return model_with("frames")


@pytest.fixture
def drawn(model, recorded):
    return actions.sample(model, recorded, 3, length=4, seed=5)


@pytest.fixture
def short(monkeypatch):
    """Runs that fit into the episodes of the recording."""
    monkeypatch.setattr(actions, "LENGTH", 9)


def of_levels(*levels):
    """Clips of even grey, uint8 [N, T, 8, 8, 3], of levels [T] each."""
    return np.array(levels, np.uint8)[:, :, None, None, None].repeat(8, 2).repeat(8, 3).repeat(3, 4)


def test_a_net_names_what_was_done(model, recorded, short, monkeypatch):
    monkeypatch.setattr(actions, "reconstruct", lambda model, pixels: pixels)  # such a model would show little of it
    shares = []
    before = torch.random.get_rng_state()
    judge = actions.train(model, recorded, minutes=5, passes=8, progress=shares.append)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert judge.actions == ACTIONS and judge.transitions == 7 * 12 * 8 and judge.passes == pytest.approx(8, abs=0.2)
    assert shares == sorted(shares) and shares[-1] == 1
    held_out = frames.load_windows(recorded, 8, 9)
    done = held_out.numbers(ACTIONS.index)[:, :-1]
    rate = judge.accuracy(held_out.images, done)
    assert rate.transitions == 64 and rate.share > 0.8
    assert sum(number for _, number in rate.by_action.values()) == 64
    assert judge.accuracy(held_out.images, 1 - done).share == pytest.approx(1 - rate.share)
    assert judge.accuracy(held_out.images, np.where(np.arange(8) < 2, done, UNKNOWN)).transitions == 16
    with pytest.raises(UsageError, match="no action"):
        judge.accuracy(held_out.images, np.full_like(done, UNKNOWN))


def test_clips_that_are_drawn(model, recorded, drawn):
    assert drawn.context.shape == (3, CONTEXT, SIDE, SIDE, 3)
    assert drawn.conditioned.shape == drawn.other_seed.shape == (2, 3, 4, SIDE, SIDE, 3)
    assert drawn.with_true_actions.shape == drawn.unconditioned.shape == (3, 4, SIDE, SIDE, 3)
    seen = frames.load_windows(recorded, 3, CONTEXT + 4)
    np.testing.assert_array_equal(drawn.true_actions, seen.numbers(ACTIONS.index)[:, CONTEXT - 1 : -1])
    # a clip is the same whatever else is drawn, and differs by its seed and by what it is told
    fewer = actions.sample(model, recorded, 3, length=2, seed=5)
    assert not (drawn.conditioned[0] == drawn.other_seed[0]).all() and fewer.conditioned.shape[2] == 2
    np.testing.assert_array_equal(actions.sample(model, recorded, 3, length=4, seed=6).conditioned, drawn.other_seed)
    clips, asked = drawn.throughout()
    assert clips.shape == (6, 5, SIDE, SIDE, 3) and asked.tolist() == [[0] * 4] * 3 + [[1] * 4] * 3
    np.testing.assert_array_equal(clips[4, 0], drawn.context[1, -1])
    np.testing.assert_array_equal(clips[4, 1:], drawn.conditioned[1, 1])


def test_rates_of_real_and_drawn(model, recorded, drawn, short):
    judge = actions.train(model, recorded, passes=1)
    rates = actions.accuracies(judge, model, recorded, drawn)
    assert list(rates) == [actions.REAL, actions.CONDITIONED, actions.TRUE_ACTIONS, actions.UNCONDITIONED]
    assert rates[actions.REAL].transitions == 12 * 8 and rates[actions.CONDITIONED].transitions == 2 * 3 * 4
    assert rates[actions.TRUE_ACTIONS].transitions == rates[actions.UNCONDITIONED].transitions == 12
    assert rates[actions.CONDITIONED].by_action.keys() == set(ACTIONS)


def test_how_far_futures_part():
    told, again = of_levels([10, 10], [20, 20]), of_levels([13, 13], [20, 24])
    nothing = of_levels([0, 0])
    drawn = SampledClips(ACTIONS, nothing, told[:, None], again[:, None], nothing, nothing, np.zeros((1, 2), np.int64))
    parted = actions.futures(drawn)
    assert parted.by_actions == 100 and parted.by_seeds == pytest.approx((9 + 8) / 2)


def test_a_picture_of_futures(drawn):
    made = actions.sample_grid(drawn, 2, ACTIONS)
    assert made.shape[0] == 4 * (SIDE + 2) + 2
    assert made.shape[1] > (CONTEXT + 4) * SIDE and made.dtype == np.uint8


def test_clips_beside_other_codecs(model, recorded):
    pytest.importorskip("av")
    seen = frames.load_windows(recorded, 2, 6)
    points = {point.codec: point for point in actions.clip_points(model, seen)}
    assert {actions.PACKED, actions.AUTO} < points.keys() and len(points) == 6
    packed, auto = points[actions.PACKED], points[actions.AUTO]
    assert packed.frames == 12 and packed.clips == 2 and auto.bytes_per_frame <= packed.bytes_per_frame
    codes = frames.codes_of(model, seen.images[0])
    again = frames.pixels_of(model, codes, (SIDE, SIDE))
    own = np.mean([metrics.psnr(one, other) for one, other in zip(seen.images[0], again, strict=True)])
    assert packed.psnr_db == auto.psnr_db == pytest.approx(own, abs=3)


def test_what_cannot_be(model_with, recorded, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="no prior over video"):
        actions.sample(model_with(), recorded, 1)
    with pytest.raises(UsageError, match="fewer than two actions"):
        actions.sample(model_with("frames", actions=()), recorded, 1)
    model = model_with("frames", actions=("up", "down"))
    monkeypatch.setattr(actions, "LENGTH", 9)
    with pytest.raises(UsageError, match="has none of the actions up, down"):
        actions.train(model, recorded)
    with pytest.raises(UsageError, match="in a row"):
        actions.sample(model, recorded, 1, length=40)
    monkeypatch.setattr(h264.video, "available", lambda: False)
    with pytest.raises(UsageError, match="PyAV"):
        actions.clip_points(model, frames.load_windows(recorded, 1, 4))
