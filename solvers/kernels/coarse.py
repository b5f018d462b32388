"""The multigrid cycle's way down and way up on its coarse levels: face weights, float32.

Geometry and threads as in `kernels/outer.py`, waves of stages as in `kernels/fused.py`; coarse levels are small, so
there is one tile. Coefficients are one per cell: `w`, (3, box), holds in each cell the weight of its face towards the
next cell per axis, zero on the faces of the box and in its padding. In 2D the middle axis has none.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.finest import prolong_plane, restrict_plane, row_weights
from deepcd.solvers.kernels.outer import FAST, ONE, planes, span


@njit(cache=True, nogil=True, fastmath=FAST)
def stencil_plane(n, s, alpha, base, sigma, diagonal, tau, w, below, here, above, i, out):
    """out <- alpha base + sigma diagonal x + tau (sum of face weight times neighbouring x) in plane i.

    x is given by three planes, `base` and `out` by one, the coefficients by their boxes.
    """
    s1, plane, origin = np.uint64(s[1]), s[0], (i + 1) * s[0]
    d = diagonal[origin : origin + plane]
    w0, v0 = w[0, origin : origin + plane], w[0, origin - plane : origin]
    w1, w2 = w[1, origin : origin + plane], w[2, origin : origin + plane]
    lo, hi = span(n, s, 0, n[1])
    for h in range(np.uint64(lo), np.uint64(hi)):
        total = (
            (v0[h] * below[h] + w0[h] * above[h])
            + (w1[h - s1] * here[h - s1] + w1[h] * here[h + s1])
            + (w2[h - ONE] * here[h - ONE] + w2[h] * here[h + ONE])
        )
        out[h] = alpha * base[h] + sigma * d[h] * here[h] + tau * total


@njit(cache=True, nogil=True, fastmath=FAST)
def scale(factor, v):
    """v <- factor v, entry by entry."""
    for k in range(np.uint64(factor.size)):
        v[k] *= factor[k]


@njit(cache=True, nogil=True)
def sweep(n, s, alpha, base, sigma, diagonal, tau, w, x, y):
    """y <- alpha base + sigma diagonal x + tau (sum over the neighbours of face weight times x).

    (1, r, -1, diagonal, 1, w) is the residual r - A x; (0, x, 1, a, 1, c) is S x. y is a vector of its own.
    """
    for i in range(n[0]):
        below, here, above = planes(s, x, i)
        stencil_plane(
            n, s, alpha, planes(s, base, i)[1], sigma, diagonal, tau, w, below, here, above, i, planes(s, y, i)[1]
        )


@njit(cache=True, nogil=True)
def restrict(n, s, diagonal, w, phi, r, m, ms, near, far, below, here, above, plane, row, coarse, k, start, stop):
    """Add P' phi (r - A z) of plane k to coarse planes start .. stop - 1; z is given by planes, `plane` is scratch."""
    one = np.float32(1)
    stencil_plane(n, s, one, planes(s, r, k)[1], -one, diagonal, one, w, below, here, above, k, plane)
    scale(planes(s, phi, k)[1], plane)
    restrict_plane(n, s, m, ms, near, far, plane, row, coarse, k, start, stop, 0, m[1])


@njit(cache=True, nogil=True)
def descend(n, s, diagonal, w, a, c, phi, r, z, m, ms, near, far, psi, coarse, rings, row, start, stop):
    """z <- S r and coarse <- psi P' phi (r - A z) on coarse planes start .. stop - 1, fine ones with it."""
    one, zero, s0 = np.float32(1), np.float32(0), s[0]
    t, plane = rings[0], rings[1, 0]
    first, last = (start + 1) * ms[0], (stop + 1) * ms[0]
    coarse[first:last] = 0
    low, high = (2 * start, min(2 * stop, n[0])) if n[0] > 1 else (0, 1)
    for i in range(low - 2, high + 2):
        if 0 <= i < n[0]:
            below, here, above = planes(s, r, i)
            stencil_plane(n, s, zero, here, one, a, one, c, below, here, above, i, t[i % 3])
            if low <= i < high:
                z[(i + 1) * s0 : (i + 2) * s0] = t[i % 3][:s0]
        else:
            t[i % 3] = 0
        k = i - 1
        if low - 1 <= k <= high and 0 <= k < n[0]:
            below, here, above = t[(k - 1) % 3], t[k % 3], t[(k + 1) % 3]
            restrict(
                n, s, diagonal, w, phi, r, m, ms, near, far, below, here, above, plane, row, coarse, k, start, stop
            )
    scale(psi[first:last], coarse[first:last])


@njit(cache=True, nogil=True, fastmath=FAST)
def correct_plane(n, s, phi, m, ms, near, far, coarse, row, along, z, i, y):
    """y <- z + phi P e in plane i; `coarse` holds psi e."""
    prolong_plane(m, ms, near, far, coarse, i, 0, n[1], row, along)
    own, factor = planes(s, z, i)[1], planes(s, phi, i)[1]
    for j in range(n[1]):
        a, b, w_a, w_b = row_weights(near, far, j)
        row_a, row_b, p = along[a], along[b], np.uint64((j + 1) * s[1])
        for k in range(ONE, np.uint64(n[2] + 1)):
            y[p + k] = own[p + k] + factor[p + k] * (w_a * row_a[k] + w_b * row_b[k])


@njit(cache=True, nogil=True)
def prolong(n, s, phi, m, ms, near, far, coarse, row, along, z):
    """z <- z + phi P e; `coarse` holds psi e."""
    for i in range(n[0]):
        correct_plane(n, s, phi, m, ms, near, far, coarse, row, along, z, i, planes(s, z, i)[1])


