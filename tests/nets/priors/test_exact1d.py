"""The exact prior of codes in time, in floats, and what rounding to integers makes of it."""

import numpy as np
import pytest
import torch

from vqcli.entropy import prior1d, prior1d_net
from vqcli.errors import ModelError
from vqcli.nets.priors import rounding
from vqcli.nets.priors.exact1d import SequencePrior
from vqcli.zoo import registry

SIZES = [12, 7, 12, 9]


@pytest.fixture(scope="module")
def net() -> SequencePrior:
    return trained(60)


def trained(steps: int) -> SequencePrior:
    """A tiny net after a few steps, so that all its weights matter."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build(
            "exact1d", {"codebook_sizes": SIZES, "past": 3, "hidden": 16, "embedding": 6, "dropout": 0.02}
        )
        optimizer = torch.optim.Adam(net.parameters(), 1e-2)
        for step in range(steps):
            optimizer.zero_grad()
            net.loss(batch(8, 32, step)).backward()
            optimizer.step()
    return net.eval()


def batch(B: int, T: int, seed: int) -> torch.Tensor:
    """Codes that stay for a while, the later groups following the earlier ones."""
    draw = np.random.default_rng(seed)
    moves = (draw.random((B, len(SIZES), T)) < 0.3) * draw.integers(-2, 3, (B, len(SIZES), T))
    walk = np.cumsum(moves, 2).cumsum(1) + draw.integers(0, 9, (B, 1, 1))
    return torch.tensor(walk % np.array(SIZES)[:, None], dtype=torch.int64)


def test_training_lowers_the_bits(net):
    codes = batch(16, 40, 1000)
    with torch.no_grad():
        assert float(net.loss(codes)) < 0.75 * min(float(trained(0).loss(codes)), float(np.mean(np.log2(SIZES))))
        assert float(net.bits(codes).mean()) == pytest.approx(float(net.loss(codes)))


@torch.no_grad()
def test_a_code_depends_on_what_is_told_before_it_and_on_nothing_else(net):
    codes, t = batch(1, 20, 7), 10
    for group, part in enumerate(net.groups):
        before = part(codes)
        for other in range(len(SIZES)):
            for away in range(-6, 7):
                changed = codes.clone()
                changed[0, other, t + away] = (changed[0, other, t + away] + 1) % SIZES[other]
                differs = not torch.equal(before[0, t], part(changed)[0, t])
                # near ones as such, all others in the mean
                seen = away < 0 if other == group else other < group
                assert differs == seen, f"group {other} at {away} and the logits of group {group}"


def test_every_weight_gets_a_gradient():
    net = trained(2)
    net.zero_grad()
    net.loss(batch(4, 32, 0)).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_rounding_costs_next_to_nothing(net):
    integers = rounding.rounded_sequence(net)
    again = prior1d_net.from_arrays(integers.arrays(), net.codebook_sizes)
    floats = written = 0.0
    for seed in range(100, 104):
        codes = batch(1, 300, seed)
        with torch.no_grad():
            floats += float(net.loss(codes)) * codes.numel()
        data = prior1d.encode(codes[0].numpy()[:, None], again)
        written += 8 * len(data) - 4  # of the last byte, on average
        assert np.array_equal(prior1d.decode(data, (4, 1, 300), again)[:, 0], codes[0].numpy())
    assert -0.02 < written / floats - 1 < 0.002


def test_weights_too_large_for_integers():
    broken = trained(0)
    with torch.no_grad():
        broken.groups[0].out.weight.fill_(1e6)
    with pytest.raises(ValueError, match="too large"):
        rounding.rounded_sequence(broken)


def test_a_net_that_sees_nothing_before():
    with pytest.raises(ModelError, match="at least the one before"):
        registry.build("exact1d", {"codebook_sizes": [5], "past": 0})


def test_of_many_groups_a_few_learn_in_a_step():
    net = registry.build("exact1d", {"codebook_sizes": [5] * 12, "hidden": 4, "embedding": 2}).train()
    codes = torch.randint(5, (2, 12, 9))
    net.loss(codes).backward()
    learned = [part.out.bias.grad is not None for part in net.groups]
    assert sum(learned) == 8
    with torch.no_grad():
        assert float(net.eval().loss(codes)) == pytest.approx(float(net.bits(codes).mean()))
