"""Two-stage codes and a prior over video learn from recordings, and do what they are for."""

import random
import shutil

import numpy as np
import pytest
import torch

from tests.training.conftest import of
from vqcli import api
from vqcli.codec import video as codec_video
from vqcli.data import recordings
from vqcli.data.recordings import Facts
from vqcli.errors import BadFile, ModelError, UnknownLabel, UsageError
from vqcli.nets.priors.autoregressive import Sampling
from vqcli.nets.priors.frames import MISSING, UNKNOWN
from vqcli.sampling.image import sample
from vqcli.sampling.video import parse_actions, sample_video
from vqcli.tokens import run as tokens
from vqcli.training import checkpoint, log, run
from vqcli.training.datasets.code_windows import CodeWindows
from vqcli.zoo import loading, priors, store

CODEC = b"""
description = "frames of a walk"
modality = "image"
[model]
family = "vqvae2d"
[model.arguments]
widths = [16, 16]
dim = 4
blocks = 1
linear_start = 4.0
quantizer = { kind = "vector", K = 8, gamma = 0.9 }
[data]
crop = 24
batch = 16
flip = false
[optimization]
steps = 60
learning_rate = 3e-3
warmup = 5
average = 0.9
validate_every = 30
"""
TWO_STAGES = b"""
description = "a walk in few bits"
modality = "image"
codec = "walk"
[model]
family = "twostage2d"
[model.arguments]
side = 24
latents = 2
K = 16
dim = 4
widths = [8, 16, 16]
condition = 8
quantizer = { gamma = 0.9 }
decoder = { width = 8, layers = 3, hidden = 16 }
[data]
crop = 24
batch = 16
flip = false
[optimization]
steps = 250
learning_rate = 1e-2
warmup = 5
average = 0.9
validate_every = 125
"""
FRAMES = b"""
description = "a walk by actions"
modality = "image"
codec = "walk"
[model]
family = "frames"
[model.arguments]
context = 2
embedded = 4
width = 16
blocks = 2
condition = 8
decoder = { width = 8, layers = 3, hidden = 16 }
[data]
crop = 24
batch = 16
flip = false
[optimization]
steps = 150
learning_rate = 1e-2
warmup = 5
average = 0.9
validate_every = 75
"""


def walk(seed):
    """A bright square that is moved left or right by four pixels, until the other way is the only one."""
    draw = random.Random(seed)
    place = draw.randrange(6)
    while True:
        frame = np.full((24, 24, 3), 40, np.uint8)
        frame[8:16, 4 * place : 4 * place + 4] = (250, 220, 60)
        action = "left" if place == 5 else "right" if place == 0 else draw.choice(("left", "right"))
        yield frame, action
        place += 1 if action == "right" else -1


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "walks"
    recordings.record(walk, folder, Facts("walk", 0, 50), 800)
    return folder


def trained(text, recording, output, *settings):
    return loading.load(run.run(of(text, *settings), [recording], output, device="cpu", threads=1), "cpu")


@pytest.fixture(scope="module")
def codec(recording, tmp_path_factory):
    return trained(CODEC, recording, tmp_path_factory.mktemp("models") / "walk")


@pytest.fixture(scope="module")
def video(codec, recording, tmp_path_factory):
    return trained(FRAMES, recording, tmp_path_factory.mktemp("models") / "walking", f"codec={codec.info.folder}")


@pytest.fixture(scope="module")
def two_stages(codec, recording, tmp_path_factory):
    output = tmp_path_factory.mktemp("models") / "walk-8bit"
    return trained(TWO_STAGES, recording, output, f"codec={codec.info.folder}")


def frames_of(recording):
    return recordings.read_episode(recording / "val" / "00001.npz").images


# ---------------------------------------------------------------- two stages


def test_the_latents_of_the_second_stage_tell_of_their_frame(two_stages, recording):
    """Right latents make the codes of the first stage likelier than those of another frame, and draw the frame."""
    net, images = two_stages.net, frames_of(recording)
    x = torch.tensor(images).movedim(-1, 1).float() / 255 - 0.5
    with torch.no_grad():
        codes, z_q = net.first.encode(x), net.quantizer.lookup(net.encode(x))
        right, other = net.nats(codes, z_q), net.nats(codes, z_q.roll(7, 0))
        drawn = net.decode(net.encode(x))
    assert right.mean() < 0.8 * other.mean()
    assert (drawn - x).square().mean() < 0.5 * (drawn - x.roll(7, 0)).square().mean()


