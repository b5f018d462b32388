"""Compiled passes of the outer iteration on the finest grid, matrix-free: one byte per cell is the operator.

A box is a flat padded array: rows along the last axis, `n = (n0, n1, n2)` entries, strides `s = (s0, s1)` between
planes and rows; in 2D n1 = 1 and s1 = 0. Row (i, j) starts at (i + 1) s0 + (j + 1) s1 + 1. Everything outside the
unknowns is zero, so neighbours need no test, and a pass runs over a plane in one loop, padding included: it is no
unknown either. In 2D the two neighbours along the missing axis are the cell itself, with weight `middle(s)` = 0.

Residual r and direction p are float32, x and b float64. That costs no digit: x + alpha p and r - alpha A p are taken
of the same p in float64, and r, rounded to float32, only ever shrinks.

Each function works on planes start .. stop - 1, so that threads share a pass, and returns its part of the inner
product. Indices are unsigned: signed ones cost a test for negative ones.

`kernels/reference.py` holds the plain NumPy definition of every pass.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST

ONE = np.uint64(1)


@njit(cache=True, nogil=True, inline="always")
def middle(s):
    """Return 1, or 0 where there is no middle axis."""
    return np.float32(1) if s[1] > 0 else np.float32(0)


@njit(cache=True, nogil=True, inline="always")
def span(n, s, begin, end):
    """Return the first entry of row `begin` and the end of row `end` - 1, counted from the start of a plane."""
    return (begin + 1) * s[1] + 1, end * s[1] + 1 + n[2]


@njit(cache=True, nogil=True, inline="always")
def planes(s, v, i):
    """Return planes i - 1, i and i + 1 of a box."""
    return v[i * s[0] : (i + 1) * s[0]], v[(i + 1) * s[0] : (i + 2) * s[0]], v[(i + 2) * s[0] : (i + 3) * s[0]]


@njit(cache=True, nogil=True, inline="always")
def _product(d, below, here, above, h, s1, m):
    """Return entry h of d v minus its neighbours, in float64, v given by three planes."""
    around = np.float64(below[h]) + np.float64(above[h])
    around += m * (np.float64(here[h - s1]) + np.float64(here[h + s1]))
    around += np.float64(here[h - ONE]) + np.float64(here[h + ONE])
    return np.float64(d) * np.float64(here[h]) - around


@njit(cache=True, nogil=True, fastmath=FAST)
def residual(n, s, diagonal, b, x, r, start, stop):
    """r <- b - A x; returns the square of the norm of b - A x."""
    s1, m, total = np.uint64(s[1]), np.float64(middle(s)), 0.0
    lo, hi = span(n, s, 0, n[1])
    for i in range(start, stop):
        below, here, above = planes(s, x, i)
        right, out, ds = planes(s, b, i)[1], planes(s, r, i)[1], planes(s, diagonal, i)[1]
        for h in range(np.uint64(lo), np.uint64(hi)):
            d = ds[h]
            value = right[h] - _product(d, below, here, above, h, s1, m)
            value = value if d != 0 else 0.0
            out[h] = value
            total += value * value
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def image(n, s, diagonal, p, q, start, stop):
    """q <- A p."""
    s1, m = np.uint64(s[1]), np.float64(middle(s))
    lo, hi = span(n, s, 0, n[1])
    for i in range(start, stop):
        below, here, above = planes(s, p, i)
        out, ds = planes(s, q, i)[1], planes(s, diagonal, i)[1]
        for h in range(np.uint64(lo), np.uint64(hi)):
            d = ds[h]
            value = _product(d, below, here, above, h, s1, m)
            out[h] = value if d != 0 else 0.0


@njit(cache=True, nogil=True, fastmath=FAST)
def conjugate(n, s, diagonal, z, beta, p, start, stop):
    """p <- z + beta p; returns p.A p, but for the couplings with plane start - 1, which other threads change.

    Every coupling is counted once, from the later one of its cells: p.A p is the sum of d p p - 2 p p' over them.
    """
    s1, m, total = np.uint64(s[1]), np.float32(2) * middle(s), 0.0
    lo, hi = span(n, s, 0, n[1])
    for i in range(start, stop):
        before, here = planes(s, p, i)[:2]
        own, ds = planes(s, z, i)[1], planes(s, diagonal, i)[1]
        if beta == 0:
            here[:] = own
        else:
            for h in range(np.uint64(s[0])):
                here[h] = np.float32(own[h] + beta * here[h])
        if i == start:
            before = here  # counts for nothing there, and another thread's plane may not be written yet
        two = np.float32(2 if i > start else 0)
        for h in range(np.uint64(lo), np.uint64(hi)):
            around = two * before[h] + m * here[h - s1] + np.float32(2) * here[h - ONE]
            total += np.float64(here[h] * (np.float32(ds[h]) * here[h] - around))
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def energy(n, s, diagonal, p, start, stop):
    """Return p.A p, every product in float64: `conjugate` forms them in float32, of which little may be left."""
    s1, m, total = np.uint64(s[1]), np.float64(middle(s)), 0.0
    lo, hi = span(n, s, 0, n[1])
    for i in range(start, stop):
        below, here, above = planes(s, p, i)
        ds = planes(s, diagonal, i)[1]
        for h in range(np.uint64(lo), np.uint64(hi)):
            total += np.float64(here[h]) * _product(ds[h], below, here, above, h, s1, m)
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def coupling(s, p, i):
    """Return twice the product of planes i - 1 and i, which `conjugate` leaves out where the shares of threads meet."""
    below, here, _ = planes(s, p, i)
    total = 0.0
    for h in range(np.uint64(s[0])):
        total += np.float64(below[h] * here[h])
    return 2 * total


@njit(cache=True, nogil=True, fastmath=FAST)
def step(n, s, diagonal, alpha, p, x, r, first, start, stop):
    """x <- x + alpha p and r <- r - alpha A p; returns the square of the norm of r before it is rounded.

    In the `first` step x counts as zero, whatever it holds.
    """
    s1, m, total = np.uint64(s[1]), np.float64(middle(s)), 0.0
    lo, hi = span(n, s, 0, n[1])
    for i in range(start, stop):
        below, here, above = planes(s, p, i)
        y, out, ds = planes(s, x, i)[1], planes(s, r, i)[1], planes(s, diagonal, i)[1]
        if first:
            y[:] = 0
        for h in range(np.uint64(lo), np.uint64(hi)):
            d = ds[h]
            value = np.float64(out[h]) - alpha * _product(d, below, here, above, h, s1, m)
            value = value if d != 0 else 0.0
            y[h] += alpha * np.float64(here[h])
            out[h] = np.float32(value)
            total += value * value
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def remove_mean(cells, v):
    """Subtract from v on some cells its mean over them, summed in float64."""
    total = 0.0
    for e in range(np.uint64(cells.size)):
        total += np.float64(v[np.uint64(cells[e])])
    mean = total / cells.size
    for e in range(np.uint64(cells.size)):
        v[np.uint64(cells[e])] -= mean


@njit(cache=True, nogil=True, fastmath=FAST)
def dot(s, u, v, start, stop):
    """Return u.v."""
    total = 0.0
    for k in range(np.uint64((start + 1) * s[0]), np.uint64((stop + 1) * s[0])):
        total += np.float64(u[k]) * np.float64(v[k])
    return total


@njit(cache=True, nogil=True)
def embed(position, v, scale, box):
    """box <- scale v in the cells at `position`."""
    for e in range(np.uint64(position.size)):
        box[np.uint64(position[e])] = v[e] * scale


@njit(cache=True, nogil=True)
def spread(position, box, factor, v):
    """v <- v + factor box, for the cells at `position`."""
    for e in range(np.uint64(position.size)):
        v[e] += factor * box[np.uint64(position[e])]
