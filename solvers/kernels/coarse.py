"""The multigrid cycle's way down and way up on its coarse levels: face weights, float32.

Geometry and threads as in `kernels/outer.py`, rings as in `kernels/finest.py`, waves of stages as in
`kernels/fused.py`; coarse levels are small, so there is one tile. Coefficients are one per cell: `w`, (3, box), holds
in each cell the weight of its face towards the next cell per axis, zero on the faces of the box and in its padding. In
2D the middle axis has none.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.finest import around, prolong_plane, restrict_plane, row_weights, shared_planes
from deepcd.solvers.kernels.outer import ONE, planes, span


@njit(cache=True, nogil=True, fastmath=FAST)
def stencil_plane(box, alpha, base, sigma, diagonal, tau, w, x, i, out):
    """out <- alpha base + sigma diagonal x + tau (sum of face weight times neighbouring x) in plane i.

    x is given by three planes, `base` and `out` by one, the coefficients by their boxes.
    """
    (n, s), (below, here, above) = box, x
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
def sweep(box, alpha, base, sigma, diagonal, tau, w, x, y):
    """y <- alpha base + sigma diagonal x + tau (sum over the neighbours of face weight times x).

    (1, r, -1, diagonal, 1, w) is the residual r - A x; (0, x, 1, a, 1, c) is S x. y is a vector of its own.
    """
    n, s = box
    for i in range(n[0]):
        stencil_plane(
            box, alpha, planes(s, base, i)[1], sigma, diagonal, tau, w, planes(s, x, i), i, planes(s, y, i)[1]
        )


@njit(cache=True, nogil=True, inline="always")
def residual_plane(box, level, r, x, i, out):
    """out <- r - A x in plane i; x is given by three planes, r and `out` by one."""
    stencil_plane(box, np.float32(1), r, np.float32(-1), level.diagonal, np.float32(1), level.w, x, i, out)


@njit(cache=True, nogil=True, inline="always")
def smooth_plane(box, level, x, i, out):
    """out <- S x in plane i; x is given by three planes, `out` by one."""
    stencil_plane(box, np.float32(0), x[1], np.float32(1), level.a, np.float32(1), level.c, x, i, out)


@njit(cache=True, nogil=True, inline="always")
def add_smooth_plane(box, level, y, x, i, out):
    """out <- y + S x in plane i; x is given by three planes, y and `out` by one."""
    stencil_plane(box, np.float32(1), y, np.float32(1), level.a, np.float32(1), level.c, x, i, out)


@njit(cache=True, nogil=True, inline="always")  # a call for each plane costs as much as a part of its work
def restrict(box, level, r, z, transfer, plane, row, coarse, k, start, stop):
    """Add P' phi (r - A z) of plane k to coarse planes start .. stop - 1; r is given by its plane, z by three planes.

    `plane` is scratch.
    """
    residual_plane(box, level, r, z, k, plane)
    scale(planes(box.s, level.phi, k)[1], plane)
    restrict_plane(box, transfer, plane, row, coarse, k, start, stop, 0, transfer.n[1])


@njit(cache=True, nogil=True)
def descend(box, level, r, z, transfer, psi, coarse, scratch, start, stop):
    """z <- S r and coarse <- psi P' phi (r - A z) on coarse planes start .. stop - 1, fine ones with it."""
    n, s = box
    s0, ms, rings = s[0], transfer.s, scratch.rings
    t = rings[0]
    first, last = (start + 1) * ms[0], (stop + 1) * ms[0]
    coarse[first:last] = 0
    low, high = shared_planes(n, start, stop)
    for i in range(low - 2, high + 2):
        if 0 <= i < n[0]:
            smooth_plane(box, level, planes(s, r, i), i, t[i % 3])
            if low <= i < high:
                z[(i + 1) * s0 : (i + 2) * s0] = t[i % 3][:s0]
        else:
            t[i % 3] = 0
        k = i - 1
        if low - 1 <= k <= high and 0 <= k < n[0]:
            own = planes(s, r, k)[1]
            restrict(box, level, own, around(t, k), transfer, rings[1, 0], scratch.row, coarse, k, start, stop)
    scale(psi[first:last], coarse[first:last])


@njit(cache=True, nogil=True, fastmath=FAST)
def correct_plane(box, phi, transfer, coarse, scratch, z, i, y):
    """y <- z + phi P e in plane i; `coarse` holds psi e."""
    (n, s), along = box, scratch.along
    prolong_plane(transfer, coarse, i, 0, n[1], scratch.row, along)
    own, factor = planes(s, z, i)[1], planes(s, phi, i)[1]
    for j in range(n[1]):
        a, b, w_a, w_b = row_weights(transfer, j)
        row_a, row_b, p = along[a], along[b], np.uint64((j + 1) * s[1])
        for k in range(ONE, np.uint64(n[2] + 1)):
            y[p + k] = own[p + k] + factor[p + k] * (w_a * row_a[k] + w_b * row_b[k])


