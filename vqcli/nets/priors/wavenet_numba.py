"""Sampling codes from a WaveNet prior on a CPU, compiled: as wavenet_torch.sample, many times faster."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vqcli.nets.kernels.gate import gate
from vqcli.nets.kernels.jit import compiled
from vqcli.nets.kernels.matmul import add_product, aligned, padded, panels
from vqcli.nets.kernels.rows import add_row, rectify, set_rows
from vqcli.nets.kernels.weights import array_of, biases_of
from vqcli.nets.priors import batches_numba
from vqcli.nets.priors.autoregressive import AS_LEARNED, Sampling
from vqcli.nets.priors.batches_numba import Request, Steps, needs_logits, sample_position
from vqcli.nets.priors.wavenet import WaveNetPrior

PROGRESS_EVERY = 20  # positions between progress reports


class Weights(NamedTuple):
    """The net as the compiled functions read it; `*` stands for the panels of a matrix (see kernels/matmul.py).

    L layers, R residual channels, S skips, M hidden channels of a head, G groups of at most K codes.
    """

    embedding: np.ndarray  # (sum of K, R)
    within: np.ndarray  # (sum of K but the last, M)
    offsets: np.ndarray  # (G,) int64, the first row of each group
    sizes: np.ndarray  # (G,) int64, K of each group
    begins: np.ndarray  # (L + 1,) int64, where the ring of each layer begins; its length is the dilation
    taps: np.ndarray  # (L, *) of 2 R -> 2 R
    mix: np.ndarray  # (L - 1, *) of R -> R
    mix_bias: np.ndarray  # (L - 1, R padded)
    skip: np.ndarray  # (*) of L R -> S
    skip_bias: np.ndarray  # (S padded)
    inner: np.ndarray  # (*) of S -> G M
    inner_bias: np.ndarray  # (G M padded)
    outer: np.ndarray  # (G, *) of M -> K
    outer_bias: np.ndarray  # (G, K padded)


class State(NamedTuple):
    """The state of B samples that run in parallel, and buffers."""

    rings: np.ndarray  # (sum of dilations, B, R): earlier inputs of each layer
    bias: np.ndarray  # (L, B, 2 R padded): of the gates, with the condition of each sample
    h: np.ndarray  # (B, R padded): the residual
    pair: np.ndarray  # (B, 2 R): past and present
    conv: np.ndarray  # (B, 2 R padded)
    gated: np.ndarray  # (B, R)
    gates: np.ndarray  # (B, L R)
    skips: np.ndarray  # (B, S padded)
    inner: np.ndarray  # (B, G M padded)
    earlier_groups: np.ndarray  # (B, M): what earlier groups at this position add to the heads
    hidden: np.ndarray  # (B, M)
    logits: np.ndarray  # (B, K padded)
    p: np.ndarray  # (K,) float64


class CompiledNet(NamedTuple):
    """A net and its weights in the order of use."""

    net: WaveNetPrior
    weights: Weights


@torch.no_grad()
def compile_net(net: WaveNetPrior) -> CompiledNet:
    """Lay out the weights for `sample`; later changes of the net have no effect."""
    stack, K = net.stack, max(net.codebook_sizes)
    mixes = [layer.mix for layer in stack.layers if layer.mix is not None]
    weights = Weights(
        embedding=array_of(net.embedding.weight),
        within=array_of(net.within.weight),
        offsets=np.array(net.offsets[:-1], np.int64),
        sizes=np.array(net.codebook_sizes, np.int64),
        begins=np.cumsum([0, *stack.dilations]),
        taps=_stack([layer.taps.weight for layer in stack.layers]),
        mix=_stack([mix.weight for mix in mixes]),
        mix_bias=biases_of(mixes, stack.residual),
        skip=panels(array_of(stack.to_skip.weight).T),
        skip_bias=biases_of([stack.to_skip], stack.skip)[0],
        inner=panels(array_of(net.inner.weight).T),
        inner_bias=biases_of([net.inner], net.inner.out_features)[0],
        outer=_stack([head.weight for head in net.outer], K),
        outer_bias=biases_of(list(net.outer), K),
    )
    return CompiledNet(net, weights)


def _stack(matrices: list[Tensor], out: int = 0) -> np.ndarray:
    """Panels of matrices [out or fewer, in] one after another."""
    if not matrices:
        return np.zeros((0, 0, 0, 0), np.float32)
    arrays = [array_of(matrix).T for matrix in matrices]
    return aligned(np.stack([panels(np.pad(a, ((0, 0), (0, max(0, out - a.shape[1]))))) for a in arrays]))


@torch.no_grad()
def _state(compiled_net: CompiledNet, labels: np.ndarray) -> State:
    net, weights = compiled_net
    B, L, R, M = len(labels), len(weights.taps), net.stack.residual, weights.within.shape[1]
    condition = net.label_features(torch.from_numpy(labels), B, torch.device("cpu")) if net.labels else None
    parts = net.stack.conditions(None, condition)
    bias = np.zeros((L, B, padded(2 * R)), np.float32)
    for n, layer in enumerate(net.stack.layers):
        bias[n, :, : 2 * R] = array_of(layer.taps.bias if parts is None else layer.taps.bias + parts[:, 0, n])

    def zeros(*shape: int) -> np.ndarray:
        return aligned(np.zeros(shape))

    return State(
        rings=zeros(int(weights.begins[-1]), B, R),
        bias=bias,
        h=zeros(B, padded(R)),
        pair=zeros(B, 2 * R),
        conv=zeros(B, padded(2 * R)),
        gated=zeros(B, R),
        gates=zeros(B, L * R),
        skips=zeros(B, len(weights.skip_bias)),
        inner=zeros(B, len(weights.inner_bias)),
        earlier_groups=zeros(B, M),
        hidden=zeros(B, M),
        logits=zeros(B, weights.outer_bias.shape[1]),
        p=np.zeros(max(net.codebook_sizes)),
    )


@compiled
def _set(target: np.ndarray, begin: int, row: np.ndarray, count: int) -> None:
    """Set a part of target. Both are passed whole: a slice is another type, for which all would be compiled again."""
    for c in range(count):
        target[begin + c] = row[c]


@compiled
def _stack_step(net: Weights, state: State, t: int) -> None:
    """The stack at position t, from state.h, the input, to the inputs of all heads in state.inner."""
    L, B, R = len(net.taps), state.gated.shape[0], state.gated.shape[1]
    for n in range(L):
        place = net.begins[n] + t % (net.begins[n + 1] - net.begins[n])
        for b in range(B):
            past, h = state.rings[place, b], state.h[b]
            _set(state.pair[b], 0, past, R)
            _set(state.pair[b], R, h, R)
            _set(past, 0, h, R)
            _set(state.conv[b], 0, state.bias[n, b], state.conv.shape[1])
        add_product(state.conv, state.pair, net.taps[n])
        for b in range(B):
            gate(state.gated[b], state.conv[b])
            _set(state.gates[b], n * R, state.gated[b], R)
        if n + 1 < L:
            for b in range(B):
                add_row(state.h[b], net.mix_bias[n])
            add_product(state.h, state.gated, net.mix[n])
    set_rows(state.skips, net.skip_bias)
    set_rows(state.inner, net.inner_bias)
    add_product(state.skips, state.gates, net.skip)
    rectify(state.skips)
    add_product(state.inner, state.skips, net.inner)


@compiled
def _head(net: Weights, state: State, g: int) -> None:
    """The head of group g, into state.logits."""
    B, M = state.hidden.shape
    for b in range(B):
        hidden, inner, earlier_groups = state.hidden[b], state.inner[b], state.earlier_groups[b]
        for c in range(M):
            hidden[c] = max(inner[g * M + c] + earlier_groups[c], np.float32(0))
    set_rows(state.logits, net.outer_bias[g])
    add_product(state.logits, state.hidden, net.outer[g])


@compiled
def _positions(net: Weights, state: State, request: Request, begin: int, end: int) -> None:
    """Sample positions begin .. end - 1; under guidance, states B .. 2 B - 1 have no label."""
    B, G, _ = request.codes.shape
    for t in range(begin, end):
        _stack_step(net, state, t)
        state.earlier_groups[:] = np.float32(0)
        state.h[:] = np.float32(0)
        for g in range(G):
            if needs_logits(request, g, t):
                _head(net, state, g)
                sample_position(request, g, t, state.logits, net.sizes[g], state.p)
            for b in range(len(state.h)):
                row = net.offsets[g] + request.codes[b % B, g, t]
                add_row(state.h[b], net.embedding[row])
                if g + 1 < G:
                    add_row(state.earlier_groups[b], net.within[row])


def sample(
    compiled_net: CompiledNet,
    codes: np.ndarray,
    keep: np.ndarray,
    uniforms: np.ndarray,
    label: np.ndarray | None = None,
    sampling: Sampling = AS_LEARNED,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """As vqcli.nets.priors.wavenet_torch.sample; a batch is spread over as many threads as torch uses.

    What a sample becomes does not depend on the others in its batch.
    """
    start = partial(_start, compiled_net)
    return batches_numba.sample(
        compiled_net.net, start, PROGRESS_EVERY, codes, keep, uniforms, label, sampling, progress
    )


def logits_of(compiled_net: CompiledNet, codes: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
    """Logits float32 [B, G, K, T] of given codes, by the steps of `sample`; equal to those of the net."""
    return batches_numba.logits_of(compiled_net.net, partial(_start, compiled_net), PROGRESS_EVERY, codes, label)


def _start(compiled_net: CompiledNet, request: Request) -> Steps:
    return partial(_positions, compiled_net.weights, _state(compiled_net, request.label), request)
