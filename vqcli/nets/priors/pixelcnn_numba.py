"""Sampling codes from a Gated PixelCNN on a CPU, compiled: as pixelcnn_torch, many times faster.

The vertical stack runs once a row, for the whole row; for each position only the horizontal stack and the heads
remain. Convolutions are products of windows by matrices that stream from the cache; samples of a batch share them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from vqcli.nets.kernels.gate import gate
from vqcli.nets.kernels.jit import compiled, part
from vqcli.nets.kernels.matmul import add_product, aligned, padded, panels
from vqcli.nets.kernels.rows import add_row, copy_rows, rectify, set_rows
from vqcli.nets.kernels.weights import array_of, biases_of
from vqcli.nets.priors import batches_numba
from vqcli.nets.priors.autoregressive import AS_LEARNED, Sampling
from vqcli.nets.priors.batches_numba import Request, Steps, needs_logits, sample_position
from vqcli.nets.priors.pixelcnn import REACH, PixelCNN


class Weights(NamedTuple):
    """The net as the compiled functions read it; `*` stands for the panels of a matrix (see kernels/matmul.py).

    L layers, C channels, M hidden channels, G groups of at most K codes, R = REACH.
    """

    embedding: np.ndarray  # (sum of K, C)
    within: np.ndarray  # (sum of K but the last, C)
    offsets: np.ndarray  # (G,) int64, the first row of each group
    sizes: np.ndarray  # (G,) int64, K of each group
    label: np.ndarray  # (labels, L, 4 C), the vertical stack's part first
    first_vertical: np.ndarray  # (R rows, *) of (2 R + 1) C -> 2 C
    first_horizontal: np.ndarray  # (*) of R C -> 2 C
    vertical: np.ndarray  # (L - 1, 2 rows, *) of 3 C -> 2 C
    horizontal: np.ndarray  # (L - 1, *) of 2 C -> 2 C
    across: np.ndarray  # (L, *) of 2 C -> 2 C
    mix: np.ndarray  # (L, *) of C -> C
    vertical_bias: np.ndarray  # (L, 2 C padded)
    across_bias: np.ndarray  # (L, 2 C padded)
    mix_bias: np.ndarray  # (L, C padded)
    head: np.ndarray  # (G, *) of C -> M
    head_bias: np.ndarray  # (G, M padded)
    out: np.ndarray  # (G, *) of M -> K
    out_bias: np.ndarray  # (G, K padded)


class State(NamedTuple):
    """The state of B samples that run in parallel, and buffers. Borders are zero and stay so."""

    embedded: np.ndarray  # (B, R + 1, W + 2 R, C): the R rows above and this one, as far as it is sampled
    above: np.ndarray  # (L, B, 2, W + 2, C): the vertical stack's inputs, of the row above and of this one
    across: np.ndarray  # (L, B, W, 2 C padded): what the vertical stack gives to the horizontal one
    left: np.ndarray  # (L, B, W + 1, C): the horizontal stack's inputs
    v: np.ndarray  # (W, 2 C padded)
    h: np.ndarray  # (B, 2 C padded)
    gated: np.ndarray  # (B, C)
    features: np.ndarray  # (B, C padded)
    hidden: np.ndarray  # (B, M padded)
    logits: np.ndarray  # (B, K padded)
    p: np.ndarray  # (K,) float64


class CompiledNet(NamedTuple):
    """A net and its weights in the order of use."""

    net: PixelCNN
    weights: Weights


@torch.no_grad()
def compile_net(net: PixelCNN) -> CompiledNet:
    """Lay out the weights for `sample`; later changes of the net have no effect."""
    C, L, K = net.width, len(net.layers), max(net.codebook_sizes)
    first, rest = net.layers[0], net.layers[1:]
    inner: list[Any] = [head[0] for head in net.heads]
    outer: list[Any] = [head[2] for head in net.heads]
    table = np.zeros((1, L * 4 * C)) if net.label_embedding is None else array_of(net.label_embedding.weight)
    weights = Weights(
        embedding=array_of(net.embedding.weight),
        within=array_of(net.within.weight),
        offsets=np.array(net.offsets[:-1], np.int64),
        sizes=np.array(net.codebook_sizes, np.int64),
        label=aligned(table.reshape(-1, L, 4 * C)),
        first_vertical=_kernel_rows(first.vertical),
        first_horizontal=_kernel_rows(first.horizontal)[0],
        vertical=_stack([_kernel_rows(layer.vertical) for layer in rest], 5),
        horizontal=_stack([_kernel_rows(layer.horizontal)[0] for layer in rest], 4),
        across=_stack([_kernel_rows(layer.across)[0] for layer in net.layers], 4),
        mix=_stack([_kernel_rows(layer.mix)[0] for layer in net.layers], 4),
        vertical_bias=biases_of([layer.vertical for layer in net.layers], 2 * C),
        across_bias=biases_of([layer.across for layer in net.layers], 2 * C),
        mix_bias=biases_of([layer.mix for layer in net.layers], C),
        head=_stack([_kernel_rows(conv)[0] for conv in inner], 4),
        head_bias=biases_of(inner, net.hidden),
        out=_stack([_kernel_rows(conv, K)[0] for conv in outer], 4),
        out_bias=biases_of(outer, K),
    )
    return CompiledNet(net, weights)


def _kernel_rows(conv: nn.Conv2d, out: int = 0) -> np.ndarray:
    """(rows, *): for each row of the kernel the panels of its matrix (columns C, out channels or more)."""
    kernel = array_of(conv.weight).transpose(2, 3, 1, 0)  # (rows, columns, C, out)
    kernel = np.pad(kernel, ((0, 0), (0, 0), (0, 0), (0, max(0, out - kernel.shape[3]))))
    return aligned(np.stack([panels(row.reshape(-1, row.shape[2])) for row in kernel]))


def _stack(arrays: list[np.ndarray], dimensions: int) -> np.ndarray:
    return aligned(np.stack(arrays)) if arrays else np.zeros((0,) * dimensions, np.float32)


def _state(weights: Weights, B: int, W: int) -> State:
    L, C = len(weights.across), weights.embedding.shape[1]
    M, K = weights.head_bias.shape[1], weights.out_bias.shape[1]

    def zeros(*shape: int) -> np.ndarray:
        return aligned(np.zeros(shape))

    return State(
        embedded=zeros(B, REACH + 1, W + 2 * REACH, C),
        above=zeros(L, B, 2, W + 2, C),
        across=zeros(L, B, W, padded(2 * C)),
        left=zeros(L, B, W + 1, C),
        v=zeros(W, padded(2 * C)),
        h=zeros(B, padded(2 * C)),
        gated=zeros(B, C),
        features=zeros(B, padded(C)),
        hidden=zeros(B, M),
        logits=zeros(B, K),
        p=np.zeros(K),
    )


@part
def _vertical(net: Weights, state: State, label: np.ndarray, parts: np.ndarray, i: int) -> None:
    """The vertical stack, for all positions of row i. Rows above the image are zero and left out."""
    L, B, W = state.across.shape[:3]
    C, v = state.gated.shape[1], state.v
    for b in range(B):
        for r in range(REACH):
            copy_rows(state.embedded[b, r], state.embedded[b, r + 1])
        for n in range(L):
            copy_rows(state.above[n, b, 0], state.above[n, b, 1])
    for n in range(L):
        for b in range(B):
            set_rows(v, net.vertical_bias[n])
            if n == 0:
                for r in range(max(0, REACH - i), REACH):
                    add_product(v, state.embedded[b, r], net.first_vertical[r])
            else:
                for r in range(0 if i > 0 else 1, 2):
                    add_product(v, state.above[n, b, r], net.vertical[n - 1, r])
            h, part = state.across[n, b], net.label[label[b], n]
            set_rows(h, net.across_bias[n])
            add_product(h, v, net.across[n])
            for j in range(W):
                add_row(h[j], part[2 * C :])
                add_row(v[j], part[: 2 * C])
                if parts.size > 0:
                    here = parts[b, n, i * W + j]
                    add_row(h[j], here[2 * C :])
                    add_row(v[j], here[: 2 * C])
                if n + 1 < L:
                    gate(state.above[n + 1, b, 1, j + 1], v[j])


@part
def _horizontal(net: Weights, state: State, j: int) -> None:
    """The horizontal stack at position j of the row, into state.features."""
    L, B = state.across.shape[:2]
    h, x = state.h, state.features
    for n in range(L):
        for b in range(B):
            for c in range(h.shape[1]):
                h[b, c] = state.across[n, b, j, c]
        if n == 0:
            add_product(h, state.embedded[:, REACH, j], net.first_horizontal)
            set_rows(x, net.mix_bias[0])
        else:
            add_product(h, state.left[n, :, j], net.horizontal[n - 1])
            for b in range(B):  # the features so far are the residual
                add_row(x[b], net.mix_bias[n])
        for b in range(B):
            gate(state.gated[b], h[b])
        add_product(x, state.gated, net.mix[n])
        if n + 1 < L:
            for b in range(B):
                left = state.left[n + 1, b, j + 1]
                for c in range(len(left)):
                    left[c] = x[b, c]


@part
def _head(net: Weights, state: State, g: int) -> None:
    """The head of group g, from state.features into state.logits."""
    hidden, logits = state.hidden, state.logits
    set_rows(hidden, net.head_bias[g])
    add_product(hidden, state.features, net.head[g])
    rectify(hidden)
    set_rows(logits, net.out_bias[g])
    add_product(logits, hidden, net.out[g])


@compiled
def _rows(net: Weights, state: State, request: Request, begin: int, end: int) -> None:
    """Sample rows begin .. end - 1; under guidance, states B .. 2 B - 1 are the same without their labels."""
    (B, G, _), W = request.codes.shape, state.across.shape[2]
    for i in range(begin, end):
        _vertical(net, state, request.label, request.parts, i)
        for j in range(W):
            _horizontal(net, state, j)
            p = i * W + j
            for g in range(G):
                if needs_logits(request, g, p):
                    _head(net, state, g)
                    sample_position(request, g, p, state.logits, net.sizes[g], state.p)
                for b in range(len(state.gated)):
                    row = net.offsets[g] + request.codes[b % B, g, p]
                    embedded = state.embedded[b, REACH, j + REACH]
                    if g == 0:
                        embedded[:] = np.float32(0)
                    add_row(embedded, net.embedding[row])
                    if g + 1 < G:
                        add_row(state.features[b], net.within[row])


def sample(
    compiled_net: CompiledNet,
    codes: np.ndarray,
    keep: np.ndarray,
    uniforms: np.ndarray,
    label: np.ndarray | None = None,
    sampling: Sampling = AS_LEARNED,
    progress: Callable[[float], None] | None = None,
    condition: np.ndarray | None = None,
) -> np.ndarray:
    """As vqcli.nets.priors.pixelcnn_torch.sample; a batch is spread over as many threads as torch uses.

    What a sample becomes does not depend on the others in its batch.
    """
    start = partial(_start, compiled_net.weights, codes.shape[-1])
    return batches_numba.sample(compiled_net.net, start, 1, codes, keep, uniforms, label, sampling, progress, condition)


def logits_of(
    compiled_net: CompiledNet, codes: np.ndarray, label: np.ndarray | None = None, condition: np.ndarray | None = None
) -> np.ndarray:
    """Logits float32 [B, G, K, H, W] of given codes, by the steps of `sample`; equal to those of the net."""
    return batches_numba.logits_of(
        compiled_net.net, partial(_start, compiled_net.weights, codes.shape[-1]), 1, codes, label, condition
    )


def _start(weights: Weights, W: int, request: Request) -> Steps:
    return partial(_rows, weights, _state(weights, len(request.label), W), request)
