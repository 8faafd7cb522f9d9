import math

import numpy as np
import pytest
import torch

from tests.evaluation.conftest import ACTIONS, CONTEXT, SIDE, record, two_stages
from vqcli.data import recordings
from vqcli.errors import UsageError
from vqcli.evaluation.video import frames
from vqcli.nets.layers.convnet2d import from_pixels
from vqcli.nets.priors.frames import UNKNOWN
from vqcli.zoo import priors


def test_windows_are_runs_of_held_out_episodes(recorded):
    seen = frames.load_windows(recorded, 6, 3)
    episode = recordings.read_episode(recorded / "val" / "00001.npz")
    assert seen.images.shape == (6, 3, SIDE, SIDE, 3) and seen.game == "walk" and len(seen) == 6
    np.testing.assert_array_equal(seen.images[0], episode.images[:3])
    np.testing.assert_array_equal(seen.images[-1], episode.images[-3:])
    assert seen.actions[0] == episode.actions[:3]
    np.testing.assert_array_equal(seen.frames, seen.images[:, 2])
    assert len(frames.load_windows(recorded, 1000, 3)) == 20 - 2  # every one once
    others = frames.load_windows(recorded, 1000, 20, held_out=False)
    assert len(others) == 7 and not (others.images == episode.images).all((1, 2, 3, 4)).any()


def test_what_tells_no_actions(tmp_path):
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        np.savez(tmp_path / part / "a.npz", images=np.zeros((4, 8, 8, 1), np.uint8))
    seen = frames.load_windows(tmp_path, 2, 2)
    assert seen.actions == (("", ""), ("", "")) and seen.game == ""
    assert seen.images.shape == (2, 2, 8, 8, 3)
    assert (seen.numbers(lambda name: UNKNOWN) == UNKNOWN).all()


def test_what_cannot_be_measured(tmp_path, recorded):
    with pytest.raises(UsageError, match="is not a recording"):
        frames.load_windows(tmp_path / "nowhere", 4, 1)
    with pytest.raises(UsageError, match="has 30 frames in a row"):
        frames.load_windows(recorded, 4, 30)
    np.savez(recorded / "val" / "other.npz", images=np.zeros((20, 8, 8, 3), np.uint8))
    with pytest.raises(UsageError, match="several sizes"):
        frames.load_windows(recorded, 4, 1)
    with pytest.raises(UsageError, match="no other"):
        frames.other_windows(1)


def test_another_is_never_the_same():
    for count in (2, 3, 10, 11):
        others = frames.other_windows(count)
        assert sorted(others) == list(range(count)) and (others != np.arange(count)).all()


def test_costs_under_every_coder_and_prior(recorded, model_with):
    model = model_with("pixelcnn", "frames")
    assert frames.length_of(model) == CONTEXT + 1
    seen = frames.load_windows(recorded, 10, CONTEXT + 1)
    told = {cost.under: cost for cost in frames.costs(model, seen)}
    assert {"packed", "order 0", "adaptive", frames.UNIFORM} <= told.keys()
    assert {frames.PIXELCNN, frames.BEFORE, frames.NO_ACTIONS, frames.OTHER_ACTIONS, frames.NOTHING} <= told.keys()
    assert told[frames.UNIFORM].bits_per_code == 3 and told["packed"].size_bytes > 36 * 3 / 8
    assert told[frames.UNIFORM].bits_per_pixel == pytest.approx(3 / 16)
    assert told["order 0"].bits_per_code <= 3

    x = from_pixels(seen.images.reshape(-1, SIDE, SIDE, 3), model.device)
    codes = model.net.encode(x).view(10, CONTEXT + 1, 1, 6, 6).movedim(1, 2)
    actions = torch.tensor([[ACTIONS.index(name) for name in names[:-1]] for names in seen.actions])
    net = priors.load_frames(priors.find(model.info, "frames"), model.device)
    nats = net.nats(codes[:, :, -1], codes[:, :, :-1], actions).mean()
    assert told[frames.BEFORE].bits_per_code == pytest.approx(float(nats) / (36 * math.log(2)), rel=1e-5)
    assert told[frames.BEFORE].bits_per_code != told[frames.OTHER_ACTIONS].bits_per_code


def test_costs_without_priors_or_actions(recorded, model_with):
    model = model_with()
    assert frames.length_of(model) == 1
    assert frames.costs(model, frames.load_windows(recorded, 3, 1))[-1].under == frames.UNIFORM
    untold = {
        cost.under for cost in frames.costs(model_with("frames", actions=()), frames.load_windows(recorded, 3, 3))
    }
    assert frames.NOTHING in untold and frames.BEFORE not in untold


def test_points_beside_usual_codecs(recorded, model_with):
    own, webp = frames.points(model_with(), frames.load_windows(recorded, 3, 1), ("WebP",))
    assert own.codec == "walked" and webp.codec == "WebP" and own.picture == "mean of 3"
    assert own.psnr_db > 3 and webp.psnr_db > 3


def test_two_stages(recorded, tmp_path):
    model = two_stages(tmp_path)
    seen = frames.load_windows(recorded, 6, 1)
    found = frames.latents(model, seen)
    assert found.frames == 6 and found.payload_bits == 4 and found.codes == 36 and found.places is None
    assert found.file_bytes < 70
    assert found.saved_bits == pytest.approx(36 * (found.shuffled - found.right))
    x = from_pixels(seen.frames, model.device)
    codes, z_q = model.net.first.encode(x), model.net.quantizer.lookup(model.net.encode(x))
    bits = float(model.net.nats(codes, z_q).mean()) / (36 * math.log(2))
    assert found.right == pytest.approx(bits, rel=1e-5)
    shuffled = float(model.net.nats(codes, z_q.roll(-3, 0)).mean()) / (36 * math.log(2))
    assert found.shuffled == pytest.approx(shuffled, rel=1e-5)
    assert 3 < found.own_db < 40 and 3 < found.first_stage_db < 40


def test_what_two_stages_cannot(recorded, tmp_path, model_with):
    with pytest.raises(UsageError, match="has one stage"):
        frames.latents(model_with(), frames.load_windows(recorded, 4, 1))
    with pytest.raises(UsageError, match="for images of 32 x 32"):
        frames.latents(two_stages(tmp_path, side=32), frames.load_windows(recorded, 4, 1))
    boxed = record(tmp_path / "boxed", game="boxing")
    with pytest.raises(UsageError, match="not frames of boxing"):  # it says boxing, and is not
        frames.latents(two_stages(tmp_path / "b"), frames.load_windows(boxed, 4, 1))
