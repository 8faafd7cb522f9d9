"""The speech that ships works, on the sentence that ships."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vqcli
from vqcli.codec import voices
from vqcli.entropy.coders import packed
from vqcli.evaluation.speech import metrics
from vqcli.sampling.speech import sample_speech
from vqcli.zoo import loading, store

MODELS = Path(__file__).parents[2] / "models"
TALK = Path(vqcli.__file__).parent / "demo" / "talk.opus"
OFFERED = ("p225", "p226", "p227", "p228", "p232", "19", "26", "27")


@pytest.fixture(scope="module")
def speech():
    return loading.load(store.describe(MODELS / "speech"), "cpu")


@pytest.fixture(scope="module")
def talk():
    from vqcli.media import audio

    return np.asarray(audio.read(TALK, 16_000, mono=True).samples[0])


@pytest.mark.parametrize(("levels", "kbit_per_s", "near"), [(1, 0.65, 0.9), (3, 2.5, 0.92)])
def test_levels_cost_little_and_sound_near(speech, talk, levels, kbit_per_s, near):
    encoded = vqcli.encode(TALK, speech, levels=levels)
    assert encoded.kbit_per_s < kbit_per_s
    decoded = vqcli.decode(encoded, speech).samples[0]
    assert metrics.log_mel_correlation(talk, decoded) > near
    assert metrics.melody(talk, decoded).correlation > 0.9


def test_the_prior_is_well_worth_it(speech):
    level = vqcli.encode(TALK, speech, levels=1, coder="packed")
    coded = vqcli.encode(TALK, speech, levels=1, coder="prior")
    bare = packed.size_bytes((2, level.codes.shape[2]), speech.net.codebook_sizes[:2])
    assert sum(map(len, level.payloads)) == bare
    assert sum(map(len, coded.payloads)) < 0.6 * bare
    assert np.array_equal(vqcli.decode(coded, speech).audio.codes, level.codes)


def test_conversion_moves_the_register_and_keeps_the_rest(speech, talk):
    moved = vqcli.convert_speaker(TALK, "p225", speech)
    assert moved.samples.shape == (1, len(talk))
    target = voices.find(speech.info, "p225").pitch_hz
    assert abs(metrics.pitch_hz(moved.samples[0]) / target - 1) < 0.12
    assert metrics.pitch_hz(talk) < 0.8 * target
    assert metrics.melody(talk, moved.samples[0]).correlation > 0.8


def test_the_offered_speakers_are_there_with_what_is_known_of_them(speech):
    for name in OFFERED:
        found = voices.find(speech.info, name)
        assert found.seconds > 60 and found.sex in ("f", "m") and found.source in ("vctk", "librispeech")


def test_it_babbles(speech):
    drawn = sample_speech(speech, speakers=["p225", "26"], count=4, seconds=2.0, seed=0)
    assert drawn.sounds.shape == (8, 32_000)
    hers, his = (np.nanmedian([metrics.pitch_hz(sound) for sound in part]) for part in np.split(drawn.sounds, 2))
    assert hers > 1.2 * his
    uniform = sample_speech(speech, prior="uniform", speakers=["p225"], seconds=2.0, seed=0)
    # drawn codes stay with each other as those of speech do, random ones do not
    assert changes(drawn.audio[0].codes[0, 1]) < 0.5 * changes(uniform.audio[0].codes[0, 1])


def changes(pitch_codes):
    return np.abs(np.diff(pitch_codes.astype(int))).mean()


def test_25_codes_a_second_are_175_bits():
    model = loading.load(store.describe(MODELS / "speech-25hz"), "cpu")
    codes = vqcli.encode(TALK, model).audio
    assert codes.codes.shape[2] == -(-codes.samples // 640) and model.net.codebook_sizes[0] == 128
    assert len(np.unique(codes.codes[0, 0])) > 20


def test_the_paper_s_model_encodes_and_speaks():
    model = loading.load(store.describe(MODELS / "speech-wavenet"), "cpu")
    codes = vqcli.encode(TALK, model).audio
    assert codes.codes.shape == (1, 1, -(-codes.samples // 64))
    assert len(np.unique(codes.codes)) > 50
    part = replace(codes, codes=codes.codes[:, :, 250:500], samples=16_000)
    from vqcli.codec import windows

    sound = np.concatenate(list(windows.decode_audio(model, part)), 1)
    assert sound.shape == (1, 16_000) and 0.001 < np.sqrt(np.square(sound).mean()) < 0.5
