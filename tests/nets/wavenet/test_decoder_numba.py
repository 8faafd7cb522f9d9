"""The two ways to draw sound from a WaveNet against its full forward pass, and against each other."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vqcli.errors import UsageError
from vqcli.nets.kernels.matmul import add_product, padded, panels
from vqcli.nets.priors import autoregressive
from vqcli.nets.priors.autoregressive import Sampling
from vqcli.nets.wavenet import decoder_numba as compiled
from vqcli.nets.wavenet import decoder_torch
from vqcli.nets.wavenet.decoder import WaveNetDecoder

NETS = {
    "usual": {"cycles": 2, "layers_per_cycle": 5},
    "odd sizes": {"residual": 20, "skip": 70, "cycles": 1, "layers_per_cycle": 4, "stride": 5},
    "one layer": {"cycles": 1, "layers_per_cycle": 1, "quantization": 32},
}
D, SPEAKERS = 3, 4
WAYS = ["torch", "compiled"]
HALF_ERROR = 1e-2  # of logits within -10 .. 10, from rounding the weights to float16


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks within few samples."""
    monkeypatch.setattr(decoder_torch, "BLOCK", 64)


def make(name: str) -> WaveNetDecoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = WaveNetDecoder(D, SPEAKERS, **{"residual": 8, "skip": 16, "stride": 8, **NETS[name]}).eval()
    with torch.no_grad():  # logits as far apart as those of a trained net
        net.out.weight *= 30
    return net


def request(
    net: WaveNetDecoder, batch: int, steps: int, seed: int = 0
) -> tuple[Tensor, Tensor, np.ndarray, np.ndarray]:
    """Random z_q, speaker, codes and uniforms."""
    rng = np.random.default_rng(seed)
    z_q = torch.from_numpy(rng.normal(size=(batch, D, steps))).float()
    shape = (batch, steps * net.stride)
    codes = rng.integers(net.quantization, size=shape)
    return z_q, torch.from_numpy(rng.integers(SPEAKERS, size=batch)), codes, rng.random(shape)


def module_and_net(way: str, net: WaveNetDecoder, half: bool = False):
    return (decoder_torch, net) if way == "torch" else (compiled, compiled.compile_net(net, half))


@torch.no_grad()
def context(net: WaveNetDecoder, z_q: Tensor) -> Tensor:
    return net.context(z_q)


@torch.no_grad()
def forward(net: WaveNetDecoder, z_q: Tensor, speaker: Tensor, codes: np.ndarray) -> Tensor:
    return net(z_q, speaker, torch.from_numpy(codes))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("batch,steps", [(1, 1), (3, 21), (6, 9)])
@pytest.mark.parametrize("name", NETS)
def test_logits_of_given_codes_are_those_of_the_forward_pass(name, batch, steps, way):
    net = make(name)
    z_q, speaker, codes, _ = request(net, batch, steps)
    module, given = module_and_net(way, net)
    logits = module.logits_of(given, context(net, z_q), speaker, codes)
    expected = forward(net, z_q, speaker, codes).numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5)
    assert np.abs(expected).max() > 2


def test_float16_comes_close():
    net = make("usual")
    z_q, speaker, codes, _ = request(net, 3, 20)
    logits = compiled.logits_of(compiled.compile_net(net, half=True), context(net, z_q), speaker, codes)
    expected = forward(net, z_q, speaker, codes).numpy()
    assert np.abs(expected).max() < 10
    assert 1e-5 < np.abs(logits - expected).max() < HALF_ERROR


def test_float16_is_exact_for_weights_that_are_float16():
    net = make("usual")
    z_q, speaker, _, uniforms = request(net, 3, 20)
    with torch.no_grad():
        for weight in (net.hidden.weight, net.out.weight, *(w for w in net.stack.parameters())):
            weight.copy_(weight.half().float())
    local = context(net, z_q)
    drawn = [compiled.sample(compiled.compile_net(net, half), local, speaker, uniforms) for half in (False, True)]
    assert np.array_equal(*drawn)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("temperature", [1, 0.6, 0])
def test_codes_are_drawn_from_the_forward_pass(temperature, way):
    """Each code is what its uniform number picks under the logits of the codes before it."""
    net = make("usual")
    z_q, speaker, _, uniforms = request(net, 2, 20)
    module, given = module_and_net(way, net)
    drawn = module.sample(given, context(net, z_q), speaker, uniforms, temperature=temperature)
    logits = forward(net, z_q, speaker, drawn).transpose(1, 2).flatten(0, 1)
    again = autoregressive.sample_codes(logits, torch.from_numpy(uniforms).flatten(), Sampling(temperature)).numpy()
    assert np.array_equal(drawn.ravel(), again)
    assert len(np.unique(drawn)) > (10 if temperature else 0)


