"""SNAC beside the authors' own, with random weights."""

import itertools
import json
from unittest.mock import patch

import numpy as np
import pytest
import torch

import vqcli
from vqcli.errors import ModelError
from vqcli.nets.codecs import base, snac
from vqcli.nets.codecs.checkpoint import Checkpoint
from vqcli.nets.layers.noise import white_noise
from vqcli.progress import silent
from vqcli.zoo import importing, loading, store

RATE_HZ = 16_000
# as of 24 kHz, as of the others, and with what no released model has
KINDS = {
    "speech": {"encoder_rates": [2, 4], "attn_window_size": None, "vq_strides": [4, 2, 1]},
    "music": {"encoder_rates": [2, 3], "attn_window_size": 32, "vq_strides": [8, 4, 2, 1]},
    "odd": {
        **{"encoder_rates": [5, 2], "attn_window_size": 6, "vq_strides": [4, 1], "depthwise": False, "noise": False}
    },
}
LENGTHS = (1920, 4567, 31)  # whole positions of two, parts of one
CPU = torch.device("cpu")


def configuration(kind):
    return {
        **{"sampling_rate": RATE_HZ, "encoder_dim": 16, "decoder_dim": 64, "codebook_size": 64, "codebook_dim": 8},
        **{"noise": True, "depthwise": True, **KINDS[kind], "decoder_rates": KINDS[kind]["encoder_rates"][::-1]},
    }


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def authors(kind):
    library = pytest.importorskip("snac")
    torch.manual_seed(0)
    return lively(library.SNAC(**configuration(kind)).eval())


@torch.no_grad()
def lively(net):
    """Activations that differ, and codebooks that lie where the latents do, so that many codes occur."""
    for module in net.modules():
        if hasattr(module, "alpha"):
            module.alpha.uniform_(0.5, 2)
    residual = net.encoder(net.preprocess(wave(9600)))
    for level in net.quantizer.quantizers:
        z_e = level.in_proj(torch.nn.functional.avg_pool1d(residual, level.stride))[0].T
        level.codebook.weight.copy_(z_e.mean(0) + z_e.std(0) * torch.randn_like(level.codebook.weight))
        residual = residual - level(residual)[0]
    return net


@pytest.fixture(scope="module")
def net(authors, kind):
    return made_from(authors.state_dict(), configuration(kind))


def made_from(tensors, config):
    found = snac.from_checkpoint(Checkpoint(tensors, config))
    net = snac.Snac(**found.arguments).eval().requires_grad_(False)
    net.load_state_dict(found.tensors)
    return net


def wave(N):
    return 0.3 * torch.randn(1, 1, N, generator=torch.Generator().manual_seed(N))


def in_groups(net, rows):
    """The authors' codes, a tensor for each level, as codes of positions."""
    return torch.cat([row.view(1, -1, n).mT for row, n in zip(rows, net.level_codebooks, strict=False)], 1)


def with_our_noise(seed):
    """In place of the random numbers that the authors' decoder draws, layer by layer."""
    layers = iter(range(99))

    def noise(shape, **_):
        return white_noise(shape[0], 0, shape[2], seed, next(layers))[:, None]

    return patch("snac.layers.torch.randn", noise)


