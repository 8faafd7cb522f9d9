"""Linear discriminants without labels: directions that tell clusters of nearby speech apart.

Clusters stand in for phonemes: rows are clustered, Fisher's discriminants of the clusters (1936) are found, and rows
are clustered again along these. Directions that vary within a cluster, as speakers and rooms make them, lose their
weight. It is the front end of many systems that find the sounds of a language without labels (Heck et al. 2016).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vqcli.nets.layers.quantizer import nearest_codes

CLASSES = 256
ROUNDS = 2  # more follow their own clusters away from phonemes
FLOOR = 1e-3  # of the total variance, added to that within clusters


def discriminants(rows: Tensor, begin: Tensor, keep: int, kmeans: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Directions float32 [D, keep] of rows [N, D]; variance within clusters is 1 along each.

    The first clusters are those of `begin` [N, d], features of the same rows. kmeans(rows, K) gives centres.
    """
    if not 0 < keep <= rows.shape[1]:
        raise ValueError(f"{keep} directions of {rows.shape[1]}")
    centred = (rows - rows.mean(0)).double()
    total = centred.T @ centred / len(rows)
    points = begin
    for _ in range(ROUNDS):
        clusters = nearest_codes(points, kmeans(points, CLASSES))
        directions = _fisher(centred, total, clusters, keep)
        points = (centred @ directions).float()
    return directions.float()


def _fisher(centred: Tensor, total: Tensor, clusters: Tensor, keep: int) -> Tensor:
    """Generalised eigenvectors [D, keep] of the covariances between and within clusters [N] of centred rows [N, D]."""
    counts = torch.bincount(clusters, minlength=CLASSES)[:, None]
    means = torch.zeros(CLASSES, centred.shape[1], dtype=centred.dtype, device=centred.device)
    means = means.index_add_(0, clusters, centred) / counts.clamp(min=1)
    between = (means * counts).T @ means / len(centred)
    floor = FLOOR * total.diagonal().mean() * torch.eye(len(total), dtype=total.dtype, device=total.device)
    inverse = torch.linalg.inv(torch.linalg.cholesky(total - between + floor))
    _, vectors = torch.linalg.eigh(inverse @ between @ inverse.T)
    return inverse.T @ vectors[:, -keep:]
