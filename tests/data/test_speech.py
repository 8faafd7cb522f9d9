import shutil
from collections import Counter

import numpy as np
import pytest

from vqcli.data.speech import RATE_HZ, Utterances
from vqcli.errors import UsageError
from vqcli.media import audio, loudness, pitch, voice
from vqcli.recipe import Data

DATA = Data(batch=6, seconds=0.4, balance=0.5)


@pytest.fixture(scope="module")
def clips(clips_folder):
    return Utterances([clips_folder], held_out=None)


def test_folders_are_speakers(clips):
    assert clips.classes == ("high", "low", "middle")
    assert len(clips) == 24 and not clips.skipped
    known = {speaker.name: speaker for speaker in clips.speakers()}
    assert abs(known["low"].pitch_hz / 90 - 1) < 0.05 and abs(known["high"].pitch_hz / 220 - 1) < 0.05
    assert 6.4 < known["low"].seconds < 9.6


def test_the_halves_part_the_clips(clips_folder, clips):
    trained, held = (Utterances([clips_folder], held_out=half) for half in (False, None))
    assert set(trained.names) <= set(held.names) == set(clips.names)
    assert trained.classes == held.classes


def test_clips_lie_at_one_loudness(clips):
    for index in range(len(clips)):
        samples = clips.clip(index).wave
        assert abs(loudness.active_rms_db(samples) - voice.LEVEL_DB) < 0.1


def test_a_batch_has_what_belongs_together(clips):
    batch = clips.batch(DATA, 0, 0, 6)
    assert batch.samples.shape == (6, 6400) and batch.samples.dtype == np.float32
    assert batch.pitch.shape == (6, 6400 // pitch.STEP) and batch.profile.shape == (6, voice.SIZE)
    for hz, label in zip(pitch.from_codes(batch.pitch), batch.labels, strict=True):
        usual = {"low": 90, "middle": 140, "high": 220}[clips.classes[label]]
        assert abs(np.median(hz[hz > 0]) / usual - 1) < 0.2
    part = batch.part(2, 5)
    assert len(part) == 3 and np.array_equal(part.samples, batch.samples[2:5])


def test_draws_hang_on_their_number_alone(clips):
    one, other = clips.batch(DATA, 7, 0, 6), clips.batch(DATA, 7, 3, 3)
    assert np.array_equal(one.samples[3:], other.samples)
    assert not np.array_equal(one.samples, clips.batch(DATA, 8, 0, 6).samples)
    batches = clips.batches(DATA, 7, 5)
    assert np.array_equal(next(batches).samples, clips.batch(DATA, 7, 30, 6).samples)
    batches.close()


def test_speakers_are_drawn_alike_at_balance_0(clips_folder, tmp_path):
    shutil.copytree(clips_folder, tmp_path / "clips")
    for path in sorted((tmp_path / "clips" / "low").iterdir())[2:]:
        path.unlink()
    few = Utterances([tmp_path / "clips"], held_out=None)
    shares = {}
    for balance in (0.0, 1.0):
        counts = Counter(few.batch(Data(batch=6, seconds=0.04, balance=balance), 0, 0, 600).labels.tolist())
        shares[balance] = counts[few.classes.index("low")] / 600
    assert abs(shares[0.0] - 1 / 3) < 0.06 < 0.2 < shares[0.0] and shares[1.0] < 0.2


def test_what_cannot_be_used_is_told(clips_folder, tmp_path):
    shutil.copytree(clips_folder / "low", tmp_path / "clips" / "low")
    (tmp_path / "clips" / "low" / "bad.wav").write_bytes(b"RIFF nonsense")
    audio.write(tmp_path / "clips" / "low" / "short.wav", np.zeros((1, 100), np.float32), RATE_HZ)
    some = Utterances([tmp_path / "clips"], held_out=None)
    assert set(some.skipped) == {"low/bad.wav", "low/short.wav"}
    assert "shorter than" in some.skipped["low/short.wav"]
    assert some.batch(DATA, 0, 0, 20).samples.any()


def test_no_clips_is_one_clear_line(tmp_path):
    with pytest.raises(UsageError, match="no clips"):
        Utterances([tmp_path], held_out=False)


def test_the_held_out_batch_is_always_the_same(clips):
    one, other = (clips.held_out_batch(DATA, 30) for _ in range(2))
    assert len(one) == 30 and np.array_equal(one.samples, other.samples)
