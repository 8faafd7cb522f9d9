"""The exact prior in floats, and what rounding to integers makes of it."""

import math

import numpy as np
import pytest
import torch

from vqcli.entropy import prior2d, prior2d_net
from vqcli.errors import ModelError
from vqcli.nets.priors import exact, rounding
from vqcli.nets.priors.exact import ExactPrior, drawn_nats, logistic_nats
from vqcli.zoo import registry

ARGUMENTS = {
    "scalar": {"codebook_sizes": [31, 31, 15, 9], "qualities": 3, "slices": [1, 1, 2], "levels": [2, 1, 1]},
    "vector": {"codebook_sizes": [12, 7], "levels": 2, "embedding": 4},
}
KINDS = list(ARGUMENTS)


def trained(kind: str, steps: int = 40) -> ExactPrior:
    """A tiny net after a few steps, so that all its weights matter."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = registry.build("exact", ARGUMENTS[kind] | {"hidden": 16})
        optimizer = torch.optim.Adam(net.parameters(), 1e-2)
        for step in range(steps):
            optimizer.zero_grad()
            net.loss(*batch(kind, 4, step)).backward()
            optimizer.step()
    return net.eval()


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def net(kind):
    return trained(kind)


def batch(kind: str, B: int, seed: int, H: int = 16, W: int = 16) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Codes that follow their neighbours and the quality, and the qualities."""
    draw = np.random.default_rng(seed)
    sizes = np.array(ARGUMENTS[kind]["codebook_sizes"])[:, None, None]
    quality = draw.integers(10, 31, B) / 10
    noise = draw.standard_normal((B, len(sizes), H + 2, W + 2))
    smooth = sum(noise[..., y : y + H, x : x + W] for y in range(3) for x in range(3)) / 3
    spread = quality[:, None, None, None] if kind == "scalar" else 2.0
    codes = np.clip(np.round(smooth * spread * np.exp(noise[:, :1, :H, :W] / 2) + (sizes - 1) // 2), 0, sizes - 1)
    qualities = torch.tensor(quality, dtype=torch.float32) if kind == "scalar" else None
    return torch.tensor(codes, dtype=torch.int64), qualities


def of(quality: torch.Tensor | None, index: int | slice) -> torch.Tensor | None:
    return None if quality is None else quality[index : index + 1] if isinstance(index, int) else quality[index]


def tenths(quality: torch.Tensor | None) -> int:
    return 0 if quality is None else round(10 * float(quality[0]))


def integer_bits(integers: prior2d_net.Net, codes: torch.Tensor, quality: torch.Tensor | None) -> int:
    return 8 * len(prior2d.encode(codes[0].numpy(), tenths(quality), integers))


def test_training_lowers_the_bits(kind, net):
    fresh = trained(kind, 0)
    with torch.no_grad():
        codes, quality = batch(kind, 8, 1000)
        before, after = float(fresh.loss(codes, quality)), float(net.loss(codes, quality))
    uniform = np.mean(np.log2(ARGUMENTS[kind]["codebook_sizes"]))
    assert after < 0.95 * min(before, uniform)


def test_every_weight_gets_a_gradient(kind):
    net = trained(kind, 2)
    net.zero_grad()
    net.loss(*batch(kind, 4, 0)).backward()
    # the first slice has no earlier ones, and in its first phase nothing to see
    weights = {name: p for name, p in net.named_parameters() if p.numel() and name != "slices.0.hidden.0.weight"}
    assert [name for name, p in weights.items() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_the_loss_is_the_mean_over_codes_and_items(kind, net):
    codes, quality = batch(kind, 3, 5)
    with torch.no_grad():
        each = [float(net.loss(codes[i : i + 1], of(quality, i))) for i in range(3)]
        assert float(net.loss(codes, quality)) == pytest.approx(np.mean(each), rel=1e-5)


def told(net: ExactPrior, codes: torch.Tensor, quality: torch.Tensor | None) -> torch.Tensor:
    """Bits of each position, summed over groups: [H, W]."""
    H, W = codes.shape[2:]
    places = torch.arange(H * W).view(1, 1, H, W)
    total = torch.zeros(H * W, dtype=torch.float64)
    with torch.no_grad():
        found = net.logistics(codes, quality) if net.qualities else net.logits(codes)
    for part, numbers in zip(net.slices, found, strict=True):
        order = torch.cat(
            [places[0, 0, top::step, left::step].flatten() for p in part.phases for top, left, step in p.lattices]
        )
        if net.qualities:
            total[order] += logistic_nats(*numbers).sum(1).double()
        else:
            total[order] += torch.nn.functional.cross_entropy(numbers[1], numbers[0], reduction="none").double()
    return total.view(H, W) / math.log(2)


def test_later_codes_change_nothing_earlier(kind, net):
    """The bits of a slice do not depend on codes of later slices, nor those of a phase on later phases."""
    codes, quality = batch(kind, 1, 7)
    last = codes.clone()
    last[:, -1] = (last[:, -1] + 1) % ARGUMENTS[kind]["codebook_sizes"][-1]
    finest = codes.clone()
    finest[:, 0, 1::2, ::2] = 3  # half of the last phase of the first slice

    def first(codes: torch.Tensor) -> list[torch.Tensor]:
        with torch.no_grad():
            return list((net.logistics(codes, quality) if net.qualities else net.logits(codes))[0])

    before = first(codes)
    for a, b in zip(before, first(last), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(before[1:], first(finest)[1:], strict=True):  # all but the codes themselves
        assert torch.equal(a, b)


def test_the_logistic_adds_up_to_one():
    values = torch.arange(-400, 401)[:, None].float()
    for mean, log_scale in ((0.3, -3.0), (-7.8, 0.0), (20.0, 3.0)):
        nats = logistic_nats(values, torch.tensor(mean), torch.tensor(log_scale))
        assert float(torch.exp(-nats).sum()) == pytest.approx(1, abs=1e-4)


def test_rounding_costs_next_to_nothing(kind, net):
    integers = rounding.rounded(net)
    floats = written = 0.0
    for seed in range(100, 106):
        codes, quality = batch(kind, 1, seed, 40, 40)
        with torch.no_grad():
            floats += float(net.loss(codes, quality)) * codes.numel()
        written += integer_bits(integers, codes, quality) - 4  # of the last byte, on average
    # far from the mean, frequencies of at least 1 may even save something
    assert -0.02 < written / floats - 1 < 0.002


def test_the_integers_are_whole_and_come_back(kind, net):
    integers = rounding.rounded(net)
    again = prior2d_net.from_arrays(integers.arrays(), net.codebook_sizes)
    for shape in ((1, 1), (1, 9), (11, 1), (13, 10)):
        codes, quality = batch(kind, 1, 9, *shape)
        data = prior2d.encode(codes[0].numpy(), tenths(quality), again)
        assert np.array_equal(prior2d.decode(data, tuple(codes.shape[1:]), tenths(quality), again), codes[0].numpy())


def test_values_beyond_what_the_net_sees():
    """A codebook wider than LARGEST_VALUE is coded all the same."""
    net = registry.build("exact", {"codebook_sizes": [1201], "qualities": 1, "hidden": 4, "levels": 1})
    integers = rounding.rounded(net)
    codes = np.random.default_rng(0).integers(0, 1201, (1, 6, 6))
    assert np.abs(codes - 600).max() > exact.LARGEST_VALUE
    data = prior2d.encode(codes, 10, integers)
    assert np.array_equal(prior2d.decode(data, codes.shape, 10, integers), codes)


def test_weights_too_large_for_integers(net):
    broken = trained("vector", 0)
    with torch.no_grad():
        broken.slices[0].out.weight.fill_(1e6)
    with pytest.raises(ValueError, match="too large"):
        rounding.rounded(broken)


@pytest.mark.parametrize(
    "arguments",
    [
        {"codebook_sizes": [9, 9], "qualities": 1, "slices": [1]},
        {"codebook_sizes": [9, 9], "qualities": 1, "levels": [1]},
        {"codebook_sizes": [9, 9], "slices": [2]},
        {"codebook_sizes": [9, 9], "hidden": [4, 4, 4]},
    ],
    ids=str,
)
def test_arguments_that_do_not_fit(arguments):
    with pytest.raises(ModelError):
        registry.build("exact", arguments)


def test_a_draw_costs_the_mean_of_its_codes():
    mean, log_scale = torch.tensor(0.4), torch.tensor(-0.7)
    below, above = (logistic_nats(torch.tensor(code), mean, log_scale) for code in (-2.0, -1.0))
    assert torch.isclose(drawn_nats(torch.tensor(-1.75), mean, log_scale), 0.75 * below + 0.25 * above)
    assert torch.isclose(drawn_nats(torch.tensor(-2.0), mean, log_scale), below)
