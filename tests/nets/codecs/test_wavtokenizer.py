"""WavTokenizer beside transformers' own, with random weights; and what it does with long signals."""

import json

import numpy as np
import pytest
import safetensors.torch as safetensors
import torch

import vqcli
from vqcli.errors import ModelError
from vqcli.nets.codecs import base, waveform, wavtokenizer
from vqcli.nets.codecs.checkpoint import Checkpoint
from vqcli.nets.layers import stream
from vqcli.zoo import importing, loading, store

STRIDE = 60
RATE_HZ = 24_000
LENGTHS = (90 * STRIDE, 5641, 31)  # whole codes, a part of one, less than one
CPU = torch.device("cpu")
NET = {"width": 4, "dim": 16, "ratios": [5, 4, 3], "blocks": 2}
SIZES = {"net": NET, "K": 64, "width": 32, "blocks": 2, "groups": 8, "n": 4 * STRIDE}


def wave(N):
    return 0.3 * torch.randn(1, 1, N, generator=torch.Generator().manual_seed(N))


@pytest.fixture(scope="module")
def own():
    """A net of vq, its codebook where its latents lie, so that many codes occur."""
    torch.manual_seed(0)
    net = wavtokenizer.WavTokenizer(**SIZES).eval().requires_grad_(False)
    z_e = stream.through(net.encoder, wave(400 * STRIDE), stream.whole())[0].T
    net.quantizer.codebooks.copy_(z_e.mean(0) + z_e.std(0) * torch.randn(1, 64, 16))
    return net


