"""The learned cycle's way down and way up on the finest level, each in one pass over memory.

What happens on the way, two smoothing steps and a transfer, reaches four planes far. So a pass walks up the planes with
a wave of stages, each one plane behind the one before; of what lies between two stages only three planes exist, in
`rings`. Planes too large for the processor's cache are cut into tiles of rows, which are walked up one after the other;
the rows around a tile that a later stage needs are computed anew, as are the planes around the share of a thread.

Geometry, listed cells, smoothers and threads as in `kernels/finest.py`. `rings` is scratch of a thread, float32 (4, 3,
plane and a row), zero outside the rows of the box.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.finest import add_listed, prolong_plane, restrict_plane, row_weights, scale_listed
from deepcd.solvers.kernels.outer import FAST, ONE, middle, planes, span


@njit(cache=True, nogil=True, fastmath=FAST)
def _smooth(n, s, diagonal, S, below, here, above, i, begin, end, out):
    """out <- S t in rows begin .. end - 1 of plane i, t given by three planes."""
    s1, (a, c0, c1, c2) = np.uint64(s[1]), S[0]
    c1 = middle(s) * c1
    ds = planes(s, diagonal, i)[1]
    lo, hi = span(n, s, begin, end)
    for h in range(np.uint64(lo), np.uint64(hi)):
        around = c0 * (below[h] + above[h]) + c1 * (here[h - s1] + here[h + s1]) + c2 * (here[h - ONE] + here[h + ONE])
        value = a * here[h] + around
        out[h] = value if ds[h] != 0 else np.float32(0)
    add_listed(n, s, S, below, here, above, i, begin, end, out)


@njit(cache=True, nogil=True, fastmath=FAST)
def _add_smooth(n, s, diagonal, S, z, below, here, above, i, begin, end, out):
    """out <- z + S t in rows begin .. end - 1 of plane i, t given by three planes."""
    s1, (a, c0, c1, c2) = np.uint64(s[1]), S[0]
    c1 = middle(s) * c1
    ds = planes(s, diagonal, i)[1]
    lo, hi = span(n, s, begin, end)
    for h in range(np.uint64(lo), np.uint64(hi)):
        around = c0 * (below[h] + above[h]) + c1 * (here[h - s1] + here[h + s1]) + c2 * (here[h - ONE] + here[h + ONE])
        value = z[h] + a * here[h] + around
        out[h] = value if ds[h] != 0 else np.float32(0)
    add_listed(n, s, S, below, here, above, i, begin, end, out)


@njit(cache=True, nogil=True, fastmath=FAST)
def residual_plane(n, s, diagonal, phi, r, below, here, above, i, begin, end, out):
    """out <- phi (r - A z) in rows begin .. end - 1 of plane i, z given by three planes."""
    s1, m = np.uint64(s[1]), middle(s)
    right, ds = planes(s, r, i)[1], planes(s, diagonal, i)[1]
    lo, hi = span(n, s, begin, end)
    for h in range(np.uint64(lo), np.uint64(hi)):
        d = ds[h]
        around = below[h] + above[h] + m * (here[h - s1] + here[h + s1]) + (here[h - ONE] + here[h + ONE])
        value = phi * (right[h] + around - np.float32(d) * here[h])
        out[h] = value if d != 0 else np.float32(0)


@njit(cache=True, nogil=True, inline="always")
def rows_around(n, begin, end, more):
    """Return the rows within `more` of a tile."""
    return max(begin - more, 0), min(end + more, n[1])


@njit(cache=True, nogil=True)
def descend(
    n, s, diagonal, first, second, starts, cells, phi, ratio, r, z,
    m, ms, near, far, coarse, tile, rings, row, start, stop,
):  # fmt: skip
    """z <- S1 r, z + S2 (r - A z) and coarse <- P' phi (r - A z) on coarse planes start .. stop - 1, fine ones with it.

    `first` and `second` are S1 and S2. `tile` counts coarse rows.
    """
    s0, one = s[0], np.float32(1)
    t, u, v, w = rings[0], rings[1], rings[2], rings[3, 0]
    coarse[(start + 1) * ms[0] : (stop + 1) * ms[0]] = 0
    low, high = (2 * start, min(2 * stop, n[0])) if n[0] > 1 else (0, 1)
    for top in range(0, m[1], tile):
        bottom = min(top + tile, m[1])
        begin, end = (2 * top, min(2 * bottom, n[1])) if n[1] > 1 else (0, 1)
        r1, r2 = rows_around(n, begin, end, 1)
        z1, z2 = rows_around(n, begin, end, 2)
        u1, u2 = rows_around(n, begin, end, 3)
        t1, t2 = rows_around(n, begin, end, 4)
        for i in range(low - 4, high + 4):
            if 0 <= i < n[0]:
                below, here, above = planes(s, r, i)
                _smooth(n, s, diagonal, first, below, here, above, i, t1, t2, t[i % 3])
            else:
                t[i % 3] = 0
            k = i - 1
            if low - 3 <= k:
                if 0 <= k < n[0]:
                    below, here, above = t[(k - 1) % 3], t[k % 3], t[(k + 1) % 3]
                    residual_plane(n, s, diagonal, one, r, below, here, above, k, u1, u2, u[k % 3])
                else:
                    u[k % 3] = 0
            k = i - 2
            if low - 2 <= k:
                if 0 <= k < n[0]:
                    below, here, above, own = u[(k - 1) % 3], u[k % 3], u[(k + 1) % 3], v[k % 3]
                    _add_smooth(n, s, diagonal, second, t[k % 3], below, here, above, k, z1, z2, own)
                    if low <= k < high:
                        lo, hi = span(n, s, begin, end)
                        z[(k + 1) * s0 + lo : (k + 1) * s0 + hi] = own[lo:hi]
                else:
                    v[k % 3] = 0
            k = i - 3
            if low - 1 <= k <= high and 0 <= k < n[0]:
                below, here, above = v[(k - 1) % 3], v[k % 3], v[(k + 1) % 3]
                residual_plane(n, s, diagonal, phi, r, below, here, above, k, r1, r2, w)
                scale_listed(n, starts, cells, ratio, k, r1, r2, w)
                restrict_plane(n, s, m, ms, near, far, w, row, coarse, k, start, stop, top, bottom)


@njit(cache=True, nogil=True, fastmath=FAST)
def _corrected(n, s, diagonal, phi, starts, cells, ratio, m, ms, near, far, coarse, row, along, z, i, begin, end, y):
    """y <- z + phi P e in rows begin .. end - 1 of plane i."""
    prolong_plane(m, ms, near, far, coarse, i, begin, end, row, along)
    own, ds = planes(s, z, i)[1], planes(s, diagonal, i)[1]
    for j in range(begin, end):
        a, b, w_a, w_b = row_weights(near, far, j)
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
def ascend(
    n, s, diagonal, first, second, starts, cells, phi, ratio, r, z, out,
    m, ms, near, far, coarse, tile, rings, row, along, start, stop,
):  # fmt: skip
    """y <- z + phi P e, y + S2 (r - A y), out <- y + S1 (r - A y); returns r.out. `coarse` holds psi e.

    `tile` counts fine rows.
    """
    s0, one, product = s[0], np.float32(1), 0.0
    y, t, u, v = rings[0], rings[1], rings[2], rings[3]
    for begin in range(0, n[1], tile):
        end = min(begin + tile, n[1])
        v1, v2 = rows_around(n, begin, end, 1)
        u1, u2 = rows_around(n, begin, end, 2)
        t1, t2 = rows_around(n, begin, end, 3)
        y1, y2 = rows_around(n, begin, end, 4)
        for i in range(start - 4, stop + 4):
            if 0 <= i < n[0]:
                _corrected(
                    n, s, diagonal, phi, starts, cells, ratio, m, ms, near, far, coarse, row, along, z, i, y1, y2,
                    y[i % 3],
                )  # fmt: skip
            else:
                y[i % 3] = 0
            k = i - 1
            if start - 3 <= k:
                if 0 <= k < n[0]:
                    below, here, above = y[(k - 1) % 3], y[k % 3], y[(k + 1) % 3]
                    residual_plane(n, s, diagonal, one, r, below, here, above, k, t1, t2, t[k % 3])
                else:
                    t[k % 3] = 0
            k = i - 2
            if start - 2 <= k:
                if 0 <= k < n[0]:
                    below, here, above, own = t[(k - 1) % 3], t[k % 3], t[(k + 1) % 3], y[k % 3]
                    _add_smooth(n, s, diagonal, second, own, below, here, above, k, u1, u2, u[k % 3])
                else:
                    u[k % 3] = 0
            k = i - 3
            if start - 1 <= k:
                if 0 <= k < n[0]:
                    below, here, above = u[(k - 1) % 3], u[k % 3], u[(k + 1) % 3]
                    residual_plane(n, s, diagonal, one, r, below, here, above, k, v1, v2, v[k % 3])
                else:
                    v[k % 3] = 0
            k = i - 4
            if start <= k:
                below, here, above, plane = v[(k - 1) % 3], v[k % 3], v[(k + 1) % 3], out[(k + 1) * s0 : (k + 2) * s0]
                _add_smooth(n, s, diagonal, first, u[k % 3], below, here, above, k, begin, end, plane)
                product += product_plane(n, s, r, out, k, begin, end)
    return product
