"""Figures of coding and conversion, with a tiny model and made voices; judges are stood in for."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from vqcli.codec import audio_file, windows
from vqcli.codec.codes import keep_levels
from vqcli.errors import UnknownLabel, UsageError
from vqcli.evaluation.speech import coding, evaluators, metrics
from vqcli.evaluation.speech import conversion as speech_conversion
from vqcli.evaluation.speech.coding import Point
from vqcli.evaluation.speech.conversion import Conversion, speaker_of
from vqcli.media import audio
from vqcli.nets.codecs.encodec import Encodec
from vqcli.zoo import loading, registry
from vqcli.zoo.store import ModelInfo

SPEAKERS = [
    {"name": "ann", "seconds": 60.0, "pitch_hz": 210.0, "source": "made"},
    {"name": "bob", "seconds": 90.0, "pitch_hz": 110.0, "source": "made"},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    arguments = {
        "K": 8, "dim": 4, "width": 8, "blocks": [1, 1], "decoder_width": 8, "decoder_blocks": 1, "levels": 2,
        "speakers": 2,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build("speech", arguments)
    description = {"family": "speech", "arguments": arguments, "modality": "audio", "speakers": SPEAKERS}
    return loading.load(loading.save(tmp_path_factory.mktemp("models") / "tiny", net, None, description), "cpu")


@pytest.fixture
def clips(tmp_path) -> list[Path]:
    """Two clips of each speaker, half a second and a bit, one of them at another rate, one with a transcript."""
    paths = []
    for name, hz in (("ann", 200), ("bob", 100)):
        for index, rate_hz in enumerate((16_000, 22_050)):
            at = np.arange(int((0.6 + 0.2 * index) * rate_hz)) / rate_hz
            phase = 2 * np.pi * hz * (at + 0.02 * np.sin(9 * at))
            path = tmp_path / name / f"{index}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, 0.1 * sum(np.sin(k * phase) / k for k in range(1, 15)), rate_hz)
            paths.append(path)
    paths[0].with_suffix(".txt").write_text("Four words are here.")
    return paths


@pytest.fixture
def judges(monkeypatch):
    """Judges that find one word in four wrong in any sound, and tell voices by their pitch."""
    monkeypatch.setattr(evaluators, "recognise", lambda samples: "FOUR WORDS WERE HERE")
    monkeypatch.setattr(evaluators, "dnsmos", lambda samples: 3.0)

    def embedding(samples):
        angle = np.log(np.nan_to_num(metrics.pitch_hz(samples), nan=400) / 50)
        return np.array([np.cos(angle), np.sin(angle)], np.float32)

    monkeypatch.setattr(evaluators, "embedding", embedding)


def test_a_row_for_source_levels_and_codecs(model, clips):
    seen = []
    points = list(coding.evaluate(model, clips[:2], codecs=["Opus"], on_audio=seen.append))
    assert [(point.codec, point.levels) for point in points] == [
        ("source", 0),
        ("tiny", 1),
        ("tiny", 2),
        ("Opus", 0),
    ] * 2
    assert list(seen[0]) == ["source", "tiny, 1 of 2 levels", "tiny, 2 of 2 levels", "Opus"]
    assert {sound.shape for sound in seen[0].values()} == {(9600,)}
    for source, one, two, opus in (points[:4], points[4:]):
        assert source.log_mel_distance_db is None and one.log_mel_distance_db > opus.log_mel_distance_db > 0
        assert one.kbit_per_s < two.kbit_per_s < source.kbit_per_s
        assert opus.pitch_correlation > 0.9
        assert one.word_error is one.quality is None
    assert points[4].seconds == pytest.approx(0.8, abs=1e-3)


def test_rates_are_those_of_files(model, clips):
    [_, one, two] = coding.evaluate(model, clips[:1], codecs=[])
    recording = audio.read(clips[0], 16_000, mono=True)
    codes = windows.encode_audio(model, recording)
    for level, point in ((1, one), (2, two)):
        kept = keep_levels(model, codes, level)
        assert point.size_bytes == audio_file.file_size(model, kept)
        assert point.kbit_per_s == pytest.approx(8 * point.size_bytes / 0.6 / 1000)
        sound = coding.decode_waveform(model, kept, 9600)
        assert point.log_mel_correlation == metrics.log_mel_correlation(recording.samples[0], sound)


def test_of_many_levels_some_are_measured():
    assert coding.measured_levels(1) == [1] and coding.measured_levels(6) == [1, 2, 3, 4, 5, 6]
    assert coding.measured_levels(32) == [1, 2, 4, 8, 16, 32] and coding.measured_levels(9) == [1, 2, 4, 8, 9]


def test_a_model_of_another_rate_is_compared_at_16_khz(clips, tmp_path):
    torch.manual_seed(0)
    net = Encodec(net={"width": 4, "dim": 8}, codebooks=2, K=16).eval().requires_grad_(False)
    info = ModelInfo(tmp_path / "other", {"family": "encodec", "modality": "audio", "arguments": {}})
    (tmp_path / "other").mkdir()
    info.path.write_bytes(b"weights")
    model = loading.LoadedModel(info, net, None, torch.device("cpu"))
    seen = []
    points = list(coding.evaluate(model, clips[:1], codecs=[], on_audio=seen.append))
    assert [point.levels for point in points] == [0, 1, 2]
    assert {len(sound) for sound in seen[0].values()} == {9600}


def test_words_and_quality(model, clips, judges):
    points = list(coding.evaluate(model, clips[:2], codecs=[], with_evaluators=True))
    with_text, without = points[:3], points[3:]
    assert {(point.words, point.word_error, point.quality) for point in with_text} == {(4, 0.25, 3.0)}
    assert {(point.words, point.word_error, point.quality) for point in without} == {(None, None, 3.0)}


def test_broken_files_are_told_and_left_out(model, clips):
    clips[0].write_bytes(b"RIFF....WAVE")
    clips[1].with_suffix(".txt").write_bytes(b"\xff")
    told = []
    assert list(coding.evaluate(model, clips[:2], complain=told.append)) == []
    assert [str(clips[0]) in str(told[0]), "not text" in str(told[1])] == [True, True]


def test_means():
    points = [
        Point("tiny", 1, "a", 1.0, 100, 0.8, 5.0, 0.5, None, 0.1, words=1, word_error=1.0),
        Point("tiny", 1, "b", 3.0, 500, 4 / 3, 7.0, 0.7, 0.9, 0.3, words=9, word_error=0.0),
        Point("Opus", 0, "a", 1.0, 900, 7.2),
    ]
    tiny, opus = coding.means(points)
    assert (tiny.clip, tiny.seconds, tiny.size_bytes) == ("mean of 2", 4.0, 300)
    assert tiny.kbit_per_s == pytest.approx(8 * 600 / 4 / 1000)  # all bits over all seconds
    assert (tiny.words, tiny.word_error) == (10, 0.1)
    assert (tiny.log_mel_distance_db, tiny.pitch_correlation) == (6.0, 0.9)
    assert (opus.clip, opus.words, opus.word_error, opus.stoi) == ("mean of 1", None, None, None)


def test_conversions_to_all_but_the_speaker(model, clips):
    named = {path: path.parent.name for path in clips}
    found = list(speech_conversion.evaluate(model, named, ["ann", "bob"], {}))
    assert [(one.speaker, one.to) for one in found] == [("ann", "bob")] * 2 + [("bob", "ann")] * 2
    for one in found:
        assert one.target_hz == {"ann": 210, "bob": 110}[one.to] and one.speed > 0
        assert one.source_pitch_hz == pytest.approx({"ann": 200, "bob": 100}[one.speaker], rel=0.1)
        assert -1 <= one.log_mel_correlation <= 1
        assert one.like_target is one.word_error is None


def test_likeness_leaves_the_clip_itself_out(model, clips, judges, monkeypatch):
    references = {"ann": clips[:2], "bob": clips[2:]}
    asked = []
    mean = evaluators.mean_embedding

    def mean_embedding(voices):
        asked.append(list(voices))
        return mean(asked[-1])

    monkeypatch.setattr(evaluators, "mean_embedding", mean_embedding)
    [one] = speech_conversion.evaluate(model, {clips[0]: "ann"}, ["bob"], references, with_evaluators=True)
    assert [len(voices) for voices in asked] == [2, 1]
    assert (one.word_error, one.source_word_error, one.quality, one.source_quality) == (0.25, 0.25, 3.0, 3.0)
    assert 0 <= one.like_target <= 1.001 and 0 <= one.like_speaker <= 1.001


def test_conversion_needs_targets_that_are_known(model, clips):
    with pytest.raises(UnknownLabel, match="ban"):
        list(speech_conversion.evaluate(model, {clips[0]: "ann"}, ["ban"], {}))
    with pytest.raises(UsageError, match="no clips of bob"):
        list(speech_conversion.evaluate(model, {clips[0]: "ann"}, ["bob"], {"ann": clips[:2]}, with_evaluators=True))


def test_means_of_conversions():
    def conversion(to, seconds, speed, words, error, like):
        rest = {"words": words, "word_error": error, "source_word_error": error, "like_target": like}
        return Conversion(to, "ann", "a", seconds, speed, 110.0, 200.0, 120.0, None, 0.5, **rest)

    one, other, everything = speech_conversion.means(
        [
            conversion("bob", 1, 1, 1, 1.0, 0.6),
            conversion("bob", 3, 3, 3, 0.0, 0.8),
            conversion("eve", 4, 2, 4, 0.5, 0.9),
        ]
    )
    assert (one.to, other.to, everything.to) == ("bob", "eve", "all")
    assert (one.words, one.word_error, one.like_target, one.melody) == (4, 0.25, pytest.approx(0.7), None)
    assert one.speed == 2  # 4 s in 2 s
    assert (everything.clip, everything.words, everything.word_error) == ("mean of 3", 8, 0.375)
    assert len(speech_conversion.means([one])) == 1


def test_speakers_by_name():
    names = ("p225/p225_001.flac", "19/19-198-0000.opus", "p226_008.wav", "19-198-0001.opus", "talk.wav")
    assert [speaker_of(name) for name in names] == ["p225", "19", "p226", "19", "talk"]
