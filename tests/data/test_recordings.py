import itertools
import threading
import zipfile

import numpy as np
import pytest

from vqcli.data import arrays, packs, recordings
from vqcli.data.dataset import Dataset
from vqcli.data.recordings import Episodes, Facts
from vqcli.data.sources import open_source
from vqcli.errors import BadFile, UsageError

FACTS = Facts("counting", 7, 5)


def counting(seed, ends=1000):
    """A game whose frames tell its seed and the time."""
    for time in range(ends):
        yield np.full((6, 6, 3), (seed % 256, time, 0), np.uint8), f"{'ab'[time % 2]}{seed}"


def episodes(folder):
    return {name: recordings.read_episode(file) for name, file in recordings.episode_files(folder).items()}


def assert_same(one, other):
    one, other = episodes(one), episodes(other)
    assert list(one) == list(other)
    for name in one:
        assert np.array_equal(one[name].images, other[name].images) and one[name].actions == other[name].actions


def test_episodes_are_played_until_there_are_enough_frames(tmp_path):
    shares = []
    made = recordings.record(counting, tmp_path / "r", FACTS, 18, shares.append)
    played = episodes(tmp_path / "r")
    assert list(played) == ["train/00000.npz", "train/00002.npz", "train/00003.npz", "val/00001.npz"]
    assert [len(episode.images) for episode in played.values()] == [5, 5, 3, 5]
    assert (made.frames, made.episodes, made.held_out) == (18, 4, 1) and made.size_bytes > 0
    assert shares == [n / 18 for n in range(1, 19)]
    first = played["train/00000.npz"]
    assert first.images[:, 0, 0, 1].tolist() == [0, 1, 2, 3, 4]
    assert [action[0] for action in first.actions] == list("ababa")
    assert len({episode.actions[0] for episode in played.values()}) == 4  # no seed twice


def test_a_game_that_ends_is_followed_by_another(tmp_path):
    made = recordings.record(lambda seed: counting(seed, 2), tmp_path / "r", FACTS, 7)
    assert (made.frames, made.episodes) == (7, 4)


def test_a_recording_that_broke_off_holds_whole_files_and_goes_on(tmp_path):
    recordings.record(counting, tmp_path / "whole", FACTS, 18)
    steps = itertools.count()

    def interrupted(seed):
        for step in counting(seed):
            if next(steps) == 12:
                raise KeyboardInterrupt
            yield step

    with pytest.raises(KeyboardInterrupt):
        recordings.record(interrupted, tmp_path / "r", FACTS, 18)
    assert sorted(path.name for path in (tmp_path / "r").rglob("*.*")) == ["00000.npz", "00001.npz", "recording.json"]
    recordings.record(counting, tmp_path / "r", FACTS, 18)
    assert_same(tmp_path / "r", tmp_path / "whole")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "r").rglob("*.npz")}
    assert recordings.record(counting, tmp_path / "r", FACTS, 18).frames == 18  # nothing left to do
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "r").rglob("*.npz")}