@njit(cache=True, nogil=True)
def prolong(box, phi, transfer, coarse, scratch, z):
    """z <- z + phi P e; `coarse` holds psi e."""
    for i in range(box.n[0]):
        correct_plane(box, phi, transfer, coarse, scratch, z, i, planes(box.s, z, i)[1])


# Stages of the way up: each sets a plane of a ring, to zero if it lies beyond the box.


@njit(cache=True, nogil=True, inline="always")
def _correct(box, level, transfer, coarse, scratch, z, i, y):
    """Set plane i of a ring to z + phi P e."""
    if 0 <= i < box.n[0]:
        correct_plane(box, level.phi, transfer, coarse, scratch, z, i, y[i % 3])
    else:
        y[i % 3] = 0


@njit(cache=True, nogil=True, inline="always")
def _leave(box, level, r, y, k, t):
    """Set plane k of the ring t to r - A y, y being a ring."""
    if 0 <= k < box.n[0]:
        residual_plane(box, level, planes(box.s, r, k)[1], around(y, k), k, t[k % 3])
    else:
        t[k % 3] = 0


@njit(cache=True, nogil=True)
def ascend(box, level, r, z, out, transfer, coarse, scratch, start, stop):
    """y <- z + phi P e and out <- y + S (r - A y); `coarse` holds psi e."""
    y, t = scratch.rings[0], scratch.rings[1]
    for i in range(start - 2, stop + 2):
        _correct(box, level, transfer, coarse, scratch, z, i, y)
        k = i - 1
        if start - 1 <= k:
            _leave(box, level, r, y, k, t)
        k = i - 2
        if start <= k:
            add_smooth_plane(box, level, y[k % 3], around(t, k), k, planes(box.s, out, k)[1])


@njit(cache=True, nogil=True, fastmath=FAST)
def combine(weight, e, factor, v, out):
    """out <- factor (weight v + e), entry by entry; out may be v."""
    for k in range(np.uint64(factor.size)):
        out[k] = factor[k] * (weight * v[k] + e[k])


@njit(cache=True, nogil=True)
def turn(box, level, r, z, out, left, again, transfer, coarse, psi, below_again, scratch, start, stop):
    """`ascend` of one cycle and `descend` of the next, on its residual, in one pass over the coefficients.

    y <- z + phi P e, out <- y + S (r - A y), left <- r - A out, again <- S left, and below_again <- psi P' phi (left -
    A again) on coarse planes start .. stop - 1, fine ones with it; `coarse` holds psi e.
    """
    n, s = box
    s0, ms, rings = s[0], transfer.s, scratch.rings
    y, t, u, v, x = rings[0], rings[1], rings[2], rings[3], rings[4]
    first, last = (start + 1) * ms[0], (stop + 1) * ms[0]
    below_again[first:last] = 0
    low, high = shared_planes(n, start, stop)
    for i in range(low - 6, high + 6):
        _correct(box, level, transfer, coarse, scratch, z, i, y)
        k = i - 1
        if low - 5 <= k:
            _leave(box, level, r, y, k, t)
        k = i - 2
        if low - 4 <= k:
            if 0 <= k < n[0]:
                add_smooth_plane(box, level, y[k % 3], around(t, k), k, u[k % 3])
                if low <= k < high:
                    out[(k + 1) * s0 : (k + 2) * s0] = u[k % 3][:s0]
            else:
                u[k % 3] = 0
        k = i - 3
        if low - 3 <= k:
            _leave(box, level, r, u, k, v)
            if low <= k < high:
                left[(k + 1) * s0 : (k + 2) * s0] = v[k % 3][:s0]
        k = i - 4
        if low - 2 <= k:
            if 0 <= k < n[0]:
                smooth_plane(box, level, around(v, k), k, x[k % 3])
                if low <= k < high:
                    again[(k + 1) * s0 : (k + 2) * s0] = x[k % 3][:s0]
            else:
                x[k % 3] = 0
        k = i - 5
        if low - 1 <= k <= high and 0 <= k < n[0]:
            restrict(
                box, level, v[k % 3], around(x, k), transfer, rings[5, 0], scratch.row, below_again, k, start, stop
            )
    scale(psi[first:last], below_again[first:last])


@njit(cache=True, nogil=True, fastmath=FAST)
def orthogonalise(factor, alpha, beta, v, before, w):
    """v, before <- factor w - alpha u - beta before, u, with u = factor v: a step of Lanczos."""
    for k in range(np.uint64(v.size)):
        u = factor * v[k]
        v[k] = factor * w[k] - alpha * u - beta * before[k]
        before[k] = u
