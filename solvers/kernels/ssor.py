"""Compiled passes of conjugate gradients with the symmetric successive over-relaxation of a matrix in CSR.

With A = L + D + U and W = D / omega + L, M^-1 = W D^-1 W'. Since A = W + W' + (1 - 2 / omega) D, a product with
W^-1 A W'^-1 takes one backward and one forward substitution, as many operations as a product with A alone (Eisenstat,
SIAM J. Sci. Stat. Comput. 2, 1981). Rows are sorted; indices are unsigned inside the loops. L and U are given as where
rows start and stop, column indices and values: views of the matrix, or packed, so that a sweep through one of them does
not draw the other into the cache. Vectors are float64:

    s = W^-1 r    p = D s + beta p    t = W'^-1 p    w = W^-1 (p + (1 - 2 / omega) D t) = W^-1 A t - t    q = A t
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels import csr
from deepcd.solvers.kernels.rows import load, store, zero


@njit(cache=True, nogil=True)
def locate_diagonal(indptr, indices, middle):
    """Set `middle` (n,) to the place of each row's diagonal entry among the entries."""
    for i in range(middle.size):
        low, high = indptr[i], indptr[i + 1] - 1
        while low < high:
            half = (low + high) // 2
            if indices[half] < i:
                low = half + 1
            else:
                high = half
        middle[i] = low


@njit(cache=True, nogil=True)
def pack(starts, stops, indices, data, row_starts, columns, values):
    """Copy the entries of rows that lie apart; `row_starts` (n + 1,) is set, too."""
    place = 0
    row_starts[0] = 0
    for i in range(starts.size):
        for e in range(np.uint64(starts[i]), np.uint64(stops[i])):
            columns[place] = indices[e]
            values[place] = data[e]
            place += 1
        row_starts[i + 1] = place


@njit(cache=True, nogil=True, fastmath=FAST)
def start(lower, upper, diagonal, omega, r, s, p):
    """s <- W^-1 r, p <- 0; returns s.D s."""
    starts, stops, indices, data = lower
    total, before = 0.0, 0.0
    for k in range(diagonal.size):
        i = np.uint64(k)
        first, last = np.uint64(starts[i]), np.uint64(stops[i])
        value = r[i]
        if last > first:
            last -= np.uint64(1)
            j = np.uint64(indices[last])
            for e in range(first, last):
                value -= data[e] * s[np.uint64(indices[e])]
            value -= data[last] * (before if j + np.uint64(1) == i else s[j])
        before = value * (omega / diagonal[i])
        s[i] = before
        p[i] = 0.0
        total += diagonal[i] * before * before
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def backward(lower, upper, diagonal, omega, s, beta, p, t):
    """p <- D s + beta p, t <- W'^-1 p."""
    starts, stops, indices, data = upper
    one, n = np.uint64(1), diagonal.size
    after = 0.0
    for k in range(n):
        i = np.uint64(n - 1 - k)
        first, last = np.uint64(starts[i]), np.uint64(stops[i])
        value = diagonal[i] * s[i] + beta * p[i]
        p[i] = value
        if last > first:
            j = np.uint64(indices[first])
            for e in range(first + one, last):
                value -= data[e] * t[np.uint64(indices[e])]
            value -= data[first] * (after if j == i + one else t[j])
        after = value * (omega / diagonal[i])
        t[i] = after


