import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from vqcli.codec import windows
from vqcli.evaluation.speech import phoneme_labels, phonemes
from vqcli.media import audio, image
from vqcli.zoo import loading, registry

K, SPEAKERS, RATE_HZ = 8, ("ann", "bob", "cat"), 16_000


@pytest.fixture(scope="module")
def model(models_folder):
    """On the search path as `tiny-25hz`: positions of 40 ms."""
    arguments = {
        "K": K, "dim": 4, "width": 8, "frames": 4, "blocks": [1, 1], "decoder_width": 8, "decoder_blocks": 1,
        "levels": 1,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build("speech", arguments)
    description = {"family": "speech", "arguments": arguments, "modality": "audio"}
    return loading.save(models_folder / "tiny-25hz", net, None, description)


@pytest.fixture
def clips(home, model):
    """Three speakers who hum and hiss for 100 ms each, between silences."""
    for number, speaker in enumerate(SPEAKERS):
        folder = home / "clips" / speaker
        folder.mkdir(parents=True)
        generator, labels, parts = np.random.default_rng(number), [], []
        for at in range(15):
            symbol = ("h#", "m", "s")[at % 3]
            time = np.arange(1600) / RATE_HZ
            hum = 0.2 * sum(np.sin(2 * np.pi * k * (100 + 40 * number) * time) / k for k in range(1, 9))
            hiss = np.diff(0.1 * generator.standard_normal(1601))
            parts.append({"h#": 0 * time, "m": hum, "s": hiss}[symbol])
            labels.append(f"{1600 * at} {1600 * (at + 1)} {symbol}")
        soundfile.write(folder / "1.wav", np.concatenate(parts), RATE_HZ)
        (folder / "1.phn").write_text("\n".join(labels))
    return "clips"


def test_codes_beside_kmeans_and_the_most_common_phoneme(vq, clips):
    result = vq("eval", "phonemes", "tiny-25hz", clips, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["K"] == K and found["rate_hz"] == 25 and found["bits_per_second"] == 75
    assert found["classes"] == ["m", "s"] and found["clips"] == found["speakers"] == 3
    assert found["positions"] == 3 * 25  # 250 ms in ten stretches of 100 ms: five of three, five of two
    assert found["accuracy"] == pytest.approx(sum(found["halves"]) / 2)
    assert found["kmeans"] > 0.9  # a hum and a hiss are easily told apart
    assert 0.4 < found["most_common"] <= 0.6
    assert sum(code["times"] for code in found["codes"]) == found["positions"]
    shares = found["without_silence"]
    assert shares["codes"]["held_out"] == found["accuracy"] and shares["kmeans"]["held_out"] == found["kmeans"]
    assert shares["codes"]["in_sample"] >= shares["codes"]["held_out"]
    assert shares["most_common"] == {"held_out": found["most_common"], "in_sample": pytest.approx(0.52)}  # 13 of 25
    assert found["positions_with_silence"] == 3 * 38  # 1.5 s, and what the last position is filled up with
    assert found["with_silence"]["kmeans"]["in_sample"] > 0.7  # cepstra of digital silence before a hum or a hiss vary
    assert "silence left out" in found["definition"] and "half of 3 speakers" in found["definition"]


def test_table_and_picture(vq, clips):
    result = vq("eval", "phonemes", "tiny-25hz", clips, "--train", clips, "--top", "2", "-o", "codes.png")
    assert result.exit_code == 0, result.stderr
    assert "k-means of cepstra, K = 8" in result.stdout and "75" in result.stdout
    heading = " ".join(result.stdout.split())
    assert "held out" in heading and "in sample" in heading and "with silence" in heading
    assert "the most common class" in result.stdout and "stands for" in result.stdout
    assert "40 ms" in result.stderr and "drawn to codes.png" in result.stderr
    assert image.read(Path("codes.png")).pixels.std() > 1
    again = vq("eval", "phonemes", "tiny-25hz", clips, "-o", "codes.png")
    assert again.exit_code == 2 and "codes.png exists" in again.stderr


def test_codes_are_those_of_the_model(vq, clips):
    loaded = loading.load("tiny-25hz", "cpu")
    found = phoneme_labels.find_clips(Path(clips))
    measured = phonemes.measure(loaded, found)
    table = np.zeros((K, 2), np.int64)
    for clip in found:
        recording = audio.read(clip.path, RATE_HZ, mono=True)
        for position, code in enumerate(windows.encode_audio(loaded, recording).codes[0, 0]):
            symbol = position * 640 + 320  # the middle
            if (symbol // 1600) % 3 and symbol < 24_000:
                table[code, (symbol // 1600) % 3 - 1] += 1
    assert np.array_equal(measured.phonemes.codes.table, table)


def test_damaged_clips_are_told_and_left_out(vq, clips):
    Path("clips/ann/2.wav").write_bytes(b"no sound")
    Path("clips/ann/2.phn").write_text("0 1600 m")
    Path("clips/bob/2.wav").write_bytes(b"no sound")
    Path("clips/bob/2.phn").write_text("no labels")
    result = vq("eval", "phonemes", "tiny-25hz", clips, "--json")
    assert result.exit_code == 3 and json.loads(result.stdout)["clips"] == 3
    assert "ann/2.wav" in result.stderr and "bob/2.phn" in result.stderr


def test_bad_calls(vq, clips):
    assert vq("eval", "phonemes", "tiny-25hz", "nowhere").exit_code == 2
    assert vq("eval", "phonemes", "nobody", clips).exit_code == 4
    pictures = vq("eval", "phonemes", "scalar", clips)
    assert pictures.exit_code == 4 and "scalar is of image, not of audio" in pictures.stderr
    alone = vq("eval", "phonemes", "tiny-25hz", "clips/ann")
    assert alone.exit_code == 2 and "1 speakers" in alone.stderr
    Path("empty").mkdir()
    assert vq("eval", "phonemes", "tiny-25hz", clips, "--train", "empty").exit_code == 2
