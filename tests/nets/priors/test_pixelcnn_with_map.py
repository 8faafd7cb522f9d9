"""A map that conditions the Gated PixelCNN: the forward pass, and both samplers against it."""

import numpy as np
import pytest
import torch

from vqcli.nets.priors import autoregressive, pixelcnn_torch
from vqcli.nets.priors import pixelcnn_numba as compiled
from vqcli.nets.priors.autoregressive import Sampling, in_batches
from vqcli.nets.priors.pixelcnn import PixelCNN
from vqcli.nets.priors.pixelcnn_sampler import sampler_of

WAYS = ["torch", "compiled"]
NETS = {
    "map": {"codebook_sizes": [7], "condition": 3},
    "two groups": {"codebook_sizes": [5, 9], "condition": 2, "layers": 1},
    "map and label": {"codebook_sizes": [6], "condition": 4, "labels": 3},
}


def make(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = PixelCNN(**{"width": 8, "layers": 3, "hidden": 16, **NETS[name]}).eval()
    with torch.no_grad():  # logits as far apart as those of a trained net
        for head in net.heads:
            head[2].weight *= 30
    return net


def request(net, batch, grid, times=1):
    """Random codes, uniforms, label and map."""
    rng = np.random.default_rng(1)
    shape = (batch, len(net.codebook_sizes), *grid)
    codes = rng.integers(np.array(net.codebook_sizes)[:, None, None], size=shape)
    label = rng.integers(net.labels, size=batch) if net.labels else None
    condition = rng.standard_normal((times * batch, net.condition, *grid)).astype(np.float32)
    return codes, rng.random(shape), label, condition


def forward(net, codes, label, condition):
    with torch.no_grad():
        label = None if label is None else torch.from_numpy(label)
        return net(torch.from_numpy(codes), label, torch.from_numpy(condition))


def run(way, net, *arguments, **options):
    if way == "torch":
        return pixelcnn_torch.sample(net, *arguments, **options)
    return compiled.sample(compiled.compile_net(net), *arguments, **options)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("grid", [(1, 1), (4, 6)])
@pytest.mark.parametrize("name", NETS)
def test_logits_are_those_of_the_forward_pass(name, grid, way):
    net = make(name)
    codes, _, label, condition = request(net, 3, grid)
    expected = forward(net, codes, label, condition).numpy()
    if way == "torch":
        logits = pixelcnn_torch.logits_of(net, codes, label, condition)
    else:
        logits = compiled.logits_of(compiled.compile_net(net), codes, label, condition)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NETS)
def test_codes_are_drawn_from_the_forward_pass(name, way):
    net = make(name)
    codes, uniforms, label, condition = request(net, 4, (5, 3))
    drawn = run(way, net, codes, np.zeros(codes.shape, bool), uniforms, label, condition=condition)
    logits = forward(net, drawn, label, condition)
    again = autoregressive.sample_codes(
        logits.movedim(2, -1).flatten(0, -2), torch.from_numpy(uniforms).flatten(), Sampling()
    )
    assert np.array_equal(drawn, again.numpy().reshape(drawn.shape))


@pytest.mark.parametrize("way", WAYS)
def test_guidance_moves_away_from_the_second_map(way):
    net = make("map")
    codes, uniforms, _, condition = request(net, 3, (3, 4), times=2)
    none = np.zeros(codes.shape, bool)
    settings = Sampling(guidance=2.5)
    drawn = run(way, net, codes, none, uniforms, None, settings, condition=condition)
    given, free = (forward(net, drawn, None, part) for part in np.split(condition, 2))
    logits = free + 2.5 * (given - free)
    again = autoregressive.sample_codes(
        logits.movedim(2, -1).flatten(0, -2), torch.from_numpy(uniforms).flatten(), settings
    )
    assert np.array_equal(drawn, again.numpy().reshape(drawn.shape))


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_sample_does_not_depend_on_its_batch_or_the_threads(guidance):
    """Maps go along with their samples through batches and threads."""
    net, before, settings = make("map"), torch.get_num_threads(), Sampling(guidance=guidance)
    codes, uniforms, _, condition = request(net, 19, (3, 3), times=2 if guidance != 1 else 1)
    none = np.zeros(codes.shape, bool)
    try:
        torch.set_num_threads(2)
        together = in_batches(sampler_of(net), codes, none, uniforms, None, settings, lambda share: None, condition)
    finally:
        torch.set_num_threads(before)
    for b in (0, 5, 18):
        one, mine = slice(b, b + 1), condition[b::19]
        alone = run("torch", net, codes[one], none[one], uniforms[one], None, settings, condition=mine)
        assert np.array_equal(together[one], alone)


def test_the_map_matters_where_it_is_and_below():
    """A position of the map, which is known as a whole, reaches its own logits, and goes the way that codes go."""
    net = make("map")
    codes, _, _, condition = request(net, 1, (5, 5))
    other = condition.copy()
    other[:, :, 2, 3] += 1
    changed = (forward(net, codes, None, condition) != forward(net, codes, None, other)).any(2)[0, 0].numpy()
    assert changed[2, 3] and changed[3:].any() and not changed[:2].any()


@pytest.mark.parametrize("way", WAYS)
def test_a_map_that_does_not_fit_is_refused(way):
    net, plain = make("map"), PixelCNN([7], width=8, layers=2, hidden=8).eval()
    codes, uniforms, _, condition = request(net, 2, (3, 4))
    none = np.zeros(codes.shape, bool)
    for wrong in (None, condition[:1], condition[:, :2], condition[..., 1:]):
        with pytest.raises(ValueError, match="map"):
            run(way, net, codes, none, uniforms, condition=wrong)
    with pytest.raises(ValueError, match="map"):
        run(way, net, codes, none, uniforms, None, Sampling(guidance=2.0), condition=condition)
    with pytest.raises(ValueError, match="no map"):
        run(way, plain, codes, none, uniforms, condition=condition)
    with pytest.raises(ValueError, match="needs a map"):
        net(torch.from_numpy(codes))
