"""Compiled passes of the multigrid cycle over its finest level, float32, one byte per cell.

Geometry, strides and threads as in `kernels/outer.py`. Smoother and transfer coefficients are constant in the
interior; cells where any differs are *listed*: `starts[i] : starts[i + 1]` are those of plane i, `cells` their flat
indices, `delta` (a, then the six neighbours in the order -0, +0, -1, +1, -2, +2) what is to be added to the constant,
`ratio` the factor on the constant transfer scaling.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.outer import FAST, rows


@njit(cache=True, nogil=True, fastmath=FAST)
def cast(s, r, r32, start, stop):
    """r32 <- r on whole padded planes."""
    for k in range(np.uint64((start + 1) * s[0]), np.uint64((stop + 1) * s[0])):
        r32[k] = r[k]


@njit(cache=True, nogil=True, fastmath=FAST)
def smooth_first(n, s, diagonal, a, c, starts, cells, delta, r, r32, z, start, stop):
    """r32 <- r and z <- S r; a plane is cast just before it is first needed, so both are one pass."""
    one, s0, s1 = np.uint64(1), np.uint64(s[0]), np.uint64(s[1])
    cast(s, r, r32, max(start - 1, 0), min(start + 1, n[0]))
    for i in range(start, stop):
        if i + 1 < n[0]:
            cast(s, r, r32, i + 1, i + 2)
        for j in range(n[1]):
            p, lo0, hi0, lo1, hi1 = rows(n, s, i, j)
            for step in range(n[2]):
                k = np.uint64(step)
                h = p + k
                value = a * r32[h] + (
                    c[0] * (r32[lo0 + k] + r32[hi0 + k])
                    + c[1] * (r32[lo1 + k] + r32[hi1 + k])
                    + c[2] * (r32[h - one] + r32[h + one])
                )
                z[h] = value if diagonal[h] != 0 else np.float32(0)
        for e in range(starts[i], starts[i + 1]):
            h = np.uint64(cells[e])
            value = delta[e, 0] * r32[h] + delta[e, 1] * r32[h - s0] + delta[e, 2] * r32[h + s0]
            value += delta[e, 5] * r32[h - one] + delta[e, 6] * r32[h + one]
            if s[1] > 0:
                value += delta[e, 3] * r32[h - s1] + delta[e, 4] * r32[h + s1]
            z[h] += value


@njit(cache=True, nogil=True, inline="always")
def _parents(i, m):
    """Return the coarse row of fine row i, the next one on its side, and whether that one exists."""
    near = i >> 1
    far = near + 2 * (i & 1) - 1
    return near, far, 0 <= far < m


@njit(cache=True, nogil=True, fastmath=FAST)
def scatter_row(n, m, ms, near, far, fine, first, buffer, coarse, i, j, start, stop):
    """Add the restriction of a fine row (i, j), values fine[first:] between zeros, to planes start .. stop - 1."""
    one, two = np.uint64(1), np.uint64(2)
    near2, far2 = near[2], far[2]
    for step in range(m[2]):
        k = np.uint64(step)
        at = first + two * k
        buffer[k] = near2 * (fine[at] + fine[at + one]) + far2 * (fine[at - one] + fine[at + two])
    i_near, i_far, i_has = _parents(i, m[0])
    j_near, j_far, j_has = _parents(j, m[1])
    for a in range(2):
        ci = i_near if a == 0 else i_far
        if (a == 1 and not i_has) or ci < start or ci >= stop:
            continue
        wi = near[0] if a == 0 else far[0]
        for b in range(2):
            if b == 1 and not j_has:
                continue
            cj = j_near if b == 0 else j_far
            w = wi * (near[1] if b == 0 else far[1])
            if w == 0:
                continue
            out = np.uint64((ci + 1) * ms[0] + (cj + 1) * ms[1] + 1)
            for step in range(m[2]):
                k = np.uint64(step)
                coarse[out + k] += w * buffer[k]


@njit(cache=True, nogil=True, fastmath=FAST)
def gather_row(n, m, ms, near, far, coarse, buffer, i, j, fine, first):
    """fine[first:] <- the interpolation of a coarse vector in the fine row (i, j)."""
    one = np.uint64(1)
    for k in range(m[2] + 2):
        buffer[k] = 0
    i_near, i_far, i_has = _parents(i, m[0])
    j_near, j_far, j_has = _parents(j, m[1])
    for a in range(2):
        if a == 1 and not i_has:
            continue
        ci = i_near if a == 0 else i_far
        wi = near[0] if a == 0 else far[0]
        for b in range(2):
            if b == 1 and not j_has:
                continue
            cj = j_near if b == 0 else j_far
            w = wi * (near[1] if b == 0 else far[1])
            if w == 0:
                continue
            source = np.uint64((ci + 1) * ms[0] + (cj + 1) * ms[1] + 1)
            for step in range(m[2]):
                k = np.uint64(step)
                buffer[k + one] += w * coarse[source + k]
    near2, far2 = near[2], far[2]
    two = np.uint64(2)
    for step in range(n[2] // 2):
        home = np.uint64(step + 1)
        at = first + two * np.uint64(step)
        fine[at] = near2 * buffer[home] + far2 * buffer[home - one]
        fine[at + one] = near2 * buffer[home] + far2 * buffer[home + one]
    if n[2] & 1:
        home = np.uint64(n[2] // 2 + 1)
        fine[first + np.uint64(n[2] - 1)] = near2 * buffer[home] + far2 * buffer[home - one]


@njit(cache=True, nogil=True, fastmath=FAST)
def residual_restrict(
    n, s, diagonal, phi, starts, cells, ratio, r, z, m, ms, near, far, psi, plane, buffer, coarse, start, stop
):
    """Coarse residual psi P' phi (r - A z) on coarse planes start .. stop - 1; fine ones live in `plane` only."""
    one = np.uint64(1)
    for k in range(np.uint64((start + 1) * ms[0]), np.uint64((stop + 1) * ms[0])):
        coarse[k] = 0
    for i in range(max(2 * start - 1, 0), min(2 * stop + 1, n[0])):
        base = np.uint64((i + 1) * s[0])
        for j in range(n[1]):
            p, lo0, hi0, lo1, hi1 = rows(n, s, i, j)
            at = p - base
            for step in range(n[2]):
                k = np.uint64(step)
                h = p + k
                d = diagonal[h]
                value = (
                    r[h]
                    + (z[lo0 + k] + z[hi0 + k] + z[lo1 + k] + z[hi1 + k] + z[h - one] + z[h + one])
                    - np.float32(d) * z[h]
                )
                plane[at + k] = phi * value if d != 0 else np.float32(0)
        for e in range(starts[i], starts[i + 1]):
            plane[np.uint64(cells[e]) - base] *= ratio[e]
        for j in range(n[1]):
            scatter_row(n, m, ms, near, far, plane, np.uint64((j + 1) * s[1] + 1), buffer, coarse, i, j, start, stop)
    for k in range(np.uint64((start + 1) * ms[0]), np.uint64((stop + 1) * ms[0])):
        coarse[k] *= psi[k]


