import shutil

import numpy as np
import pytest
import torch

import vqcli
from vqcli import recipe
from vqcli.codec import windows
from vqcli.data.speech import Utterances
from vqcli.entropy import prior1d
from vqcli.errors import UsageError
from vqcli.files import remote
from vqcli.media import audio
from vqcli.recipe import Data
from vqcli.tokens import run as tokens
from vqcli.training import log
from vqcli.training.datasets.base import waveforms
from vqcli.training.datasets.code_clips import CodeSequences, codes_of
from vqcli.training.datasets.coded_clips import CodedClips
from vqcli.training.export.speech import recording_of
from vqcli.training.run import run
from vqcli.zoo import loading, registry
from vqcli.zoo.priors import beside, load_entropy_model

ARGUMENTS = {"K": 8, "dim": 4, "levels": 2, "width": 16, "blocks": (1, 1), "decoder_width": 16, "decoder_blocks": 1}
DATA = Data(batch=4, seconds=0.5)
PRIOR = """
description = "tiny"
modality = "audio"
[model]
family = "{family}"
[model.arguments]
{arguments}
[data]
batch = 4
seconds = 0.5
[optimization]
steps = 30
learning_rate = 1e-2
warmup = 2
average = 0.8
validate_every = 30
"""


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build("speech", ARGUMENTS | {"speakers": 3})
        net.train()
        net.quantizer(torch.randn(4, 4, 200))
    speakers = [{"name": name, "seconds": 9.0, "pitch_hz": 120.0} for name in ("high", "low", "middle")]
    description = {"family": "speech", "arguments": ARGUMENTS | {"speakers": 3}, "modality": "audio"}
    folder = tmp_path_factory.mktemp("models") / "codec"
    return loading.load(loading.save(folder, net, None, description | {"speakers": speakers}), "cpu")


@pytest.fixture(scope="module")
def clips(clips_folder):
    return Utterances([clips_folder], held_out=None)


