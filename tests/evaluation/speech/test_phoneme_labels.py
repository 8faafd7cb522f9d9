from pathlib import Path

import numpy as np
import pytest
import soundfile

from vqcli.errors import BadFile, UsageError
from vqcli.evaluation.speech import phoneme_labels
from vqcli.evaluation.speech.phoneme_labels import CLASSES, NO_PHONEME, PhonemeLabels


def test_the_usual_classes():
    assert len(CLASSES) == 38 == len(set(CLASSES))  # 39 with silence
    assert set(phoneme_labels.FOLDED.values()) <= {*CLASSES, phoneme_labels.SILENCE}
    symbols = {*CLASSES, *phoneme_labels.FOLDED} - {"sp"}  # VCTK's own
    assert len(symbols) == 61


def test_timit_labels(tmp_path):
    path = tmp_path / "a.phn"
    path.write_text("0 1600 h#\n1600 3200 sh\n3200 4000 ix\n4000 4800 kcl\n4800 6400 k\n")
    labels = phoneme_labels.read_labels(path)
    assert labels.ends_s.tolist() == [0.1, 0.2, 0.25, 0.3, 0.4]
    heard = labels.at(np.array([0.05, 0.1, 0.199, 0.24, 0.26, 0.39, 0.4, 9.0]))
    names = [CLASSES[index] if index != NO_PHONEME else "" for index in heard]
    assert names == ["", "sh", "sh", "ih", "", "k", "", ""]


def test_vctk_labels(tmp_path):
    path = tmp_path / "a.lab"
    path.write_text("         0    1500000 pau\n   1500000    2000000 AX1\n\n   2000000    3000000 s\n")
    labels = phoneme_labels.read_labels(path)
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
        phoneme_labels.read_labels(path)


def test_labels_that_are_no_labels(tmp_path):
    for path in (tmp_path / "missing.phn", tmp_path / "a.txt", tmp_path):
        with pytest.raises(BadFile):
            phoneme_labels.read_labels(path)
    large = tmp_path / "large.lab"
    large.write_bytes(b" " * (phoneme_labels.LARGEST_LABELS + 1))
    with pytest.raises(BadFile, match="too large"):
        phoneme_labels.read_labels(large)


def test_alignments_that_lost_their_way():
    shortest = PhonemeLabels(0.015 * np.arange(1, 11), np.zeros(10, np.int64))
    assert phoneme_labels.is_misaligned(shortest)
    assert not phoneme_labels.is_misaligned(PhonemeLabels(0.06 * np.arange(1, 11), np.zeros(10, np.int64)))
    assert not phoneme_labels.is_misaligned(PhonemeLabels(np.array([0.01]), np.array([NO_PHONEME])))


def test_clips_are_found_with_their_speakers(tmp_path):
    for name, labels in (("a/1", "0 9000 s"), ("a/2", None), ("b/1", "0 9000 m"), ("b/2", "nonsense")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path.with_suffix(".wav"), np.zeros(100), 16_000)
        if labels:
            path.with_suffix(".phn").write_text(labels)
    told = []
    clips = phoneme_labels.find_clips(tmp_path, told.append)
    assert [(clip.speaker, clip.path.name) for clip in clips] == [("a", "1.wav"), ("b", "1.wav")]
    assert len(told) == 1 and "2.phn" in str(told[0])
    for folder, word in ((tmp_path / "a", "1 speakers"), (tmp_path / "nowhere", "not a folder")):
        with pytest.raises(UsageError, match=word):
            phoneme_labels.find_clips(folder)


def test_paths_are_told_as_they_are(tmp_path):
    with pytest.raises(BadFile, match="no labels that vq reads"):
        phoneme_labels.read_labels(Path(tmp_path / "a.TextGrid"))