def test_a_folder_of_anything_else_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "a.txt"):
        with pytest.raises(UsageError, match="exists and is no recording"):
            recordings.record(counting, folder, FACTS, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    recordings.record(counting, tmp_path / "r", FACTS, 5)
    for other in (Facts("chess", 7, 5), Facts("counting", 8, 5), Facts("counting", 7, 6)):
        with pytest.raises(UsageError, match="holds counting of seed 7, 5 frames an episode at most"):
            recordings.record(counting, tmp_path / "r", other, 10)


@pytest.mark.parametrize(
    "facts", [b"", b"[]", b"\xff", b'{"game": 1}', b"[" * 5000, b'{"game":"a","seed":0,"length":1,"format":2}']
)
def test_facts_are_checked(tmp_path, facts):
    (tmp_path / recordings.FACTS).write_bytes(facts)
    with pytest.raises(BadFile, match=r"recording\.json"):
        recordings.facts_of(tmp_path)


def test_there_is_something_to_hold_out_even_of_few_frames():
    assert recordings.episode_length(60_000, 1800) == 1800
    assert recordings.episode_length(1000, 1800) == 125 and recordings.episode_length(1, 500) == 1


def test_a_recording_is_a_source_of_pictures(tmp_path):
    recordings.record(counting, tmp_path / "r", FACTS, 18)
    source = open_source(tmp_path / "r")
    assert isinstance(source, Episodes)
    assert list(source.names)[4:7] == ["train/00000/000004", "train/00002/000000", "train/00002/000001"]
    assert list(source.held_out) == [False] * 13 + [True] * 5 and set(source.labels) == {None}
    times = [int(source.read(index)[0, 0, 1]) for index in range(18)]
    assert times == [*range(5), *range(5), *range(3), *range(5)]
    assert len(Dataset([tmp_path / "r"], held_out=False)) == 13
    packs.write(source, tmp_path / "r.safetensors")
    pack = open_source(tmp_path / "r.safetensors")
    assert list(pack.names) == list(source.names) and list(pack.held_out) == list(source.held_out)


def test_episodes_elsewhere_are_split_as_wholes_and_their_folders_are_classes(tmp_path):
    for number in range(60):
        path = tmp_path / "ab"[number % 2] / f"{number}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez(path, images=np.full((3, 4, 4), number, np.uint8))
    (tmp_path / ".hidden.npz").write_bytes(b"")
    source = open_source(tmp_path)
    of_episode = {}
    for name, held_out, label in zip(source.names, source.held_out, source.labels, strict=True):
        of_episode.setdefault(name.rpartition("/")[0], set()).add((held_out, label))
    assert len(of_episode) == 60 and all(len(values) == 1 for values in of_episode.values())
    assert {label for values in of_episode.values() for _, label in values} == {"a", "b"}
    assert {held for values in of_episode.values() for held, _ in values} == {False, True}
    assert source.read(0).shape == (4, 4, 3) and source.read(0)[0, 0, 0] == 0
    assert recordings.read_episode(tmp_path / "a" / "0.npz").actions == ()


def test_pictures_go_before_arrays(tmp_path, picture):
    from vqcli.media import image

    image.write(tmp_path / "a.png", picture(8, 8))
    np.savez(tmp_path / "b.npz", images=np.zeros((3, 4, 4), np.uint8))
    assert list(open_source(tmp_path).names) == ["a.png"]


def test_memory_is_bounded(tmp_path, monkeypatch):
    recordings.record(counting, tmp_path / "r", FACTS, 20)
    episode_bytes = 5 * 6 * 6 * 3
    source = Episodes(tmp_path / "r", cache_bytes=2 * episode_bytes)
    reads = []
    original = recordings.read_episode
    monkeypatch.setattr(recordings, "read_episode", lambda path: reads.append(path.name) or original(path))
    for index in (0, 5, 1, 10, 2, 6):  # the third displaces the second, which was longest unused
        source.read(index)
    assert reads == ["00000.npz", "00002.npz", "00003.npz", "00002.npz"]
    assert sum(frames.nbytes for frames in source._cache.values()) <= 2 * episode_bytes
    small = Episodes(tmp_path / "r", cache_bytes=1)
    assert [int(small.read(index)[0, 0, 1]) for index in (0, 7, 3)] == [0, 2, 3]


def test_threads_may_read_at_once(tmp_path):
    recordings.record(counting, tmp_path / "r", FACTS, 20)
    source, seen = Episodes(tmp_path / "r", cache_bytes=600), {}

    def read(start):
        for index in [*range(start, 20), *range(start)]:
            seen[start, index] = int(source.read(index)[0, 0, 1])

    threads = [threading.Thread(target=read, args=(5 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 80 and all(time == index % 5 for (_, index), time in seen.items())


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ({"other": np.zeros(3, np.uint8)}, "no array called images"),
        ({"images": np.zeros((2, 3, 3), np.float32)}, "float32"),
        ({"images": np.zeros((2, 3, 3, 4), np.uint8)}, "uint8"),
        ({"images": np.zeros((0, 3, 3), np.uint8)}, "0 bytes"),
    ],
)
def test_other_arrays_are_bad_files(tmp_path, held, says):
    np.savez(tmp_path / "a.npz", **held)
    with pytest.raises(BadFile, match=says):
        open_source(tmp_path)


def test_actions_are_checked(tmp_path):
    images = np.zeros((2, 3, 3), np.uint8)
    for actions in (np.array(["a"]), np.array([1, 2]), np.array([["a", "b"]]), np.array(["a", None])):
        np.savez(tmp_path / "a.npz", images=images, actions=actions)
        with pytest.raises(BadFile):
            recordings.read_episode(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", images=images, actions=np.array(["\x1b[31m", "b"]))
    assert recordings.read_episode(tmp_path / "a.npz").actions == ("\\x1b[31m", "b")


def test_damaged_episodes(tmp_path, monkeypatch):
    """A frame of one cannot be read, and nothing but BadFile comes of it; too large a one is never allocated."""
    np.savez_compressed(tmp_path / "a.npz", images=np.arange(4 * 30, dtype=np.uint8).reshape(4, 6, 5))
    np.savez_compressed(tmp_path / "b.npz", images=np.zeros((2, 6, 5), np.uint8))
    whole = (tmp_path / "a.npz").read_bytes()
    for place in range(0, len(whole), 7):
        (tmp_path / "a.npz").write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            source = open_source(tmp_path)
            source.read(3)
        except BadFile:
            pass
    (tmp_path / "a.npz").write_bytes(whole[:-40])
    with pytest.raises(BadFile, match=r"a\.npz"):
        open_source(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (999999, 999999, 3), }\n"
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(BadFile, match="are allowed"):
        arrays.read_npz(tmp_path / "a.npz")
    with pytest.raises(BadFile, match="are allowed"):
        open_source(tmp_path)
