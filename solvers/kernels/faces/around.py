"""Planes of an operator that couples each cell to all eight or 26 around it: its image, residuals, smoothing steps.

A is applied to differences of its argument, weighted by fields of either sign, as on faces. Planes are as in
`stages.py`. The fields of a plane are rows of a (4, plane) or (13, plane) array: the couplings of a cell to those after
it, in the order in which they follow. In 2D these are the next one in its row, and three of the next row; in 3D the
next one in its row, three in the next row, and nine in the next plane.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.outer import ONE


@njit(cache=True, nogil=True, inline="always")
def _flat(u, w, extra, below, here, above, h):
    """Return entry h of A x where there is no middle axis, and the energy of the couplings to later cells.

    u are the fields of the plane below.
    """
    x = here[h]
    a, b, c, d = x - here[h + ONE], x - above[h - ONE], x - above[h], x - above[h + ONE]
    wa, wb, wc, wd = w[0, h] * a, w[1, h] * b, w[2, h] * c, w[3, h] * d
    before = (w[0, h - ONE] * (x - here[h - ONE]) + u[1, h + ONE] * (x - below[h + ONE])) + (
        u[2, h] * (x - below[h]) + u[3, h - ONE] * (x - below[h - ONE])
    )
    own = extra[h] * x
    return own + (before + ((wa + wb) + (wc + wd))), own * x + ((wa * a + wb * b) + (wc * c + wd * d))


@njit(cache=True, nogil=True, inline="always")
def _three(w, k, h, x, v, at):
    """Return what three fields make of differences to three cells after each other in a row, and their energy."""
    a, b, c = x - v[at - ONE], x - v[at], x - v[at + ONE]
    wa, wb, wc = w[k, h] * a, w[k + 1, h] * b, w[k + 2, h] * c
    return wa + wb + wc, wa * a + wb * b + wc * c


@njit(cache=True, nogil=True, inline="always")
def _three_before(w, k, x, v, at):
    """Return what three fields of cells after each other in a row make of differences to these; the last leads on."""
    a, b, c = x - v[at + ONE], x - v[at], x - v[at - ONE]
    return w[k, at + ONE] * a + w[k + 1, at] * b + w[k + 2, at - ONE] * c


@njit(cache=True, nogil=True, inline="always")
def _full(u, w, extra, below, here, above, h, s):
    """Return entry h of A x, and the energy of the couplings to later cells; rows are s entries apart."""
    x = here[h]
    a = x - here[h + ONE]
    wa = w[0, h] * a
    before = w[0, h - ONE] * (x - here[h - ONE]) + _three_before(w, 1, x, here, h - s)
    before += _three_before(u, 4, x, below, h + s)
    before += _three_before(u, 7, x, below, h) + _three_before(u, 10, x, below, h - s)
    beside, energy = _three(w, 1, h, x, here, h + s)
    low, low_energy = _three(w, 4, h, x, above, h - s)
    middle, middle_energy = _three(w, 7, h, x, above, h)
    high, high_energy = _three(w, 10, h, x, above, h + s)
    own = extra[h] * x
    image = own + (before + ((wa + beside) + (low + middle + high)))
    return image, own * x + ((wa * a + energy) + (low_energy + middle_energy + high_energy))


@njit(cache=True, nogil=True, fastmath=FAST)
def image_plane(s1, u, w, extra, below, here, above, lo, hi, q):
    """q <- A p; returns the energy of the extra diagonal and of the couplings to later cells."""
    total = np.float32(0)
    if s1 == 0:
        for h in range(np.uint64(lo), np.uint64(hi)):
            q[h], energy = _flat(u, w, extra, below, here, above, h)
            total += energy
        return np.float64(total)
    s = np.uint64(s1)
    for h in range(np.uint64(lo), np.uint64(hi)):
        q[h], energy = _full(u, w, extra, below, here, above, h, s)
        total += energy
    return np.float64(total)


@njit(cache=True, nogil=True, fastmath=FAST)
def relax_plane(s1, omega, u, w, extra, inverse, below, here, above, r, lo, hi, out):
    """out <- x + omega (r - A x) / d; `here` is the plane of x."""
    omega = np.float32(omega)
    if s1 == 0:
        for h in range(np.uint64(lo), np.uint64(hi)):
            image, _ = _flat(u, w, extra, below, here, above, h)
            out[h] = here[h] + omega * inverse[h] * (r[h] - image)
        return
    s = np.uint64(s1)
    for h in range(np.uint64(lo), np.uint64(hi)):
        image, _ = _full(u, w, extra, below, here, above, h, s)
        out[h] = here[h] + omega * inverse[h] * (r[h] - image)


@njit(cache=True, nogil=True, fastmath=FAST)
def residual_plane(s1, u, w, extra, below, here, above, r, lo, hi, out):
    """out <- r - A x."""
    if s1 == 0:
        for h in range(np.uint64(lo), np.uint64(hi)):
            image, _ = _flat(u, w, extra, below, here, above, h)
            out[h] = r[h] - image
        return
    s = np.uint64(s1)
    for h in range(np.uint64(lo), np.uint64(hi)):
        image, _ = _full(u, w, extra, below, here, above, h, s)
        out[h] = r[h] - image
