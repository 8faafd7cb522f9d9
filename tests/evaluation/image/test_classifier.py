"""A classifier that learns what it can and no more, from pictures that went through a codec."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vqcli.data.dataset import Dataset
from vqcli.data.shapes import Shapes
from vqcli.errors import UsageError
from vqcli.evaluation.image import classifier
from vqcli.recipe import Data

PIECE = Data(size=32, crop=32, batch=16)


@pytest.fixture
def lossless():
    """A stand-in for a codec: the codes of a picture are its pixels."""
    net = SimpleNamespace(channels=3, latents=lambda x: x, decode=lambda codes: codes / 255 - 0.5)
    net.quantize = lambda z_e: ((z_e + 0.5) * 255).round().long()
    return SimpleNamespace(net=net, image=net, device=torch.device("cpu"), info=SimpleNamespace(name="lossless"))


class Silhouettes(Shapes):
    """White shapes on black: told apart by their form alone, and after few pictures."""

    def read(self, index):
        pixels = super().read(index).astype(int)
        inside = np.abs(pixels - pixels[:, :1]).max(2, keepdims=True) > 8  # each row of the ground has one colour
        return inside.repeat(3, 2).astype(np.uint8) * 255


def shapes(count, seed, labels=None, held_out=False):
    source = Silhouettes(count, seed=seed)
    source.held_out = [held_out] * count
    source.labels = labels or source.labels
    return Dataset(source, held_out=held_out)


def test_recoding_by_a_lossless_codec_changes_nothing(lossless, picture):
    pixels = np.stack([picture(32, 40)] * 70)
    np.testing.assert_array_equal(classifier.reconstruct(lossless, pixels), pixels)
    assert classifier.reconstruct(lossless, pixels[:0]).shape == (0, 32, 40, 3)


def test_recoding_is_what_files_do(vector_model, picture):
    from vqcli.codec import tiling

    pixels = np.stack([picture(32, 40), picture(32, 40)[:, ::-1]])
    whole = [tiling.decode_image(vector_model, tiling.encode_image(vector_model, each)) for each in pixels]
    assert np.abs(classifier.reconstruct(vector_model, pixels).astype(int) - np.stack(whole)).max() <= 1


def test_made_shapes_are_learned(lossless, monkeypatch):
    monkeypatch.setattr(classifier, "BATCH", 32)  # few pictures, so that there are more steps
    shares = []
    judged = classifier.train(lossless, shapes(300, 0), PIECE, passes=20, minutes=10, progress=shares.append)
    rate = judged.accuracy(*classifier.reconstructions(lossless, shapes(200, 1, held_out=True), PIECE))
    assert rate.top_1 > 0.9 and rate.top_3 == 1 and rate.pictures == 200
    assert rate.by_class.keys() == {"disc", "square", "triangle"}
    assert sum(share * count for share, count in rate.by_class.values()) == pytest.approx(200 * rate.top_1)
    assert judged.pictures == 300 and judged.passes == pytest.approx(20, rel=0.1)
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] <= 1


def test_random_labels_cannot_be_learned(lossless):
    draw = np.random.default_rng(0)
    names = [f"class {number}" for number in draw.integers(0, 6, 300)]
    judged = classifier.train(lossless, shapes(300, 0, names), PIECE, passes=4)
    others = shapes(300, 1, [f"class {number}" for number in draw.integers(0, 6, 300)], held_out=True)
    rate = judged.accuracy(*classifier.reconstructions(lossless, others, PIECE))
    assert 1 / 6 - 0.08 < rate.top_1 < 1 / 6 + 0.08
    assert 1 / 2 - 0.11 < rate.top_3 < 1 / 2 + 0.11


def test_equal_seeds_make_equal_judges_and_leave_the_random_state_alone(lossless):
    torch.manual_seed(5)
    state, pixels = torch.get_rng_state(), np.stack([Shapes(1).read(0)])
    one, same, other = (classifier.train(lossless, shapes(40, 0), PIECE, passes=2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(one.logits(pixels), same.logits(pixels))
    assert not np.array_equal(one.logits(pixels), other.logits(pixels))


def test_time_ends_learning(lossless):
    judged = classifier.train(lossless, shapes(40, 0), PIECE, minutes=1e-9, passes=10**6)
    assert 0 < judged.passes < 100


def test_rates():
    class Told(classifier.Classifier):
        def logits(self, pixels):
            return np.array([[3, 2, 1, 0], [0, 1, 2, 3], [1, 0, 3, 2], [0, 3, 2, 1]], np.float32)

    rate = Told(None, ("a", "b", "c", "d"), 1, 1.0).accuracy(np.zeros((4, 1, 1, 3), np.uint8), np.array([0, 0, 3, 3]))
    assert (rate.top_1, rate.top_3, rate.pictures) == (0.25, 0.75, 4)
    assert rate.by_class == {"a": (0.5, 2), "d": (0.0, 2)}


def test_distortion_moves_and_mirrors_but_invents_nothing():
    pictures = torch.arange(20).view(1, 1, 20, 1).expand(1, 20, 20, 3).to(torch.uint8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = classifier.augment(pictures, torch.zeros(64, dtype=torch.int64))
    assert x.shape == (64, 3, 20, 20)
    steps = x[:, 0, 0, 4:16].diff(dim=1).sign()  # far from the mirrored edges
    assert set(steps.sum(1).tolist()) == {11.0, -11.0}  # rising as it is, falling where mirrored
    assert x.unique(dim=0).shape[0] == 64


def test_what_cannot_be_judged(lossless):
    with pytest.raises(UsageError, match="fewer than two classes"):
        classifier.train(lossless, shapes(9, 0, ["one"] * 9), PIECE)
    with pytest.raises(UsageError, match="too small"):
        classifier.train(lossless, shapes(9, 0), Data(size=8, crop=8))
    with pytest.raises(UsageError, match="none of the held-out"):
        classifier.reconstructions(lossless, shapes(9, 0, [None] * 9, held_out=True), PIECE)
