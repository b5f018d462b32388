"""Parts of the multigrid cycle's passes over planes: cells with coefficients of their own, and the transfers.

Geometry, columns and threads as in `kernels/outer.py`. Smoother and transfer coefficients of the finest level are
constant in the interior; cells where any differs are *listed*: `starts[e] : starts[e + 1]` are those of row
e = i n1 + j, `cells` their numbers in the padded plane, `delta` (a, then the six neighbours in the order -0, +0, -1,
+1, -2, +2; zero where there is no such axis) what is to be added to the constant, `ratio` the factor on the constant
transfer scaling.

`row`, `mixed` and `along` are scratch of a thread: one or many rows between zeros, which begin at s2, the number of
columns.

What is one number per cell meets s2 entries. With one column the loop over cells vectorises, with many the one over
the columns of a cell: where it matters both are written out.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.outer import FAST, width


@njit(cache=True, nogil=True, inline="always")
def add_listed(n, s, starts, cells, delta, below, here, above, i, begin, end, out):
    """Add to rows begin .. end - 1 of plane i what the smoother of listed cells differs by; all given by planes."""
    s1, s2 = np.uint64(s[1]), width(s)
    for e in range(starts[i * n[1] + begin], starts[i * n[1] + end]):
        d0, d1, d2, d3, d4, d5, d6 = delta[e]
        first = np.uint64(cells[e]) * s2
        if len(s) == 2:
            value = (d0 * here[first] + d1 * below[first]) + (d2 * above[first] + d3 * here[first - s1])
            value += (d4 * here[first + s1] + d5 * here[first - s2]) + d6 * here[first + s2]
            out[first] += value
        else:
            for c in range(s2):
                h = first + np.uint64(c)
                value = (d0 * here[h] + d1 * below[h]) + (d2 * above[h] + d3 * here[h - s1])
                value += (d4 * here[h + s1] + d5 * here[h - s2]) + d6 * here[h + s2]
                out[h] += value


@njit(cache=True, nogil=True, inline="always")
def scale_listed(n, s, starts, cells, ratio, i, begin, end, v):
    """Multiply rows begin .. end - 1 of plane i, given by v, by the ratios of their listed cells."""
    s2 = width(s)
    for e in range(starts[i * n[1] + begin], starts[i * n[1] + end]):
        first = np.uint64(cells[e]) * s2
        if len(s) == 2:
            v[first] *= ratio[e]
        else:
            for c in range(s2):
                v[first + np.uint64(c)] *= ratio[e]


@njit(cache=True, nogil=True, inline="always")
def _parents(i):
    """Return the coarse row of fine row i and the next one on its side, which may be padding."""
    near = i >> 1
    return near, near + 2 * (i & 1) - 1


@njit(cache=True, nogil=True, fastmath=FAST)
def restrict_plane(n, s, m, ms, near, far, fine, row, coarse, i, start, stop, top, bottom):
    """Add the restriction of plane i, given by `fine`, to rows top .. bottom - 1 of coarse planes start .. stop - 1.

    `fine` is zero in its padding, and as many entries as a row behind its end may be read.
    """
    one, two, s2 = np.uint64(1), np.uint64(2), width(ms)
    near2, far2 = near[2], far[2]
    i_near, i_far = _parents(i)
    w_near = near[0] if start <= i_near < stop else np.float32(0)
    w_far = far[0] if start <= i_far < stop else np.float32(0)
    first = np.uint64((i_near + 1 if w_near != 0 else i_far + 1) * ms[0])
    other = np.uint64((i_far + 1 if w_far != 0 else i_near + 1) * ms[0])
    w_first = w_near if w_near != 0 else w_far
    w_other = w_far if w_near != 0 else np.float32(0)
    if w_first == 0:
        return
    length = np.uint64(n[2]) + np.uint64(4) * s2
    for j in range(top, bottom):
        if s[1] > 0:
            p = np.uint64((2 * j + 1) * s[1])
            below, above, above2 = p - np.uint64(s[1]), p + np.uint64(s[1]), p + np.uint64(2 * s[1])
            near1, far1 = near[1], far[1]
            for k in range(length):
                row[k] = near1 * (fine[p + k] + fine[above + k]) + far1 * (fine[below + k] + fine[above2 + k])
        else:
            row[:length] = fine[:length]
        out = np.uint64((j + 1) * ms[1]) + s2
        if len(ms) == 2:
            for step in range(m[2]):
                k = np.uint64(step)
                at = one + two * k
                value = near2 * (row[at] + row[at + one]) + far2 * (row[at - one] + row[at + two])
                coarse[first + out + k] += w_first * value
                coarse[other + out + k] += w_other * value
        else:
            for home in range(np.uint64(0), np.uint64(m[2]), s2):
                for c in range(s2):
                    k = home + np.uint64(c)
                    at = s2 + home + k
                    value = near2 * (row[at] + row[at + s2]) + far2 * (row[at - s2] + row[at + s2 + s2])
                    coarse[first + out + k] += w_first * value
                    coarse[other + out + k] += w_other * value


@njit(cache=True, nogil=True, fastmath=FAST)
def prolong_plane(n, s, m, ms, near, far, coarse, i, begin, end, mixed, rows_along):
    """Interpolate a coarse vector to plane i along the first axis, then along the last one.

    `mixed` is scratch; row j + 1 of `rows_along` becomes coarse row j, as long as a fine one. Only where the fine rows
    begin .. end - 1 need it. What is left is the middle axis: see `row_weights`.
    """
    one, two, s2 = np.uint64(1), np.uint64(2), width(ms)
    near0, far0, near2, far2 = near[0], far[0], near[2], far[2]
    i_near, i_far = _parents(i)
    own, other = coarse[(i_near + 1) * ms[0] :], coarse[(i_far + 1) * ms[0] :]
    for j in range(max(begin // 2 - 1, -1), min((end - 1) // 2 + 2, m[1] + 1)):
        p, out = np.uint64((j + 1) * ms[1]), rows_along[j + 1]
        for step in range(m[2] + 2 * np.int64(s2)):
            k = np.uint64(step)
            mixed[k] = near0 * own[p + k] + far0 * other[p + k]
        if len(ms) == 2:
            for step in range(m[2]):
                home = np.uint64(step) + one
                at = two * np.uint64(step) + one
                out[at] = near2 * mixed[home] + far2 * mixed[home - one]
                out[at + one] = near2 * mixed[home] + far2 * mixed[home + one]
        else:
            for begin2 in range(np.uint64(0), np.uint64(m[2]), s2):
                for c in range(s2):
                    home = s2 + begin2 + np.uint64(c)
                    at = s2 + two * begin2 + np.uint64(c)
                    out[at] = near2 * mixed[home] + far2 * mixed[home - s2]
                    out[at + s2] = near2 * mixed[home] + far2 * mixed[home + s2]


@njit(cache=True, nogil=True, inline="always")
def row_weights(near, far, j):
    """Return the two coarse rows, counted from the padding, that fine row j lies between, and their weights."""
    j_near, j_far = _parents(j)
    return j_near + 1, j_far + 1, near[1], far[1]
