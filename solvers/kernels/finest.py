"""Compiled passes of the multigrid cycle over its finest level, float32, one byte per entry.

Geometry, columns and threads as in `kernels/outer.py`. Smoother and transfer coefficients are constant in the
interior; cells where any differs are *listed*: `starts[e] : starts[e + 1]` are those of row e = i n1 + j, `cells` their
numbers in the padded box, `delta` (a, then the six neighbours in the order -0, +0, -1, +1, -2, +2) what is to be added
to the constant, `ratio` the factor on the constant transfer scaling.

`row` and `buffer` are scratch of a thread, one row of the fine and of the coarse box between zeros: they begin at
s2, the number of columns.

What is one number per cell meets s2 entries. With one column the loop over cells vectorises, with many the one over
the columns of a cell: where it matters both are written out.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.outer import FAST, rows, width


@njit(cache=True, nogil=True, fastmath=FAST)
def cast(s, r, r32, start, stop):
    """r32 <- r on whole padded planes."""
    for k in range(np.uint64((start + 1) * s[0]), np.uint64((stop + 1) * s[0])):
        r32[k] = r[k]


@njit(cache=True, nogil=True, inline="always")
def add_listed(n, s, starts, cells, delta, below, here, above, i, j, out):
    """Add to row (i, j) of out what the smoother of listed cells differs by, for a vector given by three planes."""
    s1, s2, base = np.uint64(s[1]), width(s), np.uint64((i + 1) * s[0])
    volume = s[1] > 0
    row = i * n[1] + j
    for e in range(starts[row], starts[row + 1]):
        d0, d1, d2, d5, d6 = delta[e, 0], delta[e, 1], delta[e, 2], delta[e, 5], delta[e, 6]
        d3 = delta[e, 3] if volume else np.float32(0)
        d4 = delta[e, 4] if volume else np.float32(0)
        first = np.uint64(cells[e]) * s2 - base
        if len(s) == 2:
            value = d0 * here[first] + d1 * below[first] + d2 * above[first] + d3 * here[first - s1]
            value += d4 * here[first + s1] + d5 * here[first - s2] + d6 * here[first + s2]
            out[base + first] += value
        else:
            for c in range(s2):
                h = first + np.uint64(c)
                value = d0 * here[h] + d1 * below[h] + d2 * above[h] + d3 * here[h - s1]
                value += d4 * here[h + s1] + d5 * here[h - s2] + d6 * here[h + s2]
                out[base + h] += value


@njit(cache=True, nogil=True, inline="always")
def scale_listed(n, s, starts, cells, ratio, i, j, v, first):
    """Multiply row (i, j), which begins at v[first], by the ratios of its listed cells."""
    row, s2 = i * n[1] + j, width(s)
    begin = rows(n, s, i, j)[0]
    for e in range(starts[row], starts[row + 1]):
        h = first + (np.uint64(cells[e]) * s2 - begin)
        if len(s) == 2:
            v[h] *= ratio[e]
        else:
            for c in range(s2):
                v[h + np.uint64(c)] *= ratio[e]


@njit(cache=True, nogil=True, fastmath=FAST)
def smooth_first(n, s, diagonal, a, c, starts, cells, delta, r, r32, z, start, stop):
    """r32 <- r and z <- S r; a plane is cast just before it is first needed, so both are one pass."""
    s0, s2 = s[0], width(s)
    cast(s, r, r32, max(start - 1, 0), min(start + 1, n[0]))
    for i in range(start, stop):
        if i + 1 < n[0]:
            cast(s, r, r32, i + 1, i + 2)
        below, here, above = (
            r32[i * s0 : (i + 1) * s0],
            r32[(i + 1) * s0 : (i + 2) * s0],
            r32[(i + 2) * s0 : (i + 3) * s0],
        )
        for j in range(n[1]):
            p, lo0, hi0, lo1, hi1 = rows(n, s, i, j)
            for step in range(n[2]):
                k = np.uint64(step)
                h = p + k
                value = a * r32[h] + (
                    c[0] * (r32[lo0 + k] + r32[hi0 + k])
                    + c[1] * (r32[lo1 + k] + r32[hi1 + k])
                    + c[2] * (r32[h - s2] + r32[h + s2])
                )
                z[h] = value if diagonal[h] != 0 else np.float32(0)
            add_listed(n, s, starts, cells, delta, below, here, above, i, j, z)


@njit(cache=True, nogil=True, inline="always")
def _parents(i):
    """Return the coarse row of fine row i and the next one on its side, which may be padding."""
    near = i >> 1
    return near, near + 2 * (i & 1) - 1


@njit(cache=True, nogil=True, fastmath=FAST)
def scatter_row(n, m, ms, near, far, fine, buffer, coarse, i, j, start, stop):
    """Add the restriction of a fine row (i, j), fine[s2:], to planes start .. stop - 1."""
    one, two, s2 = np.uint64(1), np.uint64(2), width(ms)
    near2, far2 = near[2], far[2]
    if len(ms) == 2:
        for step in range(m[2]):
            k = np.uint64(step)
            at = one + two * k
            buffer[one + k] = near2 * (fine[at] + fine[at + one]) + far2 * (fine[at - one] + fine[at + two])
    else:
        for home in range(np.uint64(0), np.uint64(m[2]), s2):
            for c in range(s2):
                k = home + np.uint64(c)
                at = s2 + home + k
                buffer[s2 + k] = near2 * (fine[at] + fine[at + s2]) + far2 * (fine[at - s2] + fine[at + s2 + s2])
    i_near, i_far = _parents(i)
    j_near, j_far = _parents(j)
    for a in range(2):
        ci = i_near if a == 0 else i_far
        if ci < start or ci >= stop:
            continue
        wi = near[0] if a == 0 else far[0]
        for b in range(2):
            cj = j_near if b == 0 else j_far
            w = wi * (near[1] if b == 0 else far[1])
            if w == 0 or cj < 0 or cj >= m[1]:
                continue
            out = np.uint64((ci + 1) * ms[0] + (cj + 1) * ms[1]) + s2
            for step in range(m[2]):
                k = np.uint64(step)
                coarse[out + k] += w * buffer[s2 + k]


@njit(cache=True, nogil=True, fastmath=FAST)
def gather_row(n, m, ms, near, far, coarse, buffer, i, j, fine, first):
    """fine[first:] <- the interpolation of a coarse vector, zero in its padding, in the fine row (i, j)."""
    one, two, s2 = np.uint64(1), np.uint64(2), width(ms)
    (i_near, i_far), (j_near, j_far) = _parents(i), _parents(j)
    w00, w01 = near[0] * near[1], near[0] * far[1]
    w10, w11 = far[0] * near[1], far[0] * far[1]
    p00 = np.uint64((i_near + 1) * ms[0] + (j_near + 1) * ms[1]) + s2
    p01 = np.uint64((i_near + 1) * ms[0] + (j_far + 1) * ms[1]) + s2
    p10 = np.uint64((i_far + 1) * ms[0] + (j_near + 1) * ms[1]) + s2
    p11 = np.uint64((i_far + 1) * ms[0] + (j_far + 1) * ms[1]) + s2
    for step in range(m[2]):
        k = np.uint64(step)
        buffer[s2 + k] = (w00 * coarse[p00 + k] + w01 * coarse[p01 + k]) + (
            w10 * coarse[p10 + k] + w11 * coarse[p11 + k]
        )
    near2, far2 = near[2], far[2]
    if len(ms) == 2:
        for step in range(n[2] // 2):
            home = np.uint64(step) + one
            at = first + two * np.uint64(step)
            fine[at] = near2 * buffer[home] + far2 * buffer[home - one]
            fine[at + one] = near2 * buffer[home] + far2 * buffer[home + one]
        if n[2] & 1:
            home = np.uint64(n[2] // 2 + 1)
            fine[first + np.uint64(n[2] - 1)] = near2 * buffer[home] + far2 * buffer[home - one]
    else:
        for begin in range(np.uint64(0), np.uint64(n[2]), two * s2):
            for c in range(s2):
                home = s2 + begin // two + np.uint64(c)
                at = first + begin + np.uint64(c)
                fine[at] = near2 * buffer[home] + far2 * buffer[home - s2]
                fine[at + s2] = near2 * buffer[home] + far2 * buffer[home + s2]
        for c in range(s2):  # of an odd number of cells the last one's neighbour is padding
            fine[first + np.uint64(n[2]) + np.uint64(c)] = 0


@njit(cache=True, nogil=True, fastmath=FAST)
def scale(s, factor, v):
    """v <- factor v, one factor per cell; v may be some whole planes."""
    s2 = width(s)
    if len(s) == 2:
        for cell in range(np.uint64(factor.size)):
            v[cell] *= factor[cell]
    else:
        for cell in range(np.uint64(factor.size)):
            for c in range(s2):
                v[cell * s2 + c] *= factor[cell]


@njit(cache=True, nogil=True, fastmath=FAST)
def residual_restrict(
    n, s, diagonal, phi, starts, cells, ratio, r, z, m, ms, near, far, psi, row, buffer, coarse, start, stop
):
    """Coarse residual psi P' phi (r - A z) on coarse planes start .. stop - 1; fine ones live in `row` only."""
    s2, base = width(s), (start + 1) * ms[0]
    for k in range(np.uint64(base), np.uint64((stop + 1) * ms[0])):
        coarse[k] = 0
    for i in range(max(2 * start - 1, 0), min(2 * stop + 1, n[0])):
        for j in range(n[1]):
            p, lo0, hi0, lo1, hi1 = rows(n, s, i, j)
            for step in range(n[2]):
                k = np.uint64(step)
                h = p + k
                d = diagonal[h]
                value = (
                    r[h]
                    + (z[lo0 + k] + z[hi0 + k] + z[lo1 + k] + z[hi1 + k] + z[h - s2] + z[h + s2])
                    - np.float32(d) * z[h]
                )
                row[s2 + k] = phi * value if d != 0 else np.float32(0)
            scale_listed(n, s, starts, cells, ratio, i, j, row, s2)
            scatter_row(n, m, ms, near, far, row, buffer, coarse, i, j, start, stop)
    end, k = (stop + 1) * ms[0], int(width(ms))
    scale(ms, psi[base // k : end // k], coarse[base:end])


@njit(cache=True, nogil=True, fastmath=FAST)
def prolong_add(n, s, diagonal, phi, starts, cells, ratio, m, ms, near, far, coarse, row, buffer, z, start, stop):
    """z <- z + phi P e on fine planes start .. stop - 1; `coarse` holds psi e."""
    s2 = width(s)
    for i in range(start, stop):
        for j in range(n[1]):
            gather_row(n, m, ms, near, far, coarse, buffer, i, j, row, s2)
            scale_listed(n, s, starts, cells, ratio, i, j, row, s2)
            p = rows(n, s, i, j)[0]
            for step in range(n[2]):
                k = np.uint64(step)
                z[p + k] += phi * row[s2 + k] if diagonal[p + k] != 0 else np.float32(0)


@njit(cache=True, nogil=True, inline="always")
def set_colour(n, s, colour, row, i, j, z):
    """Row (i, j) of z <- row[s2:], in the cells whose i + j + k has the colour's parity."""
    p, s2 = rows(n, s, i, j)[0], width(s)
    odd = (i + j + colour) & 1
    if len(s) == 2:
        for step in range(odd, n[2], 2):
            k = np.uint64(step)
            z[p + k] = row[s2 + k]
    else:
        for begin in range(np.uint64(odd) * s2, np.uint64(n[2]), np.uint64(2) * s2):
            for c in range(s2):
                k = begin + np.uint64(c)
                z[p + k] = row[s2 + k]


@njit(cache=True, nogil=True, fastmath=FAST)
def red_black(n, s, diagonal, r, z, colour, row, start, stop):
    """Half a Gauss-Seidel sweep: z <- D^-1 (r + neighbours) where i + j + k has the colour's parity."""
    s2 = width(s)
    for i in range(start, stop):
        for j in range(n[1]):
            p, lo0, hi0, lo1, hi1 = rows(n, s, i, j)
            for step in range(n[2]):
                k = np.uint64(step)
                h = p + k
                d = diagonal[h]
                total = r[h] + (z[lo0 + k] + z[hi0 + k] + z[lo1 + k] + z[hi1 + k] + z[h - s2] + z[h + s2])
                row[s2 + k] = total / np.float32(d) if d != 0 else np.float32(0)
            set_colour(n, s, colour, row, i, j, z)


@njit(cache=True, nogil=True, fastmath=FAST)
def dots(s, r, q, z, start, stop):
    """Return r.z and q.z."""
    rz, qz = 0.0, 0.0
    for k in range(np.uint64((start + 1) * s[0]), np.uint64((stop + 1) * s[0])):
        value = np.float64(z[k])
        rz += r[k] * value
        qz += q[k] * value
    return rz, qz
