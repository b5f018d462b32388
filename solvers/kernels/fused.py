"""Several steps of the learned cycle on the finest level in one pass over memory.

Smoothing after the first time is z + S (r - A z): a residual, then a product with S. Here a pass walks up the planes
one step ahead with the residual, of which only three planes exist at any time, and with the corrected z before it if
the coarse correction is added on the way. The result goes to another vector, so threads do not disturb each other;
each computes the planes beside its share anew.

Geometry, columns, listed cells and threads as in `kernels/finest.py`. `rings` is scratch of a thread, float32 (2, 3,
plane + 4 cells), zero outside the cells.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.finest import add_listed, gather_row, scale_listed
from deepcd.solvers.kernels.outer import FAST, width


@njit(cache=True, nogil=True, fastmath=FAST)
def _residual_plane(n, s, diagonal, r, below, here, above, i, t):
    """t <- r - A z in plane i, z given by three planes; zero beyond the box."""
    if i < 0 or i >= n[0]:
        t[:] = 0
        return
    s1, s2, base = np.uint64(s[1]), width(s), np.uint64((i + 1) * s[0])
    for j in range(n[1]):
        first = np.uint64((j + 1) * s[1]) + width(s)
        if s[1] > 0:
            for step in range(n[2]):
                h = first + np.uint64(step)
                d = diagonal[base + h]
                around = below[h] + above[h] + here[h - s1] + here[h + s1] + here[h - s2] + here[h + s2]
                t[h] = r[base + h] + around - np.float32(d) * here[h] if d != 0 else np.float32(0)
        else:
            for step in range(n[2]):
                h = first + np.uint64(step)
                d = diagonal[base + h]
                around = below[h] + above[h] + here[h - s2] + here[h + s2]
                t[h] = r[base + h] + around - np.float32(d) * here[h] if d != 0 else np.float32(0)


@njit(cache=True, nogil=True, fastmath=FAST)
def _smooth_plane(n, s, diagonal, a, c, starts, cells, delta, z, below, here, above, i, out):
    """out <- z + S t in plane i, z given there, t by three planes."""
    s1, s2, base = np.uint64(s[1]), width(s), np.uint64((i + 1) * s[0])
    c0, c1, c2 = c
    for j in range(n[1]):
        first = np.uint64((j + 1) * s[1]) + width(s)
        if s[1] > 0:
            for step in range(n[2]):
                h = first + np.uint64(step)
                around = (
                    c0 * (below[h] + above[h]) + c1 * (here[h - s1] + here[h + s1]) + c2 * (here[h - s2] + here[h + s2])
                )
                out[base + h] = z[h] + a * here[h] + around if diagonal[base + h] != 0 else np.float32(0)
        else:
            for step in range(n[2]):
                h = first + np.uint64(step)
                around = c0 * (below[h] + above[h]) + c2 * (here[h - s2] + here[h + s2])
                out[base + h] = z[h] + a * here[h] + around if diagonal[base + h] != 0 else np.float32(0)
        add_listed(n, s, starts, cells, delta, below, here, above, i, j, out)


@njit(cache=True, nogil=True, fastmath=FAST)
def _products(s, r, q, z, i):
    """Return r.z and q.z over plane i."""
    rz, qz = 0.0, 0.0
    for k in range(np.uint64((i + 1) * s[0]), np.uint64((i + 2) * s[0])):
        value = np.float64(z[k])
        rz += r[k] * value
        qz += q[k] * value
    return rz, qz


@njit(cache=True, nogil=True)
def smooth(n, s, diagonal, a, c, starts, cells, delta, r32, z, out, last, r, q, rings, start, stop):
    """out <- z + S (r32 - A z); returns r.out and q.out if it is the `last` step, zeros before."""
    t, s0 = rings[0], s[0]
    rz, qz = 0.0, 0.0
    for i in range(start - 1, stop + 1):
        if i >= 0 and i < n[0]:
            below, here, above = (
                z[i * s0 : (i + 1) * s0],
                z[(i + 1) * s0 : (i + 2) * s0],
                z[(i + 2) * s0 : (i + 3) * s0],
            )
            _residual_plane(n, s, diagonal, r32, below, here, above, i, t[i % 3])
        else:
            t[i % 3] = 0
        if i > start:
            k = i - 1
            own = z[(k + 1) * s0 : (k + 2) * s0]
            below, here, above = t[(k - 1) % 3], t[k % 3], t[(k + 1) % 3]
            _smooth_plane(n, s, diagonal, a, c, starts, cells, delta, own, below, here, above, k, out)
            if last:
                parts = _products(s, r, q, out, k)
                rz += parts[0]
                qz += parts[1]
    return rz, qz


@njit(cache=True, nogil=True, fastmath=FAST)
def _corrected_plane(n, s, diagonal, phi, starts, cells, ratio, m, ms, near, far, coarse, buffer, z, i, plane):
    """plane <- z + phi P e in plane i; zero beyond the box."""
    if i < 0 or i >= n[0]:
        plane[:] = 0
        return
    base = np.uint64((i + 1) * s[0])
    for j in range(n[1]):
        first = np.uint64((j + 1) * s[1]) + width(s)
        gather_row(n, m, ms, near, far, coarse, buffer, i, j, plane, first)
        scale_listed(n, s, starts, cells, ratio, i, j, plane, first)
        for step in range(n[2]):
            h = first + np.uint64(step)
            plane[h] = z[base + h] + phi * plane[h] if diagonal[base + h] != 0 else np.float32(0)


@njit(cache=True, nogil=True)
def correct_smooth(
    n, s, diagonal, a, c, starts, cells, delta, r32, z, out, last, r, q,
    phi, ratio, m, ms, near, far, coarse, buffer, rings, start, stop,
):  # fmt: skip
    """out <- y + S (r32 - A y) with y = z + phi P e; `coarse` holds psi e; returns as `smooth`."""
    t, y = rings[0], rings[1]
    rz, qz = 0.0, 0.0
    for i in range(start - 2, start):
        _corrected_plane(n, s, diagonal, phi, starts, cells, ratio, m, ms, near, far, coarse, buffer, z, i, y[i % 3])
    for i in range(start - 1, stop + 1):
        _corrected_plane(
            n, s, diagonal, phi, starts, cells, ratio, m, ms, near, far, coarse, buffer, z, i + 1, y[(i + 1) % 3]
        )
        _residual_plane(n, s, diagonal, r32, y[(i - 1) % 3], y[i % 3], y[(i + 1) % 3], i, t[i % 3])
        if i > start:
            k = i - 1
            below, here, above = t[(k - 1) % 3], t[k % 3], t[(k + 1) % 3]
            _smooth_plane(n, s, diagonal, a, c, starts, cells, delta, y[k % 3], below, here, above, k, out)
            if last:
                parts = _products(s, r, q, out, k)
                rz += parts[0]
                qz += parts[1]
    return rz, qz
