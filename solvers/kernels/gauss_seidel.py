"""Red-black Gauss-Seidel smoothing on the way down and up, on the finest level and on coarse ones.

The classical cycle's counterpart of `kernels/fused.py` and `kernels/coarse.py`, in the same waves: a half-sweep touches
the cells of one colour (the parity of i + j + k), which only depend on those of the other, so half-sweep q may run one
plane behind half-sweep q - 1, in place. On the finest level the planes in motion are kept in a ring, `rings[:, :]` of a
thread taken as a list of 2 sweeps + 2 planes; threads compute the planes around their shares anew.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.coarse import correct_plane, restrict, scale, stencil_plane
from deepcd.solvers.kernels.finest import TWO, prolong_plane, restrict_plane, row_weights, scale_listed
from deepcd.solvers.kernels.fused import product_plane, residual_plane
from deepcd.solvers.kernels.outer import FAST, ONE, middle, planes, span


@njit(cache=True, nogil=True, fastmath=FAST)
def _set_colour(n, s, colour, new, i, z):
    """z <- new in the cells of plane i that have the colour's parity; both given by planes."""
    for j in range(n[1]):
        first, odd = (j + 1) * s[1] + 1, (i + j + colour) & 1
        for h in range(np.uint64(first + odd), np.uint64(first + n[2]), TWO):
            z[h] = new[h]


@njit(cache=True, nogil=True, fastmath=FAST)
def _relax(n, s, diagonal, r, below, here, above, i, colour, new):
    """Solve for the cells of one colour in plane i of z, given by three planes; `new` is scratch."""
    s1, m = np.uint64(s[1]), middle(s)
    right, ds = planes(s, r, i)[1], planes(s, diagonal, i)[1]
    lo, hi = span(n, s, 0, n[1])
    for h in range(np.uint64(lo), np.uint64(hi)):
        d = ds[h]
        around = below[h] + above[h] + m * (here[h - s1] + here[h + s1]) + (here[h - ONE] + here[h + ONE])
        new[h] = (right[h] + around) / np.float32(d) if d != 0 else np.float32(0)
    _set_colour(n, s, colour, new, i, here)


@njit(cache=True, nogil=True)
def descend(
    n, s, diagonal, sweeps, starts, cells, phi, ratio, r, z, m, ms, near, far, coarse, ring, new, row, start, stop
):
    """z <- Gauss-Seidel from zero, red first; coarse <- P' phi (r - A z) on coarse planes start .. stop - 1."""
    s0, half, size = s[0], 2 * sweeps, 2 * sweeps + 2
    coarse[(start + 1) * ms[0] : (stop + 1) * ms[0]] = 0
    low, high = (2 * start, min(2 * stop, n[0])) if n[0] > 1 else (0, 1)
    ring[:] = 0
    for i in range(low - half - 1, high + half + 2):
        ring[i % size] = 0
        for q in range(half):
            k = i - q
            if max(low - half - 1, 0) <= k < n[0]:
                above = ring[(k + 1) % size] if q > 0 else z[:s0]  # zeros: that place of the ring is still in use
                _relax(n, s, diagonal, r, ring[(k - 1) % size], ring[k % size], above, k, q & 1, new)
        k = i - half + 1
        if low <= k < high:
            z[(k + 1) * s0 : (k + 2) * s0] = ring[k % size][:s0]
        k = i - half
        if low - 1 <= k <= high and 0 <= k < n[0]:
            below, here, above = ring[(k - 1) % size], ring[k % size], ring[(k + 1) % size]
            residual_plane(n, s, diagonal, phi, r, below, here, above, k, 0, n[1], new)
            scale_listed(n, starts, cells, ratio, k, 0, n[1], new)
            restrict_plane(n, s, m, ms, near, far, new, row, coarse, k, start, stop, 0, m[1])


