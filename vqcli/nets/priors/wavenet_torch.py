"""Sampling codes from a WaveNet prior in torch, on any device.

A step costs what one position costs, whatever came before: each layer keeps as many of its inputs as its dilation
reaches back, in a ring.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqcli.nets.priors.autoregressive import AS_LEARNED, Sampling, SamplingState
from vqcli.nets.priors.wavenet import WaveNetPrior


class Steps:
    """The net position by position, for B samples with a condition each."""

    def __init__(self, net: WaveNetPrior, condition: Tensor | None, batch: int) -> None:
        stack = net.stack
        self.net = net
        self.t = 0
        zeros = net.embedding.weight.new_zeros
        self.input = zeros(batch, stack.residual)
        self.rings = [zeros(dilation, batch, stack.residual) for dilation in stack.dilations]
        # products have overhead: past and present share one, and the condition is part of the bias
        conditions = stack.conditions(None, condition)
        self.biases = [
            layer.taps.bias if conditions is None else layer.taps.bias + conditions[:, 0, n]
            for n, layer in enumerate(stack.layers)
        ]
        self.taps = [layer.taps.weight.T.contiguous() for layer in stack.layers]

    def inner(self) -> tuple[Tensor, ...]:
        """Inputs of the heads, [B, hidden] each, of the next position."""
        h, gates = self.input, []
        for ring, bias, taps, layer in zip(self.rings, self.biases, self.taps, self.net.stack.layers, strict=True):
            place = self.t % len(ring)
            x = torch.addmm(bias, torch.cat([ring[place], h], 1), taps)
            ring[place] = h
            a, b = x.chunk(2, 1)
            gated = torch.tanh(a) * torch.sigmoid(b)
            gates.append(gated)
            if layer.mix is not None:
                h = h + layer.mix(gated)
        self.t += 1
        inner = self.net.inner(F.relu(self.net.stack.to_skip(torch.cat(gates, 1))))
        return inner.chunk(len(self.net.outer), 1)

    def push(self, rows: Tensor) -> None:
        """Set the codes at this position: rows [B, G] of the table."""
        self.input = self.net.embed(rows)


@torch.no_grad()
def sample(
    net: WaveNetPrior,
    codes: np.ndarray,
    keep: np.ndarray,
    uniforms: np.ndarray,
    label: np.ndarray | None = None,
    sampling: Sampling = AS_LEARNED,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Codes [B, G, T] int64: those of `codes` where `keep` is true, sampled given all earlier ones elsewhere.

    uniforms  float64 [B, G, T] in 0 .. 1 (excluded); equal ones give equal codes on the same device
    label     int64 [B] or None
    progress  callback: the share that is done, 0 .. 1
    """
    state = SamplingState(net, codes, keep, uniforms, label, sampling)
    _run(net, state, progress)
    return state.codes.cpu().numpy()


@torch.no_grad()
def logits_of(net: WaveNetPrior, codes: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
    """Logits float32 [B, G, K, T] of given codes, by the steps of `sample`; equal to those of the net."""
    state = SamplingState.of_given(net, codes, label)
    _run(net, state, None)
    return state.recorded.numpy()


def _run(net: WaveNetPrior, state: SamplingState, progress: Callable[[float], None] | None) -> None:
    _, G, T = state.codes.shape
    if not state.codes.numel():
        return
    labels = state.labels
    steps = Steps(net, net.label_features(labels, len(labels), labels.device), len(labels))
    for t in range(T):
        earlier_groups = torch.zeros((), device=labels.device)
        for g, x in enumerate(steps.inner()):
            if state.needs_logits(g, t):
                state.sample_position(net.outer[g](F.relu(x + earlier_groups)), g, t)
            if g + 1 < G:
                earlier_groups = earlier_groups + net.within(state.rows(t)[:, g])
        steps.push(state.rows(t))
        if progress and (t % 10 == 9 or t + 1 == T):
            progress((t + 1) / T)
