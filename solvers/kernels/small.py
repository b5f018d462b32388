"""A compiled solve of a small symmetric positive definite system from CSR: look, order, factor, solve, certify."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from deepcd.solvers.kernels import ldl, ordering

_ROUNDING = 1e-14  # relative difference of an entry and its mirror image
_SMALL = 1e-2  # pivot of the scaled matrix from which it may be singular,
_REGULAR = 1e-11  # and smallest eigenvalue from which on it is not
_DENSE = 64  # flops per entry of the factors from which dense blocks are quicker


@njit(cache=True, nogil=True)
def solve(indptr, indices, data, b, x):
    """Solve A x = b; return the norms of b and b - A x, or NaN twice where this is not the way to do it.

    That is where A is not in order, not symmetric, not regular for sure, or not sparse enough.
    """
    n, failed = b.size, (math.nan, math.nan)
    scaling = np.empty(n)
    if not _scale(indptr, indices, data, scaling):
        return failed
    order = np.empty(n, np.int32)
    entries, flops, _ = ordering.minimum_degree(indptr, indices, math.inf, order)
    if flops > _DENSE * entries:
        return failed
    pointers, columns, values = np.empty(n + 1, np.int32), np.empty(data.size, np.int32), np.empty(data.size)
    ldl.permute(indptr, indices, data, scaling, 0.0, order, pointers, columns, values)
    parent, starts = np.empty(n, np.int32), np.empty(n + 1, np.int64)
    count = ldl.analyse(pointers, columns, parent, starts)
    rows, L, D = np.empty(count, np.int32), np.empty(count), np.empty(n)
    least = ldl.factor(pointers, columns, values, parent, starts, rows, L, D)
    if not least > _SMALL and not (least > 0.0 and _smallest(starts, rows, L, D, order) > _REGULAR):
        return failed
    x[:] = scaling * ldl.solve(starts, rows, L, D, order, scaling * b)
    size, left = 0.0, 0.0
    for i in range(n):
        value = b[i]
        for e in range(indptr[i], indptr[i + 1]):
            value -= data[e] * x[indices[e]]
        size += b[i] * b[i]
        left += value * value
    return math.sqrt(size), math.sqrt(left)


@njit(cache=True, nogil=True)
def _smallest(starts, rows, L, D, order):
    """Return an estimate of the smallest eigenvalue, by inverse iteration."""
    v, size = np.empty(D.size), 0.0
    for i in range(D.size):
        v[i] = 1.0 + 0.5 * math.sin(1.0 + i * i)
        size += v[i] * v[i]
    for _ in range(2):
        v = ldl.solve(starts, rows, L, D, order, v / math.sqrt(size))
        size = 0.0
        for i in range(D.size):
            size += v[i] * v[i]
    return 1.0 / math.sqrt(size)


@njit(cache=True, nogil=True)
def _scale(indptr, indices, data, scaling):
    """Set `scaling` (n,) to 1 / sqrt(a_ii); return whether A is sorted, without zeros, symmetric, with a_ii > 0."""
    n = scaling.size
    below = indptr[:n].copy()  # the next entry of each row to the left of the diagonal
    for i in range(n):
        # What lies to the left has been met in the rows above.
        first, last = below[i], indptr[i + 1]
        if first >= last or indices[first] != i or not 0.0 < data[first] < math.inf:
            return False
        scaling[i] = 1.0 / math.sqrt(data[first])
        before = i
        for e in range(first + 1, last):
            j = indices[e]
            if j <= before or j >= n or data[e] == 0.0:
                return False
            before, f = j, below[j]
            if f >= indptr[j + 1] or indices[f] != i or not abs(data[e] - data[f]) <= _ROUNDING * abs(data[e]):
                return False
            below[j] += 1
    return True
