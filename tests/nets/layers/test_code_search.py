import torch

from vqcli.nets.layers.code_search import ScalarSearch, VectorSearch, soft_round


def test_soft_rounding():
    x = torch.linspace(-2.4, 2.4, 49)
    assert torch.allclose(soft_round(x, 1e-3), x, atol=1e-3)
    away = x[(x - x.floor() - 0.5).abs() > 0.01]
    assert torch.allclose(soft_round(away, 500.0), away.round(), atol=1e-3)
    whole = torch.arange(-3.0, 4.0)
    assert torch.allclose(soft_round(whole, 5.0), whole, atol=1e-5)


def test_a_search_begins_and_ends_at_the_encoders_codes():
    """Where nothing moves, what is found is what the encoder rounds to, and the soft image comes to the hard one."""
    torch.manual_seed(0)
    latents, limit = torch.randn(1, 3, 4, 5) * 2, torch.full((3, 1, 1), 7)
    values = torch.zeros(1, 3, 8, 8)
    place = slice(2, 6), slice(1, 6)
    search = ScalarSearch(latents, values, place, limit, lambda moved, drawn: (moved, moved.abs().sum()))
    codes = search.found()
    assert torch.equal(codes, (latents[0].round() + limit).long())
    hard, bits = search.hard(codes)
    assert torch.equal(hard[..., 2:6, 1:6], latents.round()) and bits == latents.round().abs().sum()
    assert hard.abs().sum() == bits  # nothing else was touched
    away = (latents - latents.floor() - 0.5).abs() > 0.2
    images = []
    search.soft(1.0, lambda image: images.append(image) or image.square().sum())
    assert ((images[-1][..., 2:6, 1:6] - latents.round()).abs()[away] < 0.01).all()


def test_numbers_between_codes_cost_what_rounding_adds():
    """Of a quadratic distortion the curvature is measured exactly, and the expected cost of a draw is its mean."""
    weight = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    latents, values = torch.full((1, 2, 1, 1), 0.5), torch.zeros(1, 2, 1, 1)
    place, limit = (slice(0, 1), slice(0, 1)), torch.full((2, 1, 1), 7)
    search = ScalarSearch(latents, values, place, limit, lambda moved, drawn: (moved, torch.zeros(())))
    cost = search.soft(1.0, lambda image: (weight * image.square()).sum())
    assert torch.isclose(cost, (weight / 2).sum())  # half of 0 and half of 1, squared
    whole = search.soft(0.0, lambda image: (weight * image.square()).sum())
    assert torch.isclose(whole, (weight / 4).sum())  # one half, squared


def test_vectors_begin_at_the_nearest():
    torch.manual_seed(0)
    codebook, z_e = torch.randn(2, 16, 3), torch.randn(1, 6, 4, 4)
    codes = torch.randint(0, 16, (2, 6, 6))
    place = slice(1, 5), slice(2, 6)
    search = VectorSearch(z_e, codes, place, codebook, lambda embedded: embedded)
    nearest = torch.stack(
        [torch.cdist(z_e[0, 3 * g : 3 * g + 3].flatten(1).T, codebook[g]).argmin(1).view(4, 4) for g in range(2)]
    )
    assert torch.equal(search.found(), nearest)
    embedded, bits = search.hard(nearest)
    for g in range(2):
        assert torch.equal(embedded[0, 3 * g : 3 * g + 3, 1:5, 2:6], codebook[g][nearest[g]].movedim(-1, 0))
        assert torch.equal(embedded[0, 3 * g : 3 * g + 3, 0], codebook[g][codes[g, 0]].T)
    images = []
    soft_bits = search.soft(1.0, lambda image: images.append(image) or torch.zeros(()))
    assert (images[0] - embedded).abs().mean() < 0.1 and abs(soft_bits - bits) < 0.2 * bits
    soft_bits.backward()
    assert search.free.grad.abs().sum() > 0