@njit(cache=True, nogil=True)
def ascend(n, s, diagonal, w, a, c, phi, r, z, out, m, ms, near, far, coarse, rings, row, along, start, stop):
    """y <- z + phi P e and out <- y + S (r - A y); `coarse` holds psi e."""
    one = np.float32(1)
    y, t = rings[0], rings[1]
    for i in range(start - 2, stop + 2):
        if 0 <= i < n[0]:
            correct_plane(n, s, phi, m, ms, near, far, coarse, row, along, z, i, y[i % 3])
        else:
            y[i % 3] = 0
        k = i - 1
        if start - 1 <= k:
            if 0 <= k < n[0]:
                below, here, above = y[(k - 1) % 3], y[k % 3], y[(k + 1) % 3]
                stencil_plane(n, s, one, planes(s, r, k)[1], -one, diagonal, one, w, below, here, above, k, t[k % 3])
            else:
                t[k % 3] = 0
        k = i - 2
        if start <= k:
            below, here, above = t[(k - 1) % 3], t[k % 3], t[(k + 1) % 3]
            stencil_plane(n, s, one, y[k % 3], one, a, one, c, below, here, above, k, planes(s, out, k)[1])


@njit(cache=True, nogil=True, fastmath=FAST)
def combine(weight, e, factor, v, out):
    """out <- factor (weight v + e), entry by entry; out may be v."""
    for k in range(np.uint64(factor.size)):
        out[k] = factor[k] * (weight * v[k] + e[k])


@njit(cache=True, nogil=True)
def turn(
    n, s, diagonal, w, a, c, phi, r, z, out, left, again,
    m, ms, near, far, coarse, psi, below_again, rings, row, along, start, stop,
):  # fmt: skip
    """`ascend` of one cycle and `descend` of the next, on its residual, in one pass over the coefficients.

    y <- z + phi P e, out <- y + S (r - A y), left <- r - A out, again <- S left, and below_again <- psi P' phi (left -
    A again) on coarse planes start .. stop - 1, fine ones with it; `coarse` holds psi e.
    """
    one, zero, s0 = np.float32(1), np.float32(0), s[0]
    y, t, u, v, x = rings[0], rings[1], rings[2], rings[3], rings[4]
    first, last = (start + 1) * ms[0], (stop + 1) * ms[0]
    below_again[first:last] = 0
    low, high = (2 * start, min(2 * stop, n[0])) if n[0] > 1 else (0, 1)
    for i in range(low - 6, high + 6):
        if 0 <= i < n[0]:
            correct_plane(n, s, phi, m, ms, near, far, coarse, row, along, z, i, y[i % 3])
        else:
            y[i % 3] = 0
        k = i - 1
        if low - 5 <= k:
            if 0 <= k < n[0]:
                below, here, above = y[(k - 1) % 3], y[k % 3], y[(k + 1) % 3]
                stencil_plane(n, s, one, planes(s, r, k)[1], -one, diagonal, one, w, below, here, above, k, t[k % 3])
            else:
                t[k % 3] = 0
        k = i - 2
        if low - 4 <= k:
            if 0 <= k < n[0]:
                below, here, above = t[(k - 1) % 3], t[k % 3], t[(k + 1) % 3]
                stencil_plane(n, s, one, y[k % 3], one, a, one, c, below, here, above, k, u[k % 3])
                if low <= k < high:
                    out[(k + 1) * s0 : (k + 2) * s0] = u[k % 3][:s0]
            else:
                u[k % 3] = 0
        k = i - 3
        if low - 3 <= k:
            if 0 <= k < n[0]:
                below, here, above = u[(k - 1) % 3], u[k % 3], u[(k + 1) % 3]
                stencil_plane(n, s, one, planes(s, r, k)[1], -one, diagonal, one, w, below, here, above, k, v[k % 3])
                if low <= k < high:
                    left[(k + 1) * s0 : (k + 2) * s0] = v[k % 3][:s0]
            else:
                v[k % 3] = 0
        k = i - 4
        if low - 2 <= k:
            if 0 <= k < n[0]:
                below, here, above = v[(k - 1) % 3], v[k % 3], v[(k + 1) % 3]
                stencil_plane(n, s, zero, here, one, a, one, c, below, here, above, k, x[k % 3])
                if low <= k < high:
                    again[(k + 1) * s0 : (k + 2) * s0] = x[k % 3][:s0]
            else:
                x[k % 3] = 0
        k = i - 5
        if low - 1 <= k <= high and 0 <= k < n[0]:
            below, here, above = x[(k - 1) % 3], x[k % 3], x[(k + 1) % 3]
            stencil_plane(n, s, one, v[k % 3], -one, diagonal, one, w, below, here, above, k, rings[5, 0])
            scale(planes(s, phi, k)[1], rings[5, 0])
            restrict_plane(n, s, m, ms, near, far, rings[5, 0], row, below_again, k, start, stop, 0, m[1])
    scale(psi[first:last], below_again[first:last])


@njit(cache=True, nogil=True, fastmath=FAST)
def orthogonalise(factor, alpha, beta, v, before, w):
    """v, before <- factor w - alpha u - beta before, u, with u = factor v: a step of Lanczos."""
    for k in range(np.uint64(v.size)):
        u = factor * v[k]
        v[k] = factor * w[k] - alpha * u - beta * before[k]
        before[k] = u
