"""Compiled passes over sparse matrices in CSR and over plain vectors.

Indices are int32 or int64, values float32 or float64, every sum is float64. Indices are unsigned inside the loops:
signed ones cost a test for negative ones. Each function works on rows start .. stop - 1, so that threads share a pass,
and returns its part of the inner product. `columns.py` has the same for several right-hand sides at once.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST


@njit(cache=True, nogil=True, fastmath=FAST)
def matvec(indptr, indices, data, p, q, start, stop):
    """q <- A p; returns p.q."""
    total = 0.0
    for i in range(np.uint64(start), np.uint64(stop)):
        value = 0.0
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + np.uint64(1)])):
            value += data[e] * p[np.uint64(indices[e])]
        q[i] = value
        total += value * p[i]
    return total


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def subtract_row(indptr, indices, data, i, x, value):
    """Return value - (A x)_i."""
    for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + np.uint64(1)])):
        value -= data[e] * x[np.uint64(indices[e])]
    return value


@njit(cache=True, nogil=True, fastmath=FAST)
def residual(indptr, indices, data, b, x, r, start, stop):
    """r <- b - A x; returns r.r."""
    total = 0.0
    for i in range(np.uint64(start), np.uint64(stop)):
        value = subtract_row(indptr, indices, data, i, x, np.float64(b[i]))
        r[i] = value
        total += value * value
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def direction(z, beta, p, start, stop):
    """p <- z + beta p (z float32 or float64)."""
    for i in range(np.uint64(start), np.uint64(stop)):
        p[i] = z[i] + beta * p[i]


@njit(cache=True, nogil=True, fastmath=FAST)
def update(alpha, p, q, x, r, start, stop):
    """x <- x + alpha p, r <- r - alpha q; returns r.r."""
    total = 0.0
    for i in range(np.uint64(start), np.uint64(stop)):
        x[i] += alpha * p[i]
        value = r[i] - alpha * q[i]
        r[i] = value
        total += value * value
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def remember(norm, alpha, p, x, best, saved):
    """Keep the x of the smallest norm: x itself while norms fall, else `saved`, which is x before the step alpha p.

    `best`, shape (2,), holds that norm, and 1 if it is that of x.
    """
    if norm <= best[0]:
        best[0], best[1] = norm, 1.0
    elif best[1] == 1.0:
        best[1] = 0.0
        for i in range(np.uint64(x.size)):
            saved[i] = x[i] - alpha * p[i]


@njit(cache=True, nogil=True, fastmath=FAST)
def dot(u, v, start, stop):
    """Return u.v."""
    total = 0.0
    for i in range(np.uint64(start), np.uint64(stop)):
        total += np.float64(u[i]) * np.float64(v[i])
    return total


_BLOCK, _ROWS = 6, 16  # binary logarithm of the columns of a block, and rows for which one is remembered


@njit(cache=True, nogil=True)
def scattered(indptr, indices):
    """Return the share of entries in blocks of columns where none of the rows just before has any."""
    n, count = indptr.size - 1, 0
    last = np.full((n >> _BLOCK) + 1, -_ROWS - 1)  # row that had an entry in a block
    for i in range(n):
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            block = np.uint64(indices[e] >> _BLOCK)
            count += i - last[block] > _ROWS
            last[block] = i
    return count / max(indices.size, 1)


@njit(cache=True, nogil=True, fastmath=FAST)
def energies(indptr, indices, data, v):
    """Return 1'A 1, v'A v and the trace of A."""
    ones, energy, trace = 0.0, 0.0, 0.0
    for i in range(np.uint64(indptr.size - 1)):
        total, image = 0.0, 0.0
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + np.uint64(1)])):
            j = np.uint64(indices[e])
            total += data[e]
            image += data[e] * v[j]
            trace += data[e] if j == i else 0.0
        ones += total
        energy += v[i] * image
    return ones, energy, trace


# The cycle of algebraic multigrid, on levels scaled to unit diagonal: A = L + I + U, both triangles on their own.
# Gauss-Seidel is sequential, so these take all rows.


@njit(cache=True, nogil=True)
def count_triangles(indptr, indices, lower, upper):
    """Set row pointers (n + 1,) of the strict lower triangle of a matrix in CSR, and of its transpose."""
    n = indptr.size - 1
    lower[:] = 0
    upper[:] = 0
    for i in range(n):
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            if indices[e] < i:
                lower[i + 1] += 1
                upper[indices[e] + 1] += 1
    for i in range(n):
        lower[i + 1] += lower[i]
        upper[i + 1] += upper[i]


@njit(cache=True, nogil=True)
def split_triangles(indptr, indices, data, scale, lower, lower_indices, lower_data, upper, upper_indices, upper_data):
    """Fill the strict lower triangle of diag(scale) A diag(scale) and, with the same numbers, its transpose."""
    below, free = 0, upper[:-1].copy()
    for i in range(indptr.size - 1):
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            j = indices[e]
            if j < i:
                above = free[j]
                free[j] += 1
                lower_indices[below], upper_indices[above] = j, i
                lower_data[below] = upper_data[above] = scale[i] * data[e] * scale[j]
                below += 1


@njit(cache=True, nogil=True)
def scale(indptr, indices, data, left, right, out):
    """Set the entries `out` of diag(left) A diag(right)."""
    for i in range(np.uint64(indptr.size - 1)):
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + np.uint64(1)])):
            out[e] = left[i] * data[e] * right[np.uint64(indices[e])]


@njit(cache=True, nogil=True, fastmath=FAST)
def forward_from_zero(indptr, indices, data, b, x):
    """(I + L) x = b: one forward Gauss-Seidel sweep from x = 0."""
    for i in range(np.uint64(indptr.size - 1)):
        x[i] = subtract_row(indptr, indices, data, i, x, b[i])


@njit(cache=True, nogil=True, fastmath=FAST)
def restrict_residual(indptr, indices, data, p_indptr, p_indices, p_data, x, coarse):
    """coarse <- P' r with r = -U x, the residual that a forward sweep from zero leaves."""
    coarse[:] = 0.0
    for i in range(np.uint64(indptr.size - 1)):
        value = subtract_row(indptr, indices, data, i, x, 0.0)
        for e in range(np.uint64(p_indptr[i]), np.uint64(p_indptr[i + np.uint64(1)])):
            coarse[np.uint64(p_indices[e])] += p_data[e] * value


