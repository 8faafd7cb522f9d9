"""A net that begins as a linear map: nothing is lost on the way, and nothing is left out of what can learn."""

import pytest
import torch

from vqcli.nets.codecs.vae2d import ContinuousVAE
from vqcli.nets.codecs.vimco2d import CategoricalVAE
from vqcli.nets.codecs.vqvae2d import ImageVQVAE
from vqcli.nets.layers.linear_init import cosines

BEGUN = {"widths": [96, 96], "blocks": 1, "linear_start": 16.0}


@pytest.mark.parametrize("channels, dim", [(3, 48), (3, 50), (1, 16)])
@pytest.mark.parametrize("likelihood", [None, {"kind": "gaussian"}, {"kind": "logistics", "components": 2}])
def test_the_decoder_undoes_the_encoder(channels, dim, likelihood):
    torch.manual_seed(0)
    net = ImageVQVAE(channels=channels, dim=dim, likelihood=likelihood, **BEGUN)
    x = torch.rand(2, channels, 16, 24) - 0.5
    with torch.no_grad():
        assert torch.allclose(net.to_image(net.decoder(net.encoder(x))), x, atol=1e-5)


def test_each_group_gets_its_share_of_the_coefficients():
    torch.manual_seed(0)
    net = ImageVQVAE(dim=50, quantizer={"kind": "vector", "K": 8, "groups": 10}, **BEGUN)
    smooth = torch.nn.functional.interpolate(torch.rand(8, 3, 4, 4), scale_factor=8, mode="bilinear") - 0.5
    with torch.no_grad():
        energy = net.encoder(smooth).unflatten(1, (10, 5)).square().sum((0, 2, 3, 4))
    assert (energy > 0).all()
    assert energy.argmax() == 0  # the brightness of the patch


@pytest.mark.parametrize("channels, halvings", [(3, 2), (1, 2), (3, 1), (1, 3)])
def test_cosines_are_orthonormal_and_begin_with_the_mean(channels, halvings):
    basis = cosines(channels, halvings)
    n = channels * 4**halvings
    assert basis.shape == (n, n)
    assert torch.allclose(basis @ basis.T, torch.eye(n), atol=1e-5)
    assert torch.allclose(basis[0], torch.full((n,), n**-0.5), atol=1e-6)


def test_every_weight_still_learns():
    torch.manual_seed(0)
    options = {"dim": 50, "likelihood": {"kind": "logistics", "components": 2}, **BEGUN}
    x = torch.randint(0, 256, (4, 3, 16, 16)) / 255 - 0.5
    for net in (ContinuousVAE(**options), CategoricalVAE(K=8, groups=10, samples=2, **options)):
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        for _ in range(2):  # behind a mix of zeros, a block learns from the second step on
            optimizer.zero_grad()
            (-net.bound(x).surrogate.mean()).backward()
            optimizer.step()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_a_categorical_cannot_begin_so():
    with pytest.raises(ValueError, match="no means"):
        ImageVQVAE(dim=48, likelihood={"kind": "categorical"}, **BEGUN)