@njit(cache=True, nogil=True, fastmath=FAST)
def forward(lower, upper, diagonal, omega, p, t, w, q):
    """w <- W^-1 (p + (1 - 2 / omega) D t), q <- A t; returns p.(t + w), which is t.A t."""
    starts, stops, indices, data = lower
    one, total, before = np.uint64(1), 0.0, 0.0
    for k in range(diagonal.size):
        i = np.uint64(k)
        first, last = np.uint64(starts[i]), np.uint64(stops[i])
        base = p[i] + (1.0 - 2.0 / omega) * diagonal[i] * t[i]
        value, image = base, base + diagonal[i] / omega * t[i]
        if last > first:
            last -= one
            j = np.uint64(indices[last])
            for e in range(first, last):
                value -= data[e] * w[np.uint64(indices[e])]
                image += data[e] * t[np.uint64(indices[e])]
            value -= data[last] * (before if j + one == i else w[j])
            image += data[last] * t[j]
        before = value * (omega / diagonal[i])
        w[i] = before
        q[i] = image
        total += p[i] * (t[i] + before)
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def update(alpha, diagonal, t, w, q, x, s, r):
    """x <- x + alpha t, s <- s - alpha (t + w), r <- r - alpha q; returns s.D s and r.r."""
    weighted, plain = 0.0, 0.0
    for i in range(np.uint64(x.size)):
        x[i] += alpha * t[i]
        value = s[i] - alpha * (t[i] + w[i])
        s[i] = value
        weighted += diagonal[i] * value * value
        value = r[i] - alpha * q[i]
        r[i] = value
        plain += value * value
    return weighted, plain


@njit(cache=True, nogil=True, fastmath=FAST)
def iterate(lower, upper, diagonal, omega, vectors, square, alphas, betas, norms, best, first, last, target):
    """Take the steps first .. last - 1 of conjugate gradients; return the number of steps done, and s.D s.

    Parameters
    ----------
    lower, upper, diagonal, omega
        L, U, D and the relaxation parameter.
    vectors : ndarray of float64, shape (8, n)
        x, the best x, r, s, p, t, w and q; p and s as `start` or the last step left them.
    square : float
        s.D s.
    alphas, betas, norms : ndarray of float64, shape (most,)
        Set to the lengths of the steps, to what p was multiplied with before them, and to the norms of r after them. A
        length that is not positive and finite ends the iteration before that step.
    best : ndarray of float64, shape (2,)
        The smallest norm so far, and 1 if it is that of x, 0 if it is that of the best x.
    first, last : int
        Numbers of the steps.
    target : float
        The iteration ends once the norm of r is not larger.
    """
    x, saved, r, s = vectors[0], vectors[1], vectors[2], vectors[3]
    p, t, w, q = vectors[4], vectors[5], vectors[6], vectors[7]
    for k in range(first, last):
        backward(lower, upper, diagonal, omega, s, betas[k], p, t)
        curvature = forward(lower, upper, diagonal, omega, p, t, w, q)
        if not (curvature > 0.0 and square / curvature < np.inf):
            return k, square
        alphas[k] = square / curvature
        after, rr = update(alphas[k], diagonal, t, w, q, x, s, r)
        norms[k] = np.sqrt(rr)
        csr.remember(norms[k], alphas[k], t, x, best, saved)
        if k + 1 < betas.size:
            betas[k + 1] = after / square
        square = after
        if not norms[k] > target:
            return k + 1, square
    return last, square


@njit(cache=True, nogil=True, fastmath=FAST)
def apply_columns(lanes, lower, upper, diagonal, omega, r, z, rz):
    """z <- M r, rz <- r.z for several right-hand sides; see `columns.py`."""
    starts, stops, indices, data = lower
    total = zero(lanes)
    for i in range(diagonal.size):
        row = load(r, i, lanes)
        for e in range(np.uint64(starts[i]), np.uint64(stops[i])):
            row -= data[e] * load(z, indices[e], lanes)
        row = (omega / diagonal[i]) * row
        store(z, i, row)
        total += diagonal[i] * (row * row)
    starts, stops, indices, data = upper
    for i in range(diagonal.size - 1, -1, -1):
        row = diagonal[i] * load(z, i, lanes)
        for e in range(np.uint64(starts[i]), np.uint64(stops[i])):
            row -= data[e] * load(z, indices[e], lanes)
        store(z, i, (omega / diagonal[i]) * row)
    store(rz, 0, total)
