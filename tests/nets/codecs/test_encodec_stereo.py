"""EnCodec of 48 kHz beside transformers' own, with random weights."""

import re

import numpy as np
import pytest
import torch

from vqcli.errors import BadFile, ModelError
from vqcli.nets.codecs import base, encodec, encodec_stereo
from vqcli.nets.codecs.checkpoint import Checkpoint
from vqcli.progress import silent

transformers = pytest.importorskip("transformers")
LENGTHS = (20_000, 95_040, 100_001, 47_601)  # less than a segment, whole hops, a ragged last one, two ragged ones
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def reference():
    """A small net whose codebooks lie where its latents do, so that many codes occur."""
    torch.manual_seed(0)
    config = transformers.EncodecConfig(
        sampling_rate=48_000, audio_channels=2, normalize=True, norm_type="time_group_norm", use_causal_conv=False,
        chunk_length_s=1.0, overlap=0.01, num_filters=4, hidden_size=16, codebook_size=64,
        target_bandwidths=[1.8, 3.6],
    )  # fmt: skip
    model = transformers.EncodecModel(config).eval()
    with torch.no_grad():
        z_e = model.encoder(10 * wave(48_000))[0].T
        spread = (z_e - z_e.mean(0)).std()
        for number, layer in enumerate(model.quantizer.layers):
            book = layer.codebook.embed
            book.copy_(torch.randn_like(book) * spread * 0.8**number + (z_e.mean(0) if number == 0 else 0))
    return model


def wave(N):
    return 0.1 * torch.randn(1, 2, N, generator=torch.Generator().manual_seed(N))


def as_published(name):
    """A name of transformers as the authors' own files have it."""
    name = re.sub(r"^(encoder|decoder)\.layers\.", r"\1.model.", name)
    name = name.replace("quantizer.layers.", "quantizer.vq.layers.").replace(".codebook.", "._codebook.")
    transposed = re.match(r"decoder\.model\.(3|6|9|12)\.", name)
    inner = "convtr" if transposed else "conv"
    name = re.sub(r"\.conv\.(weight|bias)$", rf".{inner}.{inner}.\1", name)
    return re.sub(r"\.norm\.(weight|bias)$", rf".{inner}.norm.\1", name)


@pytest.fixture(scope="module")
def net(reference):
    found = encodec_stereo.from_checkpoint(Checkpoint(reference.state_dict(), reference.config.to_dict()))
    net = encodec_stereo.EncodecStereo(**found.arguments).eval()
    net.load_state_dict(found.tensors)
    return net


class Samples:
    """Channels as the contract of codecs has them."""

    def __init__(self, wave):
        self.wave = wave[0].numpy()

    def __len__(self):
        return self.wave.shape[1]

    def __getitem__(self, part):
        return self.wave[:, part]


def encoded(net, samples):
    analysis = net.analyse(samples, [])
    return torch.cat(list(net.encode_windows(samples, analysis, CPU)), 1), analysis.stored


def decoded(net, codes, stored, part=None):
    parts = net.decode_windows(codes[None].numpy(), [stored], part or (0, codes.shape[1]), seed=0, progress=silent)
    return np.concatenate(list(parts), 1)


@pytest.mark.parametrize("N", LENGTHS)
@torch.inference_mode()
def test_it_equals_the_reference(reference, net, N):
    coded = reference.encode(wave(N), bandwidth=3.6)
    codes, stored = encoded(net, Samples(wave(N)))
    begins = net.framing.segments(codes.shape[1])
    assert len(begins) - 1 == len(coded.audio_codes) == -(-N // 47_520)
    expected = [part[0, :, :n] for part, n in zip(coded.audio_codes, np.diff(begins), strict=True)]
    assert torch.equal(codes, torch.cat(expected, 1)) and len(codes.unique()) > 30
    assert np.frombuffer(stored, "<f4").tolist() == [scale.item() for scale in coded.audio_scales]
    sound = reference.decode(coded.audio_codes, coded.audio_scales, last_frame_pad_length=coded.last_frame_pad_length)[
        0
    ][0].numpy()
    made = decoded(net, codes, stored)
    assert made.shape[1] >= N
    assert np.abs(made[:, :N] - sound[:, :N]).max() < 1e-4 * np.abs(sound).max()
    few = reference.encode(wave(N), bandwidth=1.8).audio_codes.shape[2]
    assert decoded(net, codes[:few], stored).shape == made.shape


@torch.inference_mode()
def test_windows_give_what_the_whole_gives(net, monkeypatch):
    whole = encoded(net, Samples(wave(150_000)))[0]
    monkeypatch.setattr(encodec_stereo, "WINDOW_S", 1.0)  # segments one by one
    codes, stored = encoded(net, Samples(wave(150_000)))
    assert (codes == whole).float().mean() > 0.999
    sound = decoded(net, codes, stored)
    monkeypatch.undo()
    assert np.abs(decoded(net, codes, stored) - sound).max() < 1e-5
    for number in range(4):  # a part begins with a segment
        part = decoded(net, codes, stored, (150 * number, codes.shape[1]))
        assert np.abs(part - sound[:, 47_520 * number :]).max() < 1e-5
    assert decoded(net, codes, stored, (150, 300)).shape == (2, 47_520)


def test_every_form_gives_the_same_weights(reference):
    """transformers' names; the authors' names, without a configuration."""
    here = encodec_stereo.from_checkpoint(Checkpoint(reference.state_dict(), reference.config.to_dict()))
    published = {as_published(name): tensor for name, tensor in reference.state_dict().items()}
    assert {"encoder.model.0.conv.norm.bias", "decoder.model.3.convtr.convtr.weight"} <= published.keys()
    there = encodec_stereo.from_checkpoint(Checkpoint(published))
    assert here.arguments == there.arguments and here.tensors.keys() == there.tensors.keys()
    assert all(torch.equal(here.tensors[name], there.tensors[name]) for name in here.tensors)
    assert encodec.from_checkpoint(Checkpoint(published)) is None


@pytest.mark.parametrize(
    "change", [{"use_causal_conv": True}, {"normalize": False}, {"chunk_length_s": None}, {"overlap": "much"}]
)
def test_what_it_is_not(reference, change):
    assert encodec_stereo.from_checkpoint(Checkpoint({"encoder.weight": torch.zeros(2)})) is None
    config = reference.config.to_dict()
    with pytest.raises(ModelError) as raised:
        encodec_stereo.from_checkpoint(Checkpoint(reference.state_dict(), config | change))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("stored", [b"", bytes(4), bytes(12), np.float32([1, np.nan]).tobytes(), b"\xff" * 8])
def test_scales_that_are_none(net, stored):
    codes = torch.zeros(len(net.codebook_sizes), 160, dtype=torch.int64)
    with pytest.raises(BadFile, match="scale"):
        decoded(net, codes, stored)


@torch.inference_mode()
def test_silence_stays_silent(net):
    codes, stored = encoded(net, Samples(torch.zeros(1, 2, 60_000)))
    assert np.abs(decoded(net, codes, stored)).max() < 1e-6
    assert base.Analysis(stored).stored == np.float32([1e-8, 1e-8]).tobytes()