@pytest.fixture(scope="module")
def reference():
    transformers = pytest.importorskip("transformers")
    with pytest.MonkeyPatch.context() as patch:  # it is not needed, and one for another torch cannot be imported
        patch.setattr("transformers.utils.is_torchaudio_available", lambda: False)
        config = transformers.WavTokenizerConfig(
            **{"num_filters": 4, "upsampling_ratios": [5, 4, 3], "num_residual_layers": 2, "hidden_size": 16},
            **{"codebook_size": 64, "codebook_dim": 16, "decoder_hidden_size": 32, "decoder_intermediate_size": 96},
            **{"decoder_num_layers": 2, "decoder_attention_num_groups": 8},
        )
        torch.manual_seed(0)
        model = transformers.WavTokenizerModel(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.copy_(0.5 + torch.rand_like(weight))
            elif name.endswith(("q.weight", "k.weight")):
                weight.mul_(2)
        z_e = model.encoder_model.encoder(wave(400 * STRIDE))[0].T
        embed = model.encoder_model.quantizer.codebook.embed
        embed.copy_(z_e.mean(0) + z_e.std(0) * torch.randn_like(embed))
    return model


@pytest.fixture(scope="module")
def folder(reference, tmp_path_factory):
    """As transformers writes it."""
    folder = tmp_path_factory.mktemp("wavtokenizer")
    reference.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(folder):
    tensors = safetensors.load_file(folder / "model.safetensors")
    return Checkpoint(tensors, json.loads((folder / "config.json").read_text()))


@pytest.fixture(scope="module")
def net(checkpoint):
    found = wavtokenizer.from_checkpoint(checkpoint)
    net = wavtokenizer.WavTokenizer(**found.arguments).eval().requires_grad_(False)
    net.load_state_dict(found.tensors)
    return net


def as_published(tensors):
    """Tensors of transformers as the authors' file has them, which has more, in a row with its discriminators."""
    found = {"head.istft.window": torch.ones(4), "multiperioddisc.discriminators.0.conv_post.bias": torch.ones(1)}
    for name, tensor in tensors.items():
        name = name.replace("encoder_model.quantizer.codebook.", "encoder_model.quantizer.vq.layers.0._codebook.")
        name = name.replace("encoder_model.encoder.layers.", "encoder_model.encoder.model.")
        name = name.replace(".conv.", ".conv.conv.").replace("encoder_model.", "feature_extractor.encodec.")
        name = name.replace("parametrizations.weight.original0", "weight_g").replace("head.linear.", "head.out.")
        found[name.replace("parametrizations.weight.original1", "weight_v")] = tensor
    found["feature_extractor.encodec.decoder.model.0.conv.conv.bias"] = torch.ones(3)
    return found


@pytest.mark.parametrize("N", LENGTHS)
@torch.inference_mode()
def test_it_equals_the_reference(reference, net, N):
    latents = reference.encoder_model.encoder(wave(N))
    ours = stream.through(net.encoder, wave(N), stream.whole())
    assert (ours - latents).abs().max() <= 1e-4 * latents.abs().max()
    codes = reference.encode(wave(N)).audio_codes
    assert net.encode(wave(N)).shape == codes.shape == (1, 1, -(-N // STRIDE))
    assert (net.encode(wave(N)) == codes).float().mean() >= 0.999
    assert len(codes.unique()) > 10 or N < STRIDE
    expected = reference.decode(codes).audio_values
    assert expected.shape == (1, 1, codes.shape[2] * STRIDE)
    assert (net.decode(codes) - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_every_form_gives_the_same_weights(checkpoint):
    here = wavtokenizer.from_checkpoint(checkpoint)
    published = as_published(checkpoint.tensors)
    assert "feature_extractor.encodec.encoder.model.1.block.1.conv.conv.weight_v" in published
    assert "feature_extractor.encodec.quantizer.vq.layers.0._codebook.embed" in published
    there = wavtokenizer.from_checkpoint(Checkpoint(published, {"model": {"class_path": "decoder.experiment"}}))
    assert here.arguments | {"groups": 32} == there.arguments
    assert here.tensors.keys() == there.tensors.keys()
    assert all(torch.equal(here.tensors[name], there.tensors[name]) for name in here.tensors)


@pytest.mark.parametrize("N", [*LENGTHS, 90 * STRIDE + 1, 91 * STRIDE - 1])
@torch.inference_mode()
def test_an_encoder_that_looks_ahead_can_see_parts(own, N, monkeypatch):
    monkeypatch.setattr(own.quantizer, "encode", lambda z_e: z_e)  # latents in place of codes: none are ties
    z_e = own.encode(wave(N))[0]
    assert z_e.shape[1] == -(-N // STRIDE)
    for positions in (45, 13):  # the last part can be less than a position
        monkeypatch.setattr(base, "WINDOW_S", positions * STRIDE / RATE_HZ)
        parts = list(own.encode_windows(wave(N)[0, 0].numpy(), base.Analysis(b""), CPU))
        assert torch.allclose(torch.cat(parts, 1), z_e, atol=1e-5 * float(z_e.abs().max()))
        assert N < STRIDE or parts[0].shape[1] < positions


@pytest.fixture
def short(monkeypatch):
    """Segments of 100 positions."""
    monkeypatch.setattr(waveform, "SEGMENT_S", 100 * STRIDE / RATE_HZ)
    monkeypatch.setattr(waveform, "MARGIN_S", 30 * STRIDE / RATE_HZ)
    monkeypatch.setattr(waveform, "FADE_S", 10 * STRIDE / RATE_HZ)


def some_codes(P):
    return torch.randint(64, (1, 1, P), generator=torch.Generator().manual_seed(P))


def decoded(net, codes, part=None):
    return torch.cat(list(net.decode_parts(codes, part or (0, codes.shape[2]), CPU, 0)), 2)


@torch.inference_mode()
def test_a_short_signal_is_decoded_as_a_whole(own, short):
    codes = some_codes(100)
    assert torch.equal(decoded(own, codes), own.decode(codes))
    assert torch.equal(decoded(own, codes, (7, 31)), own.decode(codes)[..., 7 * STRIDE : 31 * STRIDE])


@pytest.mark.parametrize("P", [101, 250, 300])
@torch.inference_mode()
def test_parts_of_a_long_one_are_those_of_all_segments(own, short, P):
    codes = some_codes(P)
    all_of_it = decoded(own, codes)
    assert all_of_it.shape[2] == P * STRIDE
    cut = P // -(-P // 100)
    for part in [(0, 1), (cut - 8, cut - 2), (cut - 1, cut + 1), (cut + 2, cut + 4), (cut + 5, P), (P - 1, P)]:
        first, last = max(part[0] - own.decoder_margin, 0), part[1] + own.decoder_margin
        known = torch.zeros_like(codes)
        known[..., first:last] = codes[..., first:last]
        assert torch.equal(decoded(own, known, part), all_of_it[..., part[0] * STRIDE : part[1] * STRIDE])


@torch.inference_mode()
def test_one_segment_fades_into_the_next(own, short):
    """Around a cut; away from it, each is as decoded with its margins."""
    codes = some_codes(200)
    all_of_it = decoded(own, codes)
    first, second = own.decode(codes[..., :130])[..., 70 * STRIDE :], own.decode(codes[..., 70:])[..., : 60 * STRIDE]
    middle, fade = all_of_it[..., 70 * STRIDE : 130 * STRIDE], torch.linspace(0, 1, 10 * STRIDE)
    at = slice(25 * STRIDE, 35 * STRIDE)
    assert torch.equal(middle[..., : at.start], first[..., : at.start])
    assert torch.equal(middle[..., at.stop :], second[..., at.stop :])
    expected = torch.lerp(first[..., at], second[..., at], fade)
    assert (middle[..., at] - expected).abs().max() <= 2e-3 * expected.abs().max()
    assert (first - second).abs().max() > 2e-3 * expected.abs().max()


@torch.inference_mode()
def test_a_file_goes_there_and_back(reference, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "user_folder", lambda: tmp_path / "models")
    model = loading.load(importing.import_model(importing.source_of(str(folder)), "wavtokenizer-small"))
    samples = wave(5641)[0].numpy()
    encoded = vqcli.encode(samples, model, rate_hz=RATE_HZ)
    encoded.save(tmp_path / "x.vqz")
    result = vqcli.decode(tmp_path / "x.vqz")
    codes = reference.encode(torch.from_numpy(samples)[None]).audio_codes
    assert (result.codes == codes.numpy()).mean() >= 0.999
    expected = reference.decode(codes).audio_values[0, :, :5641]
    assert result.samples.shape == (1, 5641) and np.abs(result.samples - expected.numpy()).max() <= 1e-4
    part = vqcli.decode(tmp_path / "x.vqz", start_s=0.1, end_s=0.2)
    assert np.allclose(part.samples, result.samples[:, 2400:4800], atol=1e-6)


def test_the_defaults_are_of_the_model_of_40_codes():
    with torch.device("meta"):
        net = wavtokenizer.WavTokenizer()
    assert (net.rate_hz / net.stride, net.levels, net.codebook_sizes) == (40, 1, (4096,))
    assert net.decoder_margin == 40 * 63 + 20


@pytest.mark.parametrize(
    "odd", [{"net": {"channels": 2}}, {"n": 4 * STRIDE + 2}, {"n": STRIDE}, {"groups": 7}, {"rate_hz": 500}]
)
def test_odd_sizes_are_refused(odd):
    arguments = SIZES | odd | {"net": NET | odd.get("net", {})}
    with pytest.raises(ValueError):
        wavtokenizer.WavTokenizer(**arguments)


def test_what_it_is_not(checkpoint):
    assert wavtokenizer.from_checkpoint(Checkpoint({"encoder.weight": torch.zeros(2)})) is None
    assert wavtokenizer.from_checkpoint(Checkpoint({}, {"model_type": "encodec"})) is None
    for odd in ({"use_causal_conv": True}, {"norm_type": "time_group_norm"}, {"norm_eps": 1e-5}):
        with pytest.raises(ModelError, match="does not know WavTokenizer with"):
            wavtokenizer.from_checkpoint(Checkpoint(checkpoint.tensors, {**checkpoint.config, **odd}))
    for odd in ({"decoder_attention_num_groups": 5}, {"dilation_growth_rate": 10**6}, {"pad_mode": ["reflect"]}):
        found = wavtokenizer.from_checkpoint(Checkpoint(checkpoint.tensors, {**checkpoint.config, **odd}))
        with pytest.raises(ModelError):
            importing.checked("wavtokenizer", found)


@pytest.mark.parametrize(
    "name",
    [
        *("encoder_model.encoder.layers.0.conv.bias", "encoder_model.encoder.layers.1.block", "encoder_model.encoder"),
        *("encoder_model.quantizer.codebook.embed", "backbone.convnext", "backbone.pos_net.2", "backbone.norm.scale"),
        *("head.linear.bias", "head", ""),
    ],
)
def test_a_damaged_checkpoint_is_refused(checkpoint, name):
    kept = {its: tensor for its, tensor in checkpoint.tensors.items() if not its.startswith(name)}
    odd = {its: tensor[:1, None] if its.startswith(name) else tensor for its, tensor in checkpoint.tensors.items()}
    assert len(kept) < len(checkpoint.tensors)
    for tensors in (kept, odd):
        with pytest.raises(ModelError) as error:
            importing.checked("wavtokenizer", wavtokenizer.from_checkpoint(Checkpoint(tensors, checkpoint.config)))
        assert "\n" not in str(error.value)