def test_a_vae_as_second_stage_learns_and_pays_for_what_it_tells(codec, recording, tmp_path):
    text = TWO_STAGES.replace(b"twostage2d", b"twostagevae2d").replace(b"K = 16\n", b"")
    text = text.replace(b"quantizer = { gamma = 0.9 }", b"auxiliary = 0.0")
    made = trained(text, recording, tmp_path / "vae", f"codec={codec.info.folder}", "optimization.steps=4")
    net, images = made.net, frames_of(recording)
    x = torch.tensor(images).movedim(-1, 1).float() / 255 - 0.5
    z_q, losses, codes = net.bottleneck(net.first.encode(x))
    assert z_q.shape == (len(x), 8, 1, 1) and codes is None and losses["divergence"] > 0
    with pytest.raises(ModelError, match="no codes"):
        net.latents(x)


def test_a_frame_in_two_codes(two_stages, recording, tmp_path):
    """The file holds 8 bits; decoding draws, and draws the same again."""
    image = frames_of(recording)[3]
    encoded = api.encode(image, two_stages, coder="packed")
    assert encoded.codes.shape == (2, 1, 1) and sum(map(len, encoded.payloads)) == 1
    once, again = (api.decode(encoded.data, two_stages).pixels for _ in range(2))
    assert once.shape == image.shape and np.array_equal(once, again)
    assert np.array_equal(api.decode(encoded.data, two_stages, seed=0).pixels, once)
    codes = torch.from_numpy(encoded.codes.astype(np.int64))[None]
    wild = [two_stages.net.sample_first_codes(codes, seed, Sampling(temperature=3.0)) for seed in (1, 2, 2)]
    assert not torch.equal(wild[0], wild[1]) and torch.equal(wild[1], wild[2])
    with pytest.raises(UsageError, match="samples what it decodes"):
        api.encode(image, two_stages, lossless=True)
    description = two_stages.info.description
    assert description["first"] == description["recipe"]["codec"] == "walk"  # by name, not by its folder


def test_latents_drawn_at_random_make_frames(two_stages):
    samples = sample(two_stages, prior="uniform", count=3, seed=1)
    assert samples.codes.shape == (3, 2, 1, 1) and samples.pixels.shape == (3, 24, 24, 3)


def test_frames_of_another_size_are_refused(two_stages):
    with pytest.raises(UsageError, match="24 x 24 pixels, and this is 40 x 30"):
        api.encode(np.zeros((30, 40, 3), np.uint8), two_stages)


def test_only_what_draws_takes_a_seed(codec, recording):
    encoded = api.encode(frames_of(recording)[0], codec)
    with pytest.raises(UsageError, match="decodes in one way only"):
        api.decode(encoded.data, codec, seed=1)


def test_the_first_stage_stays_as_it_was(two_stages, codec):
    for name, weight in codec.net.state_dict().items():
        assert torch.equal(two_stages.net.first.state_dict()[name], weight), name


def test_crops_must_be_what_the_second_stage_takes(codec, recording, tmp_path):
    with pytest.raises(UsageError, match=r"24 pixels each way, and data\.crop is 16"):
        trained(TWO_STAGES, recording, tmp_path / "no", f"codec={codec.info.folder}", "data.crop=16")


def test_a_first_stage_must_be_one_of_vector_codes(scalar_model, recording, tmp_path):
    with pytest.raises(UsageError, match="cannot be a first stage"):
        trained(TWO_STAGES, recording, tmp_path / "no", f"codec={scalar_model.info.folder}")


# ---------------------------------------------------------------- windows


def test_windows_end_with_their_frame_and_never_leave_their_episode(codec, recording):
    windows = CodeWindows([recording], codec, 2, held_out=False)
    codes, actions = windows.codes[0], windows.actions[0]
    window, done = windows.window(0)  # nothing lies before the first frame of an episode
    assert (window[:2] == MISSING).all() and np.array_equal(window[2], codes[0]) and (done == UNKNOWN).all()
    window, done = windows.window(1)
    assert (window[0] == MISSING).all() and np.array_equal(window[1:], codes[:2])
    assert done.tolist() == [UNKNOWN, actions[0]]
    window, done = windows.window(7)
    assert np.array_equal(window, codes[5:8]) and done.tolist() == actions[5:7].tolist()
    window, _ = windows.window(len(codes))
    assert (window[:2] == MISSING).all() and np.array_equal(window[2], windows.codes[1][0])


