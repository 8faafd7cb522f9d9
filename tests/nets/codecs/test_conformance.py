"""One test over every family of codecs: a new one joins by being there."""

import pkgutil
from importlib import import_module

import numpy as np
import pytest
import torch

from vqcli.errors import BadFile, ModelError
from vqcli.nets import codecs
from vqcli.nets.codecs import base
from vqcli.progress import silent

# arguments of families that have no defaults, or defaults too large for a test
SMALL = {
    "vqvae2d": {"widths": [8, 8], "dim": 8, "blocks": 1},
    "vae2d": {"widths": [8, 8], "dim": 8, "blocks": 1},
    "vimco2d": {"widths": [8, 8], "dim": 8, "blocks": 1, "K": 4, "samples": 2},
    "twostage2d": {
        "first": {"widths": [8, 8], "dim": 8, "blocks": 1},
        "side": 32,
        "widths": [8, 8, 8],
        "decoder": {"width": 8, "layers": 2, "hidden": 8},
    },
    "vimcogaussian2d": {"widths": [8, 8], "dim": 8, "blocks": 1, "samples": 2},
    "twostagevae2d": {
        "first": {"widths": [8, 8], "dim": 8, "blocks": 1},
        "side": 32,
        "widths": [8, 8, 8],
        "decoder": {"width": 8, "layers": 2, "hidden": 8},
    },
    "vqgan2d": {
        "net": {"widths": [8, 8, 16], "blocks": 1, "attention": [2], "z_channels": 4, "groups": 4},
        "dim": 4,
        "K": 16,
    },
    "emu3": {"net": {"widths": [8, 16], "blocks": 1, "attention": [1], "z_channels": 4, "groups": 4}, "K": 16},
    "lapped2d": {"width": 16, "dim": 8, "blocks": 1, "rate": {"slices": [2, 6], "levels": 1, "hidden": 8}},
    "speech": {"K": 16, "width": 16, "blocks": [1, 1], "decoder_width": 16, "decoder_blocks": 1, "voice_dim": 8},
    "encodec": {"net": {"width": 4, "dim": 8}, "codebooks": 4, "K": 16},
    "encodec_stereo": {"net": {"width": 4, "dim": 8}, "segment": 4800, "hop": 4752, "codebooks": 4, "K": 16},
    "mimi": {
        "net": {"width": 4, "dim": 16, "ratios": [4, 2]},
        "transformer": {"layers": 2, "heads": 2, "hidden": 16, "window": 8},
        **{"codebooks": [1, 3], "K": 16, "dim": 8},
    },
    "dac": {"width": 2, "decoder_width": 32, "codebooks": 3, "K": 16},
    "snac": {"width": 4, "decoder_width": 64, "window": 8, "K": 16},
    "wavtokenizer": {
        "net": {"width": 4, "dim": 8, "ratios": [5, 4, 2]},
        **{"K": 16, "width": 16, "blocks": 2, "groups": 4, "n": 160},
    },
    "xcodec2": {
        **{"lattice": [4, 4], "dim": 8, "width": 32, "layers": 2, "heads": 2, "hidden": 16, "n": 160, "hop": 40}
    },
    "vqvae1d": {"K": 16, "width": 8, "wavenet": {"residual": 8, "skip": 8, "cycles": 1, "layers_per_cycle": 2}},
}
MODULES = [import_module(f"{codecs.__name__}.{name}") for _, name, _ in pkgutil.iter_modules(codecs.__path__)]
FAMILIES = {module.__name__.rpartition(".")[2]: module.FAMILY for module in MODULES if hasattr(module, "FAMILY")}
CONTRACT = {name: "audio" if hasattr(family, "encode_window") else "image" for name, family in FAMILIES.items()}


@pytest.fixture(params=sorted(FAMILIES))
def family(request):
    torch.manual_seed(0)
    net = FAMILIES[request.param](**SMALL.get(request.param, {}))
    return request.param, net.eval().requires_grad_(False)


def test_it_has_every_member_of_its_contract(family):
    name, net = family
    base.check(net, CONTRACT[name])
    assert isinstance(net.stride, int) and net.stride > 0 and net.levels >= 1
    assert all(isinstance(K, int) and K > 1 for K in net.codebook_sizes)
    assert len(net.level_codebooks) == net.levels and sum(net.level_codebooks) == len(net.codebook_sizes)
    assert all(margin is None or margin >= 0 for margin in (net.encoder_margin, net.decoder_margin))
    assert isinstance(net.TASK, str)
    tables = net.state_dict()
    assert all(table in tables for table in net.CLASS_TABLES)


