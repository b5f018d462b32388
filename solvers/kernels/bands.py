"""Compiled triangular solves with the factors of band matrices, for right-hand sides that interleave.

LAPACK wants each right-hand side on its own: turning them over takes longer than solving for them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST


@njit(cache=True, nogil=True, fastmath=FAST)
def solve_tridiagonal(D, below, B):
    """Return the solutions for the columns of B, shape (n, k); L D L', L with ones on its diagonal and `below` it."""
    n, width = B.shape
    X = np.empty((n, width))
    for j in range(width):
        X[0, j] = B[0, j]
    for i in range(1, n):
        entry, row, before = below[i - 1], X[i], X[i - 1]
        for j in range(width):
            row[j] = B[i, j] - entry * before[j]
    for j in range(width):
        X[n - 1, j] /= D[n - 1]
    for back in range(1, n):
        i = n - 1 - back
        entry, inverse, row, after = below[i], 1 / D[i], X[i], X[i + 1]
        for j in range(width):
            row[j] = row[j] * inverse - entry * after[j]
    return X


@njit(cache=True, nogil=True, fastmath=FAST)
def solve_banded(band, B):
    """Return the solutions for the columns of B, shape (n, k); L L', with band[i, d] in row i + d, column i of L."""
    (n, width), reach = B.shape, band.shape[1]
    X = B.copy()
    for i in range(n):
        row, inverse = X[i], 1 / band[i, 0]
        for j in range(width):
            row[j] *= inverse
        for d in range(1, min(reach, n - i)):
            entry, other = band[i, d], X[i + d]
            for j in range(width):
                other[j] -= entry * row[j]
    for back in range(n):
        i = n - 1 - back
        row, inverse = X[i], 1 / band[i, 0]
        for d in range(1, min(reach, n - i)):
            entry, other = band[i, d], X[i + d]
            for j in range(width):
                row[j] -= entry * other[j]
        for j in range(width):
            row[j] *= inverse
    return X
