"""The two samplers of the Gated PixelCNN against its full forward pass, and against each other."""

import itertools

import numpy as np
import pytest
import torch

from vqcli.errors import UsageError
from vqcli.nets.kernels.exponential import exp32, exp64
from vqcli.nets.kernels.gate import gate
from vqcli.nets.kernels.matmul import add_product, padded, panels
from vqcli.nets.layers import gated
from vqcli.nets.priors import autoregressive, pixelcnn_torch
from vqcli.nets.priors import pixelcnn_numba as compiled
from vqcli.nets.priors.autoregressive import Sampling
from vqcli.nets.priors.categorical_numba import _sort_down, sample_code
from vqcli.nets.priors.pixelcnn import PixelCNN

NETS = {
    "one group": {"codebook_sizes": [37], "labels": 3},
    "three groups": {"codebook_sizes": [5, 9, 4], "width": 12, "hidden": 70},
    "without a label": {"codebook_sizes": [6, 6], "labels": 2, "unlabelled": True, "width": 40},
    "one layer": {"codebook_sizes": [7], "layers": 1},
}
GRIDS = [(1, 1), (1, 5), (6, 2), (4, 9)]
WAYS = ["torch", "compiled"]


def make(name: str) -> PixelCNN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = PixelCNN(**{"width": 8, "layers": 3, "hidden": 16, **NETS[name]}).eval()
    with torch.no_grad():  # logits as far apart as those of a trained net
        for head in net.heads:
            head[2].weight *= 30
    return net


def request(net: PixelCNN, batch: int, grid: tuple[int, int], keep: float = 0, seed: int = 0) -> list:
    """Random codes, keep, uniforms and label."""
    rng = np.random.default_rng(seed)
    shape = (batch, len(net.codebook_sizes), *grid)
    codes = rng.integers(np.array(net.codebook_sizes)[:, None, None], size=shape)
    label = rng.integers(net.labels, size=batch) if net.labels else None
    return [codes, rng.random(shape) < keep, rng.random(shape), label]


def run(way: str, net: PixelCNN, *arguments: object) -> np.ndarray:
    if way == "torch":
        return pixelcnn_torch.sample(net, *arguments)
    return compiled.sample(compiled.compile_net(net), *arguments)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", NETS)
def test_logits_of_given_codes_are_those_of_the_forward_pass(name, grid, way):
    net = make(name)
    codes, _, _, label = request(net, 3, grid)
    with torch.no_grad():
        expected = net(torch.from_numpy(codes), None if label is None else torch.from_numpy(label)).numpy()
    logits = pixelcnn_torch.logits_of(net, codes, label) if way == "torch" else None
    logits = compiled.logits_of(compiled.compile_net(net), codes, label) if logits is None else logits
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5)  # where one is -inf, both are
    assert np.abs(expected[np.isfinite(expected)]).max() > 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NETS)
def test_codes_are_drawn_from_the_forward_pass_and_kept_ones_stay(name, way):
    """Each code is what its uniform number picks under the logits of the codes before it."""
    net = make(name)
    for settings in (Sampling(), Sampling(0.7, top_k=3), Sampling(1.3, top_p=0.8), Sampling(0)):
        codes, keep, uniforms, label = request(net, 4, (5, 3), keep=0.3)
        drawn = run(way, net, codes, keep, uniforms, label, settings)
        assert np.array_equal(drawn[keep], codes[keep])
        with torch.no_grad():
            logits = net(torch.from_numpy(drawn), None if label is None else torch.from_numpy(label))
        again = autoregressive.sample_codes(
            logits.movedim(2, -1).flatten(0, -2), torch.from_numpy(uniforms).flatten(), settings
        )
        assert np.array_equal(drawn[~keep], again.numpy().reshape(drawn.shape)[~keep])


def test_both_ways_draw_the_same():
    """Up to draws that fall within the last bits of a border; here none does."""
    for name in NETS:
        net = make(name)
        arguments = request(net, 3, (4, 5), keep=0.2)
        assert np.array_equal(run("torch", net, *arguments), run("compiled", net, *arguments))


