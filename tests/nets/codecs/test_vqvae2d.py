from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vqcli.nets.codecs.vqvae2d import ImageVQVAE
from vqcli.nets.layers.rate import ScalarRate
from vqcli.recipe import Rate
from vqcli.training.losses import rate_distortion_loss, reconstruction_loss

VECTOR = {"kind": "vector", "K": 8, "update": "loss"}
SCALAR = {"kind": "scalar", "limits": 4, "qualities": 3, "gain_range": [3.0, 12.0]}
NETS: dict[str, dict[str, Any]] = {
    "paper": {"widths": [8, 8], "dim": 4, "blocks": 2, "quantizer": VECTOR},
    "no blocks": {"widths": [8, 8], "dim": 4, "blocks": 0, "quantizer": VECTOR},
    "levels": {"widths": [8], "dim": 4, "blocks": 1, "quantizer": {**VECTOR, "levels": 3, "groups": 2}},
    "decoder blocks": {"widths": [8], "dim": 4, "blocks": 0, "decoder_blocks": 2, "quantizer": VECTOR},
    "gdn": {"widths": [8, 8], "dim": 3, "blocks": 1, "kernel": 5, "activation": "gdn", "quantizer": SCALAR},
    "gdn, deep": {"widths": [6, 6, 6], "dim": 3, "blocks": 0, "kernel": 5, "activation": "gdn", "quantizer": SCALAR},
    "grey": {"widths": [8], "dim": 2, "blocks": 1, "channels": 1, "quantizer": {"kind": "scalar", "limits": 2}},
}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(params=NETS)
def net(request: pytest.FixtureRequest) -> ImageVQVAE:
    return ImageVQVAE(**NETS[request.param]).eval()


def random_codes(net: ImageVQVAE, rows: int, columns: int) -> Tensor:
    return torch.stack([torch.randint(K, (1, rows, columns)) for K in net.quantizer.codebook_sizes], 1)


def test_shapes(net):
    grid = (3, 5)
    x = torch.rand(2, net.channels, *(side * net.stride for side in grid)) - 0.5
    reconstruction, quantized = net(x)
    assert reconstruction.shape == x.shape
    assert quantized.codes.shape == (2, len(net.quantizer.codebook_sizes), *grid)
    assert quantized.z_q.shape == (2, net.quantizer.dim, *grid)
    codes = net.encode(x)
    assert torch.equal(codes, quantized.codes)
    torch.testing.assert_close(net.decode(codes), reconstruction, rtol=1e-4, atol=1e-5)


def test_stride_is_two_to_the_number_of_widths():
    assert [ImageVQVAE([4] * n, dim=2, blocks=0).stride for n in (1, 2, 3)] == [2, 4, 8]


def test_encoder_margin_is_enough(net):
    """A pixel reaches no code further away than the margin, wherever in its cell it lies."""
    middle, stride = net.encoder_margin + 2, net.stride
    x = torch.rand(1, net.channels, stride * (2 * middle + 1), stride * (2 * middle + 1)) - 0.5
    before = net.encoder(x)
    for offset in (0, stride - 1):
        changed = x.clone()
        changed[..., middle * stride + offset, middle * stride + offset] += 1
        reached = (net.encoder(changed) != before).any(1).nonzero()[:, 1:]
        assert len(reached) > 0
        assert (reached - middle).abs().max() <= net.encoder_margin


def test_decoder_margin_is_enough(net):
    """A code reaches no pixel in a cell further away than the margin."""
    middle = net.decoder_margin + 2
    codes = random_codes(net, 2 * middle + 1, 2 * middle + 1)
    z_q = net.quantizer.lookup(codes)
    before = net.decoder(z_q)
    z_q[..., middle, middle] += 3
    reached = (net.decoder(z_q) != before).any(1).nonzero()[:, 1:] // net.stride
    assert len(reached) > 0
    assert (reached - middle).abs().max() <= net.decoder_margin


