"""What each logit of the WaveNet prior depends on, and its two samplers against its full forward pass."""

import itertools

import numpy as np
import pytest
import torch

from vqcli.errors import UsageError
from vqcli.nets.priors import wavenet_numba as compiled
from vqcli.nets.priors import wavenet_torch
from vqcli.nets.priors.autoregressive import Sampling
from vqcli.nets.priors.wavenet import WaveNetPrior

SIZES = [[5], [9, 4, 7]]


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def make(sizes: list[int], **options: object) -> WaveNetPrior:
    size = {"residual": 6, "skip": 24, "hidden": 32, "layers_per_cycle": 3, "label_dim": 4}
    return WaveNetPrior(sizes, **size, **options).eval()


def random_codes(sizes: list[int], batch: int, T: int) -> torch.Tensor:
    return torch.stack([torch.randint(K, (batch, T)) for K in sizes], 1)


@torch.no_grad()
@pytest.mark.parametrize("sizes", SIZES)
def test_a_logit_depends_on_all_earlier_codes_in_reach_and_on_no_other(sizes):
    net, T = make(sizes).double(), 20
    assert net.stack.reach == 14
    codes = random_codes(sizes, 1, T)
    places = list(itertools.product(range(T), range(len(sizes))))
    changed = codes.repeat(len(places), 1, 1)
    for n, (t, g) in enumerate(places):
        changed[n, g, t] = (changed[n, g, t] + 1) % sizes[g]
    before, after = net(codes), net(changed)
    for n, (t, g) in enumerate(places):
        for u, h in places:
            differs = not torch.equal(before[0, h, : sizes[h], u], after[n, h, : sizes[h], u])
            expected = g < h if t == u else 0 < u - t <= net.stack.reach + 1
            assert differs == expected, f"group {g} at {t} and the logits of group {h} at {u}"


def test_the_gradient_reaches_every_weight():
    net = make([6, 5], labels=3, dropout=0.1).train()
    net.loss(random_codes([6, 5], 8, 30), torch.randint(3, (8,))).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in net.parameters())


def test_logits_have_the_shape_of_the_largest_group():
    logits = make([4, 7, 3])(random_codes([4, 7, 3], 2, 5))
    assert logits.shape == (2, 3, 7, 5)
    assert torch.isneginf(logits[:, 0, 4:]).all() and torch.isneginf(logits[:, 2, 3:]).all()
    assert torch.isfinite(logits[:, 0, :4]).all() and torch.isfinite(logits[:, 1]).all()


def test_the_loss_is_the_mean_over_codes():
    net, codes = make([4, 7]), random_codes([4, 7], 2, 9)
    chosen = net(codes).softmax(2).gather(2, codes[:, :, None])
    assert torch.allclose(net.loss(codes), -chosen.log().mean())


def test_a_net_that_knows_no_label_needs_one_only_if_it_has_not_learned_without():
    codes = random_codes([5], 2, 3)
    with pytest.raises(ValueError, match="needs a label"):
        make([5], labels=2)(codes)
    net = make([5], labels=2, unlabelled=True)
    assert torch.equal(net(codes), net(codes, torch.full((2,), 2)))


def test_labels_are_left_out_in_training_only():
    net, codes = make([5], labels=2, unlabelled=True), random_codes([5], 1, 4).repeat(200, 1, 1)
    label = torch.zeros(200, dtype=torch.int64)
    with torch.no_grad():
        without = net(codes)
        assert not (net(codes, label) == without).all((1, 2, 3)).any()
        share = (net.train()(codes, label) == without).all((1, 2, 3)).double().mean().item()
    assert 0.02 < share < 0.25


def test_it_learns():
    """Codes that count up by the other group: certain but for the first position and that group."""
    net = make([6, 2]).train()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(80):
        steps = torch.randint(2, (32, 12))
        codes = torch.stack([(steps.cumsum(1) - steps + torch.randint(6, (32, 1))) % 6, steps], 1)
        optimizer.zero_grad()
        loss = net.loss(codes)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.55  # (ln(6) / 12 + ln(2)) / 2 = 0.42


# ---------------------------------------------------------------- sampling

NETS = {
    "one group": {"sizes": [37], "labels": 3},
    "three groups": {"sizes": [5, 9, 4]},
    "without labels too": {"sizes": [12, 70], "labels": 2, "unlabelled": True},
}


