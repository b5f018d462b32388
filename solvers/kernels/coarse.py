"""Compiled passes of the multigrid cycle over its coarse levels: face weights, float32.

Geometry and strides as in `kernels/outer.py`; coarse levels are small, so a pass is one call over all planes. `w0`,
`w1`, `w2` hold in each cell the weight of its face towards the next cell of that axis, zero on the faces of the box;
in 2D `w1` is never seen, because the rows it would weigh are padding.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.finest import gather_row, scatter_row
from deepcd.solvers.kernels.outer import FAST, rows


@njit(cache=True, nogil=True, fastmath=FAST)
def sweep(n, s, alpha, base, sigma, diagonal, tau, w0, w1, w2, x, y):
    """y <- alpha base + sigma diagonal x + tau (sum over the neighbours of face weight times x); y may be base, not x.

    (1, r, -1, diagonal, 1, ...) is the residual r - A x; (0, x, 1, a, 1, ...) is the smoother S x, (1, z, 1, a, 1,
    ...) adds it to z.
    """
    one = np.uint64(1)
    for i in range(n[0]):
        for j in range(n[1]):
            p, lo0, hi0, lo1, hi1 = rows(n, s, i, j)
            for step in range(n[2]):
                k = np.uint64(step)
                h = p + k
                total = (
                    (w0[lo0 + k] * x[lo0 + k] + w0[h] * x[hi0 + k])
                    + (w1[lo1 + k] * x[lo1 + k] + w1[h] * x[hi1 + k])
                    + (w2[h - one] * x[h - one] + w2[h] * x[h + one])
                )
                y[h] = alpha * base[h] + sigma * diagonal[h] * x[h] + tau * total


@njit(cache=True, nogil=True, fastmath=FAST)
def residual_restrict(n, s, diagonal, w0, w1, w2, phi, r, z, m, ms, near, far, psi, fine, buffer, coarse):
    """coarse <- psi P' phi (r - A z); `fine` is a scratch row between zeros."""
    one = np.uint64(1)
    coarse[:] = 0
    for i in range(n[0]):
        for j in range(n[1]):
            p, lo0, hi0, lo1, hi1 = rows(n, s, i, j)
            for step in range(n[2]):
                k = np.uint64(step)
                h = p + k
                total = (
                    (w0[lo0 + k] * z[lo0 + k] + w0[h] * z[hi0 + k])
                    + (w1[lo1 + k] * z[lo1 + k] + w1[h] * z[hi1 + k])
                    + (w2[h - one] * z[h - one] + w2[h] * z[h + one])
                )
                fine[k + one] = phi[h] * (r[h] - diagonal[h] * z[h] + total)
            scatter_row(n, m, ms, near, far, fine, one, buffer, coarse, i, j, 0, m[0])
    for k in range(coarse.size):
        coarse[k] *= psi[k]


@njit(cache=True, nogil=True, fastmath=FAST)
def prolong_add(n, s, phi, m, ms, near, far, coarse, fine, buffer, z):
    """z <- z + phi P e; `coarse` holds psi e, `fine` is a scratch row."""
    one = np.uint64(1)
    for i in range(n[0]):
        for j in range(n[1]):
            gather_row(n, m, ms, near, far, coarse, buffer, i, j, fine, one)
            p = np.uint64((i + 1) * s[0] + (j + 1) * s[1] + 1)
            for step in range(n[2]):
                k = np.uint64(step)
                z[p + k] += phi[p + k] * fine[k + one]


@njit(cache=True, nogil=True, fastmath=FAST)
def red_black(n, s, inverse, w0, w1, w2, r, z, colour, row):
    """Half a Gauss-Seidel sweep over the cells with the colour's parity; `inverse` is 1 / diagonal, `row` scratch."""
    one = np.uint64(1)
    for i in range(n[0]):
        for j in range(n[1]):
            p, lo0, hi0, lo1, hi1 = rows(n, s, i, j)
            for step in range(n[2]):
                k = np.uint64(step)
                h = p + k
                total = (
                    (w0[lo0 + k] * z[lo0 + k] + w0[h] * z[hi0 + k])
                    + (w1[lo1 + k] * z[lo1 + k] + w1[h] * z[hi1 + k])
                    + (w2[h - one] * z[h - one] + w2[h] * z[h + one])
                )
                row[k] = inverse[h] * (r[h] + total)
            for step in range((i + j + colour) & 1, n[2], 2):
                k = np.uint64(step)
                z[p + k] = row[k]