@njit(cache=True, nogil=True, fastmath=FAST)
def prolong_add(p_indptr, p_indices, p_data, coarse, x):
    """x <- x + P e."""
    for i in range(np.uint64(p_indptr.size - 1)):
        value = x[i]
        for e in range(np.uint64(p_indptr[i]), np.uint64(p_indptr[i + np.uint64(1)])):
            value += p_data[e] * coarse[np.uint64(p_indices[e])]
        x[i] = value


@njit(cache=True, nogil=True, fastmath=FAST)
def backward(l_indptr, l_indices, l_data, u_indptr, u_indices, u_data, b, x):
    """One backward Gauss-Seidel sweep: (I + U) x <- b - L x."""
    n = l_indptr.size - 1
    for step in range(n):
        i = np.uint64(n - 1 - step)
        value = subtract_row(l_indptr, l_indices, l_data, i, x, b[i])
        x[i] = subtract_row(u_indptr, u_indices, u_data, i, x, value)


@njit(cache=True, nogil=True, fastmath=FAST)
def gather_scaled(order, scale, r, b):
    """b <- diag(scale) r[order]."""
    for i in range(np.uint64(order.size)):
        b[i] = scale[i] * r[np.uint64(order[i])]


@njit(cache=True, nogil=True, fastmath=FAST)
def scatter_scaled(order, scale, x, r, z):
    """z[order] <- diag(scale) x; returns r.z."""
    rz = 0.0
    for i in range(np.uint64(order.size)):
        row = np.uint64(order[i])
        value = scale[i] * x[i]
        z[row] = value
        rz += r[row] * value
    return rz


@njit(cache=True, nogil=True)
def transpose(block, out):
    """out <- the transpose of block, shape (n, k) with few columns."""
    size = 512  # rows whose entries of all columns stay in a cache
    for first in range(0, block.shape[0], size):
        last = min(first + size, block.shape[0])
        for j in range(block.shape[1]):
            for i in range(first, last):
                out[j, i] = block[i, j]
