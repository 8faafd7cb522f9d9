"""What each logit of the Gated PixelCNN depends on, found by changing one code after another."""

import itertools

import pytest
import torch

from vqcli.nets.priors.pixelcnn import PixelCNN

GRIDS = [(1, 1), (1, 6), (6, 1), (5, 4), (3, 9)]
SIZES = [[5], [4, 7, 3]]


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def make(sizes: list[int], **options: object) -> PixelCNN:
    return PixelCNN(sizes, width=8, layers=4, hidden=16, **options).eval()


def random_codes(sizes: list[int], batch: int, height: int, width: int) -> torch.Tensor:
    return torch.stack([torch.randint(K, (batch, height, width)) for K in sizes], 1)


def in_reach(row: int, column: int, layers: int) -> bool:
    """Whether a code `row` rows up and `column` columns to the right is seen: 3 in the first layer, then 1 a layer."""
    reach = 3 + layers - 1
    if row == 0:
        return -reach <= column < 0
    return 0 < row <= reach and abs(column) <= reach


@torch.no_grad()
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("sizes", SIZES)
def test_a_logit_depends_on_all_earlier_codes_in_reach_and_on_no_other(sizes, grid):
    net = make(sizes).double()
    codes = random_codes(sizes, 1, *grid)
    places = list(itertools.product(range(grid[0]), range(grid[1]), range(len(sizes))))
    # every code changed in turn, as one batch
    changed = codes.repeat(len(places), 1, 1, 1)
    for n, (i, j, g) in enumerate(places):
        changed[n, g, i, j] = (changed[n, g, i, j] + 1) % sizes[g]
    before, after = net(codes), net(changed)
    for n, (i, j, g) in enumerate(places):
        for y, x, h in places:
            differs = not torch.equal(before[0, h, : sizes[h], y, x], after[n, h, : sizes[h], y, x])
            expected = g < h if (i, j) == (y, x) else in_reach(y - i, j - x, 4)
            assert differs == expected, f"group {g} at {i, j} and the logits of group {h} at {y, x}"


def test_the_gradient_reaches_every_weight():
    net = make([6, 5], labels=3).train()
    net.loss(random_codes([6, 5], 8, 7, 7), torch.randint(3, (8,))).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in net.parameters())


def test_logits_have_the_shape_of_the_largest_group():
    logits = make([4, 7, 3])(random_codes([4, 7, 3], 2, 5, 4))
    assert logits.shape == (2, 3, 7, 5, 4)
    assert torch.isneginf(logits[:, 0, 4:]).all() and torch.isneginf(logits[:, 2, 3:]).all()
    assert torch.isfinite(logits[:, 0, :4]).all() and torch.isfinite(logits[:, 1]).all()


def test_the_loss_is_the_mean_over_codes():
    net, codes = make([4, 7]), random_codes([4, 7], 2, 3, 5)
    probabilities = net(codes).softmax(2)
    chosen = probabilities.gather(2, codes[:, :, None])
    assert torch.allclose(net.loss(codes), -chosen.log().mean())


def test_the_label_matters_everywhere():
    net, codes = make([5], labels=2), random_codes([5], 1, 4, 3)
    one, other = (net(codes, torch.tensor([label])) for label in (0, 1))
    assert (one != other).any(2).all()


def test_a_net_that_knows_no_label_needs_one_only_if_it_has_not_learned_without():
    codes = random_codes([5], 2, 3, 3)
    with pytest.raises(ValueError, match="needs a label"):
        make([5], labels=2)(codes)
    net = make([5], labels=2, unlabelled=True)
    assert torch.equal(net(codes), net(codes, torch.full((2,), 2)))


def test_labels_are_left_out_in_training_only():
    net, codes = make([5], labels=2, unlabelled=True), random_codes([5], 1, 2, 2).repeat(200, 1, 1, 1)
    label = torch.zeros(200, dtype=torch.int64)
    with torch.no_grad():
        without = net(codes)
        assert not (net(codes, label) == without).all((1, 2, 3, 4)).any()
        share = (net.train()(codes, label) == without).all((1, 2, 3, 4)).double().mean().item()
    assert 0.02 < share < 0.25


def test_autocast_gives_float32_logits_close_to_the_whole():
    net, codes = make([6, 5], labels=2), random_codes([6, 5], 2, 5, 5)
    label = torch.tensor([0, 1])
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(codes, label)
    assert logits.dtype == torch.float32
    assert torch.allclose(logits[:, 0], net(codes, label)[:, 0], atol=0.1)


def test_it_learns():
    """Columns that repeat the one before, plus one: certain but for the first column."""
    net = make([4]).train()
    codes = (torch.randint(4, (64, 1, 4, 1)) + torch.arange(4)) % 4
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = net.loss(codes)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.45  # ln(4) / 4 = 0.35 for the first column