@njit(cache=True, nogil=True, fastmath=FAST)
def prolong_add(n, s, diagonal, phi, starts, cells, ratio, m, ms, near, far, coarse, plane, buffer, z, start, stop):
    """z <- z + phi P e on fine planes start .. stop - 1; `coarse` holds psi e."""
    for i in range(start, stop):
        base = np.uint64((i + 1) * s[0])
        for j in range(n[1]):
            gather_row(n, m, ms, near, far, coarse, buffer, i, j, plane, np.uint64((j + 1) * s[1] + 1))
        for e in range(starts[i], starts[i + 1]):
            plane[np.uint64(cells[e]) - base] *= ratio[e]
        for j in range(n[1]):
            p = np.uint64((i + 1) * s[0] + (j + 1) * s[1] + 1)
            at = np.uint64((j + 1) * s[1] + 1)
            for step in range(n[2]):
                k = np.uint64(step)
                z[p + k] += phi * plane[at + k] if diagonal[p + k] != 0 else np.float32(0)


@njit(cache=True, nogil=True, fastmath=FAST)
def red_black(n, s, diagonal, r, z, colour, row, start, stop):
    """Half a Gauss-Seidel sweep: z <- D^-1 (r + neighbours) where i + j + k has the colour's parity."""
    one = np.uint64(1)
    for i in range(start, stop):
        for j in range(n[1]):
            p, lo0, hi0, lo1, hi1 = rows(n, s, i, j)
            for step in range(n[2]):
                k = np.uint64(step)
                h = p + k
                d = diagonal[h]
                total = r[h] + (z[lo0 + k] + z[hi0 + k] + z[lo1 + k] + z[hi1 + k] + z[h - one] + z[h + one])
                row[k] = total / np.float32(d) if d != 0 else np.float32(0)
            for step in range((i + j + colour) & 1, n[2], 2):
                k = np.uint64(step)
                z[p + k] = row[k]


@njit(cache=True, nogil=True, fastmath=FAST)
def dots(s, r, q, z, start, stop):
    """Return r.z and q.z."""
    rz, qz = 0.0, 0.0
    for k in range(np.uint64((start + 1) * s[0]), np.uint64((stop + 1) * s[0])):
        value = np.float64(z[k])
        rz += r[k] * value
        qz += q[k] * value
    return rz, qz
