"""Compiled passes of the outer iteration on the finest grid, float64.

A box is a flat padded array: rows along the last axis, `n = (n0, n1, n2)` entries, strides `s = (s0, s1)` between
planes and rows; in 2D n1 = 1 and s1 = 0. Row (i, j) starts at (i + 1) s0 + (j + 1) s1 + 1. Everything outside the
unknowns is zero, so neighbours need no test; in 2D the two neighbours along the missing axis are read from row 0,
which is padding.

Several vectors lie interleaved: k entries of one cell, one per column, then those of the next. To most passes that is
a box with rows k times as long, whose last neighbour is k entries away; then `s = (s0, s1, k)`, all counted in
entries. The length of s is known to the compiler, so that one column is not slowed down by the others.

Each function works on planes start .. stop - 1, so that threads share a pass, and returns its part of the inner
product. Indices are unsigned: signed ones cost a test for negative ones.

`kernels/reference.py` holds the plain NumPy definition of every pass.
"""

from __future__ import annotations

import numpy as np
from numba import njit

FAST = {"contract", "reassoc", "nsz"}


@njit(cache=True, nogil=True, inline="always")
def width(s):
    """Return the number of columns, which is the distance of neighbours along the last axis."""
    return np.uint64(1) if len(s) == 2 else np.uint64(s[-1])


@njit(cache=True, nogil=True, inline="always")
def rows(n, s, i, j):
    """Return where row (i, j) starts, and its four neighbouring rows (i -+ 1, j -+ 1)."""
    s0, s1, s2 = np.uint64(s[0]), np.uint64(s[1]), width(s)
    p = np.uint64((i + 1) * s[0] + (j + 1) * s[1]) + s2
    if s[1] > 0:
        return p, p - s0, p + s0, p - s1, p + s1
    return p, p - s0, p + s0, s2, s2


@njit(cache=True, nogil=True, fastmath=FAST)
def residual(n, s, diagonal, b, x, r, squares, start, stop):
    """r <- b - A x; squares <- the squares of r summed over all rows, shape (n2,)."""
    s2 = width(s)
    squares[:] = 0
    for i in range(start, stop):
        for j in range(n[1]):
            p, lo0, hi0, lo1, hi1 = rows(n, s, i, j)
            for step in range(n[2]):
                k = np.uint64(step)
                h = p + k
                d = diagonal[h]
                value = b[h] + (x[lo0 + k] + x[hi0 + k] + x[lo1 + k] + x[hi1 + k] + x[h - s2] + x[h + s2]) - d * x[h]
                value = value if d != 0 else 0.0
                r[h] = value
                squares[k] += value * value


@njit(cache=True, nogil=True, fastmath=FAST)
def matvec(n, s, diagonal, p, q, start, stop):
    """q <- A p; returns p.q."""
    s2, total = width(s), 0.0
    for i in range(start, stop):
        for j in range(n[1]):
            c, lo0, hi0, lo1, hi1 = rows(n, s, i, j)
            for step in range(n[2]):
                k = np.uint64(step)
                h = c + k
                d = diagonal[h]
                value = d * p[h] - (p[lo0 + k] + p[hi0 + k] + p[lo1 + k] + p[hi1 + k] + p[h - s2] + p[h + s2])
                value = value if d != 0 else 0.0
                q[h] = value
                total += value * p[h]
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def direction(s, z, beta, p, start, stop):
    """p <- z + beta p on whole padded planes (z float32 or float64)."""
    for k in range(np.uint64((start + 1) * s[0]), np.uint64((stop + 1) * s[0])):
        p[k] = z[k] + beta * p[k]
    return 0.0


@njit(cache=True, nogil=True, fastmath=FAST)
def update(n, s, alpha, p, q, x, r, squares, start, stop):
    """x <- x + alpha p, r <- r - alpha q; squares <- the squares of r summed over all rows, shape (n2,)."""
    squares[:] = 0
    for i in range(start, stop):
        for j in range(n[1]):
            first = rows(n, s, i, j)[0]
            for step in range(n[2]):
                k = np.uint64(step)
                h = first + k
                x[h] += alpha * p[h]
                value = r[h] - alpha * q[h]
                r[h] = value
                squares[k] += value * value


@njit(cache=True, nogil=True, fastmath=FAST)
def sum_squares(n, s, v, squares, start, stop):
    """squares <- the squares of v summed over all rows, shape (n2,)."""
    squares[:] = 0
    for i in range(start, stop):
        for j in range(n[1]):
            first = rows(n, s, i, j)[0]
            for step in range(n[2]):
                k = np.uint64(step)
                squares[k] += v[first + k] * v[first + k]


@njit(cache=True, nogil=True, fastmath=FAST)
def remove_mean(cells, k, v):
    """Subtract from every column of v on some cells its mean over them, summed in float64."""
    for c in range(k):
        total = 0.0
        for e in range(cells.size):
            total += np.float64(v[np.uint64(cells[e] * k + c)])
        mean = total / cells.size
        for e in range(cells.size):
            v[np.uint64(cells[e] * k + c)] -= mean


@njit(cache=True, nogil=True, fastmath=FAST)
def dot(s, u, v, start, stop):
    """Return u.v."""
    total = 0.0
    for k in range(np.uint64((start + 1) * s[0]), np.uint64((stop + 1) * s[0])):
        total += np.float64(u[k]) * np.float64(v[k])
    return total
