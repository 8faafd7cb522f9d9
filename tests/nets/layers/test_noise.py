import numpy as np
import torch

from vqcli.nets.layers.noise import BLOCK, Noise, Noisy, Place, white_noise


def test_a_sample_does_not_depend_on_the_window():
    whole = white_noise(2, 0, 3 * BLOCK, 7)
    for start, stop in ((0, 1), (BLOCK - 1, BLOCK + 1), (BLOCK, 2 * BLOCK), (5000, 3 * BLOCK)):
        assert torch.equal(white_noise(2, start, stop, 7), whole[:, start:stop])
    assert abs(whole.mean()) < 0.02 and abs(whole.std() - 1) < 0.02
    assert not torch.equal(whole, white_noise(2, 0, 3 * BLOCK, 8))


def test_it_stays_what_it_is():
    """Files decode to the same sound in every version."""
    drawn = np.random.default_rng([7, 1]).standard_normal((1, BLOCK), np.float32)
    assert np.array_equal(white_noise(1, BLOCK, 2 * BLOCK, 7), drawn)


def test_layers_differ():
    one, other = (white_noise(1, 0, 1000, 7, layer)[0] for layer in (1, 2))
    assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 0.1


@torch.no_grad()
def test_layers_know_their_place():
    """Frames of the input, of which each is two samples behind the upsampling."""
    net = Noisy(torch.nn.Upsample(scale_factor=2), Noisy(Noise(3, 1, 2)))
    x = torch.randn(2, 3, 50)
    whole = net(x, Place(4))
    assert torch.equal(net(x[..., 20:30], Place(4, 20)), whole[..., 40:60])
    assert not torch.equal(net(x[..., 20:30], Place(4)), whole[..., 40:60])
