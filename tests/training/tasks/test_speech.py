import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import begin
from vqcli import recipe
from vqcli.codec import conversion, voices, windows
from vqcli.data.speech import Utterances
from vqcli.errors import BadFile, UnknownLabel, UsageError
from vqcli.media import audio
from vqcli.nets.codecs.speech import SpeechVQVAE
from vqcli.training import new_speaker
from vqcli.training.export import card_speech
from vqcli.training.run import run
from vqcli.zoo import loading

ARGUMENTS = (
    "K = 16\ndim = 8\nlevels = 2\nwidth = 16\nblocks = [1, 1]\ndecoder_width = 16\ndecoder_blocks = 1\nvoice_dim = 8"
)
SPEECH = f"""
description = "tiny"
modality = "audio"
[model]
family = "speech"
[model.arguments]
{ARGUMENTS}
[data]
batch = 4
seconds = 0.4
[optimization]
steps = 25
learning_rate = 1e-2
warmup = 2
average = 0.8
validate_every = 25
""".encode()
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(clips_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny-speech"
    info = run(recipe.parse(SPEECH, "test"), [clips_folder], folder, device="cpu", threads=1)
    assert info is not None
    return info


def events(folder: Path, kind: str) -> list[dict]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == kind]


def test_a_run_learns_and_becomes_a_model(trained):
    losses = [event["loss"] for event in events(trained.folder, "train")]
    assert losses[-1] < 0.7 * losses[0]
    assert {"sound", "features", "commitment"} <= events(trained.folder, "train")[0].keys()
    model = loading.load(trained)
    assert isinstance(model.net, SpeechVQVAE) and model.statistics is not None
    assert [each["name"] for each in trained.description["speakers"]] == ["high", "low", "middle"]
    card = (trained.folder / "README.md").read_text()
    assert "speakers" in card and (trained.folder / "recipe.toml").exists()


def test_the_card_names_the_figures_in_their_columns(trained, tmp_path):
    """Headers sort the keys of what they hold."""
    point = {"kbit_per_s": 1.64, "levels": 1, "log_mel_correlation": 0.576, "log_mel_distance_db": 21.6}
    card_speech.write(tmp_path, trained.description | {"measured": {"on": "12 clips", "points": [point]}})
    assert "\n| 1 | 1.640 | 0.576 | 21.60 |\n" in (tmp_path / "README.md").read_text()


def test_speakers_are_found_with_near_matches(trained):
    assert {each.name for each in voices.speakers(trained)} == {"high", "low", "middle"}
    with pytest.raises(UnknownLabel) as caught:
        voices.find(trained, "hihg")
    assert "high" in caught.value.hint


def recording(clips_folder, name="low/0.wav"):
    return audio.read(clips_folder / name, 16_000, mono=True)


def test_conversion_keeps_the_words_and_moves_the_melody(trained, clips_folder):
    model, source = loading.load(trained), recording(clips_folder)
    before = windows.encode_audio(model, source)
    moved = conversion.convert(source, "high", model)
    assert moved.codes.shape[1] == 2 and np.array_equal(moved.codes[:, 0], before.codes[:, 0])
    own, new = before.codes[0, 1], moved.codes[0, 1]
    assert np.array_equal(own > 0, new > 0)
    from vqcli.media import pitch

    octaves = np.log2(pitch.from_codes(new[new > 0]) / pitch.from_codes(own[own > 0]))
    assert abs(np.median(octaves) - np.log2(220 / 90)) < 0.12
    assert moved.loudness_db == before.loudness_db and moved.samples == before.samples
    kept = conversion.convert(before, "high", model, pitch="keep", semitones=0)
    assert np.array_equal(kept.codes[:, 1], before.codes[:, 1]) and kept.voice == moved.voice
    sound = conversion.convert_speaker(clips_folder / "low" / "0.wav", "high", model)
    assert np.array_equal(sound.codes, moved.codes) and sound.rate_hz == 16_000
    assert sound.samples.shape == (1, source.source_samples) and np.isfinite(sound.samples).all()


