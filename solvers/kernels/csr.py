"""Compiled passes over sparse matrices in CSR and over plain vectors.

Indices are int32 or int64, values float32 or float64, every sum is float64. Indices are unsigned inside the loops:
signed ones cost a test for negative ones. Each function works on rows start .. stop - 1, so that threads share a pass,
and returns its part of the inner product. The vectors of k right-hand sides interleave: entry (i, j) of the (n, k)
block lies at i * k + j, so that an entry of the matrix is read once for all of them.
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
def subtract_row_columns(indptr, indices, data, i, width, x, row):
    """row <- row - (A x)_i for interleaved vectors; `row` (k,). A call: inlined, it takes half as long again."""
    for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + np.uint64(1)])):
        value, column = np.float64(data[e]), np.uint64(indices[e]) * width
        for j in range(width):
            row[j] -= value * x[column + j]


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


@njit(cache=True, nogil=True, fastmath=FAST)
def remove_means(component, weights, sums, v):
    """Subtract weights[c] times the sum of v over component c from v there; `sums` (components, k) is scratch."""
    k = sums.shape[1]
    sums[:] = 0.0
    for i in range(component.size):
        for j in range(k):
            sums[component[i], j] += v[i * k + j]
    for i in range(component.size):
        for j in range(k):
            v[i * k + j] -= weights[component[i]] * sums[component[i], j]


@njit(cache=True, nogil=True, fastmath=FAST)
def matvec_columns(indptr, indices, data, k, p, q, start, stop):
    """q <- A p for k interleaved vectors; returns p.q over all of them."""
    width, total = np.uint64(k), 0.0
    for i in range(np.uint64(start), np.uint64(stop)):
        row = q[i * width : (i + np.uint64(1)) * width]
        row[:] = 0.0
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + np.uint64(1)])):
            value, column = data[e], np.uint64(indices[e]) * width
            for j in range(width):
                row[j] += value * p[column + j]
        for j in range(width):
            total += row[j] * p[i * width + j]
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def residual_columns(indptr, indices, data, k, b, x, r, squares, start, stop):
    """r <- b - A x for k interleaved vectors; adds r.r of each to `squares` (k,)."""
    width = np.uint64(k)
    for i in range(np.uint64(start), np.uint64(stop)):
        row = r[i * width : (i + np.uint64(1)) * width]
        row[:] = b[i * width : (i + np.uint64(1)) * width]
        subtract_row_columns(indptr, indices, data, i, width, x, row)
        for j in range(width):
            squares[j] += row[j] * row[j]


@njit(cache=True, nogil=True, fastmath=FAST)
def update_columns(alpha, p, q, x, r, squares, start, stop):
    """x <- x + alpha p, r <- r - alpha q for interleaved vectors; adds r.r of each to `squares` (k,)."""
    width = np.uint64(squares.size)
    for i in range(np.uint64(start), np.uint64(stop)):
        for j in range(width):
            h = i * width + j
            x[h] += alpha * p[h]
            value = r[h] - alpha * q[h]
            r[h] = value
            squares[j] += value * value


@njit(cache=True, nogil=True, fastmath=FAST)
def square_columns(r, squares, start, stop):
    """Add r.r of each of the interleaved vectors to `squares` (k,)."""
    width = np.uint64(squares.size)
    for i in range(np.uint64(start), np.uint64(stop)):
        for j in range(width):
            squares[j] += np.float64(r[i * width + j]) * np.float64(r[i * width + j])


# The cycle of algebraic multigrid, on levels scaled to unit diagonal: A = L + I + U, both triangles on their own.
# Gauss-Seidel is sequential, so these take all rows. Vectors are of k interleaved columns as above; a single one keeps
# its sums in registers.


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


@njit(cache=True, nogil=True, fastmath=FAST)
def forward_from_zero(indptr, indices, data, k, b, x):
    """(I + L) x = b: one forward Gauss-Seidel sweep from x = 0."""
    one, width = np.uint64(1), np.uint64(k)
    for i in range(np.uint64(indptr.size - 1)):
        if k == 1:
            x[i] = subtract_row(indptr, indices, data, i, x, b[i])
        else:
            row = x[i * width : (i + one) * width]
            row[:] = b[i * width : (i + one) * width]
            subtract_row_columns(indptr, indices, data, i, width, x, row)


@njit(cache=True, nogil=True, fastmath=FAST)
def restrict_residual(indptr, indices, data, p_indptr, p_indices, p_data, k, x, row, coarse):
    """coarse <- P' r with r = -U x, the residual that a forward sweep from zero leaves; `row` (k,) is scratch."""
    one, width = np.uint64(1), np.uint64(k)
    coarse[:] = 0.0
    for i in range(np.uint64(indptr.size - 1)):
        if k == 1:
            value = subtract_row(indptr, indices, data, i, x, 0.0)
            for e in range(np.uint64(p_indptr[i]), np.uint64(p_indptr[i + one])):
                coarse[np.uint64(p_indices[e])] += p_data[e] * value
        else:
            row[:] = 0.0
            subtract_row_columns(indptr, indices, data, i, width, x, row)
            for e in range(np.uint64(p_indptr[i]), np.uint64(p_indptr[i + one])):
                value, column = np.float64(p_data[e]), np.uint64(p_indices[e]) * width
                for j in range(width):
                    coarse[column + j] += value * row[j]


