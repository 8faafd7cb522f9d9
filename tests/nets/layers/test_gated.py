import pytest
import torch

from vqcli.nets.layers.gated import gate


@pytest.mark.parametrize(("shape", "dim"), [((2, 6, 3, 2), 1), ((2, 5, 4), 2)])
def test_its_gradient_is_that_of_its_value(shape, dim):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gate(x, dim), (x,))


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_it_is_tanh_times_sigmoid(dtype, near):
    x = torch.cat([torch.linspace(-30, 30, 101), torch.linspace(-1e-3, 1e-3, 100), torch.randn(201)])
    a, b = x.chunk(2)
    found = gate(x.to(dtype), 0)
    assert found.dtype == dtype
    assert torch.allclose(found.float(), torch.tanh(a) * torch.sigmoid(b[: len(a)]), atol=near)