@pytest.mark.parametrize("way", WAYS)
def test_guidance_moves_logits_away_from_those_without_the_label(way):
    net = make("without a label")
    codes, keep, uniforms, label = request(net, 3, (3, 4), keep=0.2)
    settings = Sampling(guidance=2.5)
    drawn = run(way, net, codes, keep, uniforms, label, settings)
    with torch.no_grad():
        given, free = net(torch.from_numpy(drawn), torch.from_numpy(label)), net(torch.from_numpy(drawn))
    logits = free + 2.5 * (given - free)
    again = autoregressive.sample_codes(
        logits.movedim(2, -1).flatten(0, -2), torch.from_numpy(uniforms).flatten(), settings
    )
    assert np.array_equal(drawn[~keep], again.numpy().reshape(drawn.shape)[~keep])
    assert not np.array_equal(drawn, run(way, net, codes, keep, uniforms, label))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_sample_does_not_depend_on_its_batch_or_the_threads(threads):
    net = make("three groups")
    compiled_net = compiled.compile_net(net)
    codes, keep, uniforms, _ = request(net, 7, (4, 4))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        together = compiled.sample(compiled_net, codes, keep, uniforms)
    finally:
        torch.set_num_threads(before)
    for b in range(7):
        one = slice(b, b + 1)
        assert np.array_equal(together[one], compiled.sample(compiled_net, codes[one], keep[one], uniforms[one]))


