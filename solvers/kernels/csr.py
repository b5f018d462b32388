"""Compiled passes over sparse matrices in CSR and over plain vectors.

Indices are int32 or int64, values float32 or float64, every sum is float64. Indices are unsigned inside the loops:
signed ones cost a test for negative ones. Each function works on rows start .. stop - 1, so that threads share a pass,
and returns its part of the inner product. The vectors of k right-hand sides interleave: entry (i, j) of the (n, k)
block lies at i * k + j, so that an entry of the matrix is read once for all of them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.outer import FAST


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


@njit(cache=True, nogil=True, fastmath=FAST)
def residual(indptr, indices, data, b, x, r, start, stop):
    """r <- b - A x; returns r.r."""
    total = 0.0
    for i in range(np.uint64(start), np.uint64(stop)):
        value = np.float64(b[i])
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + np.uint64(1)])):
            value -= data[e] * x[np.uint64(indices[e])]
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
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + np.uint64(1)])):
            value, column = data[e], np.uint64(indices[e]) * width
            for j in range(width):
                row[j] -= value * x[column + j]
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


# The cycle of algebraic multigrid, on levels scaled to unit diagonal: A = L + I + U, both strict triangles on their own.
# Gauss-Seidel is sequential, so these take all rows. Vectors are of k interleaved columns as above.


@njit(cache=True, nogil=True, fastmath=FAST)
def count_triangles(indptr, indices, lower, upper):
    """Set row pointers `lower` and `upper` (n + 1,) of the strict triangles of a matrix in CSR."""
    lower[0] = upper[0] = 0
    for i in range(indptr.size - 1):
        below = above = 0
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            below += indices[e] < i
            above += indices[e] > i
        lower[i + 1] = lower[i] + below
        upper[i + 1] = upper[i] + above


@njit(cache=True, nogil=True, fastmath=FAST)
def split_triangles(indptr, indices, data, scale, lower, lower_indices, lower_data, upper, upper_indices, upper_data):
    """Fill the strict triangles of diag(scale) A diag(scale); row pointers from `count_triangles`."""
    for i in range(indptr.size - 1):
        below, above = np.uint64(lower[i]), np.uint64(upper[i])
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            j = indices[e]
            if j < i:
                lower_indices[below] = j
                lower_data[below] = scale[i] * data[e] * scale[j]
                below += np.uint64(1)
            elif j > i:
                upper_indices[above] = j
                upper_data[above] = scale[i] * data[e] * scale[j]
                above += np.uint64(1)


@njit(cache=True, nogil=True, fastmath=FAST)
def forward_from_zero(indptr, indices, data, b, x):
    """(I + L) x = b: one forward Gauss-Seidel sweep from x = 0."""
    for i in range(np.uint64(b.size)):
        value = b[i]
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + np.uint64(1)])):
            value -= data[e] * x[np.uint64(indices[e])]
        x[i] = value


@njit(cache=True, nogil=True, fastmath=FAST)
def restrict_residual(indptr, indices, data, x, p_indptr, p_indices, p_data, coarse):
    """coarse <- P' r with r = -U x, the residual that a forward sweep from zero leaves; r is not stored."""
    coarse[:] = 0
    for i in range(np.uint64(x.size)):
        value = x[i] - x[i]
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + np.uint64(1)])):
            value -= data[e] * x[np.uint64(indices[e])]
        for e in range(np.uint64(p_indptr[i]), np.uint64(p_indptr[i + np.uint64(1)])):
            coarse[np.uint64(p_indices[e])] += p_data[e] * value


@njit(cache=True, nogil=True, fastmath=FAST)
def prolong_add(p_indptr, p_indices, p_data, coarse, x):
    """x <- x + P e."""
    for i in range(np.uint64(x.size)):
        value = x[i]
        for e in range(np.uint64(p_indptr[i]), np.uint64(p_indptr[i + np.uint64(1)])):
            value += p_data[e] * coarse[np.uint64(p_indices[e])]
        x[i] = value


@njit(cache=True, nogil=True, fastmath=FAST)
def backward(l_indptr, l_indices, l_data, u_indptr, u_indices, u_data, b, x):
    """One backward Gauss-Seidel sweep: (I + U) x <- b - L x."""
    one = np.uint64(1)
    for step in range(b.size):
        i = np.uint64(b.size - 1 - step)
        value = b[i]
        for e in range(np.uint64(l_indptr[i]), np.uint64(l_indptr[i + one])):
            value -= l_data[e] * x[np.uint64(l_indices[e])]
        for e in range(np.uint64(u_indptr[i]), np.uint64(u_indptr[i + one])):
            value -= u_data[e] * x[np.uint64(u_indices[e])]
        x[i] = value


@njit(cache=True, nogil=True, fastmath=FAST)
def scaled_maximum(scale, r):
    """Return the largest |scale r|."""
    largest = 0.0
    for i in range(np.uint64(r.size)):
        largest = max(largest, abs(scale[i] * r[i]))
    return largest


@njit(cache=True, nogil=True, fastmath=FAST)
def scale_down(factor, scale, r, b):
    """b <- factor scale r, in the precision of b."""
    for i in range(np.uint64(r.size)):
        b[i] = factor * (scale[i] * r[i])


@njit(cache=True, nogil=True, fastmath=FAST)
def scale_up(factor, scale, x, r, q, z):
    """z <- factor scale x; returns r.z and q.z."""
    rz = qz = 0.0
    for i in range(np.uint64(r.size)):
        value = factor * scale[i] * x[i]
        z[i] = value
        rz += r[i] * value
        qz += q[i] * value
    return rz, qz
