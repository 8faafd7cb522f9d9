import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vqcli.codec import lossless_likelihood
from vqcli.codec.guarded import GUARD, rounded
from vqcli.entropy import pixel_likelihood
from vqcli.errors import BadFile
from vqcli.nets.codecs.vqvae2d import ImageVQVAE
from vqcli.nets.layers import likelihood
from vqcli.nets.layers.likelihood import Categorical, Gaussian, Likelihood, LogisticMixture

KINDS = ["gaussian", "logistics", "categorical"]


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def make(kind: str, channels: int = 3) -> Likelihood:
    made = likelihood.make(channels, {"kind": kind})
    assert made is not None
    return made


def pictures(B: int, channels: int, H: int = 4, W: int = 5) -> Tensor:
    return likelihood.from_grey_values(torch.randint(0, 256, (B, channels, H, W)).float())


def each_value(earlier: Tensor) -> Tensor:
    """Earlier channels [B, c, 1, 1] followed by every value of the next: [B * 256, c + 1, 1, 1]."""
    values = likelihood.from_grey_values(torch.arange(256.0)).repeat(len(earlier))
    return torch.cat([earlier.repeat_interleave(256, 0), values[:, None, None, None]], 1)


def of_first(kind: str, made: Tensor, channels: int, of: int = 3) -> tuple[Likelihood, Tensor]:
    """What `made` for `of` channels says of the first few, as the likelihood of so many alone."""
    first = make(kind, channels)
    if kind == "gaussian":
        return first, made[:, :channels]
    if kind == "categorical":
        return first, made.unflatten(1, (256, of))[:, :, :channels].flatten(1, 2)
    pairs = channels * (channels - 1) // 2
    parts = made[:, :27].unflatten(1, (3, of, 3))[:, :, :channels].flatten(1, 3)
    return first, torch.cat([parts, made[:, 27 : 27 + pairs]], 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gain", [0.1, 1.0])
def test_masses_of_a_channel_add_up_to_those_of_the_channels_before(kind, gain):
    """So 1 for the first: p(R), p(G | R) and p(B | R, G) are distributions over 0 .. 255."""
    made = torch.randn(4, make(kind).numbers, 1, 1, dtype=torch.float64) * gain
    x = likelihood.from_grey_values(torch.randint(90, 166, (4, 3, 1, 1)).float())
    for channels in (1, 2, 3):
        now, numbers = of_first(kind, made, channels)
        masses = now.log_prob(numbers.repeat_interleave(256, 0), each_value(x[:, : channels - 1])).view(4, 256)
        before = torch.zeros(4, dtype=torch.float64)
        if channels > 1:
            earlier, said = of_first(kind, made, channels - 1)
            before = earlier.log_prob(said, x[:, : channels - 1])
        assert torch.logsumexp(masses, 1).tolist() == pytest.approx(before.tolist(), abs=1e-4)


def by_hand(kind: str, made: np.ndarray, v: np.ndarray) -> float:
    """log p of values v [3] at a pixel, from its numbers and the definition; scale 16 of a gaussian."""
    if kind == "categorical":
        logits = made.reshape(256, 3)
        return sum(logits[v[c], c] - math.log(np.exp(logits[:, c]).sum()) for c in range(3))
    total, aside = 0.0, []
    for c in range(3):
        if kind == "gaussian":
            weights, means, scales = np.ones(1), (made[c : c + 1] + 0.5) * 255, np.array([16.0])
            share = np.vectorize(lambda t: math.erfc(-t / math.sqrt(2)) / 2)
            shift = 0.0
        else:
            log_weights, means, scales = made[:27].reshape(3, 3, 3)[:, c]
            weights = np.exp(log_weights) / np.exp(log_weights).sum()
            means, scales = (means + 0.5) * 255, 8 * np.exp(scales)
            share = np.vectorize(lambda t: 1 / (1 + math.exp(-t)))
            shift = sum(math.tanh(made[27 + c * (c - 1) // 2 + b]) * aside[b] for b in range(c))
        lower = (v[c] - 0.5 - shift - means) / scales if v[c] > 0 else np.full(len(means), -np.inf)
        upper = (v[c] + 0.5 - shift - means) / scales if v[c] < 255 else np.full(len(means), np.inf)
        lower, upper = np.where(lower > 0, -upper, lower), np.where(lower > 0, -lower, upper)  # where digits are kept
        total += math.log((weights * (share(upper) - share(lower))).sum())
        aside.append(v[c] - (weights * means).sum())
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_log_prob_is_the_definition(kind):
    made = torch.randn(2, make(kind).numbers, 3, 4) * 0.2
    levels = torch.randint(60, 196, (2, 3, 3, 4))
    levels[0, :, 0, 0], levels[0, :, 0, 1] = 0, 255
    found = make(kind).log_prob(made, likelihood.from_grey_values(levels.float()))
    expected = [
        sum(by_hand(kind, made[b, :, y, x].double().numpy(), levels[b, :, y, x].numpy()) for y, x in np.ndindex(3, 4))
        for b in range(2)
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [0, 1, 128, 254, 255])
@pytest.mark.parametrize("far", [-300.0, -3.0, 0.0, 3.0, 300.0])
def test_gradients_are_finite_however_far_off_a_decoder_is(kind, level, far):
    model = make(kind)
    made = torch.full((1, model.numbers, 2, 2), far).requires_grad_()
    x = likelihood.from_grey_values(torch.full((1, 3, 2, 2), float(level)))
    log_p = model.log_prob(made, x)
    log_p.sum().backward()
    assert torch.isfinite(log_p).all() and log_p <= 1e-4
    for tensor in (made, *model.parameters()):
        assert tensor.grad is not None and torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_lead_towards_the_picture(kind):
    """A step along the gradient makes the picture likelier, also where it was all but impossible."""
    model = make(kind)
    made = (torch.randn(1, model.numbers, 4, 5) * 0.1).requires_grad_()
    x = pictures(1, 3)
    before = model.log_prob(made, x)
    (gradient,) = torch.autograd.grad(before.sum(), made)
    assert model.log_prob(made + 1e-3 * gradient / gradient.norm(), x) > before


@pytest.mark.parametrize("kind", KINDS)
def test_means_are_expected_pictures(kind):
    model = make(kind)
    made = torch.randn(2, model.numbers, 3, 4) * 0.2
    mean = model.mean(made)
    assert mean.shape == (2, 3, 3, 4) and mean.dtype == torch.float32
    if kind == "gaussian":
        expected = made
    elif kind == "logistics":
        weights, means = made[:, :18].unflatten(1, (2, 3, 3)).unbind(1)
        expected = (weights.softmax(2) * means.clamp(-0.5, 0.5)).sum(2)  # what lies beyond is black or white
    else:
        shares = made.unflatten(1, (256, 3)).softmax(1)
        expected = sum(shares[:, v] * v for v in range(256)) / 255 - 0.5
    assert torch.allclose(mean, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["logistics", "categorical"])
def test_means_of_the_sure_stay_in_range(kind):
    """Means between the values that a decoder named: in -0.5 .. 0.5 for categories, whatever the numbers."""
    model = make(kind)
    made = torch.randn(2, model.numbers, 3, 4) * 50
    if kind == "logistics":
        made[:, 9:18] = made[:, 9:18].clamp(-0.5, 0.5)
    assert model.mean(made).abs().max() <= 0.5 + 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_precision_is_float32_or_what_is_finer(kind):
    model = make(kind)
    made = torch.randn(1, model.numbers, 4, 5, dtype=torch.float64) * 0.1
    for given, found in (
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
    ):
        assert model.mean(made.to(given)).dtype == found
    assert not torch.equal(model.mean(made), model.mean(made.float()).double())


def test_levels_and_bits():
    levels = torch.arange(256.0)
    assert torch.equal(likelihood.to_grey_values(likelihood.from_grey_values(levels)), levels)
    assert likelihood.bits_per_dim(torch.tensor([math.log(2) * 60]), torch.zeros(1, 3, 4, 5)).tolist() == pytest.approx(
        [1]
    )
    assert likelihood.make(3, None) is None
    with pytest.raises(KeyError):
        likelihood.make(3, {"kind": "cauchy"})


# --- the bridge to integers


def test_rounding_lists_what_is_near_a_boundary():
    values = np.array([[0.2, 0.5, -1.5, 7.49], [0.5 - GUARD / 2, 1.5 + GUARD / 2, 0.5 - 2 * GUARD, 3.0]])
    whole, listed = rounded(values)
    assert whole.dtype == np.int32 and whole.tolist() == [[0, 1, -1, 7], [0, 2, 0, 3]]
    assert listed == {1: True, 2: True, 4: False, 5: True}
    assert rounded(values[:, :1])[1] == {1: False}


def test_another_machine_rounds_alike_by_the_list():
    generator = np.random.default_rng(0)
    values = generator.integers(-9, 9, 20_000) + np.where(
        generator.random(20_000) < 0.5, generator.random(20_000), 0.5 + generator.uniform(-3, 3, 20_000) * GUARD
    )
    whole, listed = rounded(values)
    elsewhere = values + generator.uniform(-0.99, 0.99, values.shape) * GUARD
    assert (rounded(elsewhere)[0] != whole).any()
    again, returned = rounded(elsewhere, listed)
    assert (again == whole).all() and returned == listed


def test_numbers_of_no_use_are_bounded():
    whole, listed = rounded(np.array([np.nan, np.inf, -np.inf, 1e300, -1e300]))
    assert whole.tolist() == [0, 1 << 24, -(1 << 24), 1 << 24, -(1 << 24)] and not listed


@pytest.mark.parametrize("position", [-1, 3, 1 << 70])
def test_lists_that_go_beyond_are_bad_files(position):
    with pytest.raises(BadFile, match="beyond the 3 numbers"):
        rounded(np.zeros(3), {0: True, position: True})


def tiny_net(kind: str, channels: int = 3) -> ImageVQVAE:
    net = ImageVQVAE(
        widths=[8],
        dim=4,
        blocks=1,
        channels=channels,
        quantizer={"kind": "vector", "K": 8, "update": "loss"},
        likelihood={"kind": kind},
    ).eval()
    with torch.no_grad():  # so that it says something of its own at each pixel
        for parameter in net.decoder.parameters():
            parameter.mul_(3)
        if isinstance(net.likelihood, Gaussian):
            net.likelihood.log_scale += torch.linspace(-0.5, 0.5, channels)
    return net.double()


def draw(model: Likelihood, made: Tensor) -> Tensor:
    """Pictures uint8 [B, channels, H, W] as the likelihood has them."""
    if isinstance(model, Categorical):
        shares = made.unflatten(1, (256, -1)).softmax(1).movedim(1, -1)
        return torch.multinomial(shares.flatten(0, -2), 1).view(shares.shape[:-1]).byte()
    if isinstance(model, Gaussian):
        levels = (made + 0.5) * 255 + model.log_scale.exp()[:, None, None] * torch.randn_like(made)
        return levels.round().clamp(0, 255).byte()
    assert isinstance(model, LogisticMixture)
    log_weights, means, log_scales, coefficients = model.split(made)
    component = (log_weights - torch.rand_like(means).log().neg().log()).argmax(2, keepdim=True)
    noise = torch.logit(torch.rand_like(means)) * log_scales.exp()
    levels = (means + noise).gather(2, component)[:, :, 0]
    for c in range(levels.shape[1]):
        aside = levels - (log_weights.exp() * means).sum(2)
        levels[:, c] += model._shifts(aside, coefficients)[c]
        levels[:, c] = levels[:, c].round().clamp(0, 255)
    return levels.byte()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_bytes_are_what_the_likelihood_says(kind, channels):
    net = tiny_net(kind, channels)
    assert net.likelihood is not None
    made = net.decoder(net.quantizer.lookup(torch.randint(0, 8, (1, 1, 12, 11))))
    pixels = draw(net.likelihood, made)
    bits = -net.likelihood.log_prob(made, likelihood.from_grey_values(pixels.float())).item() / math.log(2)
    said, listed = lossless_likelihood.parameters(net.likelihood, made[0])
    data = pixel_likelihood.encode(pixels[0].numpy(), said)
    assert pixel_likelihood.bits(pixels[0].numpy(), said) == pytest.approx(bits, rel=2e-3)
    assert 8 * len(data) == pytest.approx(bits, rel=0.01)
    again, _ = lossless_likelihood.parameters(net.likelihood, made[0] * (1 + 1e-12), listed)
    assert (pixel_likelihood.decode(data, said.shape, again) == pixels[0].numpy()).all()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_threads_change_nothing(kind):
    net = tiny_net(kind)
    assert net.likelihood is not None
    codes = torch.randint(0, 8, (3, 1, 20, 17))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made = net.decoder(net.quantizer.lookup(codes if threads == 1 else codes[:1]))[0]  # and another batch
            found.append(lossless_likelihood.parameters(net.likelihood, made, found[0][1] if found else None))
    finally:
        torch.set_num_threads(before)
    (one, listed), (two, returned) = found
    assert listed == returned and type(one) is type(two)
    for name in vars(one):
        assert np.array_equal(getattr(one, name), getattr(two, name))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("worst", [float("nan"), float("inf"), -float("inf"), 1e300, -1e300])
def test_whatever_a_file_makes_of_the_numbers_pixels_are_coded(kind, worst):
    model = make(kind).double()
    made = torch.randn(model.numbers, 3, 4, dtype=torch.float64)
    made[::2] = worst
    said, _ = lossless_likelihood.parameters(model, made)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 4), dtype=np.uint8)
    assert (pixel_likelihood.decode(pixel_likelihood.encode(pixels, said), pixels.shape, said) == pixels).all()


def test_lesser_precision_is_refused():
    with pytest.raises(ValueError, match="to be float64"):
        lossless_likelihood.parameters(LogisticMixture(3), torch.zeros(30, 2, 2))
