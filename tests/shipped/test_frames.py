"""The shipped models of frames and video: what they keep, what they draw, and that actions are seen in it."""

from pathlib import Path

import numpy as np
import pytest

import vqcli
from vqcli.codec import video as codec_video
from vqcli.entropy.coders import packed
from vqcli.evaluation import metrics
from vqcli.evaluation.video import boxing
from vqcli.media import image, video
from vqcli.nets.priors.autoregressive import Sampling
from vqcli.sampling.video import sample_video
from vqcli.zoo import loading, priors, store

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module")
def load():
    loaded = {name: loading.load(store.describe(MODELS / name), "cpu") for name in ("boxing", "boxing-27bit", "doom")}
    return loaded.__getitem__


@pytest.fixture(scope="module")
def frame():
    """A held-out frame of Atari Boxing."""
    return image.read(MODELS / "boxing" / "frame.png").pixels


@pytest.fixture(scope="module")
def clip():
    """Twelve held-out frames of the maze."""
    with video.opened(Path(vqcli.__file__).parent / "demo" / "maze.webp") as found:
        return np.stack(list(found.frames))


@pytest.mark.parametrize("name", ["boxing", "boxing-27bit", "doom"])
def test_none_is_above_four_mebibytes(name):
    assert sum(path.stat().st_size for path in (MODELS / name).iterdir()) <= 4 * 2**20


def test_frames_of_both_games_come_back(load, frame, clip):
    for name, pixels, least_db in (("boxing", frame, 38), ("doom", clip[3], 28)):
        encoded = vqcli.encode(pixels, load(name), coder="packed")
        assert encoded.codes.shape == (1, 21, 21)
        assert metrics.psnr(pixels, vqcli.decode(encoded, load(name)).pixels) > least_db


def test_27_bits_keep_the_boxers_in_their_places(load, frame):
    """Three codes of 9 bits; the score is made up, the boxers are not."""
    model = load("boxing-27bit")
    encoded = vqcli.encode(frame, model, coder="packed")
    assert encoded.codes.shape == (3, 1, 1) and encoded.header.codebook_sizes == (512,) * 3
    assert 8 * packed.size_bytes((3, 1, 1), (512,) * 3) - 27 < 8 and sum(map(len, encoded.payloads)) == 4
    once, again = (vqcli.decode(encoded, model).pixels for _ in range(2))
    assert np.array_equal(once, again)
    there, drawn = boxing.find(np.stack([frame, once]))
    assert np.linalg.norm(there - drawn, axis=1).max() < boxing.NEAR


def test_the_priors_know_more_than_frequencies(load):
    still = priors.find(load("boxing").info, "pixelcnn").description["measured"]
    assert still["bits_per_code"] < 0.3 * still["order_0"]
    moving = priors.find(load("doom").info, "frames").description["measured"]
    assert moving["bits_per_code"] < 0.75 * moving["order_0"]
    assert moving["bits_per_code"] < moving["without_actions"] < moving["other_actions"]


def test_futures_show_what_is_done(load, clip):
    """A red door lies ahead, left of the middle: it grows for who walks on, and is out of sight for who turns right."""
    model = load("doom")
    start = codec_video.codes_of(clip, model).codes

    def red(action, seed):
        drawn = sample_video(model, start=start, actions=[action] * 6, seed=seed, sampling=Sampling(temperature=0.8))
        assert drawn.given == 6 and np.array_equal(drawn.codes[0, :, :6], start[:, -6:])
        colours = drawn.pixels(0)[5:].astype(int)  # from the last frame that was given
        return ((colours[..., 0] > 70) & (colours[..., 1:].max(3) < 35)).sum((1, 2))

    ahead, turned = (np.sum([red(action, seed) for seed in (1, 3, 4)], 0) for action in ("forward", "right"))
    assert ahead[0] == turned[0] > 300
    assert ahead[5] > 2 * ahead[0] and turned[3:].max() < 0.2 * turned[0]
