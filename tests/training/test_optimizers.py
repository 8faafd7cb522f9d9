import math

import pytest
import torch
from torch import nn

from vqcli.training.optimizers import EVERY, LARGEST, Soap


def ill_conditioned(seed=0):
    """The weights of a linear map and a loss whose curvature is 1 .. 10,000 along directions that no axis shares."""
    generator = torch.Generator().manual_seed(seed)
    turn_in, turn_out = (torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q for _ in range(2))
    scales = torch.logspace(0, 2, 12)
    into, out = turn_in * scales, turn_out * scales
    weight = nn.Parameter(torch.randn(12, 12, generator=generator))
    return weight, lambda: (out.T @ weight @ into).square().mean()


def lowest(optimizer, loss, steps=300):
    values = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.03 * (1 - step / steps)
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        values.append(value.item())
    return values[-1] / values[0]


def test_soap_goes_further_than_adam_where_directions_differ():
    weight, loss = ill_conditioned()
    soap = lowest(Soap([weight]), loss)
    weight, loss = ill_conditioned()
    adam = lowest(torch.optim.Adam([weight]), loss)
    assert soap < 0.1 * adam


def test_vectors_follow_adam():
    torch.manual_seed(0)
    ours, theirs = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5))
    soap, adam = Soap([ours], lr=0.01), torch.optim.Adam([theirs], lr=0.01, betas=(0.95, 0.95))
    ours.grad = torch.ones(5)
    soap.step()  # the first step only looks
    assert torch.equal(ours, torch.ones(5))
    for _ in range(7):
        ours.grad = theirs.grad = torch.randn(5)
        soap.step()
        adam.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3, 3), (7, 1, 3, 3), (2, 6, 5), (300, 8), (0, 5), (1, 9)])
def test_every_shape_of_weights_moves(shape):
    torch.manual_seed(1)
    weight = nn.Parameter(torch.randn(shape))
    before, optimizer = weight.detach().clone(), Soap([weight], lr=0.01)
    for _ in range(2 * EVERY + 2):
        weight.grad = torch.randn(shape)
        optimizer.step()
    assert torch.isfinite(weight).all() and weight.shape == before.shape
    assert not weight.numel() or not torch.equal(weight, before)
    assert all(torch.is_tensor(value) for state in optimizer.state.values() for value in state.values())
    bases = [v for state in optimizer.state.values() for name, v in state.items() if name.startswith("basis")]
    assert bool(bases) == (weight.numel() > 9)
    for basis in bases:
        assert len(basis) <= LARGEST and torch.allclose(basis.T @ basis, torch.eye(len(basis)), atol=1e-4)


def test_weights_that_decay_shrink():
    weight = nn.Parameter(torch.ones(4, 4))
    optimizer = Soap([weight], lr=0.1, weight_decay=0.5)
    for _ in range(3):
        weight.grad = torch.zeros(4, 4)
        optimizer.step()
    assert weight.mean().item() == pytest.approx(math.pow(0.95, 2), rel=1e-5)