def test_windows_are_numbered_and_some_lack_frames_or_actions(codec, recording):
    windows = CodeWindows([recording], codec, 2, held_out=False)
    data = of(FRAMES).data
    whole, half = windows.batch(data, 3, 0, 400), windows.batch(data, 3, 200, 200)
    assert np.array_equal(whole.pixels[200:], half.pixels) and np.array_equal(whole.labels[200:], half.labels)
    missing, unknown = (whole.pixels == MISSING).any((1, 2, 3, 4)), whole.labels == UNKNOWN
    assert 0.05 < missing.mean() < 0.3 and 0.05 < unknown.all(1).mean() < 0.3
    assert 0.2 < (unknown[:, 0] & ~unknown[:, 1]).mean() < 0.6
    assert not (~unknown[:, 0] & unknown[:, 1]).any()  # what was done last is known first of all


@pytest.fixture(scope="module")
def shards(codec, recording, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens") / "set"
    settings = tokens.Settings(per_shard=300, workers=1, device="cpu")
    assert tokens.tokenize([recording], str(folder), str(codec.info.folder), settings).items == 800
    return folder


def test_windows_of_shards_are_those_of_the_recording(codec, recording, shards):
    for held_out in (False, True):
        one, other = (CodeWindows([path], codec, 2, held_out=held_out) for path in (recording, shards))
        assert other.classes == one.classes == ("left", "right") and other.frame_size == one.frame_size == (24, 24)
        assert other.names == one.names and len(other) == len(one)
        pairs = zip((*one.codes, *one.actions), (*other.codes, *other.actions), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)
    data = of(FRAMES).data
    whole, rest = one.batch(data, 3, 0, 6), other.batch(data, 3, 2, 4)
    assert np.array_equal(whole.pixels[2:], rest.pixels) and np.array_equal(whole.labels[2:], rest.labels)


def test_a_prior_learns_from_shards_what_it_learns_from_the_recording(codec, recording, shards, tmp_path):
    losses = []
    for path in (recording, shards):
        settings = f"codec={codec.info.folder}", "optimization.steps=3", "optimization.precision=float32"
        trained(FRAMES, path, tmp_path / path.name, *settings)
        losses.append([event["loss"] for event in log.read(tmp_path / path.name) if event["event"] == "train"])
    assert len(losses[0]) == 3 and losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_shards_of_frames_with_gaps_are_refused(codec, recording, shards, tmp_path):
    shutil.copytree(shards, tmp_path / "set")
    index = (tmp_path / "set" / "index.json").read_text()
    (tmp_path / "set" / "index.json").write_text(index.replace('"failed": 0', '"failed": 1', 1))
    with pytest.raises(UsageError, match="could not be tokenized: 1; clips have gaps"):
        CodeWindows([tmp_path / "set"], codec, 2, held_out=False)


# ---------------------------------------------------------------- video


def test_actions_make_the_next_frame_likelier(video):
    prior = priors.find(video.info, "frames")
    measured = prior.description["measured"]
    assert prior.classes == ("left", "right") and prior.description["frame_size"] == [24, 24]
    assert measured["bits_per_code"] < 0.8 * measured["without_actions"] < measured["other_actions"]
    assert measured["without_actions"] < measured["without_frames"] < measured["uniform"] == 3.0
    card = (video.info.folder / "README.md").read_text()
    assert "with the actions of other frames" in card and "without frames before" in card


def place_of(frames):
    """Columns, in squares, of the bright one."""
    return frames[:, 8:16].astype(int).sum((1, 3)).reshape(len(frames), 6, 4).sum(2).argmax(1)


def test_what_is_done_is_seen(video, recording):
    """The square goes where the actions say, from a clip on."""
    images = frames_of(recording)
    at = next(t for t in range(2, 40) if place_of(images)[t] == 2)
    start = codec_video.codes_of(images[: at + 1], video).codes
    cold = Sampling(temperature=0.3)
    right = sample_video(video, start=start, actions=["right"] * 3, seed=1, sampling=cold)
    left = sample_video(video, start=start, actions=["left"] * 2, seed=1, sampling=cold)
    assert right.given == 2 and right.pixels(0).shape == (5, 24, 24, 3)
    assert place_of(right.pixels(0))[1:].tolist() == [2, 3, 4, 5]
    assert place_of(left.pixels(0))[1:].tolist() == [2, 1, 0]


def test_clips_out_of_nothing_and_side_by_side(video):
    """Clip i does not depend on how many there are; guidance needs actions."""
    some = sample_video(video, frames=4, count=3, seed=5)
    one = sample_video(video, frames=4, count=1, seed=5)
    assert some.given == 0 and some.codes.shape == (3, 1, 4, 6, 6)
    assert np.array_equal(some.codes[0], one.codes[0])
    sample_video(video, actions=["left"] * 2, sampling=Sampling(guidance=2.0))
    with pytest.raises(UsageError, match="there are none"):
        sample_video(video, frames=2, sampling=Sampling(guidance=2.0))


def test_what_cannot_be_drawn(video, codec, recording):
    start = codec_video.codes_of(frames_of(recording)[:1], video).codes
    with pytest.raises(UsageError, match="too short a clip: model walking looks at 2 frames, and it has 1"):
        sample_video(video, start=start, frames=3)
    with pytest.raises(UsageError, match="24 x 24 pixels, and these are 24 x 16"):
        sample_video(video, start=np.zeros((1, 4, 4, 6), np.uint16))
    with pytest.raises(UnknownLabel, match="knows no jump"):
        sample_video(video, actions=["jump"])
    with pytest.raises(UsageError, match="5 frames and 2 actions"):
        sample_video(video, frames=5, actions=["left", "right"])
    with pytest.raises(store.ModelError, match="no prior over video"):
        sample_video(codec)


def test_recordings_that_tell_no_actions(codec, recording, tmp_path):
    """Make a prior that goes on by itself, and knows no action."""
    for name, file in recordings.episode_files(recording).items():
        (tmp_path / "silent" / name).parent.mkdir(parents=True, exist_ok=True)
        np.savez(tmp_path / "silent" / name, images=recordings.read_episode(file).images)
    model = trained(
        FRAMES, tmp_path / "silent", tmp_path / "alone", f"codec={codec.info.folder}", "optimization.steps=20"
    )
    prior = priors.find(model.info, "frames")
    assert prior.classes == () and "without_actions" not in prior.description["measured"]
    start = codec_video.codes_of(frames_of(recording)[:4], model).codes
    assert sample_video(model, start=start, frames=3).codes.shape == (1, 1, 5, 6, 6)
    with pytest.raises(UnknownLabel):
        sample_video(model, actions=["left"])


@pytest.mark.parametrize(
    ("text", "actions"),
    [("left", ["left"]), ("left*2 right", ["left", "left", "right"]), (" a*1,b ,c*0 d", ["a", "b", "d"])],
)
def test_actions_as_they_are_written(text, actions):
    assert parse_actions(text) == actions


@pytest.mark.parametrize("text", ["", "left*", "*3", "left**2", "left*100000", "left*0", "left*-1"])
def test_actions_that_cannot_be_read(text):
    with pytest.raises(UsageError):
        parse_actions(text)


def test_a_recording_that_is_none(codec, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises((UsageError, BadFile)):
        trained(FRAMES, tmp_path / "empty", tmp_path / "no", f"codec={codec.info.folder}")


# ---------------------------------------------------------------- going on


@pytest.mark.parametrize("whole_run", [True, False], ids=["run", "model"])
@pytest.mark.parametrize(("kind", "text"), [("two_stages", TWO_STAGES), ("video", FRAMES)])
def test_they_begin_from_finished_ones(request, tmp_path, recording, codec, kind, text, whole_run):
    """The first held-out bits are those of the model; what only training needs begins anew."""
    folder = request.getfixturevalue(kind).info.folder
    if not whole_run:
        folder = shutil.copytree(folder, tmp_path / "given")
        (folder / checkpoint.NAME).unlink()
    best = min(event["bits_per_code"] for event in validations(request.getfixturevalue(kind).info.folder))
    brief = of(text, f"codec={codec.info.folder}", "optimization.steps=2", "optimization.learning_rate=1e-4")
    run.run(brief, [recording], tmp_path / "after", device="cpu", threads=1, start=str(folder))
    assert validations(tmp_path / "after")[0]["bits_per_code"] == pytest.approx(best, rel=0.02)


def test_a_second_stage_stays_on_its_first(tmp_path, recording, two_stages):
    other = trained(CODEC, recording, tmp_path / "other", "optimization.steps=5", "optimization.seed=1")
    with pytest.raises(ModelError, match="is built on another first stage"):
        run.run(
            of(TWO_STAGES, f"codec={other.info.folder}"),
            [recording],
            tmp_path / "after",
            device="cpu",
            start=str(two_stages.info.folder),
        )
    assert not (tmp_path / "after").exists()


def validations(folder):
    return [event for event in log.read(folder) if event["event"] == "validation"]