def test_conversion_refuses_nonsense(trained, clips_folder):
    model, source = loading.load(trained), recording(clips_folder)
    for options in ({"pitch": "targt"}, {"semitones": 99.0}):
        with pytest.raises(UsageError):
            conversion.convert(source, "high", model, **options)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_finish_teaches_the_decoder_and_leaves_the_codes(trained, clips_folder, tmp_path, precision):
    text = (
        SPEECH.decode().split("[model.arguments]")[0]
        + "[data]\nbatch = 4\nseconds = 0.64\n[optimization]\nsteps = 3\nwarmup = 1\n"
    )
    finish = recipe.parse((text + "[adversary]\nwidth = 16\n").encode(), "test")
    finish = recipe.override(finish, [f"codec={trained.folder}", f"optimization.precision={precision}"])
    info = run(finish, [clips_folder], tmp_path / "finished", device="cpu", threads=1)
    before, after = loading.load(trained).net.state_dict(), loading.load(info).net.state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"decoder", "voices", "guess"}
    log = events(tmp_path / "finished", "train")[0]
    assert all(np.isfinite(log[name]) and log[name] > 0 for name in ("sound", "fooling", "matching", "adversary"))


def test_the_adversary_learns_from_its_own_loss_alone(trained, clips_folder):
    finish = recipe.override(recipe.parse(SPEECH, "test"), ["adversary.width=16"])
    clips = Utterances([clips_folder], held_out=None)
    task = begin(finish, loading.load(trained), clips).train()
    batch = task.as_input(clips.batch(finish.data, 0, 0, 4), CPU)
    torch.manual_seed(0)
    gradients = {}
    for name in ("fooling", "adversary"):
        torch.manual_seed(0)
        task.zero_grad()
        task(*batch).terms[name].backward()
        gradients[name] = {
            part.split(".")[0]
            for part, weight in task.named_parameters()
            if weight.grad is not None and weight.grad.any()
        }
    assert gradients == {"fooling": {"model"}, "adversary": {"adversary"}}


def test_a_finish_needs_its_model_and_the_same_speakers(trained, clips_folder):
    finish = recipe.override(recipe.parse(SPEECH, "test"), ["adversary.width=16"])
    with pytest.raises(UsageError, match="needs a model to start from"):
        begin(finish, None, Utterances([clips_folder], held_out=None))
    with pytest.raises(UsageError, match="speakers"):
        begin(finish, loading.load(trained), Utterances([clips_folder / "low"], held_out=None))


def test_a_new_speaker_is_fitted_stored_and_found(trained, clips_folder):
    model = loading.load(trained)
    notes = []
    fitted = new_speaker.fit(
        model, "anna", clips_folder / "middle", steps=4, progress=lambda share, note: notes.append(note)
    )
    assert fitted.row == -1 and abs(fitted.pitch_hz / 140 - 1) < 0.05 and len(notes) == 4
    assert voices.find(trained, "anna") == fitted
    moved = conversion.convert(recording(clips_folder), "anna", model)
    assert len(moved.voice[0]) == 5 and moved.voice[0] != voices.voice_of(model, voices.find(trained, "low"))
    with pytest.raises(UsageError, match="already"):
        new_speaker.fit(model, "anna", clips_folder / "middle", steps=1)
    (trained.folder / "voices" / "anna.safetensors").write_bytes(b"nothing")
    with pytest.raises(UnknownLabel):
        voices.find(trained, "anna")


def test_the_paper_s_model_trains_and_converts(clips_folder, tmp_path):
    text = (
        SPEECH.decode()
        .replace('"speech"', '"vqvae1d"')
        .replace(
            ARGUMENTS,
            "K = 8\ndim = 4\nwidth = 6\nwavenet = { residual = 32, skip = 32, cycles = 1, layers_per_cycle = 4 }",
        )
    )
    wave = recipe.override(recipe.parse(text.encode(), "test"), ["optimization.steps=6", "data.seconds=0.12"])
    info = run(wave, [clips_folder], tmp_path / "tiny-wavenet", device="cpu", threads=1)
    model, source = loading.load(info), recording(clips_folder)
    sound = conversion.convert_speaker(source, "high", model).samples
    assert sound.shape == (1, source.source_samples) and np.isfinite(sound).all()


def test_clips_need_folders_and_a_net_for_sound(clips_folder, tmp_path):
    with pytest.raises(UsageError, match="folders of clips"):
        run(recipe.parse(SPEECH, "test"), [clips_folder / "low" / "0.wav"], tmp_path / "x", device="cpu")


@pytest.mark.parametrize("voice", [b"", b"\0" * 5, b"\1" * 4, b"\xff" * 5])
def test_codes_with_a_voice_of_another_kind_are_refused(trained, clips_folder, voice):
    model = loading.load(trained)
    codes = windows.encode_audio(model, recording(clips_folder))
    with pytest.raises(BadFile, match="voice"):
        conversion.convert(replace(codes, voice=(voice,)), "high", model)


def test_more_levels_than_there_are_is_one_clear_line(trained, clips_folder):
    with pytest.raises(UsageError, match="levels"):
        conversion.convert(recording(clips_folder), "high", loading.load(trained), levels=3)
