from dataclasses import replace

import numpy as np
import pytest
import torch

from vqcli.codec import audio_file, windows
from vqcli.container import vqz
from vqcli.errors import ModelError, UnknownLabel, UsageError
from vqcli.media import audio
from vqcli.nets.priors.autoregressive import Sampling
from vqcli.sampling import image, speech
from vqcli.zoo import loading, priors, registry, store, weights

SPEAKERS = ("p225", "p226", "p227")
SMALL = {"K": 16, "dim": 6, "levels": 2, "width": 8, "blocks": [1, 1], "decoder_width": 8, "decoder_blocks": 1}
PRIOR = {"residual": 6, "skip": 8, "hidden": 8, "cycles": 1, "layers_per_cycle": 3, "label_dim": 4}


def make_model(folder, **arguments):
    arguments = SMALL | {"speakers": len(SPEAKERS)} | arguments
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build("speech", arguments)
        net.quantizer.codebook.normal_()  # as after a first batch
    names = [{"name": name, "seconds": 60.0, "pitch_hz": 150.0} for name in SPEAKERS]
    description = {"family": "speech", "arguments": arguments, "modality": "audio", "speakers": names}
    return loading.load(loading.save(folder / "speech", net, None, description), "cpu")


def add_prior(model, classes=SPEAKERS[:2], **arguments):
    """A tiny random WaveNet beside a model."""
    arguments = PRIOR | {"codebook_sizes": list(model.net.codebook_sizes), "labels": len(classes)} | arguments
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build("wavenet", arguments)
    description = {
        "family": "wavenet",
        "arguments": arguments,
        "codec": model.info.digest.hex(),
        "classes": list(classes),
    }
    return priors.save(model.info.folder, weights.packed(net.state_dict()), description)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = make_model(tmp_path_factory.mktemp("speaking"))
    add_prior(made, unlabelled=True)
    return made


@pytest.fixture(scope="module")
def clip(model):
    """1.3 s of a made voice at the model's rate."""
    t = np.arange(20_800) / 16_000
    buzz = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 9)) * (1 + np.sin(9 * t)) / 20
    return audio.from_samples(buzz[None].astype(np.float32), 16_000, model.net.rate_hz, True)


def test_shapes_speakers_and_seeds(model):
    drawn = speech.sample_speech(model, speakers=["p226", "p225"], count=2, seconds=0.5, seed=5)
    assert drawn.speakers == ("p226", "p226", "p225", "p225") and drawn.rate_hz == 16_000
    assert drawn.sounds.shape == (4, 8000) and drawn.sounds.dtype == np.float32
    assert [item.codes.shape for item in drawn.audio] == [(1, 4, 25)] * 4
    again = speech.sample_speech(model, speakers=["p226", "p225"], count=2, seconds=0.5, seed=5)
    assert np.array_equal(drawn.sounds, again.sounds)
    other = speech.sample_speech(model, speakers=["p226"], seconds=0.5, seed=6)
    assert not np.array_equal(other.audio[0].codes, drawn.audio[0].codes)
    # a sample is the same however many are drawn with it, and its beginning however long it is
    alone = speech.sample_speech(model, speakers=["p226"], seconds=0.5, seed=5)
    assert np.array_equal(alone.audio[0].codes, drawn.audio[0].codes)


def test_voices_differ_and_any_is_drawn_where_none_is_named(model):
    drawn = speech.sample_speech(model, count=12, seconds=0.1, seed=1)
    assert set(drawn.speakers) == {"p225", "p226"}  # the prior does not know p227
    one, two = (speech.sample_speech(model, prior="uniform", speakers=[name], seconds=0.2) for name in SPEAKERS[:2])
    assert np.array_equal(one.audio[0].codes, two.audio[0].codes)
    assert not np.array_equal(one.sounds, two.sounds)


def test_samples_fit_into_files(model):
    drawn = speech.sample_speech(model, speakers=["p225"], seconds=0.3, seed=2)
    data = vqz.pack(*audio_file.pack_audio(model, drawn.audio[0], metadata={"speaker": "p225"}))
    codes, lost = audio_file.unpack_audio(model, vqz.unpack(data))
    assert np.array_equal(codes.codes, drawn.audio[0].codes) and not lost.any()
    assert codes.samples == drawn.sounds.shape[1] and codes.rate_hz == 16_000


