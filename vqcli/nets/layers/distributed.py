"""Collective operations of several processes that train one net: sums, rows and random numbers equal on every rank.

Each rank sees its own part of a batch. Written with these functions, a computation gives on N ranks what one process
gives on the N parts in a row, up to the order of float sums. With one process, or outside of training, all of them do
nothing. Every rank must call them alike, and must have seeded torch alike before `rand`.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if world() > 1 else 0


def summed(values: Tensor) -> Tensor:
    """The sum over ranks of a tensor of the same shape on each, in place."""
    if world() > 1:
        dist.all_reduce(values)
    return values


def from_first(value: float) -> float:
    """The number of rank 0, on every rank: decisions by the clock or a validation must be the same everywhere."""
    if world() == 1:
        return value
    place = "cuda" if dist.get_backend() == "nccl" else "cpu"
    shared = torch.tensor([value if rank() == 0 else 0.0], dtype=torch.float64, device=place)
    return float(summed(shared))


def count_rows(rows: Tensor) -> int:
    """How many rows all ranks hold together; each holds the same number."""
    return rows.shape[-2] * world()


def rows_at(rows: Tensor, index: Tensor) -> Tensor:
    """Rows by their number among those of all ranks, in the order of ranks: [..., N, D], [M] -> [..., M, D]."""
    if world() == 1:
        return rows[..., index, :]
    N = rows.shape[-2]
    own = (index // N == rank())[:, None]
    return summed(rows[..., index % N, :] * own)


def rand(*shape: int, device: torch.device) -> Tensor:
    """Uniform numbers in 0 .. 1 for a batch of `shape` on each rank: other ones on every rank."""
    B, *rest = shape
    return torch.rand(B * world(), *rest, device=device)[rank() * B : (rank() + 1) * B]


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Give every rank the mean of all ranks' gradients, in one exchange."""
    if world() == 1:
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = summed(torch.cat([gradient.flatten() for gradient in gradients])) / world()
    parts = flat.split([gradient.numel() for gradient in gradients])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter)
