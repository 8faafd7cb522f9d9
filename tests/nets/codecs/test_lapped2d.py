import math

import numpy as np
import pytest
import torch

from vqcli.codec import tiles
from vqcli.container.header import tune_of
from vqcli.entropy import prior2d
from vqcli.nets.codecs.lapped2d import LappedCodec
from vqcli.nets.layers import lapped
from vqcli.nets.priors import rounding

SMALL = {"width": 24, "dim": 12, "blocks": 2, "rate": {"slices": [2, 4, 6], "levels": [2, 1, 1], "hidden": 8}}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return LappedCodec(**SMALL).eval()


def test_atoms_are_orthonormal():
    atoms = lapped.atoms(192).flatten(1)
    assert torch.allclose(atoms @ atoms.T, torch.eye(192), atol=1e-5)
    assert lapped.atoms(1).std() < 1e-6  # the mean of luma comes first


def test_the_transform_alone_returns_the_image():
    """Before training, analysis and synthesis are the DCT and its inverse on the channels that pass."""
    x = torch.rand(2, 3, 24, 32) - 0.5
    atoms = lapped.atoms(192)
    analysis, synthesis = lapped.Analysis(192, atoms), lapped.Synthesis(192, atoms)
    assert torch.allclose(synthesis(analysis(x)), x, atol=1e-5)


def test_it_begins_as_a_usable_codec(net):
    smooth = torch.linspace(-0.4, 0.4, 64).expand(1, 3, 64, 64).contiguous()
    error = (net.decode(net.quantize(net.latents(smooth))) - smooth).square().mean()
    assert -10 * math.log10(float(error)) > 20


@torch.no_grad()
def test_blocks_grow_no_faster_than_what_they_get():
    """Patterns of full contrast lie far beyond photographs; a product of both factors would square them each time."""
    torch.manual_seed(0)
    block, x = lapped.GatedBlock(24), torch.randn(1, 24, 8, 8)
    large, larger = ((block(scale * x) - scale * x).abs().amax() / scale for scale in (1e3, 1e5))
    assert float(larger) == pytest.approx(float(large), rel=0.05)


def test_each_tune_has_rows_of_its_own(net):
    x = torch.rand(2, 3, 32, 32) - 0.5
    with torch.no_grad():
        net.quantizer.log_gain[10:] += 0.5
    z_e = net.latents(x)
    first, second = (net.scaled(z_e, torch.full((2,), quality)) for quality in (4.0, 14.0))
    assert torch.allclose(second, first * math.exp(0.5), rtol=1e-4)
    assert tune_of(4.0) == ("ssim", 4.0) and tune_of(14.0) == ("psnr", 4.0)
    assert tune_of(0.0) == ("ssim", 0.0) and tune_of(25.5) == ("psnr", 15.5)  # whatever a file says
    assert tune_of(10.0) == ("ssim", 10.0) and tune_of(20.0) == ("psnr", 10.0)


def test_the_loss_reaches_every_weight(net):
    net.train()
    with torch.no_grad():  # zeros at the start would hide what lies behind them
        for part in net.rate.slices:
            part.out.weight.normal_(std=0.1)
        net.blend.fill_(0.1)
    image, bits, _ = net(torch.rand(4, 3, 64, 64) - 0.5, torch.tensor([1.5, 9.5, 11.5, 19.5]))
    (image.square().mean() + bits.mean() / 1e4).backward()
    for name, parameter in net.named_parameters():
        if parameter.numel():  # the first slice of the entropy model has none before it
            assert parameter.grad is not None and parameter.grad.any(), name


@torch.no_grad()
def test_bits_are_those_of_the_integer_coder(net):
    """What training counts is what a file takes: the float model against the bytes of its integers."""
    codes = net.quantize(net.latents(torch.rand(1, 3, 128, 160) - 0.5), torch.tensor([5.0]))
    values = codes - net.quantizer.limit[:, None, None]
    counted = float(net.rate.bits(values.float(), torch.tensor([5.0])))
    assert counted / codes.numel() == pytest.approx(float(net.rate.loss(codes, torch.tensor([5.0]))), rel=1e-4)
    integers = rounding.rounded(net.rate)
    data = prior2d.encode(codes[0].numpy(), 50, integers)
    assert 8 * len(data) == pytest.approx(counted, rel=0.01)
    assert np.array_equal(prior2d.decode(data, tuple(codes.shape[1:]), 50, integers), codes[0].numpy())


def test_bits_of_noisy_values_given_rounded_ones(net):
    scaled = 3 * torch.randn(2, 12, 8, 8)
    quality = torch.tensor([3.0, 12.0])
    plain = net.rate.bits(scaled.round(), quality)
    assert torch.allclose(net.rate.bits(scaled.round(), quality, scaled.round()), plain)
    assert not torch.allclose(net.rate.bits(scaled.round(), quality, scaled), plain)


def test_tiles_give_the_codes_and_pixels_of_the_whole(net):
    x = torch.rand(1, 3, 160, 200) - 0.5
    z_e = net.latents(x)
    margin, grid = net.encoder_margin, (20, 25)
    for inner, outer, _ in tiles.exact(grid, (slice(0, 20), slice(0, 25)), 9, margin):
        part = net.latents(x[:, :, *(slice(s.start * 8, s.stop * 8) for s in outer)])
        place = tiles.within(inner, outer)
        assert torch.allclose(part[:, :, *place], z_e[:, :, *inner], atol=1e-5)
    codes = net.quantize(z_e)
    image = net.decode(codes)
    for inner, outer, _ in tiles.exact(grid, (slice(0, 20), slice(0, 25)), 9, net.decoder_margin):
        part = net.decode(codes[:, :, *outer])
        place = (slice(8 * s.start, 8 * s.stop) for s in tiles.within(inner, outer))
        there = (slice(8 * s.start, 8 * s.stop) for s in inner)
        assert torch.allclose(part[:, :, *place], image[:, :, *there], atol=1e-5)


def test_wrong_arguments():
    with pytest.raises(ValueError):
        LappedCodec(width=8, dim=16)
