"""EnCodec beside transformers' own, with random weights."""

import re

import pytest
import torch

from vqcli.errors import ModelError
from vqcli.nets.codecs import base, encodec
from vqcli.nets.codecs.checkpoint import Checkpoint

transformers = pytest.importorskip("transformers")
LENGTHS = (24_000, 31_123, 1607)  # whole positions, a part of one, hardly more than the layers pad
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def reference():
    """A small net whose codebooks lie where its latents do, so that many codes occur."""
    torch.manual_seed(0)
    config = transformers.EncodecConfig(
        num_filters=8, hidden_size=32, codebook_size=64, target_bandwidths=[1.8, 3.6], num_residual_layers=2
    )
    model = transformers.EncodecModel(config).eval()
    with torch.no_grad():
        z_e = model.encoder(wave(64 * 320))[0].T
        spread = (z_e - z_e.mean(0)).std()
        for number, layer in enumerate(model.quantizer.layers):
            book = layer.codebook.embed
            book.copy_(torch.randn_like(book) * spread * 0.8**number + (z_e.mean(0) if number == 0 else 0))
    return model


def wave(N):
    return 0.1 * torch.randn(1, 1, N, generator=torch.Generator().manual_seed(N))


def as_published(name):
    """A name of transformers as the authors' own files have it."""
    name = re.sub(r"^(encoder|decoder)\.layers\.", r"\1.model.", name)
    name = name.replace("quantizer.layers.", "quantizer.vq.layers.").replace(".codebook.", "._codebook.")
    name = name.replace("parametrizations.weight.original0", "weight_g")
    name = name.replace("parametrizations.weight.original1", "weight_v")
    return re.sub(r"(conv|shortcut)\.(weight_.|bias)$", r"\1.conv.\2", name)


def made_from(tensors, config):
    found = encodec.from_checkpoint(Checkpoint(tensors, config))
    net = encodec.Encodec(**found.arguments).eval()
    net.load_state_dict(found.tensors)
    return net


@pytest.fixture(scope="module")
def net(reference):
    return made_from(reference.state_dict(), reference.config.to_dict())


@pytest.mark.parametrize("N", LENGTHS)
@torch.inference_mode()
def test_it_equals_the_reference(reference, net, N):
    coded = reference.encode(wave(N), bandwidth=3.6)
    codes = coded.audio_codes[0]
    assert len(codes[0, 0].unique()) > 3
    assert torch.equal(net.encode(wave(N)), codes)
    expected = reference.decode(coded.audio_codes, coded.audio_scales)[0]
    assert torch.allclose(net.decode(codes), expected, atol=1e-6)
    few = reference.encode(wave(N), bandwidth=1.8).audio_codes
    assert 0 < few.shape[2] < codes.shape[1]
    assert torch.allclose(net.decode(codes[:, : few.shape[2]]), reference.decode(few, [None])[0], atol=1e-6)


@pytest.mark.parametrize("N", LENGTHS)
@torch.inference_mode()
def test_windows_give_what_the_whole_gives(net, N, monkeypatch):
    monkeypatch.setattr(base, "WINDOW_S", 0.25)
    codes = net.encode(wave(N))
    in_parts = torch.cat(list(net.encode_windows(wave(N)[0, 0].numpy(), base.Analysis(b""), CPU)), 1)
    assert (in_parts == codes[0]).float().mean() > 0.99  # sums of floats in another order move a tie now and then
    P = codes.shape[2]
    assert torch.allclose(torch.cat(list(net.decode_parts(codes, (0, P), CPU, 0)), 2), net.decode(codes), atol=1e-6)


@torch.inference_mode()
def test_a_part_from_the_middle(net):
    codes = torch.randint(64, (1, len(net.codebook_sizes), 400))
    part = torch.cat(list(net.decode_parts(codes, (300, 310), CPU, 0)), 2)
    assert torch.allclose(part, net.decode(codes)[..., 300 * 320 : 310 * 320], atol=1e-4)


def test_every_form_gives_the_same_weights(reference):
    """transformers' names; the authors' names, without a configuration."""
    here = encodec.from_checkpoint(Checkpoint(reference.state_dict(), reference.config.to_dict()))
    published = {as_published(name): tensor for name, tensor in reference.state_dict().items()}
    assert "encoder.model.0.conv.conv.weight_g" in published
    there = encodec.from_checkpoint(Checkpoint(published))
    assert here.arguments == there.arguments and here.tensors.keys() == there.tensors.keys()
    assert all(torch.equal(here.tensors[name], there.tensors[name]) for name in here.tensors)


def test_what_it_is_not(reference):
    assert encodec.from_checkpoint(Checkpoint({"encoder.weight": torch.zeros(2)})) is None
    assert encodec.from_checkpoint(Checkpoint(reference.state_dict(), {"model_type": "mimi"})) is None
    config = transformers.EncodecConfig(use_causal_conv=False, num_filters=4)  # as of MusicGen's
    other = transformers.EncodecModel(config)
    with pytest.raises(ModelError, match="24 and 48 kHz only"):
        encodec.from_checkpoint(Checkpoint(other.state_dict(), config.to_dict()))


@pytest.mark.parametrize(
    "gone", ["encoder.layers.1.block.1.conv.parametrizations.weight.original1", "encoder.layers.0"]
)
def test_a_damaged_checkpoint_is_refused(reference, gone):
    kept = {name: tensor for name, tensor in reference.state_dict().items() if not name.startswith(gone)}
    try:
        found = encodec.from_checkpoint(Checkpoint(kept, reference.config.to_dict()))
    except ModelError as error:
        assert "\n" not in str(error)
        return
    assert found is None