@pytest.mark.parametrize("way", WAYS)
def test_arguments_stay_as_they_are_and_progress_is_told(way):
    net = make("one group")
    arguments = request(net, 2, (4, 3))
    before = [array.copy() for array in arguments]
    shares: list[float] = []
    run(way, net, *arguments, Sampling(), shares.append)
    assert all(np.array_equal(one, other) for one, other in zip(arguments, before, strict=True))
    assert shares == [0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("batch,grid", [(0, (3, 3)), (2, (0, 3)), (2, (3, 0))])
def test_nothing_to_sample(way, batch, grid):
    net = make("three groups")
    assert run(way, net, *request(net, batch, grid)).shape == (batch, 3, *grid)


@pytest.mark.parametrize("way", WAYS)
def test_what_does_not_fit_is_refused(way):
    net = make("one group")
    codes, keep, uniforms, label = request(net, 2, (3, 3))
    with pytest.raises(ValueError, match="are not"):
        run(way, net, codes, keep, uniforms[:, :, 1:], label)
    with pytest.raises(ValueError, match="outside their codebooks"):
        run(way, net, codes + 37, ~keep, uniforms, label)
    with pytest.raises(ValueError, match=r"outside 0 \.\. 1"):
        run(way, net, codes, keep, uniforms + 1, label)
    with pytest.raises(ValueError, match="needs a label"):
        run(way, net, codes, keep, uniforms, None)
    with pytest.raises(ValueError, match="label is not"):
        run(way, net, codes, keep, uniforms, label + 3)
    with pytest.raises(ValueError, match="guidance needs"):
        run(way, net, codes, keep, uniforms, label, Sampling(guidance=2))
    run(way, net, codes + 37, keep, uniforms, label)  # what is not kept is not read


@pytest.mark.parametrize(
    "settings",
    [{"temperature": -1}, {"temperature": float("nan")}, {"top_k": -1}, {"top_p": 0}, {"guidance": float("inf")}],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UsageError):
        Sampling(**settings)


# Probabilities 0.4, 0.1, 0.3, 0.2
LOGITS = np.log(np.array([0.4, 0.1, 0.3, 0.2])).astype(np.float32)
DRAWS = [
    (Sampling(), [0, 0.39, 0.41, 0.49, 0.51, 0.79, 0.81, 1 - 2**-53], [0, 0, 1, 1, 2, 2, 3, 3]),
    (Sampling(top_k=2), [0, 0.57, 0.58, 1 - 2**-53], [0, 0, 2, 2]),
    (Sampling(top_k=9), [0.41, 0.81], [1, 3]),
    (Sampling(top_p=0.65), [0, 0.57, 0.58, 1 - 2**-53], [0, 0, 2, 2]),
    (Sampling(top_p=0.75), [0.44, 0.45, 0.77, 0.78], [0, 2, 2, 3]),
    (Sampling(top_k=2, top_p=0.5), [0, 0.99], [0, 0]),  # 0.4 of 0.7 is more than half
    (Sampling(temperature=0), [0, 0.99], [0, 0]),
    (Sampling(temperature=0.5), [0.53, 0.54, 0.56, 0.57, 0.86, 0.87], [0, 1, 1, 2, 2, 3]),  # 16, 1, 9, 4 of 30
]


@pytest.mark.parametrize("settings,uniforms,expected", DRAWS)
def test_draws(settings, uniforms, expected):
    rows = torch.from_numpy(LOGITS).expand(len(uniforms), -1)
    assert autoregressive.sample_codes(rows, torch.tensor(uniforms, dtype=torch.float64), settings).tolist() == expected
    room = np.ones(6)  # more than enough, and not empty
    options = float(settings.temperature), settings.top_k, float(settings.top_p)
    assert [sample_code(LOGITS, float(u), *options, room) for u in uniforms] == expected


def test_top_k_keeps_codes_as_probable_as_the_last():
    logits = np.zeros(4, np.float32)
    drawn = [sample_code(logits, u, 1.0, 2, 1.0, np.zeros(4)) for u in (0.1, 0.3, 0.6, 0.9)]
    assert drawn == [0, 1, 2, 3]
    uniforms = torch.tensor([0.1, 0.3, 0.6, 0.9]).double()
    assert autoregressive.sample_codes(torch.zeros(4, 4), uniforms, Sampling(top_k=2)).tolist() == drawn


@pytest.mark.parametrize("K", [1, 2, 3, 7, 8, 511, 512])
def test_sorting_from_the_largest(K):
    rng = np.random.default_rng(K)
    for p in (rng.random(K), np.sort(rng.random(K)), rng.integers(0, 4, K).astype(float), np.zeros(K)):
        ranked = p.copy()
        _sort_down(ranked)
        assert (ranked == np.sort(p)[::-1]).all()


def test_products_of_any_size():
    rng = np.random.default_rng(0)
    for M, n, columns in itertools.product([1, 2, 5, 8], [1, 4, 13], [1, 64, 70]):
        X, W = rng.normal(size=(M, n)).astype(np.float32), rng.normal(size=(n, columns)).astype(np.float32)
        Y = rng.normal(size=(M, padded(columns))).astype(np.float32)
        expected = Y + np.pad(X @ W, ((0, 0), (0, padded(columns) - columns)))
        add_product(Y, X, panels(W))
        np.testing.assert_allclose(Y, expected, atol=2e-5)


def test_rows_of_a_product_read_on_as_windows():
    rng = np.random.default_rng(0)
    line, kernel = rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=(3 * 4, 5)).astype(np.float32)
    Y = np.zeros((4, padded(5)), np.float32)
    add_product(Y, line, panels(kernel))
    windows = np.stack([line[j : j + 3].ravel() for j in range(4)])
    np.testing.assert_allclose(Y[:, :5], windows @ kernel, atol=1e-5)


def test_exponentials():
    for function, kind, limit, error in ((exp32, np.float32, 87, 3e-7), (exp64, np.float64, 700, 1e-15)):
        x = np.random.default_rng(0).uniform(-limit, limit, 20_000).astype(kind)
        results = np.array([function(value) for value in [*x, kind(0)]])
        assert results[-1] == 1
        np.testing.assert_allclose(results[:-1], np.exp(x.astype(np.longdouble)), rtol=error)


def test_the_gate_everywhere():
    a, b = (axis.ravel() for axis in np.meshgrid(*[np.r_[-1e4, np.linspace(-40, 40, 501), 1e-6, 1e4]] * 2))
    out = np.zeros(len(a), np.float32)
    x = np.concatenate([a, b]).astype(np.float32)
    gate(out, x)
    expected = gated.gate(torch.from_numpy(x)[None].double(), 1)[0].numpy()
    np.testing.assert_allclose(out, expected, rtol=0, atol=5e-7)