def test_codes_are_those_of_a_file(codec, clips):
    codes = codes_of(codec, clips.clip(0))
    other = windows.encode_audio(codec, recording_of(clips, 0)).codes[0]
    assert codes.shape == other.shape == (4, -(-len(clips.clip(0).samples) // 320))
    assert (codes == other).mean() > 0.95  # one was scaled before it became 16 bits, the other after


def test_batches_hang_on_their_number_and_belong_to_their_speaker(codec, clips):
    coded = CodeSequences(clips, codec)
    one, other = coded.batch(DATA, 3, 0, 6), coded.batch(DATA, 3, 2, 4)
    assert one.pixels.shape == (6, 25, 4) and one.pixels.dtype == np.uint16
    assert np.array_equal(one.pixels[2:], other.pixels) and np.array_equal(one.labels[2:], other.labels)
    for codes, label in zip(one.pixels, one.labels, strict=True):
        told = np.concatenate([coded.sequences[i] for i in range(len(clips)) if clips.labels[i] == label], 1)
        around = np.concatenate([told, told], 1)
        assert any(np.array_equal(around[:, at : at + 25].T, codes) for at in range(told.shape[1]))


@pytest.mark.parametrize(
    ("family", "arguments"),
    [
        ("wavenet", "residual = 32\nskip = 32\ncycles = 1\nlayers_per_cycle = 3\nhidden = 32\nunlabelled = true"),
        ("exact1d", "past = 2\naround = 1\nhidden = 32\nembedding = 8"),
    ],
)
def test_a_prior_is_trained_and_lies_beside_a_copy_of_its_codec(codec, clips_folder, tmp_path, family, arguments):
    text = PRIOR.format(family=family, arguments=arguments)
    chosen = recipe.override(recipe.parse(text.encode(), "test"), [f"codec={codec.info.folder}"])
    info = run(chosen, [clips_folder], tmp_path / "prior", device="cpu", threads=1)
    (prior,) = beside(info)
    measured = prior.description["measured"]
    assert info.digest == codec.info.digest and prior.family == family
    if measured:  # if any clip was held out
        assert measured["bits_per_code"] < measured["uniform"]
    if family == "exact1d":
        net = load_entropy_model(prior, codec.net.codebook_sizes)
        codes = np.random.default_rng(0).integers(0, 8, (4, 1, 40)).astype(np.int32)
        data = prior1d.encode(codes[:2], net)
        assert np.array_equal(prior1d.decode(data, (2, 1, 40), net), codes[:2])


WAVENET = "residual = 32\nskip = 32\ncycles = 1\nlayers_per_cycle = 2\nhidden = 16"


@pytest.fixture(scope="module")
def coded(codec, clips_folder, tmp_path_factory):
    """The clips as .vqz files, and a set of tokens of these files."""
    folder = tmp_path_factory.mktemp("coded")
    for path in sorted(clips_folder.rglob("*.wav")):
        made = folder / "files" / path.relative_to(clips_folder).with_suffix(".vqz")
        made.parent.mkdir(parents=True, exist_ok=True)
        vqcli.encode(path, codec, coder="packed").save(made)
    settings = tokens.Settings(per_shard=4, workers=1, device="cpu")
    tokens.tokenize([folder / "files"], str(folder / "set"), str(codec.info.folder), settings)
    return folder


def test_a_prior_learns_from_shards_what_it_learns_from_files(codec, coded, tmp_path):
    text = PRIOR.format(family="wavenet", arguments=WAVENET)
    settings = f"codec={codec.info.folder}", "optimization.steps=3", "optimization.precision=float32"
    chosen = recipe.override(recipe.parse(text.encode(), "test"), settings)
    losses = {}
    for data in ("files", "set"):
        run(chosen, [coded / data], tmp_path / f"from-{data}", device="cpu", threads=1)
        losses[data] = [event["loss"] for event in log.read(tmp_path / f"from-{data}") if event["event"] == "train"]
    assert len(losses["set"]) == 3 and losses["set"] == pytest.approx(losses["files"], rel=1e-6)


def test_crops_of_shards_are_those_of_files_whenever_they_are_opened(codec, coded, clips):
    files, shards = (
        CodeSequences(CodedClips([coded / name], codec, held_out=False), codec) for name in ("files", "set")
    )
    assert shards.names == files.names and shards.classes == files.classes == clips.classes
    assert all(np.array_equal(shards.sequences[index], files.sequences[index]) for index in files.sequences)
    whole, rest = shards.batch(DATA, 3, 0, 6), files.batch(DATA, 3, 2, 4)
    assert np.array_equal(whole.pixels[2:], rest.pixels) and np.array_equal(whole.labels[2:], rest.labels)


def test_shards_in_a_store_are_those_of_a_folder(codec, coded):
    system = pytest.importorskip("fsspec").filesystem("memory")
    system.put(str(coded / "set"), "/clips/set", recursive=True)
    url = remote.place("memory://clips/set")
    here, there = (CodeSequences(CodedClips([place], codec, held_out=False), codec) for place in (coded / "set", url))
    assert there.names == here.names and there.classes == here.classes
    assert all(np.array_equal(there.sequences[index], here.sequences[index]) for index in here.sequences)
    with pytest.raises(UsageError, match=r"memory://clips/set: of stores, only priors learn"):
        waveforms(
            codec.audio, recipe.parse(PRIOR.format(family="wavenet", arguments=WAVENET).encode(), "test"), [url], False
        )
    system.rm("/clips", recursive=True)


def test_clips_that_cannot_be_used(codec, coded, tmp_path):
    """Channels apart, fewer levels and damage are listed; a set that none of can be used says why."""
    noise = np.random.default_rng(0).standard_normal((2, 9000)).astype(np.float32) * 0.05
    audio.write(tmp_path / "a.wav", noise, 16_000)
    shutil.copytree(coded / "files", tmp_path / "files")
    vqcli.encode(tmp_path / "a.wav", codec, mono=False, coder="packed").save(tmp_path / "files" / "stereo.vqz")
    vqcli.encode(tmp_path / "a.wav", codec, levels=1, coder="packed").save(tmp_path / "files" / "level.vqz")
    (tmp_path / "files" / "damaged.vqz").write_bytes(b"nothing")
    some = CodeSequences(CodedClips([tmp_path / "files"], codec, held_out=False), codec)
    assert set(some.skipped) == {"stereo.vqz", "level.vqz", "damaged.vqz"}
    assert "2 channels" in some.skipped["stereo.vqz"] and "levels were left out" in some.skipped["level.vqz"]
    settings = tokens.Settings(workers=1, device="cpu", options={"levels": 1})
    tokens.tokenize([tmp_path / "a.wav"], str(tmp_path / "set"), str(codec.info.folder), settings)
    with pytest.raises(UsageError, match="none of 1 clips can be used: its last residual levels were left out"):
        CodeSequences(CodedClips([tmp_path / "set"], codec, held_out=False), codec)
