"""Mimi beside transformers' own, with random weights."""

import json
import re

import pytest
import safetensors.torch as safetensors
import torch

from vqcli.errors import ModelError
from vqcli.nets.codecs import base, mimi
from vqcli.nets.codecs.checkpoint import Checkpoint
from vqcli.nets.layers import stream
from vqcli.zoo import importing

STRIDE = 120
LENGTHS = (48 * STRIDE, 5641, 97)  # whole positions, a part of one (both beyond the attention window), less than one
CPU = torch.device("cpu")
HEADS = 8  # as many as the authors' file, which does not tell, has


@pytest.fixture(scope="module")
def reference():
    """A small net whose transformers matter, and whose codebooks lie where its latents do, so that many codes occur."""
    transformers = pytest.importorskip("transformers")
    with pytest.MonkeyPatch.context() as patch:  # Mimi does not need it, and one for another torch cannot be imported
        patch.setattr("transformers.utils.is_torchaudio_available", lambda: False)
        config = transformers.MimiConfig(
            **{"num_filters": 4, "hidden_size": 32, "num_residual_layers": 2, "upsampling_ratios": [5, 4, 3]},
            **{"num_hidden_layers": 2, "num_attention_heads": HEADS, "num_key_value_heads": HEADS},
            **{"intermediate_size": 48, "sliding_window": 20, "upsample_groups": 32},
            **{"num_quantizers": 6, "num_semantic_quantizers": 2, "codebook_size": 64},
            **{"codebook_dim": 16, "vector_quantization_hidden_dimension": 16},
        )
        torch.manual_seed(0)
        model = transformers.MimiModel(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("layer_scale.scale", "layernorm.weight")):
                weight.copy_(0.5 + torch.rand_like(weight))
            elif "_proj.weight" in name:
                weight.mul_(8)
        z_e = model.encoder(wave(400 * STRIDE)).latents
        place(model.quantizer.semantic_residual_vector_quantizer, z_e)
        place(model.quantizer.acoustic_residual_vector_quantizer, z_e)
    return model


def place(quantizer, z_e):
    """Give each codebook the mean and spread of what it quantizes, as sums over random usages."""
    residual = quantizer.input_proj(z_e)
    for layer in quantizer.layers:
        book, flat = layer.codebook, residual[0].T
        vectors = flat.mean(0) + flat.std(0) * torch.randn_like(book.embed_sum)
        book.cluster_usage.copy_(3 * torch.rand(len(vectors)))
        book.cluster_usage[0] = 0
        book.embed_sum.copy_(vectors * book.cluster_usage.clamp(min=1e-5)[:, None])
        residual = residual - layer.decode(layer.encode(residual))


def wave(N):
    return 0.3 * torch.randn(1, 1, N, generator=torch.Generator().manual_seed(N))


@pytest.fixture(scope="module")
def checkpoint(reference, tmp_path_factory):
    """As transformers writes it, whose names in files are others than in memory."""
    folder = tmp_path_factory.mktemp("mimi")
    reference.save_pretrained(folder)
    tensors = safetensors.load_file(folder / "model.safetensors")
    return Checkpoint(tensors, json.loads((folder / "config.json").read_text()))


AUTHORS = (
    *((".layers.", ".model."), ("_transformer.model.", "_transformer.transformer.layers."), (".o_proj.", ".out_proj.")),
    *((".mlp.fc", ".linear"), (".input_layernorm.", ".norm1."), (".post_attention_layernorm.", ".norm2.")),
    *((".self_attn_layer_scale.", ".layer_scale_1."), (".mlp_layer_scale.", ".layer_scale_2.")),
    *(("semantic_residual_vector_quantizer.", "rvq_first."), ("acoustic_residual_vector_quantizer.", "rvq_rest.")),
    *((".codebook.", "._codebook."), (".embed_sum", ".embedding_sum"), (".initialized", "._initialized")),
)