@pytest.mark.parametrize("levels", [1, 2])
def test_fewer_levels_decode(levels):
    net = ImageVQVAE(**NETS["levels"]).eval()
    x = torch.rand(1, 3, 8, 8) - 0.5
    reconstruction, quantized = net(x, levels=levels)
    assert torch.equal(quantized.codes, net.encode(x)[:, : 2 * levels])
    torch.testing.assert_close(net.decode(quantized.codes), reconstruction, rtol=1e-4, atol=1e-5)


def test_codes_and_pixels_are_float32_under_autocast():
    net = ImageVQVAE(**NETS["gdn"])
    with torch.autocast("cpu", torch.bfloat16):
        reconstruction, quantized = net(torch.rand(1, 3, 16, 16) - 0.5, torch.tensor([2.0]))
    assert reconstruction.dtype == quantized.z_q.dtype == torch.float32


# ---------------------------------------------------------------- losses


def reached(term: Tensor, module: nn.Module) -> set[str]:
    """The parameters with a gradient from `term` that is not zero."""
    named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(term, [parameter for _, parameter in named], allow_unused=True, retain_graph=True)
    return {
        name
        for (name, _), gradient in zip(named, gradients, strict=True)
        if gradient is not None and gradient.abs().max() > 0
    }


def names(module: nn.Module, *starts: str) -> set[str]:
    return {name for name, _ in module.named_parameters() if name.startswith(starts)}


@pytest.mark.parametrize("update", ["ema", "loss", "frozen"])
def test_reconstruction_loss_reaches_what_it_should(update):
    net = ImageVQVAE([8, 8], dim=4, blocks=1, quantizer={"kind": "vector", "K": 8, "update": update}).train()
    x = torch.rand(2, 3, 16, 16) - 0.5
    found = reconstruction_loss(net, x)
    loss, terms = found.value, found.terms
    encoder, decoder = names(net, "encoder."), names(net, "decoder.")
    codebook = {"quantizer.codebook"} if update == "loss" else set()
    assert all(term > 0 for term in terms.values())
    assert reached(terms["mse"], net) == encoder | decoder
    assert reached(terms["commitment"], net) == encoder
    if update == "loss":
        assert reached(terms["codebook"], net) == codebook
    assert reached(loss, net) == encoder | decoder | codebook
    expected = terms["mse"] / 255**2 / 0.06 + terms["commitment"] + terms.get("codebook", 0)
    torch.testing.assert_close(loss, expected)


def test_rate_distortion_loss_reaches_what_it_should():
    net = ImageVQVAE(**NETS["gdn"]).train()
    both = nn.ModuleDict({"net": net, "rate": ScalarRate(3, 3)})
    x = torch.rand(6, 3, 16, 16) - 0.5  # six random qualities
    found = rate_distortion_loss(net, both["rate"], Rate(), x)
    loss, terms = found.value, found.terms
    encoder, decoder, rate = names(both, "net.encoder."), names(both, "net.decoder."), names(both, "rate.")
    gain, inverse = {"net.quantizer.log_gain"}, {"net.quantizer.log_inverse_gain"}
    assert all(term > 0 for term in terms.values())
    assert reached(terms["bits_per_pixel"], both) == encoder | gain | rate
    assert reached(terms["mse"], both) == encoder | decoder | gain | inverse
    assert reached(loss, both) == encoder | decoder | gain | inverse | rate


def test_rate_distortion_loss_is_its_formula_at_one_quality():
    """With one quality lambda is lambda_low, and the balance a constant factor."""
    net = ImageVQVAE(**{**NETS["gdn"], "quantizer": {"kind": "scalar", "limits": 4}})
    recipe = Rate(lambda_low=0.01, lambda_high=0.04, balance=0.5)
    found = rate_distortion_loss(net, ScalarRate(3, 1), recipe, torch.rand(3, 3, 16, 16) - 0.5)
    terms = found.terms
    torch.testing.assert_close(found.value, (terms["bits_per_pixel"] + 0.01 * terms["mse"]) / 0.1 * 0.2)
