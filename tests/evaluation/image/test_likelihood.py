"""Bits per dimension: parts that add up, a bound that is one, and the sum over all codes of a net with few."""

import math

import numpy as np
import pytest
import torch

from vqcli import recipe as recipes
from vqcli.data.arrays import Arrays, Part
from vqcli.data.dataset import Dataset
from vqcli.errors import UsageError
from vqcli.evaluation.image import likelihood
from vqcli.nets.codecs.vqvae2d import ImageVQVAE
from vqcli.training.losses import likelihood_loss
from vqcli.zoo import loading, registry

TINY = {"widths": [6, 6], "dim": 4, "blocks": 0, "channels": 1, "likelihood": {"kind": "logistics", "components": 2}}


def saved(folder, family, arguments, side):
    torch.manual_seed(0)
    recipe = recipes.load("fashion-mnist").to_dict()
    recipe["data"]["crop"] = side
    description = {"family": family, "arguments": arguments, "modality": "image", "recipe": recipe}
    loading.save(folder, registry.build(family, arguments), None, description)
    return loading.load(str(folder), "cpu")


def pictures(side, count=12):
    images = np.random.default_rng(0).integers(0, 256, (count, side, side), np.uint8)
    labels = [str(index % 3) for index in range(count)]
    source = Arrays(None, Part(images[..., None], labels))
    source.held_out = [True] * count
    return Dataset(source, held_out=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    arguments = TINY | {"quantizer": {"kind": "vector", "K": 8}}
    return saved(tmp_path_factory.mktemp("models") / "tiny", "vqvae2d", arguments, 8)


def test_the_parts_add_up_and_the_uniform_prior_is_what_it_is(model):
    uniform, _, files = likelihood.measure(model, pictures(8))
    assert (uniform.under, files.under) == (likelihood.UNIFORM, likelihood.FILES)
    assert uniform.prior == pytest.approx(4 * 3 / 64)  # four codes of three bits for 64 values
    for bound in (uniform, files):
        assert bound.bits_per_dim == pytest.approx(bound.reconstruction + bound.prior)
        assert bound.pictures == 12 and bound.definition
    assert files.prior > uniform.prior  # the header of a file is in it


def test_it_is_the_loss_of_training(model):
    held_out = pictures(8)
    x = torch.from_numpy(np.stack([held_out.pixels(i)[..., :1] for i in range(12)])).movedim(-1, 1) / 255 - 0.5
    with torch.no_grad():
        trained = likelihood_loss(model.net, x).terms["bits_per_dim"]
    assert likelihood.measure(model, held_out)[0].bits_per_dim == pytest.approx(float(trained), abs=1e-4)


def test_the_reports_equation_7_cannot_fall_below_its_density(model):
    held_out = pictures(8)
    x = torch.from_numpy(np.stack([held_out.pixels(i)[..., :1] for i in range(12)])).movedim(-1, 1) / 255 - 0.5
    net = model.net
    density = torch.distributions.Normal(2 * net.decode(net.encode(x)), 1.0).log_prob(2 * x).mean()
    nats = likelihood.equation_7(model, held_out, 12)
    assert nats == pytest.approx(np.log(128) - float(density) + 4 * np.log(8) / 64, abs=1e-4)
    assert nats > likelihood.UNIT_DENSITY == pytest.approx(5.7710, abs=1e-4)


def test_the_sum_over_all_codes_is_more_likely_than_any_one(model):
    """8^4 codes: p(x) itself, of which the one z_q that x is encoded to is a part (section 3.2)."""
    by_name = {bound.under: bound for bound in likelihood.measure(model, pictures(8), count=3)}
    assert by_name[likelihood.SUM].bits_per_dim < by_name[likelihood.UNIFORM].bits_per_dim
    assert by_name[likelihood.SUM].reconstruction is None


def test_the_sum_is_that_of_numpy():
    torch.manual_seed(0)
    net = ImageVQVAE(**TINY, quantizer={"kind": "vector", "K": 3}).eval()
    x = torch.randint(0, 256, (2, 1, 4, 8)) / 255 - 0.5
    terms = np.zeros((2, 9))
    with torch.no_grad():
        for a in range(3):
            for b in range(3):
                made = net.decoder(net.quantizer.lookup(torch.tensor([[[[a, b]]]]))).expand(2, -1, -1, -1)
                terms[:, 3 * a + b] = net.likelihood.log_prob(made, x)
    most = terms.max(1)
    expected = most + np.log(np.exp(terms - most[:, None]).sum(1) / 9)
    assert likelihood.log_sum(net, x).numpy() == pytest.approx(expected, rel=1e-5)


def test_training_closes_the_gap_of_the_approximation():
    """Once a net has learned, p(x) is nearly all p(x | z_q) p(z_q): "we empirically evaluate this approximation"."""
    torch.manual_seed(0)
    begun = TINY | {"widths": [32, 32], "linear_start": 16.0}
    net = ImageVQVAE(**begun, quantizer={"kind": "vector", "K": 4, "gamma": 0.9})
    shades = torch.tensor([20.0, 90, 160, 230]).view(4, 1, 1, 1).expand(4, 1, 4, 8)
    noise = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)

    def batch():
        kinds = shades[torch.randint(0, 4, (16,), generator=noise)]
        return (kinds + torch.randint(-8, 9, kinds.shape, generator=noise)) / 255 - 0.5

    def gap(x):
        net.eval()
        with torch.no_grad():
            z_q = net.quantizer.lookup(net.encode(x))
            one = net.likelihood.log_prob(net.decoder(z_q), x) - net.uniform_nats(*x.shape[-2:])
        net.train()
        return float((likelihood.log_sum(net, x) - one).mean())

    x = batch()
    before = gap(x)
    for _ in range(150):
        optimizer.zero_grad()
        likelihood_loss(net, batch()).value.backward()
        optimizer.step()
    assert before > 1.0  # nats, of 2.8 that two latents of four values have
    assert 0 <= gap(x) < 0.05


def test_baselines_have_bounds_of_their_own(tmp_path):
    for family, extra in (("vae2d", {}), ("vimco2d", {"K": 4, "samples": 3})):
        [bound] = likelihood.measure(saved(tmp_path / family, family, TINY | extra, 8), pictures(8))
        assert bound.under == family and bound.pictures == 12
        if family == "vae2d":
            assert bound.bits_per_dim == pytest.approx(bound.reconstruction + bound.prior)
        else:
            assert bound.reconstruction is bound.prior is None
        again = likelihood.measure(saved(tmp_path / family, family, TINY | extra, 8), pictures(8))
        assert again == [bound]  # their noise is seeded


def test_what_cannot_be_measured_is_one_line(model, tmp_path):
    with pytest.raises(UsageError, match="28 x 28, and the model was trained on 8 x 8"):
        likelihood.measure(model, pictures(28))
    plain = {name: value for name, value in TINY.items() if name != "likelihood"}
    with pytest.raises(UsageError, match="no likelihood"):
        likelihood.measure(saved(tmp_path / "plain", "vqvae2d", plain, 8), pictures(8))


def test_bits_of_a_fair_guess():
    """256 values alike are 8 bits/dim: the unit is what it says."""
    net = ImageVQVAE(widths=[4], dim=2, blocks=0, channels=1, likelihood={"kind": "categorical"})
    for parameter in net.decoder.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randint(0, 256, (2, 1, 4, 4)) / 255 - 0.5
    with torch.no_grad():
        nats = -net.likelihood.log_prob(net(x)[0], x)
    assert nats.numpy() / (16 * math.log(2)) == pytest.approx(8.0)
