import pytest
import torch
from torch import nn

from vqcli.nets.layers.local_attention import LocalAttention
from vqcli.nets.layers.reach import reach

DOWN = [nn.Conv1d(1, 2, 7, padding=3), nn.Conv1d(2, 2, 3, dilation=5, padding=5), nn.Conv1d(2, 2, 6, 3, padding=2)]
UP = [nn.Conv1d(2, 2, 3, padding=1), nn.ConvTranspose1d(2, 2, 10, 5, padding=3), nn.ConvTranspose1d(2, 1, 4, 2, 1)]


BLOCKS = [nn.Conv1d(1, 64, 7, 2, padding=3), LocalAttention(64, 12), nn.Conv1d(64, 1, 5, padding=2)]


@pytest.mark.parametrize("layers", [DOWN, UP, [*DOWN, *UP], BLOCKS])
def test_it_is_where_the_gradient_goes(layers):
    net = nn.Sequential(*layers)
    for first, last in ((150, 150), (151, 158), (140, 169)):
        x = torch.randn(1, layers[0].in_channels, 600, requires_grad=True)
        net(x)[..., first : last + 1].sum().backward()
        seen = x.grad[0].abs().sum(0).nonzero()
        assert reach(net, first, last) == (seen.min(), seen.max())
