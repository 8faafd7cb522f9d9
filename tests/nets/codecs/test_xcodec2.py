"""The decoders of X-Codec 2 and NeuCodec beside transformers' own, with random weights."""

import json

import numpy as np
import pytest
import safetensors.torch as safetensors
import torch
from typer.testing import CliRunner

import vqcli
from vqcli.cli.main import app
from vqcli.errors import ModelError
from vqcli.nets.codecs import xcodec2
from vqcli.nets.codecs.checkpoint import Checkpoint
from vqcli.zoo import importing, loading, store

KINDS = {"xcodec2": ("Xcodec2", 16_000, 20), "neucodec": ("NeuCodec", 24_000, 30)}  # class, rate, samples of a code
SMALL = {
    **{"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16, "num_hidden_layers": 2},
    **{"intermediate_size": 96, "encoder_hidden_size": 4, "downsampling_ratios": [2, 2, 5], "quantization_dim": 96},
    "semantic_model_config": {
        **{"model_type": "wav2vec2-bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"intermediate_size": 32},
    },
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def reference(kind):
    """A small net whose transformer matters."""
    transformers = pytest.importorskip("transformers")
    with pytest.MonkeyPatch.context() as patch:  # it is not needed, and one for another torch cannot be imported
        patch.setattr("transformers.utils.is_torchaudio_available", lambda: False)
        name = KINDS[kind][0]
        torch.manual_seed(0)
        model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**SMALL)).eval()
    with torch.no_grad():
        for name, weight in model.acoustic_decoder.named_parameters():
            if "norm" in name:
                weight.copy_(0.5 + torch.rand_like(weight))
            elif "_proj" in name or "mlp" in name:
                weight.mul_(8)
    return model


@pytest.fixture(scope="module")
def folder(reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("xcodec2")
    reference.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(folder):
    tensors = safetensors.load_file(folder / "model.safetensors")
    return Checkpoint(tensors, json.loads((folder / "config.json").read_text()))


@pytest.fixture(scope="module")
def net(checkpoint):
    found = xcodec2.from_checkpoint(checkpoint)
    net = xcodec2.XCodec2(**found.arguments).eval().requires_grad_(False)
    net.load_state_dict(found.tensors)
    return net


def some_codes(P):
    return torch.randint(2**16, (1, 1, P), generator=torch.Generator().manual_seed(P))


@pytest.mark.parametrize("P", [1, 50, 333])
@torch.inference_mode()
def test_it_equals_the_reference(reference, net, kind, P):
    _, rate_hz, stride = KINDS[kind]
    assert (net.rate_hz, net.stride, net.codebook_sizes) == (rate_hz, stride, (2**16,))
    expected = reference.decode(audio_codes=some_codes(P)).audio_values
    assert expected.shape == (1, 1, P * stride)
    assert (net.decode(some_codes(P)) - expected).abs().max() <= 1e-4 * expected.abs().max()
    for layer in net.layers:
        layer.o.weight.mul_(-1)
    assert P == 1 or (net.decode(some_codes(P)) - expected).abs().max() > 1e-3 * expected.abs().max()
    for layer in net.layers:
        layer.o.weight.mul_(-1)


@torch.inference_mode()
def test_numbers_of_a_code(reference, net):
    codes = torch.tensor([0, 1, 3, 4, 2**16 - 1, 12_345])
    assert torch.equal(net.points(codes), reference.quantizer.quantizer.codebook[codes])


@torch.inference_mode()
def test_codes_of_others_become_a_file(reference, folder, kind, tmp_path, monkeypatch):
    """Through the command line; and a recording does not, for a reason."""
    monkeypatch.setattr(store, "user_folder", lambda: tmp_path / "models")
    monkeypatch.setattr(loading, "_loaded", {}, raising=False)
    importing.import_model(importing.source_of(str(folder)), "small")
    codes = some_codes(50)
    np.save(tmp_path / "codes.npy", codes[0].numpy())
    vq = CliRunner()
    result = vq.invoke(app, ["import", str(tmp_path / "codes.npy"), "--model", "small", "-o", str(tmp_path / "x.vqz")])
    assert result.exit_code == 0, result.output
    decoded = vqcli.decode(tmp_path / "x.vqz")
    assert np.array_equal(decoded.codes[0], codes[0].numpy())
    expected = reference.decode(audio_codes=codes).audio_values[0].numpy()
    assert np.abs(decoded.samples - expected).max() <= 1e-4 * np.abs(expected).max()

    decoded.save(tmp_path / "x.wav")
    result = vq.invoke(app, ["encode", str(tmp_path / "x.wav"), "--model", "small", "-o", str(tmp_path / "y.vqz")])
    assert result.exit_code != 0 and "w2v-BERT" in result.output and not (tmp_path / "y.vqz").exists()


def test_the_defaults_are_of_x_codec_2():
    with torch.device("meta"):
        net = xcodec2.XCodec2()
    assert (net.rate_hz / net.stride, net.levels, net.codebook_sizes) == (50, 1, (2**16,))
    with pytest.raises(ModelError, match="w2v-BERT"):
        net.encode(torch.zeros(1, 1, 320))


def test_what_it_is_not(checkpoint):
    assert xcodec2.from_checkpoint(Checkpoint(checkpoint.tensors, {"model_type": "xcodec"})) is None
    for odd in ({"hidden_act": "gelu"}, {"attention_bias": True}, {"rope_parameters": {"rope_type": "yarn"}}):
        with pytest.raises(ModelError, match="does not know X-Codec 2 with"):
            xcodec2.from_checkpoint(Checkpoint(checkpoint.tensors, {**checkpoint.config, **odd}))
    for odd in (
        *({"quantization_levels": [4] * 7}, {"quantization_levels": [16] * 8}, {"quantization_levels": "4"}),
        *({"num_attention_heads": 5}, {"num_attention_heads": "4"}, {"num_attention_heads": -4}),
    ):
        with pytest.raises(ModelError):
            found = xcodec2.from_checkpoint(Checkpoint(checkpoint.tensors, {**checkpoint.config, **odd}))
            importing.checked("xcodec2", found)


@pytest.mark.parametrize("name", ["quantizer.project_out", "acoustic_decoder.layers", "acoustic_decoder.head", ""])
def test_a_damaged_checkpoint_is_refused(checkpoint, name):
    kept = {its: tensor for its, tensor in checkpoint.tensors.items() if not its.startswith(name)}
    odd = {its: tensor[:1, None] if its.startswith(name) else tensor for its, tensor in checkpoint.tensors.items()}
    assert len(kept) < len(checkpoint.tensors)
    for tensors in (kept, odd):
        with pytest.raises(ModelError) as error:
            importing.checked("xcodec2", xcodec2.from_checkpoint(Checkpoint(tensors, checkpoint.config)))
        assert "\n" not in str(error.value)
