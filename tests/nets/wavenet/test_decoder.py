"""The WaveNet's stack and decoder against plain convolutions, and mu-law against its formula."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqcli.nets.layers import mulaw
from vqcli.nets.layers.wavenet_stack import GatedStack
from vqcli.nets.wavenet.decoder import WaveNetDecoder

R, S, L, G = 6, 7, 3, 4


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def small_decoder(**arguments: int) -> WaveNetDecoder:
    sizes = {"residual": R, "skip": S, "cycles": 2, "layers_per_cycle": 3, "stride": 8, "speaker_dim": 5, **arguments}
    return WaveNetDecoder(L, 3, **sizes).eval()


def request(net: WaveNetDecoder, batch: int, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """z_q, speaker and samples."""
    samples = torch.randint(net.quantization, (batch, steps * net.stride))
    return torch.randn(batch, L, steps), torch.randint(3, (batch,)), samples


def plainly(stack: GatedStack, h: Tensor, local: Tensor | None, global_: Tensor | None) -> Tensor:
    """The stack as the paper has it: padded convolutions, conditions repeated for each sample, skips summed."""
    skips = stack.to_skip.bias[:, None]
    width = stack.residual
    for n, layer in enumerate(stack.layers):
        kernel = torch.stack(layer.taps.weight.chunk(2, 1), 2)  # (2 R, R, taps)
        x = F.conv1d(F.pad(h, (layer.dilation, 0)), kernel, layer.taps.bias, dilation=layer.dilation)
        rows = slice(2 * width * n, 2 * width * (n + 1))
        if local is not None:
            stride = h.shape[2] // local.shape[2]
            x = x + F.conv1d(local, stack.from_local.weight[rows, :, None]).repeat_interleave(stride, 2)
        if global_ is not None:
            x = x + F.linear(global_, stack.from_global.weight[rows])[:, :, None]
        gated = torch.tanh(x[:, :width]) * torch.sigmoid(x[:, width:])
        skips = skips + F.conv1d(gated, stack.to_skip.weight[:, width * n : width * (n + 1), None])
        if layer.mix is not None:
            h = h + F.conv1d(gated, layer.mix.weight[:, :, None], layer.mix.bias)
    return skips


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("local,global_", [(0, 0), (L, 0), (0, G), (L, G)])
def test_stack_is_the_plain_one(local, global_, stride):
    stack = GatedStack(R, S, [1, 2, 5, 40, 1], local, global_)
    h = torch.randn(2, R, 24)
    conditions = (torch.randn(2, L, 24 // stride) if local else None, torch.randn(2, G) if global_ else None)
    out = stack(h, *conditions)
    assert out.shape == (2, S, 24)
    torch.testing.assert_close(out, plainly(stack, h, *conditions), rtol=1e-5, atol=1e-5)


def test_stack_reaches_back_as_far_as_it_says_and_never_forward():
    stack = GatedStack(R, S, [1, 2, 4, 1, 2, 4])
    h = torch.randn(1, R, 40, requires_grad=True)
    stack(h)[:, :, 30].sum().backward()
    seen = h.grad.abs().sum((0, 1)).nonzero().flatten()
    assert stack.reach == 14
    assert seen.tolist() == list(range(30 - stack.reach, 31))


def test_stack_refuses_conditions_it_was_not_made_for():
    h, local, global_ = torch.randn(1, R, 8), torch.randn(1, L, 2), torch.randn(1, G)
    for stack, conditions in (
        (GatedStack(R, S, [1]), (local, None)),
        (GatedStack(R, S, [1], L), (None, None)),
        (GatedStack(R, S, [1], L, G), (local, None)),
        (GatedStack(R, S, [1], L), (local, global_)),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            stack(h, *conditions)


def test_decoder_sees_the_samples_before_and_no_others():
    net = small_decoder()
    z_q, speaker, samples = request(net, 2, 6)
    changed = samples.clone()
    changed[:, 20] = (changed[:, 20] + 100) % 256
    with torch.no_grad():
        logits = net(z_q, speaker, samples)
        moved = (net(z_q, speaker, changed) - logits).abs().amax((0, 1)).nonzero().flatten()
    assert logits.shape == (2, 256, 48) and logits.dtype == torch.float32
    assert moved.tolist() == list(range(21, 21 + net.stack.reach + 1))


def test_decoder_begins_after_silence():
    net = small_decoder()
    z_q, speaker, samples = request(net, 1, 2)
    with torch.no_grad():
        shifted = net.embedding(torch.cat([torch.full((1, 1), mulaw.SILENCE), samples[:, :-1]], 1)).transpose(1, 2)
        skips = plainly(net.stack, shifted, net.context(z_q), net.speaker(speaker))
        expected = net.out(F.relu(net.hidden(F.relu(skips.transpose(1, 2))))).transpose(1, 2)
        torch.testing.assert_close(net(z_q, speaker, samples), expected, rtol=1e-5, atol=1e-5)


def test_margin_of_the_latents():
    net = small_decoder()
    z_q = torch.randn(20, L, 9, requires_grad=True)
    net.context(z_q)[:, :, 4].sum().backward()
    assert z_q.grad.abs().sum((0, 1)).nonzero().flatten().tolist() == list(range(4 - net.MARGIN, 5 + net.MARGIN))


def test_loss_is_the_cross_entropy_and_reaches_all_parameters():
    net = small_decoder().train()
    z_q, speaker, samples = request(net, 2, 3)
    z_q.requires_grad_()
    loss = net.loss(z_q, speaker, samples)
    torch.testing.assert_close(loss, F.cross_entropy(net(z_q, speaker, samples), samples))
    loss.backward()
    for name, tensor in [*net.named_parameters(), ("z_q", z_q)]:
        assert tensor.grad is not None and tensor.grad.abs().sum() > 0, name


def test_learns_a_melody():
    """A few steps on one tune leave far less than the 5.5 nats of a guess."""
    net = small_decoder(residual=12, skip=32, layers_per_cycle=4).train()
    z_q, speaker, _ = request(net, 1, 16)
    samples = mulaw.compress_tensor(0.5 * torch.sin(torch.arange(128) * 0.3))[None]
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = net.loss(z_q, speaker, samples)
        loss.backward()
        optimizer.step()
    assert loss < 1


def test_decoder_refuses_lengths_that_do_not_go_together():
    net = small_decoder()
    z_q, speaker, samples = request(net, 1, 3)
    with pytest.raises(ValueError, match="do not fit 3 latents"):
        net(z_q, speaker, samples[:, 1:])


def test_mulaw_is_its_formula():
    x = np.random.default_rng(0).uniform(-1.2, 1.2, 5000).astype(np.float32)
    inside = np.clip(x, -1, 1).astype(np.float64)
    companded = np.sign(inside) * np.log1p(255 * np.abs(inside)) / np.log(256)
    expected = np.floor((companded + 1) / 2 * 255 + 0.5)
    assert np.array_equal(mulaw.compress(x), expected)
    assert np.array_equal(mulaw.compress_tensor(torch.from_numpy(x)).numpy(), expected)


def test_mulaw_there_and_back():
    codes = np.arange(256)
    samples = mulaw.expand(codes)
    assert samples.dtype == np.float32 and samples[0] == -1 and samples[-1] == 1
    assert np.all(np.diff(samples) > 0) and np.array_equal(samples, -samples[::-1])
    assert np.array_equal(mulaw.compress(samples), codes)
    assert np.array_equal(mulaw.expand_tensor(torch.from_numpy(codes)).numpy(), samples)
    x = np.linspace(-1, 1, 1001)
    error = np.abs(mulaw.expand(mulaw.compress(x)) - x)
    assert np.all(error <= 0.0222 * (np.abs(x) + 1 / 255))  # half a step, which grows with the sample


@pytest.mark.parametrize("sample,code", [(0, mulaw.SILENCE), (7, 255), (-7, 0), (np.inf, 255), (-np.inf, 0)])
def test_mulaw_of_extremes(sample, code):
    assert mulaw.compress(np.array(sample)) == code
    assert mulaw.compress_tensor(torch.tensor(float(sample))) == code


def test_mulaw_gives_a_code_for_what_is_no_number():
    assert 0 <= mulaw.compress(np.array(np.nan)) <= 255
    assert 0 <= mulaw.compress_tensor(torch.tensor(torch.nan)) <= 255
