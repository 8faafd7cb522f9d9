"""Rows set, added and rectified, in loops of their own: numba vectorises these, but not arithmetic on slices."""

from __future__ import annotations

import numpy as np

from vqcli.nets.kernels.jit import compiled


@compiled
def set_rows(rows: np.ndarray, row: np.ndarray) -> None:
    """rows[m, c] = row[c] for every c of row"""
    for m in range(len(rows)):
        for c in range(len(row)):
            rows[m, c] = row[c]


@compiled
def add_row(target: np.ndarray, row: np.ndarray) -> None:
    """target[c] += row[c] for every c of row"""
    for c in range(len(row)):
        target[c] += row[c]


@compiled
def rectify(rows: np.ndarray) -> None:
    """rows[m, c] = max(rows[m, c], 0)"""
    for m in range(len(rows)):
        for c in range(rows.shape[1]):
            rows[m, c] = max(rows[m, c], np.float32(0))


@compiled
def copy_rows(out: np.ndarray, rows: np.ndarray) -> None:
    """out[i] = rows[i], both [n, m]. The loop compiles in a fraction of the time of an assignment of arrays, to which
    numba adds a message for unequal shapes."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = rows[i, j]