def as_published(tensors):
    """Tensors of transformers as the authors' file has them."""
    found = {}
    for name, tensor in tensors.items():
        head, conv, tail = name.rpartition("conv.")
        if conv:
            transposed = re.fullmatch(r"upsample\.|decoder\.layers\.(2|6|10)\.", head)
            nested = 3 if head in ("upsample.", "downsample.") else 2
            name = head + ("convtr." if transposed else "conv.") * nested + tail
        for its, theirs in AUTHORS:
            name = name.replace(its, theirs)
        found[re.sub(r"(rvq_\w+)\.model\.", r"\1.vq.layers.", name)] = tensor
    for name in [name for name in found if name.endswith("q_proj.weight")]:
        head = name.removesuffix("q_proj.weight")
        query, key, value = (found.pop(f"{head}{part}_proj.weight") for part in "qkv")
        # rotary positions turn neighbouring rows of a head as a pair
        query, key = (rows.unflatten(0, (HEADS, 2, -1)).transpose(1, 2).flatten(0, 2) for rows in (query, key))
        found[f"{head}in_proj_weight"] = torch.cat([query, key, value])
    return found


@pytest.fixture(scope="module")
def net(checkpoint):
    return made_from(checkpoint)


def made_from(checkpoint):
    found = mimi.from_checkpoint(checkpoint)
    net = mimi.Mimi(**found.arguments).eval().requires_grad_(False)
    net.load_state_dict(found.tensors)
    return net


