"""The learned cycle's way down and way up on the finest level, each in one pass over memory.

What happens on the way, two smoothing steps and a transfer, reaches four planes far. So a pass walks up the planes with
a wave of stages, each one plane behind the one before; of what lies between two stages only three planes exist, in
`rings`. Planes too large for the processor's cache are cut into tiles of rows, which are walked up one after the other;
the rows around a tile that a later stage needs are computed anew, as are the planes around the share of a thread.

Geometry, listed cells, smoothers, rings and threads as in `kernels/finest.py`. The four rings of a thread's scratch are
zero outside the rows of the box.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.finest import (
    add_listed,
    around,
    prolong_plane,
    restrict_plane,
    row_weights,
    scale_listed,
    shared_planes,
)
from deepcd.solvers.kernels.outer import ONE, middle, planes, span


@njit(cache=True, nogil=True, fastmath=FAST)
def _smooth(box, diagonal, S, v, i, rows, out):
    """out <- S v in some rows of plane i, v given by three planes."""
    (n, s), (below, here, above), (begin, end) = box, v, rows
    s1, (a, c0, c1, c2) = np.uint64(s[1]), S.constants
    c1 = middle(s) * c1
    ds = planes(s, diagonal, i)[1]
    lo, hi = span(n, s, begin, end)
    for h in range(np.uint64(lo), np.uint64(hi)):
        sides = c0 * (below[h] + above[h]) + c1 * (here[h - s1] + here[h + s1]) + c2 * (here[h - ONE] + here[h + ONE])
        value = a * here[h] + sides
        out[h] = value if ds[h] != 0 else np.float32(0)
    add_listed(box, S, v, i, begin, end, out)


@njit(cache=True, nogil=True, fastmath=FAST)
def _add_smooth(box, diagonal, S, z, v, i, rows, out):
    """out <- z + S v in some rows of plane i, v given by three planes."""
    (n, s), (below, here, above), (begin, end) = box, v, rows
    s1, (a, c0, c1, c2) = np.uint64(s[1]), S.constants
    c1 = middle(s) * c1
    ds = planes(s, diagonal, i)[1]
    lo, hi = span(n, s, begin, end)
    for h in range(np.uint64(lo), np.uint64(hi)):
        sides = c0 * (below[h] + above[h]) + c1 * (here[h - s1] + here[h + s1]) + c2 * (here[h - ONE] + here[h + ONE])
        value = z[h] + a * here[h] + sides
        out[h] = value if ds[h] != 0 else np.float32(0)
    add_listed(box, S, v, i, begin, end, out)


@njit(cache=True, nogil=True, fastmath=FAST)
def residual_plane(box, diagonal, phi, r, z, i, rows, out):
    """out <- phi (r - A z) in some rows of plane i, z given by three planes."""
    (n, s), (below, here, above), (begin, end) = box, z, rows
    s1, m = np.uint64(s[1]), middle(s)
    right, ds = planes(s, r, i)[1], planes(s, diagonal, i)[1]
    lo, hi = span(n, s, begin, end)
    for h in range(np.uint64(lo), np.uint64(hi)):
        d = ds[h]
        sides = below[h] + above[h] + m * (here[h - s1] + here[h + s1]) + (here[h - ONE] + here[h + ONE])
        value = phi * (right[h] + sides - np.float32(d) * here[h])
        out[h] = value if d != 0 else np.float32(0)


@njit(cache=True, nogil=True, inline="always")
def rows_around(n, begin, end, more):
    """Return the rows within `more` of a tile."""
    return max(begin - more, 0), min(end + more, n[1])


# Stages: each sets some rows of plane k of a ring, which is zero beyond the box. They are inlined where they stand: a
# function that is compiled on its own and then into another one is optimised again, and may round differently.


@njit(cache=True, nogil=True, inline="always")
def _leave(box, diagonal, r, y, k, rows, t):
    """Set plane k of the ring t to r - A y, y being a ring."""
    if 0 <= k < box.n[0]:
        residual_plane(box, diagonal, np.float32(1), r, around(y, k), k, rows, t[k % 3])
    else:
        t[k % 3] = 0


@njit(cache=True, nogil=True, inline="always")
def _correct(box, diagonal, S, y, t, k, rows, u):
    """Set plane k of the ring u to y + S t, y and t being rings."""
    if 0 <= k < box.n[0]:
        _add_smooth(box, diagonal, S, y[k % 3], around(t, k), k, rows, u[k % 3])
    else:
        u[k % 3] = 0


@njit(cache=True, nogil=True)
def descend(box, diagonal, smoothers, scaling, r, z, transfer, coarse, tile, scratch, start, stop):
    """z <- S1 r, z + S2 (r - A z) and coarse <- P' phi (r - A z) on coarse planes start .. stop - 1, fine ones with it.

    `smoothers` are S1 and S2. `tile` counts coarse rows.
    """
    (n, s), (first, second), m, ms, rings = box, smoothers, transfer.n, transfer.s, scratch.rings
    s0, (t, u, v, w) = s[0], (rings[0], rings[1], rings[2], rings[3, 0])
    coarse[(start + 1) * ms[0] : (stop + 1) * ms[0]] = 0
    low, high = shared_planes(n, start, stop)
    for top in range(0, m[1], tile):
        bottom = min(top + tile, m[1])
        begin, end = (2 * top, min(2 * bottom, n[1])) if n[1] > 1 else (0, 1)
        r_rows = rows_around(n, begin, end, 1)
        z_rows = rows_around(n, begin, end, 2)
        u_rows = rows_around(n, begin, end, 3)
        t_rows = rows_around(n, begin, end, 4)
        for i in range(low - 4, high + 4):
            if 0 <= i < n[0]:
                _smooth(box, diagonal, first, planes(s, r, i), i, t_rows, t[i % 3])
            else:
                t[i % 3] = 0
            k = i - 1
            if low - 3 <= k:
                _leave(box, diagonal, r, t, k, u_rows, u)
            k = i - 2
            if low - 2 <= k:
                _correct(box, diagonal, second, t, u, k, z_rows, v)
                if low <= k < high:
                    lo, hi = span(n, s, begin, end)
                    z[(k + 1) * s0 + lo : (k + 1) * s0 + hi] = v[k % 3][lo:hi]
            k = i - 3
            if low - 1 <= k <= high and 0 <= k < n[0]:
                residual_plane(box, diagonal, scaling.phi, r, around(v, k), k, r_rows, w)
                scale_listed(n, scaling, k, r_rows[0], r_rows[1], w)
                restrict_plane(box, transfer, w, scratch.row, coarse, k, start, stop, top, bottom)


@njit(cache=True, nogil=True, fastmath=FAST)
def _corrected(box, diagonal, scaling, transfer, coarse, scratch, z, i, rows, y):
    """y <- z + phi P e in some rows of plane i."""
    (n, s), (phi, starts, cells, ratio), (begin, end), along = box, scaling, rows, scratch.along
    prolong_plane(transfer, coarse, i, begin, end, scratch.row, along)
    own, ds = planes(s, z, i)[1], planes(s, diagonal, i)[1]
    for j in range(begin, end):
        a, b, w_a, w_b = row_weights(transfer, j)
        row_a, row_b, v_a, v_b = along[a], along[b], phi * w_a, phi * w_b
        p = np.uint64((j + 1) * s[1])
        for k in range(ONE, np.uint64(n[2] + 1)):
            value = own[p + k] + (v_a * row_a[k] + v_b * row_b[k])
            y[p + k] = value if ds[p + k] != 0 else np.float32(0)
        for e in range(starts[i * n[1] + j], starts[i * n[1] + j + 1]):
            h = np.uint64(cells[e])
            y[h] += (ratio[e] - np.float32(1)) * (v_a * row_a[h - p] + v_b * row_b[h - p])


@njit(cache=True, nogil=True, fastmath=FAST)
def product_plane(n, s, r, z, i, begin, end):
    """Return r.z over rows begin .. end - 1 of plane i."""
    right, own = planes(s, r, i)[1], planes(s, z, i)[1]
    total = 0.0
    lo, hi = span(n, s, begin, end)
    for h in range(np.uint64(lo), np.uint64(hi)):
        total += np.float64(right[h]) * np.float64(own[h])
    return total


@njit(cache=True, nogil=True)
def ascend(box, diagonal, smoothers, scaling, r, z, out, transfer, coarse, tile, scratch, start, stop):
    """y <- z + phi P e, y + S2 (r - A y), out <- y + S1 (r - A y); returns r.out. `coarse` holds psi e.

    `tile` counts fine rows.
    """
    (n, s), (first, second), rings, product = box, smoothers, scratch.rings, 0.0
    s0, (y, t, u, v) = s[0], (rings[0], rings[1], rings[2], rings[3])
    for begin in range(0, n[1], tile):
        end = min(begin + tile, n[1])
        v_rows = rows_around(n, begin, end, 1)
        u_rows = rows_around(n, begin, end, 2)
        t_rows = rows_around(n, begin, end, 3)
        y_rows = rows_around(n, begin, end, 4)
        for i in range(start - 4, stop + 4):
            if 0 <= i < n[0]:
                _corrected(box, diagonal, scaling, transfer, coarse, scratch, z, i, y_rows, y[i % 3])
            else:
                y[i % 3] = 0
            k = i - 1
            if start - 3 <= k:
                _leave(box, diagonal, r, y, k, t_rows, t)
            k = i - 2
            if start - 2 <= k:
                _correct(box, diagonal, second, y, t, k, u_rows, u)
            k = i - 3
            if start - 1 <= k:
                _leave(box, diagonal, r, u, k, v_rows, v)
            k = i - 4
            if start <= k:
                plane = out[(k + 1) * s0 : (k + 2) * s0]
                _add_smooth(box, diagonal, first, u[k % 3], around(v, k), k, (begin, end), plane)
                product += product_plane(n, s, r, out, k, begin, end)
    return product