@njit(cache=True, nogil=True, fastmath=FAST)
def prolong_add(p_indptr, p_indices, p_data, k, coarse, x):
    """x <- x + P e."""
    one, width = np.uint64(1), np.uint64(k)
    for i in range(np.uint64(p_indptr.size - 1)):
        if k == 1:
            value = x[i]
            for e in range(np.uint64(p_indptr[i]), np.uint64(p_indptr[i + one])):
                value += p_data[e] * coarse[np.uint64(p_indices[e])]
            x[i] = value
        else:
            row = x[i * width : (i + one) * width]
            for e in range(np.uint64(p_indptr[i]), np.uint64(p_indptr[i + one])):
                value, column = np.float64(p_data[e]), np.uint64(p_indices[e]) * width
                for j in range(width):
                    row[j] += value * coarse[column + j]


@njit(cache=True, nogil=True, fastmath=FAST)
def backward(l_indptr, l_indices, l_data, u_indptr, u_indices, u_data, k, b, x):
    """One backward Gauss-Seidel sweep: (I + U) x <- b - L x."""
    one, width, n = np.uint64(1), np.uint64(k), l_indptr.size - 1
    for step in range(n):
        i = np.uint64(n - 1 - step)
        if k == 1:
            value = subtract_row(l_indptr, l_indices, l_data, i, x, b[i])
            x[i] = subtract_row(u_indptr, u_indices, u_data, i, x, value)
        else:
            row = x[i * width : (i + one) * width]
            row[:] = b[i * width : (i + one) * width]
            subtract_row_columns(l_indptr, l_indices, l_data, i, width, x, row)
            subtract_row_columns(u_indptr, u_indices, u_data, i, width, x, row)


@njit(cache=True, nogil=True, fastmath=FAST)
def gather_scaled(order, scale, k, r, b):
    """b <- diag(scale) r[order]."""
    width = np.uint64(k)
    for i in range(np.uint64(order.size)):
        row = np.uint64(order[i]) * width
        for j in range(width):
            b[i * width + j] = scale[i] * r[row + j]


@njit(cache=True, nogil=True, fastmath=FAST)
def scatter_scaled(order, scale, k, x, r, z):
    """z[order] <- diag(scale) x; returns r.z."""
    width, rz = np.uint64(k), 0.0
    for i in range(np.uint64(order.size)):
        row = np.uint64(order[i]) * width
        for j in range(width):
            value = scale[i] * x[i * width + j]
            z[row + j] = value
            rz += r[row + j] * value
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
