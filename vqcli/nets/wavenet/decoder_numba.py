"""Sampling waveforms from a WaveNet on a CPU, compiled: as decoder_torch, many times faster.

A sample is a chain of small products by matrices that stream from the cache. So these have as few bytes as possible,
in float16, and as many rows as possible share them: those of a batch, and the past taps of 8 steps at once, as the
past inputs of a layer with a dilation of 8 or more are known 8 steps before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcli.nets.kernels.gate import gate
from vqcli.nets.kernels.jit import compiled
from vqcli.nets.kernels.matmul import add_product, aligned, padded, panels
from vqcli.nets.kernels.rows import rectify, set_rows
from vqcli.nets.kernels.weights import array_of, biases_of
from vqcli.nets.priors.autoregressive import Sampling
from vqcli.nets.priors.batches_numba import parts_of, threads
from vqcli.nets.priors.categorical_numba import sample_code
from vqcli.nets.wavenet.decoder import WaveNetDecoder
from vqcli.nets.wavenet.decoder_torch import block_steps, check_request, gate_offsets

LOOKAHEAD = 8  # steps whose past taps are computed at once


class Weights(NamedTuple):
    """The net as the compiled functions read it; `*` stands for the panels of a matrix (see kernels/matmul.py).

    L layers, R residual and S skip channels, Q codes.
    """

    embedding: np.ndarray  # (Q, R)
    dilations: np.ndarray  # (L,) int64
    past: np.ndarray  # (L, *) of R -> 2 R
    present: np.ndarray  # (L, *) of R -> 2 R
    mix: np.ndarray  # (L - 1, *) of R -> R
    mix_bias: np.ndarray  # (L - 1, R padded)
    skip: np.ndarray  # (*) of L R -> S
    skip_bias: np.ndarray  # (S padded)
    hidden: np.ndarray  # (*) of S -> S
    hidden_bias: np.ndarray  # (S padded)
    out: np.ndarray  # (*) of S -> Q
    out_bias: np.ndarray  # (Q padded)


class State(NamedTuple):
    """The state of B items that run in parallel, and buffers."""

    rings: np.ndarray  # (sum of dilations * B, R): each layer's past inputs
    begins: np.ndarray  # (L,) int64, the first row of each ring
    lookahead: np.ndarray  # (L, 8 B, 2 R padded): conditions and past taps of these 8 steps
    before: np.ndarray  # (B,) int64, the codes before
    h: np.ndarray  # (B, R padded)
    gates: np.ndarray  # (B, L R)
    skips: np.ndarray  # (B, S padded)
    hidden: np.ndarray  # (B, S padded)
    logits: np.ndarray  # (B, Q padded)
    p: np.ndarray  # (Q,) float64


class CompiledNet(NamedTuple):
    """A net and its weights in the order of use."""

    net: WaveNetDecoder
    weights: Weights


@torch.no_grad()
def compile_net(net: WaveNetDecoder, half: bool = False) -> CompiledNet:
    """Lay out the weights for `sample`; later changes of the net are not seen.

    In float16 (`half`) they are half as much to read, which pays where float32 does not fit in the cache of a core:
    residual 64 and 20 layers are 2.5 MB, 32 and 18 are 0.9 MB. Logits are then those of the rounded weights.
    """
    stack = net.stack
    R = stack.residual
    mixes = [layer.mix for layer in stack.layers if layer.mix is not None]

    def matrix(linear: nn.Linear, inputs: slice = slice(None)) -> np.ndarray:
        return panels(array_of(linear.weight[:, inputs].T), half)

    def matrices(all_panels: list[np.ndarray]) -> np.ndarray:
        return aligned(np.stack(all_panels), all_panels[0].dtype.type) if all_panels else matrix(net.out)[None, :0]

    weights = Weights(
        embedding=array_of(net.embedding.weight),
        dilations=np.array(stack.dilations, np.int64),
        past=matrices([matrix(layer.taps, slice(R)) for layer in stack.layers]),
        present=matrices([matrix(layer.taps, slice(R, None)) for layer in stack.layers]),
        mix=matrices([matrix(mix) for mix in mixes]),
        mix_bias=biases_of(mixes, R),
        skip=matrix(stack.to_skip),
        skip_bias=biases_of([stack.to_skip], stack.skip)[0],
        hidden=matrix(net.hidden),
        hidden_bias=biases_of([net.hidden], stack.skip)[0],
        out=matrix(net.out),
        out_bias=biases_of([net.out], net.quantization)[0],
    )
    return CompiledNet(net, weights)


def _state(net: WaveNetDecoder, B: int) -> State:
    L, R, S, Q = len(net.stack.layers), net.stack.residual, padded(net.stack.skip), padded(net.quantization)
    lengths = np.array(net.stack.dilations, np.int64) * B

    def zeros(*shape: int) -> np.ndarray:
        return aligned(np.zeros(shape))

    return State(
        rings=zeros(int(lengths.sum()), R),
        begins=np.cumsum(lengths) - lengths,
        lookahead=zeros(L, LOOKAHEAD * B, padded(2 * R)),
        before=np.full(B, net.quantization // 2),
        h=zeros(B, padded(R)),
        gates=zeros(B, L * R),
        skips=zeros(B, S),
        hidden=zeros(B, S),
        logits=zeros(B, Q),
        p=np.zeros(net.quantization),
    )


@compiled
def _look_back(net: Weights, state: State, table: np.ndarray, stride: int, t: int, position: int) -> None:
    """Conditions of 8 steps, and the past taps of all layers that look back beyond them."""
    L, B = table.shape[1:3]
    for n in range(L):
        for u in range(LOOKAHEAD):
            rows, conditions = state.lookahead[n, u * B : (u + 1) * B], table[min((t + u) // stride, len(table) - 1), n]
            for b in range(B):
                for c in range(conditions.shape[1]):
                    rows[b, c] = conditions[b, c]
        dilation = net.dilations[n]
        if dilation % LOOKAHEAD == 0:
            begin = state.begins[n] + position % dilation * B
            add_product(state.lookahead[n], state.rings[begin : begin + LOOKAHEAD * B], net.past[n])


@compiled
def _layers(net: Weights, state: State, position: int) -> None:
    """One step of all layers, from state.h into state.gates."""
    h, gates = state.h, state.gates
    B, R = len(h), state.rings.shape[1]
    u = position % LOOKAHEAD * B
    for n in range(len(net.dilations)):
        x = state.lookahead[n, u : u + B]
        dilation = net.dilations[n]
        begin = state.begins[n] + position % dilation * B
        ring = state.rings[begin : begin + B]
        if dilation % LOOKAHEAD != 0:
            add_product(x, ring, net.past[n])
        add_product(x, h, net.present[n])
        for b in range(B):
            gate(gates[b, n * R : (n + 1) * R], x[b])
            for c in range(R):
                ring[b, c] = h[b, c]
        if n + 1 < len(net.dilations):
            for b in range(B):
                for c in range(R):
                    h[b, c] += net.mix_bias[n, c]
            add_product(h, gates[:, n * R : (n + 1) * R], net.mix[n])


@compiled
def _head(net: Weights, state: State) -> None:
    """From state.gates into state.logits."""
    set_rows(state.skips, net.skip_bias)
    add_product(state.skips, state.gates, net.skip)
    rectify(state.skips)
    set_rows(state.hidden, net.hidden_bias)
    add_product(state.hidden, state.skips, net.hidden)
    rectify(state.hidden)
    set_rows(state.logits, net.out_bias)
    add_product(state.logits, state.hidden, net.out)


@compiled
def _block(
    net: Weights,
    state: State,
    table: np.ndarray,
    stride: int,
    first: int,
    codes: np.ndarray,
    given: int,
    uniforms: np.ndarray,
    temperature: float,
    recorded: np.ndarray,
) -> None:
    """Sample codes [B, T] from position `first` on, a multiple of 8, as far as the table of conditions goes.

    table is gate_offsets as [steps, L, B, 2 R padded]. The first `given` codes are there already.
    recorded [B, Q, T], or of size 0, takes the logits.
    """
    B = len(codes)
    Q, R = net.embedding.shape
    for t in range(len(table) * stride):
        position = first + t
        if position % LOOKAHEAD == 0:
            _look_back(net, state, table, stride, t, position)
        for b in range(B):
            embedded = net.embedding[state.before[b]]
            for c in range(R):
                state.h[b, c] = embedded[c]
        _layers(net, state, position)
        if position >= given or recorded.size > 0:
            _head(net, state)
        for b in range(B):
            logits = state.logits[b, :Q]
            if recorded.size > 0:
                recorded[b, :, position] = logits
            if position >= given:
                codes[b, position] = sample_code(logits, uniforms[b, position], temperature, 0, 1.0, state.p)
            state.before[b] = codes[b, position]


def sample(
    compiled_net: CompiledNet,
    local: Tensor,
    speaker: Tensor,
    uniforms: np.ndarray,
    *,
    temperature: float = 1.0,
    forced: np.ndarray | None = None,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """As decoder_torch.sample; a batch is spread over as many threads as torch uses.

    What an item becomes does not depend on the others in its batch.
    """
    check_request(compiled_net.net, local, speaker, uniforms, forced)
    return _run(compiled_net, local, speaker, uniforms, temperature, forced, progress, np.zeros((0, 0, 0), np.float32))


def logits_of(compiled_net: CompiledNet, local: Tensor, speaker: Tensor, codes: np.ndarray) -> np.ndarray:
    """Logits float32 [B, 256, T] of given codes [B, T], by the steps of `sample`; equal to those of the net."""
    uniforms = np.zeros(codes.shape)
    check_request(compiled_net.net, local, speaker, uniforms, codes)
    recorded = np.empty((len(codes), compiled_net.net.quantization, codes.shape[1]), np.float32)
    _run(compiled_net, local, speaker, uniforms, 1.0, codes, None, recorded)
    return recorded


def _run(
    compiled_net: CompiledNet,
    local: Tensor,
    speaker: Tensor,
    uniforms: np.ndarray,
    temperature: float,
    forced: np.ndarray | None,
    progress: Callable[[float], None] | None,
    recorded: np.ndarray,
) -> np.ndarray:
    net, weights = compiled_net
    temperature = float(Sampling(temperature).temperature)
    uniforms = np.ascontiguousarray(uniforms, np.float64)
    B, T = uniforms.shape
    codes = np.zeros((B, T), np.int64)
    given = 0 if forced is None else forced.shape[1]
    if forced is not None:
        codes[:, :given] = forced
    if codes.size == 0:
        return codes
    parts = parts_of(B)
    states = [_state(net, part.stop - part.start) for part in parts]
    steps = block_steps(net.stride)

    def sample_block(first: int, table: np.ndarray, n: int) -> None:
        part = parts[n]
        arguments = (weights, states[n], np.ascontiguousarray(table[:, :, part]), net.stride, first)
        _block(*arguments, codes[part], given, uniforms[part], temperature, recorded[part])

    with threads(len(parts)) as each:
        for step in range(0, local.shape[2], steps):
            table = _table(net, local[:, :, step : step + steps], speaker)
            first = step * net.stride
            each(partial(sample_block, first, table))
            if progress:
                progress((first + len(table) * net.stride) / T)
    return codes


@torch.no_grad()
def _table(net: WaveNetDecoder, local: Tensor, speaker: Tensor) -> np.ndarray:
    """gate_offsets as [steps, L, B, 2 R padded]."""
    device = net.embedding.weight.device
    offsets = gate_offsets(net.stack, local.to(device), net.speaker(speaker.to(device)))
    width = offsets.shape[3]
    return array_of(F.pad(offsets, (0, padded(width) - width)).permute(1, 2, 0, 3))