@njit(cache=True, nogil=True, fastmath=FAST)
def _corrected(n, s, diagonal, phi, starts, cells, ratio, m, ms, near, far, coarse, row, along, z, i, new, y):
    """y <- z + phi P e in plane i; `new` is scratch."""
    prolong_plane(m, ms, near, far, coarse, i, 0, n[1], row, along)
    own, ds = planes(s, z, i)[1], planes(s, diagonal, i)[1]
    for j in range(n[1]):
        a, b, w_a, w_b = row_weights(near, far, j)
        row_a, row_b, p = along[a], along[b], np.uint64((j + 1) * s[1])
        for k in range(ONE, np.uint64(n[2] + 1)):
            new[p + k] = phi * (w_a * row_a[k] + w_b * row_b[k]) if ds[p + k] != 0 else np.float32(0)
    scale_listed(n, starts, cells, ratio, i, 0, n[1], new)
    for h in range(np.uint64(s[0])):
        y[h] = own[h] + new[h]


@njit(cache=True, nogil=True)
def ascend(
    n, s, diagonal, sweeps, starts, cells, phi, ratio, r, z, out,
    m, ms, near, far, coarse, ring, new, row, along, start, stop,
):  # fmt: skip
    """out <- Gauss-Seidel, black first, from z + phi P e; returns r.out. `coarse` holds psi e."""
    s0, half, size, product = s[0], 2 * sweeps, 2 * sweeps + 2, 0.0
    ring[:], new[:] = 0, 0
    first = max(start - half - 1, 0)
    for i in range(start - half - 1, stop + half + 1):
        if first <= i < n[0]:
            _corrected(
                n,
                s,
                diagonal,
                phi,
                starts,
                cells,
                ratio,
                m,
                ms,
                near,
                far,
                coarse,
                row,
                along,
                z,
                i,
                new,
                ring[i % size],
            )
        else:
            ring[i % size] = 0
        for q in range(half):
            k = i - q - 1
            if first <= k < n[0]:
                _relax(
                    n, s, diagonal, r, ring[(k - 1) % size], ring[k % size], ring[(k + 1) % size], k, 1 - (q & 1), new
                )
        k = i - half
        if start <= k < stop:
            out[(k + 1) * s0 : (k + 2) * s0] = ring[k % size][:s0]
            product += product_plane(n, s, r, out, k, 0, n[1])
    return product


@njit(cache=True, nogil=True)
def _relax_coarse(n, s, inverse, w, r, z, i, colour, new):
    """Solve for the cells of one colour in plane i of a coarse level."""
    one, zero = np.float32(1), np.float32(0)
    below, here, above = planes(s, z, i)
    stencil_plane(n, s, one, planes(s, r, i)[1], zero, inverse, one, w, below, here, above, i, new)
    scale(planes(s, inverse, i)[1], new)
    _set_colour(n, s, colour, new, i, here)


@njit(cache=True, nogil=True)
def descend_coarse(n, s, diagonal, inverse, w, sweeps, phi, r, z, m, ms, near, far, psi, coarse, rings, row):
    """z <- Gauss-Seidel from zero, red first; coarse <- psi P' phi (r - A z)."""
    half = 2 * sweeps
    z[:], coarse[:] = 0, 0
    for i in range(n[0] + half):
        for q in range(half):
            if 0 <= i - q < n[0]:
                _relax_coarse(n, s, inverse, w, r, z, i - q, q & 1, rings[0, 1])
        k = i - half
        if 0 <= k < n[0]:
            below, here, above = planes(s, z, k)
            plane = rings[0, 0]
            restrict(n, s, diagonal, w, phi, r, m, ms, near, far, below, here, above, plane, row, coarse, k, 0, m[0])
    scale(psi, coarse)


@njit(cache=True, nogil=True)
def ascend_coarse(n, s, diagonal, inverse, w, sweeps, phi, r, z, m, ms, near, far, coarse, left, rings, row, along):
    """z <- Gauss-Seidel, black first, from z + phi P e. Then left <- r - A z, unless it is empty."""
    half, one = 2 * sweeps, np.float32(1)
    for i in range(n[0] + half + 1):
        if i < n[0]:
            correct_plane(n, s, phi, m, ms, near, far, coarse, row, along, z, i, planes(s, z, i)[1])
        for q in range(half):
            if 0 <= i - q - 1 < n[0]:
                _relax_coarse(n, s, inverse, w, r, z, i - q - 1, 1 - (q & 1), rings[0, 1])
        k = i - half - 1
        if left.size and 0 <= k < n[0]:
            below, here, above = planes(s, z, k)
            own, target = planes(s, r, k)[1], planes(s, left, k)[1]
            stencil_plane(n, s, one, own, -one, diagonal, one, w, below, here, above, k, target)
