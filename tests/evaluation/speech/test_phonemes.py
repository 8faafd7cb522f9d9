from pathlib import Path

import numpy as np
import pytest
import soundfile

from vqcli.errors import BadFile, UsageError
from vqcli.evaluation.speech import phonemes
from vqcli.evaluation.speech.phonemes import CLASSES, NO_PHONEME, PhonemeLabels


def test_the_usual_classes():
    assert len(CLASSES) == 38 == len(set(CLASSES))  # 39 with silence
    assert set(phonemes.FOLDED.values()) <= {*CLASSES, phonemes.SILENCE}
    symbols = {*CLASSES, *phonemes.FOLDED} - {"sp"}  # VCTK's own
    assert len(symbols) == 61


def test_timit_labels(tmp_path):
    path = tmp_path / "a.phn"
    path.write_text("0 1600 h#\n1600 3200 sh\n3200 4000 ix\n4000 4800 kcl\n4800 6400 k\n")
    labels = phonemes.read_labels(path)
    assert labels.ends_s.tolist() == [0.1, 0.2, 0.25, 0.3, 0.4]
    heard = labels.at(np.array([0.05, 0.1, 0.199, 0.24, 0.26, 0.39, 0.4, 9.0]))
    names = [CLASSES[index] if index != NO_PHONEME else "" for index in heard]
    assert names == ["", "sh", "sh", "ih", "", "k", "", ""]


def test_vctk_labels(tmp_path):
    path = tmp_path / "a.lab"
    path.write_text("         0    1500000 pau\n   1500000    2000000 AX1\n\n   2000000    3000000 s\n")
    labels = phonemes.read_labels(path)
    assert labels.ends_s.tolist() == pytest.approx([0.15, 0.2, 0.3])
    assert [CLASSES[index] for index in labels.classes[1:]] == ["ah", "s"] and labels.classes[0] == NO_PHONEME


@pytest.mark.parametrize(
    "text",
    ["", "0 10", "0 10 zz", "10 5 s", "5 10 s\n0 4 s", "-1 4 s", "0 1e9 s", "0 " + "9" * 16 + " s", "a b c", "\0\xff"],
)
def test_bad_labels(tmp_path, text):
    path = tmp_path / "a.phn"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadFile, match=r"a\.phn"):
        phonemes.read_labels(path)


def test_labels_that_are_no_labels(tmp_path):
    for path in (tmp_path / "missing.phn", tmp_path / "a.txt", tmp_path):
        with pytest.raises(BadFile):
            phonemes.read_labels(path)
    large = tmp_path / "large.lab"
    large.write_bytes(b" " * (phonemes.LARGEST_LABELS + 1))
    with pytest.raises(BadFile, match="too large"):
        phonemes.read_labels(large)


def test_alignments_that_lost_their_way():
    shortest = PhonemeLabels(0.015 * np.arange(1, 11), np.zeros(10, np.int64))
    assert phonemes.is_misaligned(shortest)
    assert not phonemes.is_misaligned(PhonemeLabels(0.06 * np.arange(1, 11), np.zeros(10, np.int64)))
    assert not phonemes.is_misaligned(PhonemeLabels(np.array([0.01]), np.array([NO_PHONEME])))


def test_clips_are_found_with_their_speakers(tmp_path):
    for name, labels in (("a/1", "0 9000 s"), ("a/2", None), ("b/1", "0 9000 m"), ("b/2", "nonsense")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path.with_suffix(".wav"), np.zeros(100), 16_000)
        if labels:
            path.with_suffix(".phn").write_text(labels)
    told = []
    clips = phonemes.find_clips(tmp_path, told.append)
    assert [(clip.speaker, clip.path.name) for clip in clips] == [("a", "1.wav"), ("b", "1.wav")]
    assert len(told) == 1 and "2.phn" in str(told[0])
    for folder, word in ((tmp_path / "a", "1 speakers"), (tmp_path / "nowhere", "not a folder")):
        with pytest.raises(UsageError, match=word):
            phonemes.find_clips(folder)


