import numpy as np
import pytest
import torch

from vqcli.entropy import statistics
from vqcli.nets.layers import distributed
from vqcli.nets.layers.rate import NEIGHBOURS, ScalarRate

C, H, W = 3, 3, 4


def random_rate(qualities: int = 2) -> ScalarRate:
    rate = ScalarRate(C, qualities)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in rate.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return rate


def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "rand", lambda *shape, device: torch.full(shape, 0.5, device=device))


def test_each_position_depends_on_earlier_ones_alone(monkeypatch):
    """The Jacobian of the bits: four neighbours of the own channel, earlier channels at the same position."""
    no_noise(monkeypatch)
    rate, seen = random_rate(), []
    flatten = torch.Tensor.flatten  # what is flattened to be summed are the bits, or their like, of each position
    monkeypatch.setattr(torch.Tensor, "flatten", lambda bits, *dims: (seen.append(bits), flatten(bits, *dims))[1])
    value = torch.linspace(-1.5, 2.1, C * H * W).reshape(1, C, H, W).requires_grad_()  # none is 0, where |x| is flat
    rate(value, torch.tensor([1.0]))
    (bits,) = seen
    assert bits.shape == (1, C, H, W)
    for c, y, x in np.ndindex(C, H, W):
        (gradient,) = torch.autograd.grad(bits[0, c, y, x], value, retain_graph=True)
        around = {(c, y + dy, x + dx) for dy, dx in NEIGHBOURS if y + dy >= 0 and 0 <= x + dx < W}
        expected = {(c, y, x)} | around | {(earlier, y, x) for earlier in range(c)}
        assert set(map(tuple, gradient[0].nonzero().tolist())) == expected


def test_bits_are_those_of_a_logistic(monkeypatch):
    no_noise(monkeypatch)
    rate = random_rate()
    value = torch.linspace(-2, 2, 2 * C * H * W).reshape(2, C, H, W)
    own, earlier = (weight.detach().double().numpy() for weight in rate.positive_weights())
    mean_weights, log_floor = rate.mean.detach().double().numpy(), rate.log_floor.detach().double().numpy()
    quality = [1.0, 1.25]
    expected = np.zeros(2)
    v = value.double().numpy()
    for b, c, y, x in np.ndindex(2, C, H, W):
        at = [(y + dy, x + dx) for dy, dx in NEIGHBOURS]
        around = np.array([v[b, c, i, j] if i >= 0 and 0 <= j < W else 0 for i, j in at])
        floor = np.exp((2 - quality[b]) * log_floor[0, c] + (quality[b] - 1) * log_floor[1, c])
        scale = floor + own[c] @ np.abs(around) + sum(earlier[c, e] * abs(v[b, e, y, x]) for e in range(c))
        away = v[b, c, y, x] - mean_weights[c] @ around
        high, low = (1 / (1 + np.exp(-(away + side) / scale)) for side in (0.5, -0.5))
        expected[b] -= np.log2(high - low)
    assert rate(value, torch.tensor(quality)).tolist() == pytest.approx(expected, rel=1e-4)


def test_bits_stay_finite_far_out():
    value = (torch.tensor([-1e4, 1e4, 63.0]).reshape(1, C, 1, 1) * torch.ones(1, C, H, W)).requires_grad_()
    bits = random_rate()(value, torch.tensor([2.0])).sum()
    bits.backward()
    assert torch.isfinite(bits) and torch.isfinite(value.grad).all()


def test_weights_are_positive_and_strictly_lower_triangular():
    own, earlier = random_rate().positive_weights()
    assert own.shape == (C, 4) and (own > 0).all()
    lower = torch.ones(C, C).tril(-1).bool()
    assert (earlier[lower] > 0).all() and (earlier[~lower] == 0).all()


def test_fitted_weights_are_integers_in_64ths():
    rate = random_rate()
    fitted = rate.fitted_weights()
    own, earlier = rate.positive_weights()
    for name, weight in {"mean": rate.mean, "own": own, "earlier": earlier}.items():
        assert fitted[name].dtype == torch.int32
        assert (fitted[name] / 64 - weight).abs().max() <= 0.5 / 64 + 1e-6
    assert set(fitted) == {"mean", "own", "earlier"}


@pytest.mark.parametrize("neighbour", range(4))
def test_the_coder_sees_the_same_neighbours(neighbour):
    """A weight of one on a neighbour makes the coder predict just what stands there."""
    dy, dx = NEIGHBOURS[neighbour]
    codes = np.random.default_rng(0).integers(0, 9, (1, 6, 7)).astype(np.int32)
    one = np.zeros((1, 4), np.int32)
    one[0, neighbour] = 64
    symbols, energies, leans = statistics.observe(codes, np.array([9]), one, one, np.zeros((1, 1), np.int32))
    for y, x in np.ndindex(6, 7):
        there = int(codes[0, y + dy, x + dx]) - 4 if y + dy >= 0 and 0 <= x + dx < 7 else 0
        assert symbols[0, y, x] == (codes[0, y, x] - there) % 9
        assert energies[0, y, x] == 64 * abs(there) and leans[0, y, x] == 0


def test_autocast_costs_no_precision_that_matters():
    rate, value = random_rate(), 20 * torch.sin(torch.arange(C * 20 * 20.0)).reshape(1, C, 20, 20)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = rate(value, torch.tensor([1.0]))
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16):
            bits = rate(value, torch.tensor([1.0]))
    torch.testing.assert_close(bits, expected, rtol=1e-3, atol=0)
