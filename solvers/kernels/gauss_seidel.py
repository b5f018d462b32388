"""Red-black Gauss-Seidel smoothing on the way down and up, on the finest level and on coarse ones.

The classical cycle's counterpart of `kernels/fused.py` and `kernels/coarse.py`, in the same waves: a half-sweep touches
the cells of one colour (the parity of i + j + k), which only depend on those of the other, so half-sweep q may run one
plane behind half-sweep q - 1, in place. On the finest level a thread keeps the planes in motion in one ring, the first
2 sweeps + 2 planes of its scratch (`planes_in_motion`), and computes the planes around its share anew.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.coarse import (
    correct_plane,
    restrict,
    scale,
    stencil_plane,
)
from deepcd.solvers.kernels.coarse import (
    residual_plane as coarse_residual_plane,
)
from deepcd.solvers.kernels.finest import (
    TWO,
    prolong_plane,
    restrict_plane,
    row_weights,
    scale_listed,
    shared_planes,
)
from deepcd.solvers.kernels.fused import product_plane, residual_plane
from deepcd.solvers.kernels.outer import ONE, middle, planes, span


@njit(cache=True, nogil=True, fastmath=FAST)
def _set_colour(n, s, colour, new, i, z):
    """z <- new in the cells of plane i that have the colour's parity; both given by planes."""
    for j in range(n[1]):
        first, odd = (j + 1) * s[1] + 1, (i + j + colour) & 1
        for h in range(np.uint64(first + odd), np.uint64(first + n[2]), TWO):
            z[h] = new[h]


@njit(cache=True, nogil=True, fastmath=FAST)
def _relax(box, diagonal, r, z, i, colour, new):
    """Solve for the cells of one colour in plane i of z, given by three planes; `new` is scratch."""
    (n, s), (below, here, above) = box, z
    s1, m = np.uint64(s[1]), middle(s)
    right, ds = planes(s, r, i)[1], planes(s, diagonal, i)[1]
    lo, hi = span(n, s, 0, n[1])
    for h in range(np.uint64(lo), np.uint64(hi)):
        d = ds[h]
        sides = below[h] + above[h] + m * (here[h - s1] + here[h + s1]) + (here[h - ONE] + here[h + ONE])
        new[h] = (right[h] + sides) / np.float32(d) if d != 0 else np.float32(0)
    _set_colour(n, s, colour, new, i, here)


@njit(cache=True, nogil=True, inline="always")
def planes_in_motion(rings, sweeps):
    """Return the planes that so many sweeps keep, and one more for scratch."""
    every, size = rings.reshape(rings.shape[0] * rings.shape[1], rings.shape[2]), 2 * sweeps + 2
    return every[:size], every[size]


@njit(cache=True, nogil=True)
def descend(box, diagonal, sweeps, scaling, r, z, transfer, coarse, scratch, start, stop):
    """z <- Gauss-Seidel from zero, red first; coarse <- P' phi (r - A z) on coarse planes start .. stop - 1."""
    (n, s), ms, (ring, new) = box, transfer.s, planes_in_motion(scratch.rings, sweeps)
    s0, half, size = s[0], 2 * sweeps, 2 * sweeps + 2
    coarse[(start + 1) * ms[0] : (stop + 1) * ms[0]] = 0
    low, high = shared_planes(n, start, stop)
    ring[:] = 0
    for i in range(low - half - 1, high + half + 2):
        ring[i % size] = 0
        for q in range(half):
            k = i - q
            if max(low - half - 1, 0) <= k < n[0]:
                above = ring[(k + 1) % size] if q > 0 else z[:s0]  # zeros: that place of the ring is still in use
                _relax(box, diagonal, r, (ring[(k - 1) % size], ring[k % size], above), k, q & 1, new)
        k = i - half + 1
        if low <= k < high:
            z[(k + 1) * s0 : (k + 2) * s0] = ring[k % size][:s0]
        k = i - half
        if low - 1 <= k <= high and 0 <= k < n[0]:
            own = ring[(k - 1) % size], ring[k % size], ring[(k + 1) % size]
            residual_plane(box, diagonal, scaling.phi, r, own, k, (0, n[1]), new)
            scale_listed(n, scaling, k, 0, n[1], new)
            restrict_plane(box, transfer, new, scratch.row, coarse, k, start, stop, 0, transfer.n[1])