@torch.no_grad()
def test_images_become_codes_and_come_back(family):
    name, net = family
    if CONTRACT[name] != "image":
        pytest.skip("of audio")
    height, width = net.frame_size or (2 * net.stride, 3 * net.stride)
    x = torch.rand(2, net.channels, height, width) - 0.5
    if not net.codebook_sizes:  # a baseline
        for task in (net.latents, net.quantize, net.decode):
            with pytest.raises(ModelError, match="no codes"):
                task(x)
        return
    grid = net.grid(height, width)
    quality = torch.ones(2) if net.qualities else None
    z_e = net.latents(x)
    assert z_e.shape == (2, net.latent_dim, *grid)
    codes = net.quantize(z_e, quality)
    assert codes.shape == (2, len(net.codebook_sizes), *grid) and codes.dtype == torch.int64
    assert all(0 <= group.min() <= group.max() < K for group, K in zip(codes[0], net.codebook_sizes, strict=True))
    decoded = net.decode(codes, quality)
    assert decoded.shape == x.shape and torch.isfinite(decoded).all()
    one, other = net.decode(codes, quality, 1), net.decode(codes, quality, 1)
    assert torch.equal(one, other)
    assert net.stochastic or torch.equal(one, decoded)


@torch.no_grad()
def test_margins_are_wide_enough(family):
    """What lies beyond the margin of a window changes nothing in it."""
    name, net = family
    if CONTRACT[name] != "image" or not net.codebook_sizes or net.encoder_margin is None or net.frame_size:
        pytest.skip("it sees images of one size, or whole ones")
    side = net.stride * (2 * net.encoder_margin + 3)
    x = torch.rand(1, net.channels, side, side) - 0.5
    other = x.clone()
    other[..., : net.stride] = 0.5  # the first column of positions
    away = slice(net.encoder_margin + 1, None)
    assert torch.allclose(net.latents(x)[..., away], net.latents(other)[..., away], atol=1e-5)


class Samples:
    """Channels as the contract of codecs has them: one as [n], several as [channels, n]."""

    def __init__(self, array):
        self.array = array

    def __len__(self):
        return self.array.shape[1]

    def __getitem__(self, part):
        return self.array[:, part].squeeze(0) if len(self.array) == 1 else self.array[:, part]


def test_audio_becomes_codes_and_comes_back(family):
    name, net = family
    if CONTRACT[name] != "audio":
        pytest.skip("of images")
    P = 12
    samples = np.random.default_rng(0).normal(0, 0.05, (net.channels, P * net.stride)).astype(np.float32)
    analysis = net.analyse(Samples(samples), [])
    if net.encodes:
        with torch.inference_mode():
            codes = net.encode_window(torch.from_numpy(samples).squeeze(0), analysis, 0).numpy()
        parts = net.encode_windows(Samples(samples[:, :-1]), analysis, torch.device("cpu"))
        assert sum(part.shape[1] for part in parts) == P
    else:
        with pytest.raises(ModelError):
            list(net.encode_windows(Samples(samples), analysis, torch.device("cpu")))
        codes = np.random.default_rng(0).integers(np.array(net.codebook_sizes)[:, None], size=(net.levels, P))
    assert codes.shape == (len(net.codebook_sizes), P)
    assert all(0 <= group.min() <= group.max() < K for group, K in zip(codes, net.codebook_sizes, strict=True))
    assert len(net.group_names) == len(net.codebook_sizes)
    wave = decoded(net, codes, analysis.stored)
    assert wave.shape == (net.channels, P * net.stride) and wave.dtype == np.float32 and np.isfinite(wave).all()
    assert np.array_equal(wave, decoded(net, codes, analysis.stored))
    with pytest.raises(BadFile):
        decoded(net, codes, analysis.stored + b"more")
    if not net.speakers:
        with pytest.raises(ModelError):
            net.voice_of_row(0)
        return
    target = net.voice_of_row(0)
    assert len(target) == len(analysis.stored)
    moved = net.convert(codes, analysis.stored, target, "target", 2.0)
    assert moved.shape == codes.shape
    assert all(0 <= group.min() <= group.max() < K for group, K in zip(moved, net.codebook_sizes, strict=True))


def decoded(net, codes, stored):
    with torch.inference_mode():
        parts = net.decode_windows(codes[None], [stored], (0, codes.shape[1]), seed=3, progress=silent)
        return np.concatenate(list(parts), 1)


def test_a_contract_says_what_is_missing():
    class Half:
        stride = 4

    with pytest.raises(ModelError, match=r"Half is no ImageCodec: it lacks .*codebook_sizes.*quantize"):
        base.check(Half(), "image")
    with pytest.raises(ModelError, match="no codecs of smells"):
        base.check(Half(), "smells")