@pytest.mark.parametrize("N", LENGTHS)
@torch.inference_mode()
def test_it_equals_the_reference(reference, net, N):
    codes = reference.encode(wave(N)).audio_codes
    ours = net.encode(wave(N))
    assert ours.shape == codes.shape == (1, 6, -(-N // STRIDE))
    assert (ours == codes).float().mean() >= 0.999
    assert all(len(plane.unique()) > 10 for plane in codes[0]) or N < STRIDE
    for levels in (1, 2, 3, 6):
        expected = reference.decode(codes[:, :levels]).audio_values
        assert (net.decode(codes[:, :levels]) - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("N", LENGTHS)
@torch.inference_mode()
def test_windows_give_what_the_whole_gives(net, N, monkeypatch):
    codes = net.encode(wave(N))
    P = codes.shape[2]
    whole = net.decode(codes)
    for positions in (7, 1):
        monkeypatch.setattr(base, "WINDOW_S", positions * STRIDE / net.rate_hz)
        parts = torch.cat(list(net.encode_windows(wave(N)[0, 0].numpy(), base.Analysis(b""), CPU)), 1)
        assert (parts == codes[0]).float().mean() >= 0.999
        parts = torch.cat(list(net.decode_parts(codes, (0, P), CPU, 0)), 2)
        assert (parts - whole).abs().max() <= 1e-4 * whole.abs().max()


@torch.inference_mode()
def test_a_part_from_the_middle_is_that_of_the_whole(net, monkeypatch):
    codes = torch.randint(64, (1, 6, 90), generator=torch.Generator().manual_seed(0))
    whole = net.decode(codes)[..., 60 * STRIDE : 63 * STRIDE]

    def difference():
        part = torch.cat(list(net.decode_parts(codes, (60, 63), CPU, 0)), 2)
        return (part - whole).abs().max() / whole.abs().max()

    assert difference() <= 1e-5
    monkeypatch.setattr(net, "decoder_margin", 8)
    assert difference() > 1e-5


def test_the_margin_is_what_the_layers_look_back(checkpoint):
    """By the gradients of the samples of one position: the one furthest back that any of them depends on."""
    net = made_from(checkpoint).double()
    z_q = torch.randn(1, 32, 40, dtype=torch.float64, requires_grad=True)
    layers = (net.upsample, net.decoder_transformer, *net.decoder)
    stream.through(layers, z_q, stream.whole())[..., 35 * STRIDE : 36 * STRIDE].square().sum().backward()
    assert z_q.grad.abs().sum((0, 1)).nonzero().min() == 35 - net.decoder_margin


def test_every_form_gives_the_same_weights(checkpoint):
    """transformers' names; the authors' names, with a configuration, of a language model, without any."""
    here = mimi.from_checkpoint(checkpoint)
    published = as_published(checkpoint.tensors)
    assert "encoder.model.1.block.1.conv.conv.weight" in published
    assert "decoder.model.2.convtr.convtr.weight" in published
    assert "decoder_transformer.transformer.layers.1.self_attn.in_proj_weight" in published
    assert "quantizer.rvq_rest.vq.layers.3._codebook.embedding_sum" in published
    for config in (checkpoint.config, {"model_type": "moshi", "num_attention_heads": 32}, {}):
        there = mimi.from_checkpoint(Checkpoint(published, config))
        window = 20 if config is checkpoint.config else 250
        assert there.arguments.pop("transformer") == here.arguments["transformer"] | {"window": window}
        assert there.arguments.items() <= here.arguments.items()
        assert here.tensors.keys() == there.tensors.keys()
        assert all(torch.equal(here.tensors[name], there.tensors[name]) for name in here.tensors)


def test_the_defaults_are_of_mimi():
    with torch.device("meta"):
        net = mimi.Mimi()
    assert (net.rate_hz / net.stride, net.levels, set(net.codebook_sizes)) == (12.5, 32, {2048})
    assert net.group_names[:2] == ["semantic", "acoustic"] and net.decoder_margin == 1001


def test_what_it_is_not(checkpoint):
    assert mimi.from_checkpoint(Checkpoint({"encoder.weight": torch.zeros(2)})) is None
    assert mimi.from_checkpoint(Checkpoint({}, {"model_type": "encodec"})) is None
    for odd in ({"use_causal_conv": False}, {"rope_parameters": {"rope_type": "yarn"}}, {"audio_channels": 2}):
        with pytest.raises(ModelError, match="does not know Mimi with"):
            mimi.from_checkpoint(Checkpoint(checkpoint.tensors, {**checkpoint.config, **odd}))
    for odd in ({"sliding_window": None}, {"num_attention_heads": "8"}, {"rope_parameters": {"rope_theta": []}}):
        with pytest.raises(ModelError):
            mimi.from_checkpoint(Checkpoint(checkpoint.tensors, {**checkpoint.config, **odd}))


@pytest.mark.parametrize(
    "name",
    [
        *("encoder.layers.0.conv.weight", "encoder.layers.1.block.1.conv.weight", "downsample.conv.weight"),
        *("encoder_transformer.layers.0.mlp.fc1.weight", "decoder_transformer.layers.1", "upsample"),
        *("quantizer.semantic_residual_vector_quantizer.layers.0.codebook.embed_sum", "quantizer", ""),
        "quantizer.acoustic_residual_vector_quantizer.layers.1.codebook.cluster_usage",
        # the authors'
        *("encoder.model.0.conv.conv.weight", "encoder_transformer.transformer.layers.0.self_attn.in_proj_weight"),
        "quantizer.rvq_rest.vq.layers.2",
    ],
)
def test_a_damaged_checkpoint_is_refused(checkpoint, name):
    all_of_it = checkpoint.tensors
    if not any(its.startswith(name) for its in all_of_it):
        all_of_it = as_published(all_of_it)
    kept = {its: tensor for its, tensor in all_of_it.items() if not its.startswith(name)}
    odd = {its: tensor[:1, None] if its.startswith(name) else tensor for its, tensor in all_of_it.items()}
    assert len(kept) < len(all_of_it)
    for tensors in (kept, odd):
        with pytest.raises(ModelError) as error:
            importing.checked("mimi", mimi.from_checkpoint(Checkpoint(tensors, checkpoint.config)))
        assert "\n" not in str(error.value)
