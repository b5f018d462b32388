"""The multigrid cycle's way down and way up on its coarse levels: face weights, float32.

Geometry and columns as in `kernels/outer.py`, waves of stages as in `kernels/fused.py`; coarse levels are small, so
there is one tile and one thread. Coefficients are one per cell, for all columns: `w`, (3, box), holds in each cell the
weight of its face towards the next cell per axis, zero on the faces of the box and in its padding. In 2D the middle
axis has none.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.finest import prolong_plane, restrict_plane, row_weights
from deepcd.solvers.kernels.outer import FAST, planes, rows, span, width


@njit(cache=True, nogil=True, fastmath=FAST)
def stencil_plane(n, s, alpha, base, sigma, diagonal, tau, w, below, here, above, i, out):
    """out <- alpha base + sigma diagonal x + tau (sum of face weight times neighbouring x) in plane i.

    x is given by three planes, `base` and `out` by one, the coefficients by their boxes.
    """
    k = len(s)
    cells = np.uint64(1) if k == 2 else np.uint64(s[-1])
    s1, s2 = np.uint64(s[1]), width(s)
    plane = np.int64(np.uint64(s[0]) // cells)
    origin, c1 = (i + 1) * plane, s1 // cells
    d = diagonal[origin : origin + plane]
    w0, v0 = w[0, origin : origin + plane], w[0, origin - plane : origin]
    w1, w2 = w[1, origin : origin + plane], w[2, origin : origin + plane]
    lo, hi = span(n, s, 0, n[1])
    if k == 2:
        one = np.uint64(1)
        for h in range(np.uint64(lo), np.uint64(hi)):
            total = (
                (v0[h] * below[h] + w0[h] * above[h])
                + (w1[h - s1] * here[h - s1] + w1[h] * here[h + s1])
                + (w2[h - one] * here[h - one] + w2[h] * here[h + one])
            )
            out[h] = alpha * base[h] + sigma * d[h] * here[h] + tau * total
        return
    for first in range(np.uint64(lo), np.uint64(hi), s2):
        cell = first // s2
        a, b0, a0 = sigma * d[cell], tau * w0[cell], tau * v0[cell]
        a1, b1 = tau * w1[cell - c1], tau * w1[cell]
        a2, b2 = tau * w2[cell - np.uint64(1)], tau * w2[cell]
        for c in range(s2):
            h = first + c
            out[h] = (alpha * base[h] + a * here[h]) + (
                (a0 * below[h] + b0 * above[h])
                + (a1 * here[h - s1] + b1 * here[h + s1])
                + (a2 * here[h - s2] + b2 * here[h + s2])
            )


@njit(cache=True, nogil=True, fastmath=FAST)
def _scale_plane(n, s, factor, i, v):
    """Multiply plane i, given by v, by one factor per cell."""
    s2 = width(s)
    lo, hi = span(n, s, 0, n[1])
    origin = np.uint64((i + 1) * s[0]) // s2
    if len(s) == 2:
        for h in range(np.uint64(lo), np.uint64(hi)):
            v[h] *= factor[origin + h]
    else:
        for first in range(np.uint64(lo), np.uint64(hi), s2):
            value = factor[origin + first // s2]
            for c in range(s2):
                v[first + c] *= value


@njit(cache=True, nogil=True)
def sweep(n, s, alpha, base, sigma, diagonal, tau, w, x, y):
    """y <- alpha base + sigma diagonal x + tau (sum over the neighbours of face weight times x).

    (1, r, -1, diagonal, 1, w) is the residual r - A x; (0, x, 1, a, 1, c) is the smoother S x. y is a vector of its own.
    """
    for i in range(n[0]):
        below, here, above = planes(s, x, i)
        stencil_plane(
            n, s, alpha, planes(s, base, i)[1], sigma, diagonal, tau, w, below, here, above, i, planes(s, y, i)[1]
        )


@njit(cache=True, nogil=True)
def restrict(n, s, diagonal, w, phi, r, z, m, ms, near, far, psi, rings, row, coarse, k):
    """Add plane k of psi P' phi (r - A z) to `coarse`."""
    one, plane = np.float32(1), rings[0, 0]
    below, here, above = planes(s, z, k)
    stencil_plane(n, s, one, planes(s, r, k)[1], -one, diagonal, one, w, below, here, above, k, plane)
    _scale_plane(n, s, phi, k, plane)
    restrict_plane(n, s, m, ms, near, far, plane, row, coarse, k, 0, m[0], 0, m[1])