def test_score_by_hand():
    s, m = CLASSES.index("s"), CLASSES.index("m")
    codes = [np.array([0, 0, 1, 1, 2]), np.array([0, 0, 1, 2, 3])]
    classes = [np.array([s, s, m, s, NO_PHONEME]), np.array([s, m, m, m, s])]
    found = phonemes.score(codes, classes, ["b", "a"], K=4)
    # learned from b: 0 is s, 1 is m by a tie that the rarer loses, so s; 2 and 3 never met: s. On a: 0 s, 3 s right
    # learned from a: 0 a tie of s and m, m is commoner; 1 m, 2 m, 3 s. On b: 1 m right
    assert found.accuracies == pytest.approx((1 / 4, 2 / 5)) and found.accuracy == pytest.approx(0.325)
    assert found.most_common == pytest.approx((2 / 5 + 1 / 4) / 2)  # s from b: 2 of 5; m from a: 1 of 4
    assert found.positions == 9 and found.speakers == 2 and found.classes == ("m", "s")
    assert found.table.tolist() == [[1, 3], [2, 1], [1, 0], [0, 1]]


def test_halves_hold_both_sexes():
    names = ["dr1-f", "dr1-m", "dr2-f", "dr2-m", "dr3-f", "dr3-m", "dr4-f", "dr4-m"]
    found = phonemes.halves([*names[::-1], "dr1-f"])
    assert found.tolist() == [0, 1, 1, 0, 0, 1, 1, 0, 0]


def test_codes_that_are_phonemes_and_codes_that_are_noise():
    generator = np.random.default_rng(0)
    classes = [generator.integers(0, 38, 400) for _ in range(6)]
    names = list("abcdef")
    assert phonemes.score(classes, classes, names, K=38).accuracy == 1
    noise = [generator.integers(0, 16, 400) for _ in classes]
    found = phonemes.score(noise, classes, names, K=16)
    assert found.accuracy < 0.06 and found.most_common < 0.06


def test_silence_has_no_score():
    silent = [np.full(5, NO_PHONEME)] * 2
    with pytest.raises(UsageError):
        phonemes.score([np.zeros(5, int)] * 2, silent, ["a", "b"], K=4)


def test_kmeans_finds_clusters():
    generator = np.random.default_rng(0)
    centres = generator.normal(0, 10, (5, 3)).astype(np.float32)
    points = centres.repeat(40, 0) + generator.normal(0, 0.1, (200, 3)).astype(np.float32)
    found = phonemes.kmeans(points, 5)
    codes = phonemes.assign(points, found)
    assert len(set(codes)) == 5 and all(len(set(part)) == 1 for part in codes.reshape(5, 40))
    assert np.abs(found[codes] - points).max() < 0.6
    plain = ((points[:, None] - found) ** 2).sum(2).argmin(1)
    assert np.array_equal(codes, plain)
    with pytest.raises(UsageError):
        phonemes.kmeans(points, 201)
    assert len(set(phonemes.assign(np.ones((9, 2), np.float32), phonemes.kmeans(np.ones((9, 2), np.float32), 3)))) == 1


def test_cepstra_at_positions():
    generator = np.random.default_rng(0)
    samples = generator.normal(0, 0.1, 16_000).astype(np.float32)
    found = phonemes.features(samples, 25, 25.0)
    assert found.shape == (25, 39) and np.abs(found).max() < 10
    own = phonemes.features(samples, 100, 100.0)  # at the middles of frames, so no mean of two
    assert np.allclose(own[:, 13:26].mean(0), 0, atol=1e-4) and np.allclose(own[:, 13:26].std(0), 1, atol=1e-3)
    # the middle of position 3 of 25 Hz lies between frames 13 and 14, the first part three frames before
    assert np.allclose(found[3, 13:26], own[13:15, 13:26].mean(0), atol=1e-5)
    assert np.allclose(found[3, :13], own[10:12, 13:26].mean(0), atol=1e-5)
    louder = phonemes.features(samples * 0.3, 25, 25.0)
    assert np.allclose(louder, found, atol=1e-2)
    assert phonemes.features(np.zeros(50, np.float32), 1, 25.0).shape == (1, 39)


def test_heat_map_has_a_row_for_each_phoneme():
    table = np.zeros((4, 38), np.int64)
    table[0, 5], table[1, 2], table[2, 5] = 9, 3, 1
    table[2, 2] = 0
    assert phonemes.sorted_codes(table).tolist() == [1, 0, 2]  # code 3 never came
    names = tuple(CLASSES)
    picture = phonemes.heat_map(phonemes.Score((1.0, 1.0), 0.5, 13, 2, table, names))
    assert picture.dtype == np.uint8 and picture.shape[0] > 38 * 16 and picture.std() > 1


def test_paths_are_told_as_they_are(tmp_path):
    with pytest.raises(BadFile, match="no labels that vq reads"):
        phonemes.read_labels(Path(tmp_path / "a.TextGrid"))