@pytest.mark.parametrize("N", LENGTHS)
@torch.inference_mode()
def test_it_equals_the_authors(authors, net, N):
    rows = authors.encode(wave(N))
    assert N < 100 or all(len(row.unique()) > min(20, row.shape[1] // 3) for row in rows)
    codes = in_groups(net, rows)
    assert torch.equal(net.encode(wave(N)), codes)
    assert codes.shape == (1, len(net.codebook_sizes), -(-N // net.stride))
    with with_our_noise(5):
        expected = authors.decode(rows)
    assert expected.std() > 0.01 and expected.shape[2] == codes.shape[2] * net.stride
    assert torch.allclose(net.decode_window(codes, 0, 5), expected, atol=1e-6)


@torch.inference_mode()
def test_the_first_levels_alone(authors, net):
    """Of which the authors' net is one with fewer."""
    rows = authors.encode(wave(1920))
    levels = authors.quantizer.n_codebooks
    for kept in range(1, levels + 1):
        authors.quantizer.n_codebooks = kept
        with with_our_noise(0):
            expected = authors.decode(rows)
        assert torch.allclose(net.decode(in_groups(net, rows[:kept])), expected, atol=1e-6)
    authors.quantizer.n_codebooks = levels


@pytest.mark.parametrize("N", LENGTHS)
@torch.inference_mode()
def test_windows_give_what_the_whole_gives(net, N, monkeypatch):
    codes = net.encode(wave(N))
    P = codes.shape[2]
    whole = net.decode_window(codes, 0, 3)
    monkeypatch.setattr(base, "WINDOW_S", max(2, P // 5) * net.stride / RATE_HZ)
    in_parts = torch.cat(list(net.encode_windows(wave(N)[0, 0].numpy(), base.Analysis(b""), CPU)), 1)
    assert torch.equal(in_parts, codes[0])
    assert torch.allclose(torch.cat(list(net.decode_parts(codes, (0, P), CPU, 3)), 2), whole, atol=1e-6)
    for start in range(0, P, 1 + P // 4):
        part = torch.cat(list(net.decode_parts(codes, (start, min(start + 3, P)), CPU, 3)), 2)
        assert torch.allclose(part, whole[..., start * net.stride :][..., : part.shape[2]], atol=1e-6)


@torch.inference_mode()
def test_noise_is_of_its_seed(net, kind):
    """And each channel has its own."""
    codes = net.encode(wave(1920)).expand(2, -1, -1)
    one, other = net.decode_window(codes, 0, 1), net.decode_window(codes, 0, 2)
    assert torch.equal(one, net.decode_window(codes, 0, 1))
    assert torch.equal(one, other) == torch.equal(one[0], one[1]) == (kind == "odd")


def test_margins_are_what_the_layers_reach(net):
    """At both ends of a position; a level is of its own position alone."""
    at, P = 8, 17
    frames, hop = net.frames, net.stride // net.frames
    x = wave(P * net.stride).requires_grad_()
    net.encoder(x)[..., at * frames : (at + 1) * frames].sum().backward()
    assert farthest(x.grad[0, 0].view(P, net.stride), at) == net.encoder_margin
    dim = net.quantizer.quantizers[0].in_proj.in_channels
    z_q = torch.randn(1, dim, P * frames, requires_grad=True)
    y = net.decoder(z_q, snac.Place())
    assert y.shape[2] == P * frames * hop
    y[..., at * net.stride : (at + 1) * net.stride].sum().backward()
    assert farthest(z_q.grad[0].abs().sum(0).view(P, frames), at) == net.decoder_margin


def farthest(gradients, at):
    reached = gradients.any(1).nonzero()
    return max(at - reached.min(), reached.max() - at)


def test_every_form_gives_the_same_weights(authors, net, kind):
    """As published; with the names of an older weight norm; ours; and the frequencies that attention turns by gone."""
    config = configuration(kind)
    here = snac.from_checkpoint(Checkpoint(authors.state_dict(), config))
    older = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in authors.state_dict().items()
    }
    assert "encoder.block.0.weight_g" in older
    for tensors in (older, here.tensors, net.state_dict()):
        there = snac.from_checkpoint(Checkpoint(tensors, config))
        assert there.arguments == here.arguments and there.tensors.keys() == here.tensors.keys()
        assert all(torch.equal(here.tensors[name], there.tensors[name]) for name in here.tensors)


def test_what_is_known_without_a_configuration():
    sizes = {"width": 1, "decoder_width": 16, "K": 2}
    net = snac.Snac(**sizes)
    arguments = snac.from_checkpoint(Checkpoint(net.state_dict())).arguments
    assert snac.Snac(**arguments).level_codebooks == net.level_codebooks and arguments["rate_hz"] == 24_000
    sizes |= {"width": 4, "decoder_width": 64, "strides": [2, 3, 8, 8], "decoder_strides": [8, 8, 3, 2]}
    net = snac.Snac(**sizes, window=32, level_strides=[8, 4, 2, 1])
    with pytest.raises(ModelError, match="of which sampling rate"):  # 32 and 44.1 kHz are alike
        snac.from_checkpoint(Checkpoint(net.state_dict()))
    there = snac.from_checkpoint(Checkpoint(net.state_dict(), {"sampling_rate": 32_000})).arguments
    assert (there["window"], there["level_strides"]) == (32, [8, 4, 2, 1])


@pytest.mark.parametrize(
    "said",
    [
        {"sampling_rate": "fast"},
        {"attn_window_size": None},
        {"attn_window_size": 10**12},
        {"vq_strides": [2, 1]},
        {"vq_strides": [8, 4, 0, 1]},
        {"vq_strides": [10**12] * 4},
        {"vq_strides": 4},
    ],
)
def test_configurations_of_something_else_are_refused(said):
    net = snac.Snac(16, [2, 3], 64, [3, 2], window=32, level_strides=[8, 4, 2, 1], K=4)
    refused(net.state_dict(), configuration("music") | said)


def refused(tensors, config):
    with pytest.raises(ModelError) as caught:
        importing.checked(*importing.recognised(Checkpoint(tensors, config), "here"))
    assert "\n" not in f"{caught.value}{caught.value.hint}"


def test_a_damaged_checkpoint_is_refused():
    """Whichever tensor it is: as none of SNAC, as not complete, or as one that does not fit the net."""
    damages = itertools.cycle([None, torch.zeros(3), torch.zeros(0, 1, 7), torch.zeros(1, 3, 1)])
    net = snac.Snac(32, [2], 64, [2], window=4, level_strides=[2, 1], K=4, code_dim=2)
    config = {"sampling_rate": RATE_HZ, "attn_window_size": 4}
    assert importing.recognised(Checkpoint(net.state_dict(), config), "here")[0] == "snac"
    for gone, damage in zip(net.state_dict(), damages, strict=False):
        tensors = {name: tensor for name, tensor in net.state_dict().items() if name != gone}
        refused(tensors | ({gone: damage} if damage is not None else {}), config)


def test_a_file_goes_there_and_back(authors, kind, tmp_path, monkeypatch):
    """Weights as the hub has them, a recording, a .vqz file whose levels are of unequal size, parts of it."""
    monkeypatch.setattr(store, "user_folder", lambda: tmp_path / "models")
    folder = tmp_path / "snac_small"
    folder.mkdir()
    torch.save(authors.state_dict(), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(configuration(kind)))
    model = loading.load(importing.import_model(importing.source_of(str(folder))))
    samples = wave(4567)[0].numpy()
    encoded = vqcli.encode(samples, model, rate_hz=RATE_HZ, coder="packed")
    encoded.save(tmp_path / "x.vqz")
    assert encoded.header.version == 3 and encoded.header.level_groups == model.net.level_codebooks
    decoded = vqcli.decode(tmp_path / "x.vqz")
    assert decoded.header.version == 3 and np.array_equal(decoded.codes, encoded.codes)
    assert decoded.samples.shape == (1, 4567) and decoded.samples.std() > 0.01
    with torch.inference_mode(), with_our_noise(0):
        expected = authors.decode(authors.encode(torch.from_numpy(samples)[None]))[0, :, :4567]
    assert np.allclose(decoded.samples, expected, atol=1e-6)

    first = vqcli.decode(tmp_path / "x.vqz", levels=1)
    count = model.net.level_codebooks[0]
    assert np.array_equal(first.codes, encoded.codes[:, :count]) and first.samples.shape == (1, 4567)
    fewer = vqcli.encode(samples, model, rate_hz=RATE_HZ, coder="packed", levels=1)
    assert len(fewer.data) < len(encoded.data) and np.array_equal(fewer.codes, first.codes)
    part = vqcli.decode(tmp_path / "x.vqz", start_s=0.1, end_s=0.2)
    assert np.allclose(part.samples, decoded.samples[:, 1600:3200], atol=1e-6)


@torch.inference_mode()
def test_channels_are_decoded_together(net):
    codes = torch.cat([net.encode(wave(1920)), net.encode(-wave(1920))])
    parts = net.decode_windows(codes.numpy(), [b"", b""], (0, codes.shape[2]), seed=3, progress=silent)
    together = np.concatenate(list(parts), 1)
    assert np.allclose(together, net.decode_window(codes, 0, 3)[:, 0], atol=1e-6)
    assert np.allclose(together[:1], net.decode_window(codes[:1], 0, 3)[:, 0], atol=1e-6)