def test_going_on_from_a_clip(model, clip):
    heard = windows.encode_audio(model, clip)
    own = speech.sample_speech(model, start=clip, seconds=0.4, count=2, seed=3)
    assert own.speakers == (None, None)
    for item in own.audio:
        assert item.codes.shape[2] == heard.codes.shape[2] + 20
        assert np.array_equal(item.codes[:, :, :65], heard.codes)
        assert replace(item, codes=heard.codes, rate_hz=16_000, samples=20_800) == replace(heard, codes=heard.codes)
    assert not np.array_equal(own.audio[0].codes, own.audio[1].codes)
    assert own.sounds.shape == (2, 85 * 320)
    other = speech.sample_speech(model, start=clip, speakers=["p225"], seconds=0.4, seed=3)
    words = [0, 2, 3]  # the pitch moves with the voice
    assert np.array_equal(other.audio[0].codes[:, words, :65], heard.codes[:, words])
    assert not np.array_equal(other.sounds[0], own.sounds[0])


def test_settings_change_the_draw(model):
    def codes(**options):
        return speech.sample_speech(model, speakers=["p225"], seconds=0.5, seed=0, **options).audio[0].codes

    for other in (Sampling(temperature=0.1), Sampling(top_k=1), Sampling(top_p=0.3), Sampling(guidance=4.0)):
        assert not np.array_equal(codes(), codes(sampling=other))


def test_a_prior_without_speakers_serves_them_all(tmp_path):
    made = make_model(tmp_path)
    add_prior(made, classes=())
    one, two = (speech.sample_speech(made, speakers=[name], seconds=0.2, seed=1) for name in ("p225", "p227"))
    assert np.array_equal(one.audio[0].codes, two.audio[0].codes)
    assert not np.array_equal(one.sounds, two.sounds)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"speakers": ["p22"]}, UnknownLabel, "no speaker p22"),
        ({"speakers": ["p227"]}, UnknownLabel, "knows no p227"),
        ({"prior": "wavenett"}, UsageError, "no prior wavenett"),
        ({"count": 5000}, UsageError, "too many"),
        ({"seconds": 0.0}, UsageError, "too few"),
        ({"seconds": float("nan")}, UsageError, "too few"),
        ({"seconds": 1e9}, UsageError, "too many"),
    ],
)
def test_what_cannot_be_drawn(model, options, error, says):
    with pytest.raises(error, match=says):
        speech.sample_speech(model, **{"seconds": 0.1} | options)


def test_what_needs_a_speaker(tmp_path, clip):
    made = make_model(tmp_path)
    add_prior(made)
    with pytest.raises(UsageError, match="without a speaker"):
        speech.sample_speech(made, start=clip, seconds=0.1)
    with pytest.raises(UsageError, match="guidance"):
        speech.sample_speech(made, speakers=["p225"], seconds=0.1, sampling=Sampling(guidance=2))


def test_models_that_do_not_speak(model, vector_model, tmp_path):
    with pytest.raises(ModelError, match="is of image, not of audio"):
        speech.sample_speech(vector_model)
    with pytest.raises(ModelError, match="is of audio, not of image"):
        image.sample(model)
    with pytest.raises(ModelError, match="has no prior wavenet"):
        speech.sample_speech(make_model(tmp_path))


def test_a_prior_over_other_codes_is_refused(tmp_path):
    made = make_model(tmp_path)
    add_prior(made, codebook_sizes=[16, 64])
    with pytest.raises(ModelError, match="other codes"):
        speech.sample_speech(made, speakers=["p225"], seconds=0.1)


def test_the_model_that_has_a_prior_is_found(model, monkeypatch):
    monkeypatch.setattr(store, "search_path", lambda: [model.info.folder.parent])
    assert speech.find_model().name == "speech"
    monkeypatch.setattr(store, "search_path", list)
    with pytest.raises(ModelError, match="no model has a prior"):
        speech.find_model()


def test_a_model_of_one_group_speaks_by_its_wavenet(tmp_path):
    wavenet = {"residual": 4, "skip": 8, "cycles": 1, "layers_per_cycle": 2, "speaker_dim": 2}
    arguments = {"K": 8, "dim": 4, "width": 8, "speakers": 3, "wavenet": wavenet}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build("vqvae1d", arguments)
    names = [{"name": name, "seconds": 60.0, "pitch_hz": 150.0} for name in SPEAKERS]
    description = {"family": "vqvae1d", "arguments": arguments, "modality": "audio", "speakers": names}
    made = loading.load(loading.save(tmp_path / "paper", net, None, description), "cpu")
    add_prior(made, classes=SPEAKERS)
    drawn = speech.sample_speech(made, speakers=["p227"], seconds=0.1, seed=1)
    assert drawn.audio[0].codes.shape == (1, 1, 25) and drawn.sounds.shape == (1, 1600)
    again = speech.sample_speech(made, speakers=["p227"], seconds=0.1, seed=1)
    assert np.array_equal(drawn.sounds, again.sounds)
