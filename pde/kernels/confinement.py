"""Compiled passes of vorticity confinement: velocity at centres, its curl, the force there, the force on faces.

Arrays have three axes (`boxes.py`). Derivatives are central differences in units of cells; beyond the end of an axis
the last entry is taken once more, as along a wall without friction. Every loop runs over one row and writes to one row,
so that the compiler can vectorise it.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST

FLAT = 1e-6  # relative change of |curl| per cell below which its gradient has no direction but that of rounding errors
TINY = 1e-300  # added to a divisor, it prevents 0 / 0 and changes no other quotient


@njit(cache=True, nogil=True, fastmath=FAST)
def _mean(a, b, out):
    for k in range(np.uint64(out.size)):
        out[k] = 0.5 * (a[k] + b[k])


@njit(cache=True, nogil=True, fastmath=FAST)
def _across(a, b, out):
    """Set out to (b - a) / 2."""
    for k in range(np.uint64(out.size)):
        out[k] = 0.5 * (b[k] - a[k])


@njit(cache=True, nogil=True, fastmath=FAST)
def _along(f, out):
    """Set out to the derivative along the row f."""
    n = f.size
    for k in range(np.uint64(1), np.uint64(max(n - 1, 1))):
        out[k] = 0.5 * (f[k + np.uint64(1)] - f[k - np.uint64(1)])
    out[0] = 0.5 * (f[min(1, n - 1)] - f[0])
    out[n - 1] = 0.5 * (f[n - 1] - f[max(n - 2, 0)])


@njit(cache=True, nogil=True, fastmath=FAST)
def _subtract(a, b, out):
    for k in range(np.uint64(out.size)):
        out[k] = a[k] - b[k]


@njit(cache=True, nogil=True, fastmath=FAST)
def _norm(a, b, c, out):
    for k in range(np.uint64(out.size)):
        out[k] = np.sqrt(a[k] * a[k] + b[k] * b[k] + c[k] * c[k])


@njit(cache=True, nogil=True, fastmath=FAST)
def _regularise(size, norm):
    for k in range(np.uint64(norm.size)):
        norm[k] += FLAT * size[k] + TINY


@njit(cache=True, nogil=True, fastmath=FAST)
def _cross(a, b, c, d, norm, out):
    """Set out to (a d - b c) / norm."""
    for k in range(np.uint64(out.size)):
        out[k] = (a[k] * d[k] - b[k] * c[k]) / norm[k]


@njit(cache=True, nogil=True, fastmath=FAST)
def _share(a, b, fluid_a, fluid_b, scale, out):
    """Set out to scale (a + b) / 2 where both cells are fluid, and to 0 elsewhere."""
    for k in range(np.uint64(out.size)):
        out[k] = 0.5 * scale * (a[k] + b[k]) if fluid_a[k] & fluid_b[k] else 0.0


@njit(cache=True, nogil=True)
def centre(u, v, w, out, start, stop):
    """Set out to the velocity at the centres of cells."""
    for i in range(start, stop):
        for j in range(u.shape[1]):
            _mean(u[i, j], u[i + 1, j], out[0, i, j])
            _mean(v[i, j], v[i, j + 1], out[1, i, j])
            _mean(w[i, j, :-1], w[i, j, 1:], out[2, i, j])


@njit(cache=True, nogil=True)
def curl(u, out, size, start, stop):
    """Set out to the curl of u, which is given at centres, and size to its length."""
    n0, n1, n2 = size.shape
    a, b = np.empty(n2), np.empty(n2)
    for i in range(start, stop):
        below, above = max(i - 1, 0), min(i + 1, n0 - 1)
        for j in range(n1):
            left, right = max(j - 1, 0), min(j + 1, n1 - 1)
            _across(u[2, i, left], u[2, i, right], a)
            _along(u[1, i, j], b)
            _subtract(a, b, out[0, i, j])
            _along(u[0, i, j], a)
            _across(u[2, below, j], u[2, above, j], b)
            _subtract(a, b, out[1, i, j])
            _across(u[1, below, j], u[1, above, j], a)
            _across(u[0, i, left], u[0, i, right], b)
            _subtract(a, b, out[2, i, j])
            _norm(out[0, i, j], out[1, i, j], out[2, i, j], size[i, j])


@njit(cache=True, nogil=True)
def force(curl, size, out, start, stop):
    """Set out to N x curl, where N is the direction in which `size`, the length of the curl, grows."""
    n0, n1, n2 = size.shape
    x, y, z, norm = np.empty(n2), np.empty(n2), np.empty(n2), np.empty(n2)
    for i in range(start, stop):
        for j in range(n1):
            _across(size[max(i - 1, 0), j], size[min(i + 1, n0 - 1), j], x)
            _across(size[i, max(j - 1, 0)], size[i, min(j + 1, n1 - 1)], y)
            _along(size[i, j], z)
            _norm(x, y, z, norm)
            _regularise(size[i, j], norm)
            a, b, c = curl[0, i, j], curl[1, i, j], curl[2, i, j]
            _cross(y, z, b, c, norm, out[0, i, j])
            _cross(z, x, c, a, norm, out[1, i, j])
            _cross(x, y, a, b, norm, out[2, i, j])


@njit(cache=True, nogil=True)
def to_faces(force, fluid, scale, u, v, w, start, stop):
    """Set u, v, w to scale times the force between two fluid cells, and to 0 on other faces."""
    n0, n1, _ = fluid.shape
    for i in range(start, stop):
        for j in range(n1):
            own = fluid[i, j]
            if i > 0:
                _share(force[0, i - 1, j], force[0, i, j], fluid[i - 1, j], own, scale, u[i, j])
            if j > 0:
                _share(force[1, i, j - 1], force[1, i, j], fluid[i, j - 1], own, scale, v[i, j])
            _share(force[2, i, j, :-1], force[2, i, j, 1:], own[:-1], own[1:], scale, w[i, j, 1:-1])
            w[i, j, 0] = w[i, j, -1] = 0.0
        v[i, 0] = v[i, n1] = 0.0
    if start == 0:
        u[0] = 0.0
    if stop == n0:
        u[n0] = 0.0