@pytest.fixture(params=NETS)
def net(request) -> WaveNetPrior:
    return make(**NETS[request.param])


def labels_of(net: WaveNetPrior, B: int) -> np.ndarray | None:
    return np.arange(B) % net.labels if net.labels else None


def test_steps_give_the_logits_of_the_full_forward(net):
    codes = random_codes(net.codebook_sizes, 3, 40)
    label = labels_of(net, 3)
    with torch.no_grad():
        expected = net(codes, None if label is None else torch.tensor(label)).numpy()
    there = np.isfinite(expected)
    for found in (
        wavenet_torch.logits_of(net, codes.numpy(), label),
        compiled.logits_of(compiled.compile_net(net), codes.numpy(), label),
    ):
        assert np.array_equal(np.isfinite(found), there)
        assert np.abs(found[there] - expected[there]).max() < 2e-5


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0), Sampling(top_k=3), Sampling(top_p=0.5)], ids=str
)
def test_both_samplers_draw_the_same_and_keep_what_is_kept(net, sampling):
    B, T = 3, 30
    given = random_codes(net.codebook_sizes, B, T).numpy()
    keep = np.zeros(given.shape, bool)
    keep[:, :, :11] = True
    keep[1, 0] = True
    uniforms = np.random.default_rng(0).random(given.shape)
    shares: list[float] = []
    one = wavenet_torch.sample(net, given, keep, uniforms, labels_of(net, B), sampling)
    two = compiled.sample(compiled.compile_net(net), given, keep, uniforms, labels_of(net, B), sampling, shares.append)
    assert np.array_equal(one, two)
    assert np.array_equal(one[keep], given[keep]) and not np.array_equal(one, given)
    assert shares[-1] == 1 and shares == sorted(shares)


def test_a_sample_does_not_depend_on_the_others(net):
    nothing = np.zeros((4, len(net.codebook_sizes), 25), np.int64)
    uniforms = np.random.default_rng(1).random(nothing.shape)
    label = labels_of(net, 4)
    compiled_net = compiled.compile_net(net)
    together = compiled.sample(compiled_net, nothing, nothing > 0, uniforms, label)
    for i in range(4):
        part = slice(i, i + 1)
        alone = compiled.sample(
            compiled_net, nothing[part], nothing[part] > 0, uniforms[part], None if label is None else label[part]
        )
        assert np.array_equal(alone[0], together[i])


def test_guidance_moves_away_from_no_label():
    net = make([12, 20], labels=2, unlabelled=True)
    nothing = np.zeros((2, 2, 20), np.int64)
    uniforms, label = np.random.default_rng(2).random(nothing.shape), np.array([0, 1])
    found = [
        draw(model, nothing, nothing > 0, uniforms, label, Sampling(guidance=guidance))
        for guidance in (1.0, 6.0)
        for draw, model in ((wavenet_torch.sample, net), (compiled.sample, compiled.compile_net(net)))
    ]
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[2], found[3])
    assert not np.array_equal(found[0], found[2])


def test_no_positions():
    net, empty = make([4, 7]), np.zeros((2, 2, 0), np.int64)
    for draw, model in ((wavenet_torch.sample, net), (compiled.sample, compiled.compile_net(net))):
        assert draw(model, empty, empty > 0, empty.astype(float)).shape == empty.shape


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"codes": np.zeros((1, 3, 5), np.int64)}, "are not"),
        ({"codes": np.zeros((1, 2, 5, 1), np.int64)}, "are not"),
        ({"codes": np.full((1, 2, 5), 12), "keep": np.ones((1, 2, 5), bool)}, "outside their codebooks"),
        ({"uniforms": np.ones((1, 2, 5))}, "outside 0"),
        ({"label": np.array([2])}, "label is not"),
    ],
)
def test_requests_that_make_no_sense(change, says):
    net = make([12, 20], labels=2, unlabelled=True)
    zeros = np.zeros((1, 2, 5), np.int64)
    request = {"codes": zeros, "keep": zeros > 0, "uniforms": zeros.astype(float), "label": np.array([0])} | change
    for draw, model in ((wavenet_torch.sample, net), (compiled.sample, compiled.compile_net(net))):
        with pytest.raises(ValueError, match=says):
            draw(model, **request)
    with pytest.raises(UsageError):
        Sampling(temperature=-1)
