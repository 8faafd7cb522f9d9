import numpy as np
import pytest

from vqcli.data import pitch_cache
from vqcli.data.pitch_cache import folder as user_folder
from vqcli.media import pitch


@pytest.fixture
def tracked(monkeypatch, tmp_path):
    """How often pitch was tracked; the cache lies in an empty folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(pitch_cache.sys, "platform", "linux")
    monkeypatch.setattr(pitch_cache, "folder", user_folder)
    times = []
    track = pitch.track
    monkeypatch.setattr(pitch, "track", lambda samples: times.append(len(samples)) or track(samples))
    return times


SOUND = (0.2 * np.sin(np.arange(16_000) * 2 * np.pi * 220 / 16_000)).astype(np.float32)


def test_a_sound_is_tracked_once(tracked):
    first, again, other = (pitch_cache.codes_of(sound) for sound in (SOUND, SOUND.copy(), SOUND[:8000]))
    assert tracked == [16_000, 8000]
    assert np.array_equal(first, again) and first.max() > 0 and len(other) == 25


@pytest.mark.parametrize("damage", [b"", bytes(49), bytes([200]) * 50])
def test_what_is_damaged_is_tracked_again(tracked, damage):
    first = pitch_cache.codes_of(SOUND)
    (file,) = (path for path in pitch_cache.folder().rglob("*") if path.is_file())
    file.write_bytes(damage)
    assert np.array_equal(pitch_cache.codes_of(SOUND), first)
    assert len(tracked) == 2


def test_nothing_is_written_where_nothing_can_be(tracked, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(pitch_cache.codes_of(SOUND)) == len(pitch_cache.codes_of(SOUND)) == 50
    assert len(tracked) == 2