@njit(cache=True, nogil=True)
def descend(n, s, diagonal, w, a, c, phi, r, z, m, ms, near, far, psi, rings, row, coarse):
    """z <- S r and coarse <- psi P' phi (r - A z)."""
    one, zero = np.float32(1), np.float32(0)
    coarse[:] = 0
    for i in range(n[0] + 1):
        if i < n[0]:
            below, here, above = planes(s, r, i)
            stencil_plane(n, s, zero, here, one, a, one, c, below, here, above, i, planes(s, z, i)[1])
        if i > 0:
            restrict(n, s, diagonal, w, phi, r, z, m, ms, near, far, psi, rings, row, coarse, i - 1)
    scale(ms, psi, coarse)


@njit(cache=True, nogil=True, fastmath=FAST)
def correct_plane(n, s, phi, m, ms, near, far, coarse, row, along, z, i, y):
    """y <- z + phi P e in plane i; `coarse` holds psi e."""
    s2 = width(s)
    prolong_plane(n, s, m, ms, near, far, coarse, i, 0, n[1], row, along)
    for j in range(n[1]):
        a, b, w_a, w_b = row_weights(near, far, j)
        row_a, row_b = along[a], along[b]
        p, q = rows(n, s, i, j)[0], np.uint64((j + 1) * s[1]) + s2
        if len(s) == 2:
            for step in range(n[2]):
                k = np.uint64(step)
                y[q + k] = z[p + k] + phi[p + k] * (w_a * row_a[k + s2] + w_b * row_b[k + s2])
        else:
            for first in range(np.uint64(0), np.uint64(n[2]), s2):
                factor = phi[(p + first) // s2]
                for c in range(s2):
                    k = first + c
                    y[q + k] = z[p + k] + factor * (w_a * row_a[k + s2] + w_b * row_b[k + s2])


@njit(cache=True, nogil=True)
def prolong(n, s, phi, m, ms, near, far, coarse, row, along, z):
    """z <- z + phi P e; `coarse` holds psi e."""
    for i in range(n[0]):
        correct_plane(n, s, phi, m, ms, near, far, coarse, row, along, z, i, planes(s, z, i)[1])


@njit(cache=True, nogil=True)
def ascend(n, s, diagonal, w, a, c, phi, r, z, out, m, ms, near, far, coarse, rings, row, along, left):
    """y <- z + phi P e and out <- y + S (r - A y); `coarse` holds psi e. Then left <- r - A out, unless it is empty."""
    one = np.float32(1)
    y, t = rings[0], rings[1]
    y[:], t[:] = 0, 0
    for i in range(n[0] + 3):
        if i < n[0]:
            correct_plane(n, s, phi, m, ms, near, far, coarse, row, along, z, i, y[i % 3])
        else:
            y[i % 3] = 0
        k = i - 1
        if 0 <= k < n[0]:
            below, here, above = y[(k - 1) % 3], y[k % 3], y[(k + 1) % 3]
            stencil_plane(n, s, one, planes(s, r, k)[1], -one, diagonal, one, w, below, here, above, k, t[k % 3])
        else:
            t[k % 3] = 0
        k = i - 2
        if 0 <= k < n[0]:
            below, here, above, own = t[(k - 1) % 3], t[k % 3], t[(k + 1) % 3], y[k % 3]
            stencil_plane(n, s, one, own, one, a, one, c, below, here, above, k, planes(s, out, k)[1])
        k = i - 3
        if left.size and 0 <= k < n[0]:
            below, here, above = planes(s, out, k)
            own, target = planes(s, r, k)[1], planes(s, left, k)[1]
            stencil_plane(n, s, one, own, -one, diagonal, one, w, below, here, above, k, target)


@njit(cache=True, nogil=True, fastmath=FAST)
def scale(s, factor, v):
    """v <- factor v, one factor per cell; v may be some whole planes."""
    s2 = width(s)
    if len(s) == 2:
        for cell in range(np.uint64(factor.size)):
            v[cell] *= factor[cell]
    else:
        for cell in range(np.uint64(factor.size)):
            for c in range(s2):
                v[cell * s2 + c] *= factor[cell]


@njit(cache=True, nogil=True, fastmath=FAST)
def combine(s, weight, e, factor, v):
    """v <- factor (weight v + e), one factor per cell."""
    s2 = width(s)
    if len(s) == 2:
        for cell in range(np.uint64(factor.size)):
            v[cell] = factor[cell] * (weight * v[cell] + e[cell])
    else:
        for cell in range(np.uint64(factor.size)):
            for c in range(s2):
                h = cell * s2 + c
                v[h] = factor[cell] * (weight * v[h] + e[h])
