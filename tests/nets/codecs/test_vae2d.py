"""The baselines of section 4.1: bounds that are bounds, and estimates whose mean is the gradient."""

import itertools
import math

import pytest
import torch

from vqcli.nets.codecs.vae2d import ContinuousVAE
from vqcli.nets.codecs.vimco2d import CategoricalVAE, vimco
from vqcli.nets.codecs.vimcogaussian2d import GaussianVIMCO
from vqcli.nets.codecs.vqvae2d import ImageVQVAE
from vqcli.zoo import registry

SMALL = {"widths": [8, 8], "blocks": 1, "likelihood": {"kind": "logistics", "components": 2}}


@pytest.fixture
def pictures():
    torch.manual_seed(3)
    return torch.randint(0, 256, (4, 3, 8, 8)) / 255 - 0.5


@pytest.mark.parametrize("samples", [2, 3])
def test_the_mean_of_vimcos_estimate_is_the_gradient(samples):
    """Over all draws of a latent with three values, weighted as they come: no bias at all, in both arguments."""
    torch.manual_seed(0)
    logits = torch.randn(3, dtype=torch.float64, requires_grad=True)
    log_joint = torch.randn(3, dtype=torch.float64, requires_grad=True)  # log p(x, z)

    exact = estimated = 0.0
    for draw in itertools.product(range(3), repeat=samples):
        chosen = torch.tensor(draw)
        log_q = logits.log_softmax(0)[chosen][:, None]  # (S, 1)
        log_w = log_joint[chosen][:, None] - log_q
        probability = log_q.sum().exp()
        bound, surrogate = vimco(log_w, log_q)
        exact = exact + probability * bound.sum()
        estimated = estimated + probability.detach() * surrogate.sum()
    truth = torch.autograd.grad(exact, (logits, log_joint), retain_graph=True)
    mean = torch.autograd.grad(estimated, (logits, log_joint))
    for a, b in zip(truth, mean, strict=True):
        assert torch.allclose(a, b, atol=1e-12)
    assert truth[0].abs().max() > 0.01


def test_vimcos_bound_lies_below_the_likelihood_and_rises_with_samples():
    """A net with one latent of four values, whose p(x) can be summed."""
    torch.manual_seed(1)
    picture = torch.randint(0, 256, (1, 1, 4, 4)) / 255 - 0.5
    options = {"widths": [4, 4], "dim": 3, "blocks": 0, "channels": 1, "K": 4, "likelihood": SMALL["likelihood"]}
    net = CategoricalVAE(**options, samples=2000).eval()
    with torch.no_grad():
        every = torch.arange(4).view(4, 1, 1, 1)
        log_p = net.likelihood.log_prob(net.decoder(net.lookup(every)), picture.expand(4, -1, -1, -1))
        truth = float(torch.logsumexp(log_p, 0)) - math.log(4)
        many = float(net.bound(picture).value)
        net.samples = 2
        few = float(torch.stack([net.bound(picture).value for _ in range(200)]).mean())
    assert few < truth + 1e-3
    assert many == pytest.approx(truth, abs=0.02)
    assert few < many


def test_divergence_of_the_continuous_vae_against_sampling(pictures):
    """KL(q || p) in closed form is E_q log q - log p."""
    torch.manual_seed(0)
    net = ContinuousVAE(dim=4, **SMALL).eval()
    with torch.no_grad():
        bound = net.bound(pictures)
        mean, log_scale = net.encoder(pictures).chunk(2, 1)
        q = torch.distributions.Normal(mean, log_scale.exp())
        z = q.sample((4000,))
        sampled = (q.log_prob(z) - torch.distributions.Normal(0, 1).log_prob(z)).flatten(2).sum(2).mean(0)
    assert torch.allclose(bound.log_likelihood - bound.value, sampled, rtol=0.05, atol=0.3)


@pytest.mark.parametrize(
    "make",
    [
        ContinuousVAE,
        lambda **o: CategoricalVAE(K=8, groups=2, samples=3, **o),
        lambda **o: GaussianVIMCO(samples=3, **o),
    ],
)
def test_every_weight_of_a_baseline_gets_a_gradient(make, pictures):
    torch.manual_seed(0)
    net = make(dim=4, **SMALL)
    bound = net.bound(pictures)
    assert bound.value.shape == bound.log_likelihood.shape == bound.surrogate.shape == (4,)
    assert bound.output.shape == (4, net.likelihood.numbers, 8, 8)
    (-bound.surrogate.mean()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_the_baselines_share_encoder_and_decoder_with_the_vqvae():
    vq = ImageVQVAE(dim=4, **SMALL)
    for other in (ContinuousVAE(dim=4, **SMALL), CategoricalVAE(dim=4, K=8, **SMALL)):
        assert [p.shape for p in other.decoder.parameters()] == [p.shape for p in vq.decoder.parameters()]
        assert [p.shape for p in other.encoder[:-1].parameters()] == [p.shape for p in vq.encoder[:-1].parameters()]


def test_groups_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ValueError, match="5 channels"):
        CategoricalVAE(dim=5, groups=2, **SMALL)


def test_vimco_of_gaussians_bounds_what_the_vae_bounds(pictures):
    """With the same weights: more samples, a tighter bound (Burda et al. 2016)."""
    torch.manual_seed(0)
    vae, many = ContinuousVAE(dim=4, **SMALL).eval(), GaussianVIMCO(dim=4, samples=50, **SMALL).eval()
    many.load_state_dict(vae.state_dict())
    with torch.no_grad():
        one = torch.stack([vae.bound(pictures).value for _ in range(50)]).mean()
        assert many.bound(pictures).value.mean() > one


@pytest.mark.parametrize("name", ["cifar10-paper", "cifar10-vimco-gaussian"])
def test_recipes_of_the_paper_step(name):
    """At full width: every weight of the encoder learns."""
    from vqcli import recipe
    from vqcli.training.losses import bound_loss, likelihood_loss

    chosen = recipe.load(name)
    torch.manual_seed(0)
    net = registry.build(chosen.model.family, {**chosen.model.arguments, **({"samples": 2} if "vimco" in name else {})})
    x = torch.randint(0, 256, (1, 3, 32, 32)) / 255 - 0.5
    loss = (bound_loss if "vimco" in name else likelihood_loss)(net, x)
    loss.value.backward()
    assert chosen.optimization.schedule == "constant" and chosen.optimization.learning_rate == 2e-4
    assert loss.terms["bits_per_dim"] > 4 and all(p.grad is not None for p in net.encoder.parameters())
    if name == "cifar10-paper":
        assert net.encode(x).shape == (1, 10, 8, 8) and chosen.data.batch == 128


def test_the_phoneme_recipe_steps():
    from vqcli import recipe

    chosen = recipe.load("speech-wavenet-640")
    torch.manual_seed(0)
    net = registry.build("vqvae1d", chosen.model.arguments)
    wave = 0.1 * torch.randn(1, 4 * 640)
    nats, quantized = net(wave, torch.zeros(1, dtype=torch.int64))
    (nats.mean() + sum(quantized.losses.values())).backward()
    assert net.rate_hz / net.stride == 25 and net.codebook_sizes == (128,) and quantized.codes.shape == (1, 1, 4)
    assert all(p.grad is not None for p in net.encoder.parameters())
