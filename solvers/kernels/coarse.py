"""Compiled passes of the multigrid cycle over its coarse levels: face weights, float32.

Geometry and columns as in `kernels/outer.py`; coarse levels are small, so a pass is one call over all planes.
Coefficients are one per cell, for all columns: `w0`, `w1`, `w2` hold in each cell the weight of its face towards the
next cell of that axis, zero on the faces of the box; in 2D `w1` is never seen, because the rows it would weigh are
padding. `row` and `buffer` are scratch as in `kernels/finest.py`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.finest import gather_row, scale, scatter_row, set_colour
from deepcd.solvers.kernels.outer import FAST, rows, width


@njit(cache=True, nogil=True, inline="always")
def _stencil_row(n, s, alpha, base, sigma, diagonal, tau, w0, w1, w2, x, i, j, out, first):
    """out[first:] <- row (i, j) of alpha base + sigma diagonal x + tau (sum of face weight times neighbouring x)."""
    p, lo0, hi0, lo1, hi1 = rows(n, s, i, j)
    one, s2 = np.uint64(1), width(s)
    if len(s) == 2:
        for step in range(n[2]):
            k = np.uint64(step)
            h = p + k
            total = (
                (w0[lo0 + k] * x[lo0 + k] + w0[h] * x[hi0 + k])
                + (w1[lo1 + k] * x[lo1 + k] + w1[h] * x[hi1 + k])
                + (w2[h - one] * x[h - one] + w2[h] * x[h + one])
            )
            out[first + k] = alpha * base[h] + sigma * diagonal[h] * x[h] + tau * total
        return
    cell, low0, low1 = p // s2, lo0 // s2, lo1 // s2
    for begin in range(np.uint64(0), np.uint64(n[2]), s2):
        d = sigma * diagonal[cell]
        a0, b0, a1, b1 = tau * w0[low0], tau * w0[cell], tau * w1[low1], tau * w1[cell]
        a2, b2 = tau * w2[cell - one], tau * w2[cell]
        for c in range(s2):
            e = begin + np.uint64(c)
            h = p + e
            out[first + e] = (alpha * base[h] + d * x[h]) + (
                (a0 * x[lo0 + e] + b0 * x[hi0 + e])
                + (a1 * x[lo1 + e] + b1 * x[hi1 + e])
                + (a2 * x[h - s2] + b2 * x[h + s2])
            )
        cell, low0, low1 = cell + one, low0 + one, low1 + one


@njit(cache=True, nogil=True, inline="always")
def _scale_row(n, s, factor, i, j, row):
    """row[s2:] <- factor row, one factor per cell of row (i, j)."""
    p, s2 = rows(n, s, i, j)[0], width(s)
    if len(s) == 2:
        for step in range(n[2]):
            k = np.uint64(step)
            row[s2 + k] *= factor[p + k]
    else:
        cell = p // s2
        for begin in range(s2, s2 + np.uint64(n[2]), s2):
            for c in range(s2):
                row[begin + c] *= factor[cell]
            cell += np.uint64(1)


@njit(cache=True, nogil=True, fastmath=FAST)
def sweep(n, s, alpha, base, sigma, diagonal, tau, w0, w1, w2, x, y):
    """y <- alpha base + sigma diagonal x + tau (sum over the neighbours of face weight times x).

    (1, r, -1, diagonal, 1, ...) is the residual r - A x; (0, x, 1, a, 1, ...) is the smoother S x, (1, z, 1, a, 1,
    ...) adds it to z. y is a vector of its own.
    """
    for i in range(n[0]):
        for j in range(n[1]):
            _stencil_row(n, s, alpha, base, sigma, diagonal, tau, w0, w1, w2, x, i, j, y, rows(n, s, i, j)[0])


@njit(cache=True, nogil=True, fastmath=FAST)
def residual_restrict(n, s, diagonal, w0, w1, w2, phi, r, z, m, ms, near, far, psi, row, buffer, coarse):
    """coarse <- psi P' phi (r - A z); `row` is scratch."""
    one = np.float32(1)
    coarse[:] = 0
    for i in range(n[0]):
        for j in range(n[1]):
            _stencil_row(n, s, one, r, -one, diagonal, one, w0, w1, w2, z, i, j, row, width(s))
            _scale_row(n, s, phi, i, j, row)
            scatter_row(n, m, ms, near, far, row, buffer, coarse, i, j, 0, m[0])
    scale(ms, psi, coarse)


@njit(cache=True, nogil=True, fastmath=FAST)
def prolong_add(n, s, phi, m, ms, near, far, coarse, row, buffer, z):
    """z <- z + phi P e; `coarse` holds psi e."""
    s2 = width(s)
    for i in range(n[0]):
        for j in range(n[1]):
            gather_row(n, m, ms, near, far, coarse, buffer, i, j, row, s2)
            _scale_row(n, s, phi, i, j, row)
            p = rows(n, s, i, j)[0]
            for step in range(n[2]):
                k = np.uint64(step)
                z[p + k] += row[s2 + k]


@njit(cache=True, nogil=True, fastmath=FAST)
def red_black(n, s, inverse, w0, w1, w2, r, z, colour, row):
    """Half a Gauss-Seidel sweep over the cells with the colour's parity; `inverse` is 1 / diagonal, `row` scratch."""
    one = np.float32(1)
    for i in range(n[0]):
        for j in range(n[1]):
            _stencil_row(n, s, one, r, np.float32(0), inverse, one, w0, w1, w2, z, i, j, row, width(s))
            _scale_row(n, s, inverse, i, j, row)
            set_colour(n, s, colour, row, i, j, z)
