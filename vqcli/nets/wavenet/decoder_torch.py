"""Sampling waveforms from a WaveNet in torch, on any device: each sample costs one step of each layer.

The past inputs of a layer are kept in a ring as long as its dilation (Paine et al. 2016, Fast Wavenet Generation
Algorithm). decoder_numba.py is the same for a CPU, compiled.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqcli.nets.layers.wavenet_stack import GatedStack
from vqcli.nets.priors.autoregressive import Sampling, sample_codes
from vqcli.nets.wavenet.decoder import WaveNetDecoder

BLOCK = 4096  # samples between two progress reports; conditions are computed for so many at once


def block_steps(stride: int) -> int:
    """Latents in a block, a multiple of 8."""
    return 8 * max(1, BLOCK // (8 * stride))


def gate_offsets(stack: GatedStack, local: Tensor | None, global_: Tensor | None) -> Tensor:
    """What is added to the gates' inputs, biases and conditions: [B or 1, T / stride or 1, layers, 2 R]."""
    biases = torch.stack([layer.taps.bias for layer in stack.layers])
    conditions = stack.conditions(local, global_)
    return biases[None, None] if conditions is None else conditions + biases


class Queues:
    """A stack that goes forward by one position at a time, for B items side by side."""

    def __init__(self, stack: GatedStack, batch: int) -> None:
        weight = stack.to_skip.weight
        self.stack = stack
        self.rings = [weight.new_zeros(dilation, batch, stack.residual) for dilation in stack.dilations]
        self.position = 0

    def step(self, h: Tensor, offsets: Tensor) -> Tensor:
        """Skips [B, S] of the next position's h [B, R] and gate_offsets [B or 1, layers, 2 R]."""
        gates = []
        for n, (layer, ring) in enumerate(zip(self.stack.layers, self.rings, strict=True)):
            past = ring[self.position % layer.dilation]
            x = torch.addmm(offsets[:, n], torch.cat([past, h], 1), layer.taps.weight.T)  # (B, 2 R)
            past.copy_(h)
            a, b = x.chunk(2, 1)
            gates.append(torch.tanh(a) * torch.sigmoid(b))
            if layer.mix is not None:
                h = h + layer.mix(gates[-1])
        self.position += 1
        return self.stack.to_skip(torch.cat(gates, 1))


def check_request(
    net: WaveNetDecoder, local: Tensor, speaker: Tensor, uniforms: np.ndarray, forced: np.ndarray | None
) -> None:
    """Raise ValueError unless these are arguments of `sample`."""
    dim = net.context[0].in_channels
    if local.ndim != 3 or local.shape[1] != dim:
        raise ValueError(f"local conditions {tuple(local.shape)} are not [B, {dim}, steps]")
    B, T = len(local), local.shape[2] * net.stride
    if uniforms.shape != (B, T) or not np.all((uniforms >= 0) & (uniforms < 1)):
        raise ValueError(f"uniforms are not [{B}, {T}] of 0 .. 1")
    rows = net.speaker.num_embeddings
    if speaker.shape != (B,) or not bool(((speaker >= 0) & (speaker < rows)).all()):
        raise ValueError(f"speaker is not [{B}] of 0 .. {rows - 1}")
    if forced is not None:
        if forced.ndim != 2 or len(forced) != B or forced.shape[1] > T:
            raise ValueError(f"forced samples {forced.shape} are not [{B}, {T} or fewer]")
        if not np.all((forced >= 0) & (forced < net.quantization)):
            raise ValueError(f"forced samples lie outside 0 .. {net.quantization - 1}")


@torch.no_grad()
def sample(
    net: WaveNetDecoder,
    local: Tensor,
    speaker: Tensor,
    uniforms: np.ndarray,
    *,
    temperature: float = 1.0,
    forced: np.ndarray | None = None,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Mu-law codes int64 [B, T] sampled one after the other, silence before the first.

    local     [B, D, T / stride] from `net.context`
    speaker   int64 [B]
    uniforms  float64 [B, T] in 0 .. 1 (excluded); equal ones give equal codes on the same device
    forced    int64 [B, some]: the first codes, which are taken as they are
    progress  callback: the share that is done, 0 .. 1
    """
    check_request(net, local, speaker, uniforms, forced)
    codes, _ = _run(net, local, speaker, uniforms, temperature, forced, progress, record=False)
    return codes


@torch.no_grad()
def logits_of(net: WaveNetDecoder, local: Tensor, speaker: Tensor, codes: np.ndarray) -> np.ndarray:
    """Logits float32 [B, 256, T] of given codes [B, T], by the steps of `sample`; equal to those of the net."""
    uniforms = np.zeros(codes.shape)
    check_request(net, local, speaker, uniforms, codes)
    _, logits = _run(net, local, speaker, uniforms, 1.0, codes, None, record=True)
    return logits


def _run(
    net: WaveNetDecoder,
    local: Tensor,
    speaker: Tensor,
    uniforms: np.ndarray,
    temperature: float,
    forced: np.ndarray | None,
    progress: Callable[[float], None] | None,
    record: bool,
) -> tuple[np.ndarray, np.ndarray]:
    device = net.embedding.weight.device
    exact = torch.device("cpu") if device.type == "mps" else device  # which has no float64
    local, speaker = local.to(device), speaker.to(device)
    settings = Sampling(temperature)
    B, T = uniforms.shape
    given = 0 if forced is None else forced.shape[1]
    codes = torch.empty(B, T, dtype=torch.int64, device=device)
    if forced is not None:
        codes[:, :given] = torch.from_numpy(np.ascontiguousarray(forced))
    recorded = torch.empty((B, net.quantization, T) if record else (0,), device=device)
    code = torch.full((B,), net.quantization // 2, device=device)
    queues = Queues(net.stack, B)
    steps = block_steps(net.stride)
    for begin in range(0, T, steps * net.stride):
        latents = local[:, :, begin // net.stride :][:, :, :steps]
        offsets = gate_offsets(net.stack, latents, net.speaker(speaker))
        u = torch.from_numpy(uniforms[:, begin : begin + steps * net.stride]).to(exact)
        for t in range(u.shape[1]):
            skips = queues.step(net.embedding(code), offsets[:, t // net.stride])
            if record or begin + t >= given:
                logits = net.out(F.relu(net.hidden(F.relu(skips)))).float()
            if record:
                recorded[:, :, begin + t] = logits
            if begin + t >= given:
                codes[:, begin + t] = sample_codes(logits.to(exact), u[:, t], settings).to(device)
            code = codes[:, begin + t]
        if progress:
            progress((begin + u.shape[1]) / T)
    return codes.cpu().numpy(), recorded.cpu().numpy()
