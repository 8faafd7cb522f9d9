import numpy as np
import pytest
import torch

from vqcli import recipe
from vqcli.codec import windows
from vqcli.data.speech import Utterances
from vqcli.entropy import prior1d
from vqcli.recipe import Data
from vqcli.training.datasets.code_clips import CodeSequences, codes_of
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
