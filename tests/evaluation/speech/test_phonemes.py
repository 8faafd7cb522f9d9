import numpy as np
import pytest

from vqcli.errors import UsageError
from vqcli.evaluation.speech import phonemes
from vqcli.evaluation.speech.phoneme_labels import CLASSES, NO_PHONEME
from vqcli.evaluation.speech.phonemes import Accuracy


def test_score_by_hand():
    s, m = CLASSES.index("s"), CLASSES.index("m")
    codes = [np.array([0, 0, 1, 1, 2]), np.array([0, 0, 1, 2, 3])]
    classes = [np.array([s, s, m, s, NO_PHONEME]), np.array([s, m, m, m, s])]
    found = phonemes.score(codes, classes, ["b", "a"], K=4)
    # learned from b: 0 is s, 1 is m by a tie that the rarer loses, so s; 2 and 3 never met: s. On a: 0 s, 3 s right
    # learned from a: 0 a tie of s and m, m is commoner; 1 m, 2 m, 3 s. On b: 1 m right
    assert found.halves == pytest.approx((1 / 4, 2 / 5)) and found.accuracy.held_out == pytest.approx(0.325)
    assert found.most_common.held_out == pytest.approx((2 / 5 + 1 / 4) / 2)  # s from b: 2 of 5; m from a: 1 of 4
    # learned from all: 0 is s, three of four; 1 m, two of three; 2 m; 3 s
    assert found.accuracy.in_sample == pytest.approx(7 / 9) and found.most_common.in_sample == pytest.approx(5 / 9)
    assert found.positions == 9 and found.speakers == 2 and found.classes == ("m", "s")
    assert found.table.tolist() == [[1, 3], [2, 1], [1, 0], [0, 1]]


def test_silence_as_a_class():
    s, m = CLASSES.index("s"), CLASSES.index("m")
    codes = [np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2, 2])]
    classes = [np.array([s, m, m, NO_PHONEME]), np.array([s, m, m, NO_PHONEME, s])]
    found = phonemes.score(codes, classes, ["a", "b"], K=3, with_silence=True)
    assert found.positions == 9 and found.classes == ("m", "s", "sil")
    assert found.table.tolist() == [[1, 2, 0], [3, 0, 0], [0, 1, 2]]
    # learned from b: 0 s, 1 m, 2 a tie of s and silence that the commoner s wins; a: 2 of 4 right.
    # learned from a: 0 a tie, so m, 1 m, 2 silence; b: 3 of 5
    assert found.halves == pytest.approx((3 / 5, 2 / 4))
    assert found.accuracy.in_sample == pytest.approx(7 / 9)
    without = phonemes.score(codes, classes, ["a", "b"], K=3)
    assert without.positions == 7 and without.classes == ("m", "s")
    assert without.accuracy.in_sample == pytest.approx(6 / 7)  # code 2 stands for s


def test_halves_hold_both_sexes():
    names = ["dr1-f", "dr1-m", "dr2-f", "dr2-m", "dr3-f", "dr3-m", "dr4-f", "dr4-m"]
    found = phonemes.halves([*names[::-1], "dr1-f"])
    assert found.tolist() == [0, 1, 1, 0, 0, 1, 1, 0, 0]


def test_codes_that_are_phonemes_and_codes_that_are_noise():
    generator = np.random.default_rng(0)
    classes = [generator.integers(0, 38, 400) for _ in range(6)]
    names = list("abcdef")
    assert phonemes.score(classes, classes, names, K=38).accuracy == (1, 1)
    noise = [generator.integers(0, 16, 400) for _ in classes]
    found = phonemes.score(noise, classes, names, K=16)
    assert found.accuracy.held_out < 0.06 and found.most_common.held_out < 0.06
    assert 0.04 < found.accuracy.in_sample < 0.1  # a map of noise fits what it is fitted to


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
    picture = phonemes.heat_map(phonemes.Score(Accuracy(1, 1), (1.0, 1.0), Accuracy(0.5, 0.5), 13, 2, table, names))
    assert picture.dtype == np.uint8 and picture.shape[0] > 38 * 16 and picture.std() > 1
