"""One code from its logits, compiled: as autoregressive.sample_codes."""

from __future__ import annotations

import numpy as np

from vqcli.nets.kernels.exponential import exp64
from vqcli.nets.kernels.jit import compiled
from vqcli.nets.priors.autoregressive import LARGEST_UNIFORM

_LEAST = -700.0  # e^-700 is negligible


@compiled
def sample_code(
    logits: np.ndarray, uniform: float, temperature: float, top_k: int, top_p: float, p: np.ndarray
) -> np.int64:
    """A code from logits float32 [K]; p float64 [K or more] is room for the probabilities."""
    K = len(logits)
    p = p[:K]
    if temperature == 0:
        return np.argmax(logits)
    largest = logits[0]
    for k in range(K):
        largest = max(largest, logits[k])
    for k in range(K):
        p[k] = exp64(max((np.float64(logits[k]) - largest) / temperature, _LEAST))
    if 0 < top_k < K or top_p < 1:
        _cut(p, top_k, top_p)
    total = 0.0
    for k in range(K):
        total += p[k]
    mark = min(uniform, LARGEST_UNIFORM) * total
    share = 0.0
    for k in range(K):
        share += p[k]
        if share > mark:
            return np.int64(k)
    return np.int64(K - 1)  # reached only by logits that are not numbers


@compiled
def _cut(p: np.ndarray, top_k: int, top_p: float) -> None:
    """Set to 0 what is not among the top_k largest, and then not among the fewest that make up top_p."""
    ranked = p.copy()
    _sort_down(ranked)
    count = top_k if 0 < top_k < len(p) else len(p)
    floor = ranked[count - 1]
    while count < len(p) and ranked[count] == floor:  # as probable as the last
        count += 1
    if top_p < 1:
        total = 0.0
        for k in range(count):
            total += ranked[k]
        goal = top_p * total
        share = 0.0
        for k in range(count):
            share += ranked[k]
            if share >= goal:
                floor = ranked[k]
                break
    for k in range(len(p)):
        if p[k] < floor:
            p[k] = 0.0


@compiled
def _sort_down(p: np.ndarray) -> None:
    """Sort from the largest to the smallest, by a heap: np.sort compiles for more than a second."""
    K = len(p)
    for step in range(K // 2 + K):
        # first every number above its children, then the smallest of what is left to the end
        first, end = K // 2 - 1 - step, K
        if first < 0:
            end = K + K // 2 - 1 - step
            first = 0
            p[0], p[end] = p[end], p[0]
        parent = first
        while 2 * parent + 1 < end:
            child = 2 * parent + 1
            if child + 1 < end and p[child + 1] < p[child]:
                child += 1
            if p[parent] <= p[child]:
                break
            p[parent], p[child] = p[child], p[parent]
            parent = child
