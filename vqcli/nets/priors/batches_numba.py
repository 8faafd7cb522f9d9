"""Sampling of a batch over threads: what the compiled samplers share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from vqcli.nets.kernels.jit import part
from vqcli.nets.priors.autoregressive import AS_LEARNED, Autoregressive, Sampling, check_request, part_of
from vqcli.nets.priors.categorical_numba import sample_code
from vqcli.nets.priors.pixelcnn import PixelCNN


class Request(NamedTuple):
    """Arguments for B samples that run in parallel, as the compiled functions read them.

    P positions in the order in which they are sampled, G groups of at most K codes.
    """

    codes: np.ndarray  # (B, G, P) int64, sampled in place
    keep: np.ndarray  # (B, G, P) bool, where codes stay as they are
    uniforms: np.ndarray  # (B, G, P) float64
    label: np.ndarray  # (B,) int64; under guidance (2 B,), the second half without labels
    temperature: float
    top_k: int
    top_p: float
    guidance: float
    recorded: np.ndarray  # (B, G, K, P) float32 takes the logits, or is of size 0
    parts: np.ndarray  # (B, L, P, 4 C) float32, what a map adds in the gates; under guidance (2 B, ...); or of size 0


# Samples rows or positions `begin` .. `end` - 1 of one request, after all before them.
Steps = Callable[[int, int], None]


def parts_of(batch: int) -> list[slice]:
    """Slices of a batch, one for each thread of torch, none of them empty."""
    count = min(batch, torch.get_num_threads())
    return [slice(batch * n // count, batch * (n + 1) // count) for n in range(count)]


@contextmanager
def threads(count: int) -> Iterator[Callable[[Callable[[int], None]], None]]:
    """Yields `call`, which runs work(0) .. work(count - 1), each in a thread, and returns when all are done."""
    with ThreadPoolExecutor(count) as pool:

        def call(work: Callable[[int], None]) -> None:
            if count == 1:
                work(0)
            else:
                list(pool.map(work, range(count)))

        yield call


def sample(
    net: Autoregressive,
    start: Callable[[Request], Steps],
    block: int,
    codes: np.ndarray,
    keep: np.ndarray,
    uniforms: np.ndarray,
    label: np.ndarray | None,
    sampling: Sampling,
    progress: Callable[[float], None] | None,
    condition: np.ndarray | None = None,
) -> np.ndarray:
    """As pixelcnn_torch.sample, by the steps that `start` returns for a part; progress after each `block` of steps."""
    check_request(net, codes, keep, uniforms, label, sampling.guidance, condition)
    nothing, parts = np.zeros((len(codes), 0, 0, 0), np.float32), _parts(net, len(codes), condition)
    request = _request(net, codes, keep, uniforms, label, sampling, nothing, parts)
    return _run(start, block, request, codes.shape, progress)


def logits_of(
    net: Autoregressive,
    start: Callable[[Request], Steps],
    block: int,
    codes: np.ndarray,
    label: np.ndarray | None,
    condition: np.ndarray | None = None,
) -> np.ndarray:
    """Logits float32 [B, G, K, H, W] or [B, G, K, T] of given codes, by the steps of `sample`."""
    keep, uniforms = np.ones(codes.shape, bool), np.zeros(codes.shape)
    check_request(net, codes, keep, uniforms, label, 1, condition)
    B, G, *grid = codes.shape
    recorded = np.full((B, G, max(net.codebook_sizes), *grid), -np.inf, np.float32)
    flat = recorded.reshape(*recorded.shape[:3], int(np.prod(grid)))
    parts = _parts(net, B, condition)
    _run(start, block, _request(net, codes, keep, uniforms, label, AS_LEARNED, flat, parts), codes.shape, None)
    return recorded


@torch.no_grad()
def _parts(net: Autoregressive, B: int, condition: np.ndarray | None) -> np.ndarray:
    """What a map adds in the gates of a PixelCNN, positions before channels."""
    if condition is None:
        return np.zeros((B, 0, 0, 0), np.float32)
    assert isinstance(net, PixelCNN) and net.of_condition is not None
    added = net.of_condition(torch.tensor(condition, dtype=torch.float32)).unflatten(1, (len(net.layers), -1))
    return np.ascontiguousarray(added.flatten(3).transpose(2, 3).numpy())


def _request(
    net: Autoregressive,
    codes: np.ndarray,
    keep: np.ndarray,
    uniforms: np.ndarray,
    label: np.ndarray | None,
    sampling: Sampling,
    recorded: np.ndarray,
    parts: np.ndarray,
) -> Request:
    """The request of a whole batch; its codes are a copy."""
    B, G, *grid = codes.shape
    flat = (B, G, int(np.prod(grid)))
    no_label = np.full(B, net.labels, np.int64)
    labels = no_label if label is None else label.astype(np.int64)
    return Request(
        np.array(codes, np.int64, order="C").reshape(flat),
        np.ascontiguousarray(keep).reshape(flat),
        np.ascontiguousarray(uniforms, np.float64).reshape(flat),
        labels if sampling.guidance == 1 else np.concatenate([labels, no_label]),
        float(sampling.temperature),
        int(sampling.top_k),
        float(sampling.top_p),
        float(sampling.guidance),
        recorded,
        parts,
    )


def _part(request: Request, part: slice) -> Request:
    B = len(request.codes)
    return request._replace(
        codes=request.codes[part],
        keep=request.keep[part],
        uniforms=request.uniforms[part],
        label=part_of(request.label, B, part),
        recorded=request.recorded[part],
        parts=part_of(request.parts, B, part),
    )


def _run(
    start: Callable[[Request], Steps],
    block: int,
    request: Request,
    shape: tuple[int, ...],
    progress: Callable[[float], None] | None,
) -> np.ndarray:
    """Codes of that shape, sampled in all parts of the batch in parallel, block by block."""
    if request.codes.size:
        parts = [start(_part(request, part)) for part in parts_of(len(request.codes))]

        def go(begin: int, end: int, n: int) -> None:
            parts[n](begin, end)

        with threads(len(parts)) as each:
            for begin in range(0, shape[2], block):
                end = min(begin + block, shape[2])
                each(partial(go, begin, end))
                if progress:
                    progress(end / shape[2])
    return request.codes.reshape(shape)


@part
def needs_logits(request: Request, g: int, p: int) -> bool:
    """Whether logits of group g at position p are used."""
    if request.recorded.size > 0:
        return True
    for b in range(len(request.keep)):  # noqa: SIM110 numba has no generators here, and `all` compiles for longer
        if not request.keep[b, g, p]:
            return True
    return False


@part
def sample_position(request: Request, g: int, p: int, all_logits: np.ndarray, K: int, room: np.ndarray) -> None:
    """Sample and record the codes of group g at position p; all_logits [B, K or more], twice B under guidance."""
    B, guidance = len(request.codes), request.guidance
    for b in range(B):
        logits = all_logits[b, :K]
        if guidance != 1:
            free = all_logits[B + b]
            for k in range(K):
                logits[k] = free[k] + guidance * (logits[k] - free[k])
        if request.recorded.size > 0:
            for k in range(K):
                request.recorded[b, g, k, p] = logits[k]
        if not request.keep[b, g, p]:
            u, temperature = request.uniforms[b, g, p], request.temperature
            request.codes[b, g, p] = sample_code(logits, u, temperature, request.top_k, request.top_p, room)