@njit(cache=True, nogil=True, fastmath=FAST)
def _corrected(box, diagonal, scaling, transfer, coarse, scratch, z, i, new, y):
    """y <- z + phi P e in plane i; `new` is scratch."""
    (n, s), along = box, scratch.along
    prolong_plane(transfer, coarse, i, 0, n[1], scratch.row, along)
    own, ds = planes(s, z, i)[1], planes(s, diagonal, i)[1]
    phi = scaling.phi
    for j in range(n[1]):
        a, b, w_a, w_b = row_weights(transfer, j)
        row_a, row_b, p = along[a], along[b], np.uint64((j + 1) * s[1])
        for k in range(ONE, np.uint64(n[2] + 1)):
            new[p + k] = phi * (w_a * row_a[k] + w_b * row_b[k]) if ds[p + k] != 0 else np.float32(0)
    scale_listed(n, scaling, i, 0, n[1], new)
    for h in range(np.uint64(s[0])):
        y[h] = own[h] + new[h]


@njit(cache=True, nogil=True)
def ascend(box, diagonal, sweeps, scaling, r, z, out, transfer, coarse, scratch, start, stop):
    """out <- Gauss-Seidel, black first, from z + phi P e; returns r.out. `coarse` holds psi e."""
    (n, s), (ring, new), product = box, planes_in_motion(scratch.rings, sweeps), 0.0
    s0, half, size = s[0], 2 * sweeps, 2 * sweeps + 2
    ring[:], new[:] = 0, 0
    first = max(start - half - 1, 0)
    for i in range(start - half - 1, stop + half + 1):
        if first <= i < n[0]:
            _corrected(box, diagonal, scaling, transfer, coarse, scratch, z, i, new, ring[i % size])
        else:
            ring[i % size] = 0
        for q in range(half):
            k = i - q - 1
            if first <= k < n[0]:
                own = ring[(k - 1) % size], ring[k % size], ring[(k + 1) % size]
                _relax(box, diagonal, r, own, k, 1 - (q & 1), new)
        k = i - half
        if start <= k < stop:
            out[(k + 1) * s0 : (k + 2) * s0] = ring[k % size][:s0]
            product += product_plane(n, s, r, out, k, 0, n[1])
    return product


@njit(cache=True, nogil=True)
def _relax_coarse(box, inverse, w, r, z, i, colour, new):
    """Solve for the cells of one colour in plane i of a coarse level."""
    n, s = box
    one, zero, here = np.float32(1), np.float32(0), planes(s, z, i)
    stencil_plane(box, one, planes(s, r, i)[1], zero, inverse, one, w, here, i, new)
    scale(planes(s, inverse, i)[1], new)
    _set_colour(n, s, colour, new, i, here[1])


@njit(cache=True, nogil=True)
def descend_coarse(box, level, sweeps, r, z, transfer, psi, coarse, scratch):
    """z <- Gauss-Seidel from zero, red first; coarse <- psi P' phi (r - A z). `a` is the diagonal's inverse."""
    (n, s), half, rings = box, 2 * sweeps, scratch.rings
    z[:], coarse[:] = 0, 0
    for i in range(n[0] + half):
        for q in range(half):
            if 0 <= i - q < n[0]:
                _relax_coarse(box, level.a, level.w, r, z, i - q, q & 1, rings[0, 1])
        k = i - half
        if 0 <= k < n[0]:
            own, m = planes(s, r, k)[1], transfer.n
            restrict(box, level, own, planes(s, z, k), transfer, rings[0, 0], scratch.row, coarse, k, 0, m[0])
    scale(psi, coarse)


@njit(cache=True, nogil=True)
def ascend_coarse(box, level, sweeps, r, z, transfer, coarse, left, scratch):
    """z <- Gauss-Seidel, black first, from z + phi P e. Then left <- r - A z, unless it is empty."""
    (n, s), half = box, 2 * sweeps
    for i in range(n[0] + half + 1):
        if i < n[0]:
            correct_plane(box, level.phi, transfer, coarse, scratch, z, i, planes(s, z, i)[1])
        for q in range(half):
            if 0 <= i - q - 1 < n[0]:
                _relax_coarse(box, level.a, level.w, r, z, i - q - 1, 1 - (q & 1), scratch.rings[0, 1])
        k = i - half - 1
        if left.size and 0 <= k < n[0]:
            coarse_residual_plane(box, level, planes(s, r, k)[1], planes(s, z, k), k, planes(s, left, k)[1])
