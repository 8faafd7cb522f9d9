"""Sampling codes from a Gated PixelCNN in torch, on any device: a position costs one step of the horizontal stack.

The vertical stack does not depend on its own row, so it runs once for the whole row. Inputs of the horizontal stack
further left are kept. pixelcnn_numba.py is the same for a CPU, compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqcli.nets.layers.gated import gate
from vqcli.nets.priors.autoregressive import AS_LEARNED, Sampling, SamplingState
from vqcli.nets.priors.pixelcnn import REACH, PixelCNN


@torch.no_grad()
def sample(
    net: PixelCNN,
    codes: np.ndarray,
    keep: np.ndarray,
    uniforms: np.ndarray,
    label: np.ndarray | None = None,
    sampling: Sampling = AS_LEARNED,
    progress: Callable[[float], None] | None = None,
    condition: np.ndarray | None = None,
) -> np.ndarray:
    """Codes [B, G, H, W] int64: those of `codes` where `keep` is true, sampled given all earlier ones elsewhere.

    uniforms   float64 [B, G, H, W] in 0 .. 1 (excluded); equal ones give equal codes on the same device
    label      int64 [B] or None
    progress   callback: the share that is done, 0 .. 1, after each row
    condition  a map [B, S, H, W] for nets that take one; under guidance [2 B, S, H, W], the second half without
               the condition that guides
    """
    state = SamplingState(net, codes, keep, uniforms, label, sampling, condition=condition)
    _run(net, state, progress)
    return state.codes.cpu().numpy()


@torch.no_grad()
def logits_of(
    net: PixelCNN, codes: np.ndarray, label: np.ndarray | None = None, condition: np.ndarray | None = None
) -> np.ndarray:
    """Logits float32 [B, G, K, H, W] of given codes, by the steps of `sample`; equal to those of the net."""
    state = SamplingState.of_given(net, codes, label, condition)
    _run(net, state, None)
    return state.recorded.numpy()


def _run(net: PixelCNN, state: SamplingState, progress: Callable[[float], None] | None) -> None:
    *_, H, W = state.codes.shape
    if not state.codes.numel():
        return
    steps = Steps(net, state.labels, state.condition, W)
    for i in range(H):
        steps.begin_row()
        for j in range(W):
            x = steps.features(j)  # (B, C), twice B under guidance
            embedded = torch.zeros_like(x)
            for g, head in enumerate(net.heads):
                if state.needs_logits(g, i, j):
                    state.sample_position(_at_one_place(head[2], F.relu(_at_one_place(head[0], x))), g, i, j)
                row = state.rows(i, j)[:, g]
                embedded += net.embedding(row)
                if g + 1 < len(net.heads):
                    x = x + net.within(row)
            steps.push(j, embedded)
        if progress:
            progress((i + 1) / H)


def _at_one_place(conv: Any, x: Tensor) -> Tensor:
    """A 1 x 1 convolution of [B, C], as the product that it is: with much less overhead."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


class Steps:
    """The two stacks, row after row, position after position, for B samples with a label or map each."""

    def __init__(self, net: PixelCNN, labels: Tensor, condition: Tensor | None, W: int) -> None:
        B, C, L = len(labels), net.width, len(net.layers)
        zeros = net.embedding.weight.new_zeros
        self.net, self.i = net, -1
        parts = net.parts(labels if net.labels else None, condition, B, labels.device)
        if parts is None:
            parts = zeros(B, L, 4 * C, 1, 1)
        self.parts = parts.expand(-1, -1, -1, -1, W)  # (B, L, 4 C, H or 1, W)
        # taps before channels, as windows of `left` are stored
        self.weights = [layer.horizontal.weight[:, :, 0].transpose(1, 2).flatten(1) for layer in net.layers]
        self.embedded = zeros(B, C, REACH, W + 2 * REACH)  # the rows above
        self.above = zeros(L, B, C, 2, W + 2)  # the vertical stack's inputs, this row last
        self.across: list[Tensor] = []  # what it gives to the horizontal stack: L times (B, W, 2 C)
        self.left = zeros(L, B, W + REACH, C)  # the horizontal stack's inputs

    def begin_row(self) -> None:
        """The vertical stack, for all positions of the next row."""
        self.embedded = self.embedded.roll(-1, 2)
        self.embedded[:, :, -1, REACH:-REACH] = self.left[0, :, REACH:].transpose(1, 2)
        self.above[..., 0, :] = self.above[..., 1, :]
        self.left.zero_()
        self.across.clear()
        self.i += 1
        row = self.parts[:, :, :, [min(self.i, self.parts.shape[3] - 1)]]
        for_vertical, for_horizontal = row.chunk(2, 2)  # (B, L, 2 C, 1, W)
        for n, layer in enumerate(self.net.layers):
            v = layer.vertical(self.embedded if layer.first else self.above[n])  # (B, 2 C, 1, W)
            h = layer.across(v) + for_horizontal[:, n]
            self.across.append(h[:, :, 0].transpose(1, 2))
            if not layer.last:
                self.above[n + 1, :, :, 1:, 1:-1] = gate(v + for_vertical[:, n], 1)

    def features(self, j: int) -> Tensor:
        """The horizontal stack at position j of the row: [B, C]."""
        x = torch.empty(0)
        for n, layer in enumerate(self.net.layers):
            taps = REACH if layer.first else 2
            # inputs end at the position itself, but for the first layer, which ends before it
            begin = j + (0 if layer.first else REACH - 1)
            window = self.left[n, :, begin : begin + taps].flatten(1)
            h = self.across[n][:, j] + F.linear(window, self.weights[n])
            out = _at_one_place(layer.mix, gate(h, 1))
            x = out if layer.first else x + out
            if not layer.last:
                self.left[n + 1, :, j + REACH] = x
        return x

    def push(self, j: int, embedded: Tensor) -> None:
        """Append the embeddings [B, C] of the codes at position j."""
        self.left[0, :, j + REACH] = embedded
