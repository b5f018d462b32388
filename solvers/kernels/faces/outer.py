"""Passes of the outer iteration on a grid with face weights: directions and their images in float32, x in float64.

A is applied to differences of p, which float32 forms to its last bit wherever neighbours are of one magnitude, so the
weights alone are rounded. What that does to the residual of the recursion is seen when it is recomputed from the
entries of the matrix, which `residual` reads in float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.csr import direction
from deepcd.solvers.kernels.faces import kinds
from deepcd.solvers.kernels.faces.stages import close, copy
from deepcd.solvers.kernels.outer import ONE, span


@njit(cache=True, nogil=True)
def turn_plane(grid, z, beta, p, i):
    """p <- z + beta p in plane i; with beta = 0 whatever p was."""
    n, s, wrap = grid
    o = (i + 1) * s[0]
    if beta == 0:
        copy(z, o, s[0], p, o)
    else:
        direction(z, np.float32(beta), p, o, o + s[0])
    if wrap[1] or wrap[2]:
        close(n, s, wrap, p, o)


@njit(cache=True, nogil=True)
def conjugate(grid, f, z, beta, p, q, turned, start, stop):
    """p <- z + beta p and q <- A p on planes start .. stop - 1; returns p.A p.

    Of p, planes where shares of threads meet have been `turned` before: the first and the last one, but for the ends of
    a box whose first axis does not repeat.
    """
    n, s, wrap = grid
    s0, total = s[0], 0.0
    lo, hi = span(n, s, 0, n[1])
    first, last = turned and (start > 0 or wrap[0]), turned and (stop < n[0] or wrap[0])
    if not first:
        turn_plane(grid, z, beta, p, start)
    if wrap[0] and not turned:
        turn_plane(grid, z, beta, p, n[0] - 1)
    for i in range(start, stop):
        ahead = i + 1
        if ahead < stop and not (ahead == stop - 1 and last) and not (wrap[0] and not turned and ahead == n[0] - 1):
            turn_plane(grid, z, beta, p, ahead)
        o, before, after = (i + 1) * s0, i * s0, (i + 2) * s0
        low = before if i > 0 or not wrap[0] else n[0] * s0
        high = after if i < n[0] - 1 or not wrap[0] else s0
        total += kinds.image(grid, f, i, p, (low, o, high), (lo, hi), q)
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def step(s, alpha, p, q, x, r, first, start, stop):
    """x <- x + alpha p and r <- r - alpha q; returns r.r. In the `first` step x counts as zero, whatever it holds."""
    total = 0.0
    lo, hi = np.uint64((start + 1) * s[0]), np.uint64((stop + 1) * s[0])
    short = np.float32(alpha)
    if first:
        for h in range(lo, hi):
            x[h] = alpha * np.float64(p[h])
    else:
        for h in range(lo, hi):
            x[h] += alpha * np.float64(p[h])
    for h in range(lo, hi):
        r[h] -= short * q[h]
        total += np.float64(r[h]) * np.float64(r[h])
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def residual(indptr, indices, data, rows, number, position, scale, b, x, r, start, stop):
    """r <- b - A x on the cells at `position`, from the entries of A, times scale; returns the square of its norm.

    `rows` has the row of the matrix of each cell and `number` the cell of each row; both are empty where these agree.
    """
    total = 0.0
    for e in range(np.uint64(start), np.uint64(stop)):
        row = np.uint64(rows[e]) if rows.size else e
        value = 0.0
        for k in range(np.uint64(indptr[row]), np.uint64(indptr[row + ONE])):
            column = np.uint64(indices[k])
            cell = np.uint64(number[column]) if number.size else column
            value += data[k] * x[np.uint64(position[cell])]
        at = np.uint64(position[e])
        value = b[at] - scale * value
        r[at] = value
        total += value * value
    return total