@pytest.mark.parametrize("way", WAYS)
def test_forced_samples_stay_and_the_rest_follows_from_them(way):
    net = make("usual")
    z_q, speaker, codes, uniforms = request(net, 2, 12)
    module, given = module_and_net(way, net)
    local = context(net, z_q)
    drawn = module.sample(given, local, speaker, uniforms)
    again = module.sample(given, local, speaker, uniforms, forced=drawn[:, :37])
    assert np.array_equal(again, drawn)
    other = module.sample(given, local, speaker, uniforms, forced=codes[:, :37])
    assert np.array_equal(other[:, :37], codes[:, :37])
    logits = forward(net, z_q, speaker, other)[:, :, 37:].transpose(1, 2).flatten(0, 1)
    expected = autoregressive.sample_codes(logits, torch.from_numpy(uniforms[:, 37:]).flatten(), Sampling()).numpy()
    assert np.array_equal(other[:, 37:].ravel(), expected)
    assert np.array_equal(module.sample(given, local, speaker, uniforms, forced=codes), codes)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_item_does_not_depend_on_its_batch_or_the_threads(threads):
    net = make("usual")
    compiled_net = compiled.compile_net(net)
    z_q, speaker, _, uniforms = request(net, 7, 9)
    local = context(net, z_q)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        together = compiled.sample(compiled_net, local, speaker, uniforms)
    finally:
        torch.set_num_threads(before)
    for b in range(7):
        one = slice(b, b + 1)
        assert np.array_equal(together[one], compiled.sample(compiled_net, local[one], speaker[one], uniforms[one]))


@pytest.mark.parametrize("way", WAYS)
def test_arguments_stay_as_they_are_and_progress_is_told(way):
    net = make("usual")
    z_q, speaker, codes, uniforms = request(net, 2, 32)
    module, given = module_and_net(way, net)
    arguments = [context(net, z_q).numpy(), speaker.numpy(), uniforms, codes[:, :10]]
    before = [array.copy() for array in arguments]
    shares: list[float] = []
    local, speaker = torch.from_numpy(arguments[0]), torch.from_numpy(arguments[1])
    module.sample(given, local, speaker, uniforms, forced=arguments[3], progress=shares.append)
    assert all(np.array_equal(one, other) for one, other in zip(arguments, before, strict=True))
    assert shares == [0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("batch,steps", [(0, 3), (2, 0)])
def test_nothing_to_sample(way, batch, steps):
    net = make("usual")
    _, speaker, _, uniforms = request(net, batch, steps)
    module, given = module_and_net(way, net)
    assert module.sample(given, torch.zeros(batch, D, steps), speaker, uniforms).shape == uniforms.shape


@pytest.mark.parametrize("way", WAYS)
def test_what_does_not_fit_is_refused(way):
    net = make("usual")
    z_q, speaker, codes, uniforms = request(net, 2, 3)
    module, given = module_and_net(way, net)
    local = context(net, z_q)
    with pytest.raises(ValueError, match=r"are not \[B, 3, steps\]"):
        module.sample(given, local[:, 1:], speaker, uniforms)
    with pytest.raises(ValueError, match=r"uniforms are not \[2, 24\]"):
        module.sample(given, local, speaker, uniforms[:, 1:])
    with pytest.raises(ValueError, match=r"uniforms are not \[2, 24\]"):
        module.sample(given, local, speaker, uniforms + 1)
    with pytest.raises(ValueError, match=r"speaker is not \[2\] of 0 .. 3"):
        module.sample(given, local, speaker + SPEAKERS, uniforms)
    with pytest.raises(ValueError, match=r"are not \[2, 24 or fewer\]"):
        module.sample(given, local, speaker, uniforms, forced=codes[:1])
    with pytest.raises(ValueError, match=r"lie outside 0 \.\. 255"):
        module.sample(given, local, speaker, uniforms, forced=codes - 256)
    with pytest.raises(UsageError):
        module.sample(given, local, speaker, uniforms, temperature=-1)


def test_products_by_float16():
    rng = np.random.default_rng(0)
    for M, n, columns in [(1, 1, 1), (5, 13, 70), (8, 4, 64)]:
        X, W = rng.normal(size=(M, n)).astype(np.float32), rng.normal(size=(n, columns)).astype(np.float32)
        Y = rng.normal(size=(M, padded(columns))).astype(np.float32)
        expected = Y + np.pad(X @ W.astype(np.float16), ((0, 0), (0, padded(columns) - columns)))
        add_product(Y, X, panels(W, half=True))
        np.testing.assert_allclose(Y, expected, atol=2e-5)
